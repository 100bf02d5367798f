"""A V1 deployment to be migrated: as many documents as wanted, made of the fixtures, written by the program that knows only V1."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from itertools import cycle, islice
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FIXTURES = sorted((HERE / "fixtures" / "firestore_v1").glob("*.json"))
DIMENSION = 4
"""Of most vectors there."""
TOGETHER = 400
"""Documents of one commit: Firestore takes 500."""


def fixtures() -> list[dict[str, Any]]:
    """Every document of the fixtures."""
    return [one for path in FIXTURES for one in json.loads(path.read_text("utf-8"))["documents"]]


def documents(count: int) -> list[dict[str, Any]]:
    """So many documents of the fixtures, over and over under new names; of those that can be moved whole."""
    known = [one for one in fixtures() if len(one["fields"].get("embedding") or ()) in (0, DIMENSION)]
    return [_renamed(one, f"{number:05}-{one['name']}") for number, one in enumerate(islice(cycle(known), count))]


def _renamed(one: dict[str, Any], name: str) -> dict[str, Any]:
    fields = dict(one["fields"])
    if fields.get("id") == one["name"]:
        fields["id"] = name
    return {**one, "name": name, "fields": fields}


def is_live(one: dict[str, Any]) -> bool:
    """Whether a document has not expired: what expires in the fixtures did so long ago, or will after 2100."""
    expires = one["fields"].get("expiration")
    return expires is None or expires["$time"] > "2100"


class V1:
    """The collections of a project, through the other program."""

    def __init__(self, project: str, host: str) -> None:
        self.project, self.host = project, host

    def ask(self, *requests: dict[str, Any]) -> list[Any]:
        """What the program answers. Raises RuntimeError with an error of its."""
        lines = "".join(json.dumps({"project": self.project, **one}) + "\n" for one in requests)
        line = [sys.executable, str(HERE / "firestore_v1_raw.py"), self.host]
        done = subprocess.run(line, input=lines, capture_output=True, text=True, timeout=200, check=True)
        answers = [json.loads(one) for one in done.stdout.splitlines()]
        for one in answers:
            if "error" in one:
                raise RuntimeError(one["error"])
        return [one["answer"] for one in answers]

    def fill(self, count: int) -> None:
        """Write so many documents."""
        wanted = documents(count)
        with tempfile.TemporaryDirectory() as folder:
            requests: list[dict[str, Any]] = []
            for start in range(0, count, TOGETHER):
                path = Path(folder, f"{start}.json")
                path.write_text(json.dumps({"documents": wanted[start : start + TOGETHER]}))
                requests.append({"do": "load", "fixture": str(path)})
            self.ask(*requests)

    def live(self, count: int) -> int:
        """How many of them are to be moved."""
        return sum(is_live(one) for one in documents(count))

    def everything(self) -> Any:
        """What V1 reads of both collections."""
        return self.ask({"do": "read", "collection": "memory_items"}, {"do": "read", "collection": "agent_data"})
