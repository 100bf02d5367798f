"""What tests of the backend for V1's documents share: the other program, its documents, and a store over them."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from servers import server

from memory import ManualClock
from memory.backends.firestore.v1 import FirestoreV1Store

ITEMS, AGENTS = "memory_items", "agent_data"
HERE = Path(__file__).parent
FIXTURES = {path.stem: path for path in sorted((HERE / "fixtures/firestore_v1").glob("*.json"))}
WHEN = datetime(2025, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC)
"""The time of most documents."""
U, A = "0b7c1f5e-3a44-4c52-9d0e-0000000000", "f3d2a9c8-77b1-4e0f-8a55-0000000000"
"""How the names of the fixtures' items and agent data begin."""


class V1:
    """The other program, with requests for one project."""

    def __init__(self, process: subprocess.Popen[str], project: str) -> None:
        self.process, self.project = process, project

    async def __call__(self, do: str, **asked: Any) -> Any:
        """What it answers. Raises AssertionError for what it refuses."""
        return await asyncio.to_thread(self._ask, {"project": self.project, "do": do, **asked})

    def _ask(self, asked: dict[str, Any]) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        told = json.loads(self.process.stdout.readline())
        assert "error" not in told, told["error"]
        return told["answer"]


@contextmanager
def other_program() -> Iterator[V1]:
    """The program, started; it ends with its input."""
    command = [sys.executable, str(HERE / "firestore_v1_raw.py"), str(server("firestore").url)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield V1(process, "")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


def elsewhere(program: V1) -> V1:
    """The program in a project of its own."""
    return V1(program.process, "v1-" + uuid.uuid4().hex[:12])


def store_of(v1: V1, clock: ManualClock, **options: Any) -> FirestoreV1Store:
    options = {"clock": clock, "sweep_interval": None, **options}
    return FirestoreV1Store(project_id=v1.project, emulator=server("firestore").url, **options)


def time(said: str) -> dict[str, str]:
    return {"$time": said}


def v1_item(id: str, text: str | None, **fields: Any) -> dict[str, Any]:
    """The arguments of the other program's ``set`` for a memory item: V1 writes every field."""
    plain = {
        "id": id, "user_id": "ann", "session_id": None, "timestamp": time("2025-05-01T12:00:00.123456+00:00"),
        "item_type": "conversation", "persona_active": None, "text_content": text, "embedding": None, "metadata": {},
        "expiration": None,
    }  # fmt: skip
    return {"collection": ITEMS, "name": id, "fields": {**plain, **fields}}


def v1_data(id: str, content: Any, **fields: Any) -> dict[str, Any]:
    """The same for agent data."""
    plain = {
        "id": id, "agent_id": "planner", "timestamp": time("2025-05-01T12:00:00.123456+00:00"), "data_type": "log",
        "content": content, "metadata": {}, "expiration": None,
    }  # fmt: skip
    return {"collection": AGENTS, "name": id, "fields": {**plain, **fields}}


async def listed(store: Any, where: Any = None, **options: Any) -> list[str]:
    """The ids of a list, read in small pages."""
    found: list[str] = []
    cursor = None
    while True:
        page = await store.list(where, limit=3, cursor=cursor, **options)
        found += [item.id for item in page]
        cursor = page.cursor
        if cursor is None:
            return found
