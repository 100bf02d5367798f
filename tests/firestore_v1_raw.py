"""A V1 program as it is in the field, in a process of its own: Google's client and V1's layout, nothing of `memory`.

It reads requests from its standard input, a JSON object a line, and answers each with one. What it reads it holds to V1's own
models, strictly: a field of another type is an error. Times are {"$time": ISO-8601}, bytes {"$bytes": base64}.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore

ITEMS, AGENTS = "memory_items", "agent_data"
_NONE = type(None)
MODELS: dict[str, dict[str, tuple[type, ...]]] = {
    ITEMS: {
        "id": (str, _NONE),
        "user_id": (str,),
        "session_id": (str, _NONE),
        "timestamp": (datetime,),
        "item_type": (str,),
        "persona_active": (str, _NONE),
        "text_content": (str, _NONE),
        "embedding": (list, _NONE),
        "metadata": (dict,),
        "expiration": (datetime, _NONE),
    },
    AGENTS: {
        "id": (str, _NONE),
        "agent_id": (str,),
        "timestamp": (datetime,),
        "data_type": (str,),
        "content": (object,),
        "metadata": (dict,),
        "expiration": (datetime, _NONE),
    },
}
"""V1's models: MemoryItem and AgentData. They ignore further fields."""


def parse(collection: str, document: dict[str, Any]) -> dict[str, Any]:
    """A document as V1's model has it. Raises TypeError for what the model refuses."""
    parsed = {}
    for name, kinds in MODELS[collection].items():
        if name not in document:
            raise TypeError(f"{document.get('id')}: no {name}; V1 writes every field")
        if not isinstance(document[name], kinds):
            raise TypeError(f"{document.get('id')}: {name} is {document[name]!r}")
        parsed[name] = document[name]
    numbers = parsed.get("embedding") or []
    if not all(type(one) is float for one in numbers):
        raise TypeError(f"{document.get('id')}: embedding is no list of floats")
    return parsed


def pack(value: Any) -> Any:
    """A value of Firestore as JSON."""
    if isinstance(value, datetime):
        return {"$time": datetime.fromisoformat(value.isoformat()).isoformat()}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {name: pack(one) for name, one in value.items()}
    return [pack(one) for one in value] if isinstance(value, list) else value


def unpack(value: Any) -> Any:
    """The inverse of pack."""
    if isinstance(value, dict):
        if "$time" in value:
            return datetime.fromisoformat(value["$time"])
        if "$bytes" in value:
            return base64.b64decode(value["$bytes"])
        return {name: unpack(one) for name, one in value.items()}
    return [unpack(one) for one in value] if isinstance(value, list) else value


class Program:
    """What V1 does, a method a request."""

    def __init__(self, project: str) -> None:
        self.client = firestore.Client(project=project, credentials=AnonymousCredentials())

    def load(self, fixture: str) -> int:
        """Write all documents of a fixture."""
        documents = json.loads(Path(fixture).read_text("utf-8"))["documents"]
        batch = self.client.batch()
        for one in documents:
            batch.set(self.client.collection(one["collection"]).document(one["name"]), unpack(one["fields"]))
        batch.commit()
        return len(documents)

    def set(self, collection: str, name: str, fields: Any) -> None:
        """Write one document whole, as V1 does when it adds an item."""
        self.client.collection(collection).document(name).set(unpack(fields))

    def update(self, collection: str, name: str, fields: Any) -> None:
        """Change some fields of a document."""
        self.client.collection(collection).document(name).update(unpack(fields))

    def delete(self, collection: str, name: str) -> None:
        """Remove a document."""
        self.client.collection(collection).document(name).delete()

    def raw(self, collection: str, name: str) -> Any:
        """A document with all its fields; None: there is none."""
        return pack(self.client.collection(collection).document(name).get().to_dict())

    def read(self, collection: str) -> Any:
        """Every document of a collection by its name, as V1's model."""
        found = self.client.collection(collection).stream()
        return {one.id: pack(parse(collection, one.to_dict())) for one in found}

    def history(self, user_id: str, session_id: str | None = None) -> Any:
        """The names of a user's conversation, newest first."""
        asked = self.client.collection(ITEMS).where(filter=firestore.FieldFilter("user_id", "==", user_id))
        asked = asked.where(filter=firestore.FieldFilter("item_type", "==", "conversation"))
        if session_id is not None:
            asked = asked.where(filter=firestore.FieldFilter("session_id", "==", session_id))
        return [one.id for one in asked.order_by("timestamp", direction="DESCENDING").stream()]

    def duplicates(self, user_id: str, text: str) -> Any:
        """The names of a user's items with this very text."""
        asked = self.client.collection(ITEMS).where(filter=firestore.FieldFilter("user_id", "==", user_id))
        asked = asked.where(filter=firestore.FieldFilter("text_content", "==", text))
        return sorted(one.id for one in asked.stream())


def main(host: str) -> None:
    """Answer requests until there are no more."""
    os.environ["FIRESTORE_EMULATOR_HOST"] = host
    programs: dict[str, Program] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        project, method = asked.pop("project"), asked.pop("do")
        if project not in programs:
            programs[project] = Program(project)
        try:
            answer = {"answer": getattr(programs[project], method)(**asked)}
        except Exception as error:  # the other side raises it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
