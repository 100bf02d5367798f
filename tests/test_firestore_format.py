"""Documents of format 1, kept for ever as they lay in Firestore: whatever changes, these are read and say the same.

``python tests/test_firestore_format.py HOST`` wrote the fixture into an emulator and read it back.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

from memory import F, ManualClock, MemoryItem
from memory.backends.firestore import values
from memory.backends.firestore.connecting import Place
from memory.backends.firestore.connection import Connection, Write
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.queries import Query
from memory.backends.firestore.v2 import FirestoreV2Store
from memory.backends.firestore.v2.documents import Found
from memory.backends.firestore.values import Document
from memory.ops import Space
from memory.store.breaker import Breaker

FIXTURE = Path(__file__).parent / "fixtures" / "firestore-v2-1.json"


async def plant(store: FirestoreV2Store, clock: ManualClock) -> None:
    await store.put_many(
        [
            MemoryItem(
                id=f"item-{i}", namespace=("team", f"agent{i % 2}"), content=f"The marmot number {i} whistles",
                kind="episodic", metadata={"score": i, "deep": {"a.b": [1, None, True, -0.0], "no": [[i]]}},
                tags=("alps",) if i % 3 == 0 else (), user_id="ann", session_id="s1", importance=i / 10,
                embedding=[float(i), 1.0, 2.0, 3.0],
            )
            for i in range(8)
        ]
    )  # fmt: skip
    await store.put(MemoryItem(id="é\u0301😀", content={"text": "naïve café", "n": 2**53 + 1, "nul": "a\0b"}))
    await store.put(MemoryItem(id="a/b", content="hashed"))
    await store.put(MemoryItem(id="short-lived", content="gone soon"), ttl=30)
    clock.advance(1)
    await store.touch("item-2", namespace=("team", "agent0"))


async def write_fixture(host: str) -> None:
    clock = ManualClock()
    async with FirestoreV2Store(project_id="fx-" + uuid.uuid4().hex[:8], emulator=host, clock=clock) as store:
        await plant(store, clock)
        kept: dict[str, list[str]] = {}
        for collection in (store.names.items, store.names.store):
            for found in await store._connected().query(Query(collection=collection), Meter()):
                document = Document(name=found.id)
                for name in found.fields:
                    document.fields[name].CopyFrom(found.fields[name])
                raw = document.SerializeToString(deterministic=True)
                kept.setdefault(collection, []).append(base64.b64encode(raw).decode())
    await asyncio.to_thread(FIXTURE.write_text, json.dumps(kept, indent=1) + "\n", "utf-8")


async def load(place: Place) -> None:
    connection = Connection(Found, "firestore_v2", place, None, 30.0, Breaker(5, 30.0))
    kept = json.loads(await asyncio.to_thread(FIXTURE.read_text, "utf-8"))
    writes = []
    for collection, documents in kept.items():
        for raw in documents:
            document = Document.FromString(base64.b64decode(raw))
            document.name = connection.name(collection, document.name)
            writes.append(Write(update=document))
    await connection.commit(writes)
    await connection.close()


async def test_documents_of_the_first_format_are_read_and_say_what_was_written() -> None:
    from servers import server

    clock = ManualClock()
    clock.advance(2)
    store = FirestoreV2Store(
        project_id="fx-" + uuid.uuid4().hex[:8], emulator=server("firestore").url, clock=clock, sweep_interval=None
    )
    await load(store.place)
    async with store:
        assert (await store.verify()).ok
        assert await store.count() == 11
        assert await store.namespaces() == [("default",), ("team", "agent0"), ("team", "agent1")]
        third = await store.get("item-3", namespace=("team", "agent1"))
        assert third is not None
        assert third.content == "The marmot number 3 whistles"
        assert third.metadata == {"score": 3, "deep": {"a.b": [1, None, True, -0.0], "no": [[3]]}}
        assert (third.tags, third.importance, third.user_id, third.session_id) == (("alps",), 0.3, "ann", "s1")
        assert third.embedding.tolist() == [3, 1, 2, 3]
        assert third.created_at == third.updated_at == datetime(2026, 1, 1, tzinfo=UTC)
        odd = await store.get("é\u0301😀")
        assert odd is not None
        assert odd.content == {"text": "naïve café", "n": 2**53 + 1, "nul": "a\0b"}
        assert [item.id for item in await store.list(F.metadata.score >= 6)] == ["item-6", "item-7"]
        assert [item.id for item in await store.list(F.tags.contains("alps"))] == ["item-0", "item-6", "item-3"]
        assert [hit.item.id for hit in await store.search("marmot 5", limit=1)] == ["item-5"]
        assert [hit.item.id for hit in await store.search(vector=[9.0, 1.0, 2.0, 3.0], limit=1)] == ["item-7"]
        assert store._space == Space(None, 4)
        touched = await store.get("item-2", namespace=("team", "agent0"))
        assert touched is not None
        assert touched.access_count == 1
        assert (await store.put(MemoryItem(id="z", content="hashed"), dedup="content")).id == "a/b"
        clock.advance(60)
        assert await store.get("short-lived") is None
        assert await store.sweep() == 1
        assert (await store.put(third)).version > third.version
        assert (await store.verify()).ok


if __name__ == "__main__":
    asyncio.run(write_fixture(sys.argv[1]))


def test_an_array_of_texts_is_what_its_messages_would_be() -> None:
    said = ["", "a", "é" * 60, "x" * 124, "x" * 125, "x" * 126, "x" * 127, "x" * 128, "\U0001f600" * 5_000, "\0"]
    made = values.Value()
    made.array_value.values.extend([values.Value(string_value=one) for one in said])
    assert values.texts(said) == made
    assert values.texts([]) == values.Value(array_value=values.ArrayValue())
