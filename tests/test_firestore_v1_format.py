"""Documents of format 1 beside V1's fields, kept for ever as they lay in Firestore: whatever changes, these are read and say
the same.

``python tests/test_firestore_v1_format.py HOST`` wrote the fixture into an emulator and read it back, by a program that knows
V1's layout alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any

from firestore_v1_raw import AGENTS, ITEMS, Program
from servers import server

from memory import F, ManualClock, MemoryItem
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.queries import Query
from memory.backends.firestore.v1 import FirestoreV1Store
from memory.clock import from_micros

FIXTURE = Path(__file__).parent / "fixtures" / "firestore-v1-1.json"
OURS = ("memory_store", "memory_tombstones")


async def plant(store: FirestoreV1Store, clock: ManualClock) -> None:
    await store.put_many(
        [
            MemoryItem(
                id=f"item-{i}", content=f"The marmot number {i} whistles", kind="episodic", tags=("alps",) if i % 3 == 0 else (),
                metadata={"score": i, "deep": {"a.b": [1, None, True]}, "no": [[i]], "legacy": {"persona_active": "cherry"}},
                user_id="ann", session_id="s1", agent_id="bot" if i % 2 else None, importance=i / 10,
                embedding=[float(i), 1.0, 2.0, 3.0],
            )
            for i in range(4)
        ]
    )  # fmt: skip
    await store.put(MemoryItem(id="é\u0301😀", content={"text": "naïve café", "n": 2**53 + 1, "nul": "a\0b"}))
    await store.put(
        MemoryItem(id="data", content={"steps": ["a", 1]}, agent_id="bot", kind="plan", embedding=[1.0] * 4)
    )
    await store.put(MemoryItem(id="nested", content=[[1], [2]], agent_id="bot", kind="plan"))
    await store.put(MemoryItem(id="short-lived", content="gone soon", user_id="bob"), ttl=30)
    await store.put(MemoryItem(id="deleted", content="gone", user_id="bob"))
    await store.delete("deleted")
    clock.advance(1)
    await store.touch("item-2")


def program(project: str, host: str) -> Program:
    before = os.environ.get("FIRESTORE_EMULATOR_HOST")
    os.environ["FIRESTORE_EMULATOR_HOST"] = host
    try:
        return Program(project)
    finally:
        if before is None:
            del os.environ["FIRESTORE_EMULATOR_HOST"]
        else:
            os.environ["FIRESTORE_EMULATOR_HOST"] = before


async def write_fixture(host: str) -> None:
    clock, project = ManualClock(), "fx-" + uuid.uuid4().hex[:8]
    async with FirestoreV1Store(project_id=project, emulator=host, clock=clock) as store:
        await plant(store, clock)
        items = [item.to_dict() for item in await store.list(limit=100)]
        kept: list[Any] = []
        v1 = program(project, host)
        for collection in (ITEMS, AGENTS, *OURS):
            for found in await store._connected().query(Query(collection=collection), Meter()):
                fields = await asyncio.to_thread(v1.raw, collection, found.id)
                kept.append({"collection": collection, "name": found.id, "fields": fields})
    for one in items:
        del one["version"]
    text = json.dumps({"now": clock(), "documents": kept, "items": items}, indent=1, ensure_ascii=False)
    await asyncio.to_thread(FIXTURE.write_text, text + "\n", "utf-8")


async def test_a_store_of_format_1_is_read_searched_and_written_on() -> None:
    kept = json.loads(FIXTURE.read_text("utf-8"))
    host, project = server("firestore").url, "f-" + uuid.uuid4().hex[:12]
    v1 = program(project, host)
    await asyncio.to_thread(v1.load, str(FIXTURE))
    async with FirestoreV1Store(
        project_id=project, emulator=host, clock=ManualClock(from_micros(kept["now"]))
    ) as store:
        found = [item.to_dict() for item in await store.list(limit=100)]
        for one in found:
            del one["version"]
        assert found == kept["items"]
        documents = [
            one for name in (ITEMS, AGENTS) for one in await store._connected().query(Query(collection=name), Meter())
        ]
        assert len(documents) == len(found) == 8
        assert not any(one.changed for one in documents), "the hash of the native fields is computed as it was"
        assert (await store.verify()).ok
        assert [hit.item.id for hit in await store.search("naive cafe")] == []
        assert [hit.item.id for hit in await store.search("naïve")] == ["é\u0301😀"]
        assert (await store.search(vector=[3.0, 1.0, 2.0, 3.0])).hits[0].item.id == "item-3"
        assert [item.id for item in await store.list((F.agent_id == "bot") & (F.kind == "episodic"))] == [
            "item-1",
            "item-3",
        ]
        assert (
            await store.put(MemoryItem(id="new", content=[[1], [2]], agent_id="bot", kind="plan"), dedup="content")
        ).id == ("nested")
        changed = await store.update("item-1", metadata={"score": 9})
        assert (changed.tags, changed.agent_id, changed.metadata["no"]) == ((), "bot", [[1]])


if __name__ == "__main__":
    asyncio.run(write_fixture(sys.argv[1]))
