"""Documents of V2 programs, written before or while the store is open, or changed after us; and ours as V2 reads them."""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from firestore_raw import ITEMS, raw_client, v2_item
from google.cloud import firestore
from servers import server

from memory import AlreadyExists, F, ManualClock, MemoryItem, VersionConflict
from memory.backends.firestore.v2 import FirestoreV2Store
from memory.clock import from_micros

WHEN = datetime(2025, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC)


@pytest.fixture
def project() -> str:
    return "legacy-" + uuid.uuid4().hex[:12]


@pytest.fixture
def raw(project: str) -> Iterator[Any]:
    with raw_client(project, server("firestore").url) as client:
        yield client.collection(ITEMS)


def open_store(project: str, clock: ManualClock, **options: Any) -> FirestoreV2Store:
    return FirestoreV2Store(
        project_id=project, emulator=server("firestore").url, clock=clock, sweep_interval=None, **options
    )


async def raw_set(raw: Any, *documents: dict[str, Any]) -> None:
    for one in documents:
        await asyncio.to_thread(raw.document(one["id"]).set, one)


PLAIN = v2_item("mem_1", "the marmot whistles", session_id="s1", persona_active="cherry", metadata={"mood": "calm"})
NUMBERS = v2_item(
    "mem_2", "an eagle circles", user_id="bob", item_type="note", metadata={"n": 7, "deep": {"x": [1, 2]}}
)
SILENT = v2_item("mem_3", None, embedding=[0.25, -0.5, 1.0], odd_field={"a": [1]}, priority=3)
GONE = v2_item("mem_4", "expired marmot", expiration=datetime(2025, 6, 1, tzinfo=UTC))


async def test_documents_of_v2_programs_are_got_listed_counted_filtered_and_found(
    project: str, raw: Any, clock: ManualClock
) -> None:
    await raw_set(raw, PLAIN, NUMBERS, SILENT, GONE)
    async with open_store(project, clock) as store:
        one = await store.get("mem_1")
        assert one is not None
        assert (one.content, one.kind, one.user_id, one.session_id) == (
            "the marmot whistles",
            "conversation",
            "ann",
            "s1",
        )
        assert (one.created_at, one.updated_at, one.access_count) == (WHEN, WHEN, 0)
        assert one.metadata["mood"] == "calm"
        assert one.metadata["content_hash"] == hashlib.sha256(b"the marmot whistles").hexdigest()
        assert one.metadata["legacy"] == {"persona_active": "cherry"}
        assert one.version > 0
        third = await store.get("mem_3")
        assert third is not None
        assert (third.content, third.metadata["legacy"]) == (None, {"odd_field": {"a": [1]}, "priority": 3})
        assert third.embedding.tolist() == [0.25, -0.5, 1.0]
        assert await store.get("mem_4") is None
        assert [item.id for item in await store.list()] == ["mem_1", "mem_2", "mem_3"]
        assert [item.id for item in await store.list(order="-created_at")] == ["mem_1", "mem_2", "mem_3"]
        assert await store.count() == 3
        for where, expected in (
            (F.user_id == "bob", ["mem_2"]),
            (F.kind == "conversation", ["mem_1", "mem_3"]),
            (F.session_id == "s1", ["mem_1"]),
            ({"session_id": None}, ["mem_2", "mem_3"]),
            (F.metadata.n >= 7, ["mem_2"]),
            (F.importance == 0.5, ["mem_1", "mem_2", "mem_3"]),
            ({"metadata.deep.x": [1, 2]}, ["mem_2"]),
        ):
            assert [item.id for item in await store.list(where)] == expected, where
            assert await store.count(where) == len(expected)
        assert [hit.item.id for hit in await store.search("marmot")] == ["mem_1"]
        assert [hit.item.id for hit in await store.search("eagles", where={"user_id": "bob"})] == ["mem_2"]
        assert [hit.item.id for hit in await store.search(vector=[0.0, -1.0, 2.0])] == ["mem_3"]
        assert (await store.verify()).ok
        assert await store.sweep() == 1
    document = (await asyncio.to_thread(raw.document("mem_1").get)).to_dict()
    assert {name: document[name] for name in PLAIN} == PLAIN, "native fields are as they were"


@pytest.mark.parametrize("interval", [0, 60.0])
async def test_documents_written_while_the_store_is_open_appear(
    project: str, raw: Any, clock: ManualClock, interval: float
) -> None:
    async with open_store(project, clock, legacy_check=interval) as store:
        await store.put(MemoryItem(id="ours", content="our marmot"))
        await raw_set(raw, PLAIN)
        assert (await store.get("mem_1") or MemoryItem(content=0)).content == "the marmot whistles", "at once, by id"
        store._adopter._looked = None  # as when the interval has passed
        assert [item.id for item in await store.list()] == ["mem_1", "ours"]
        assert await store.count({"user_id": "ann"}) == 1
        assert {hit.item.id for hit in await store.search("marmot")} == {"mem_1", "ours"}
        await asyncio.to_thread(raw.document("mem_1").delete)
        assert await store.get("mem_1") is None
        assert [item.id for item in await store.list()] == ["ours"]


async def test_what_a_v2_program_changes_in_our_document_wins(project: str, raw: Any, clock: ManualClock) -> None:
    async with open_store(project, clock, legacy_check=0) as store:
        item = MemoryItem(
            id="a", content="first words", user_id="ann", tags=("t",), importance=0.9,
            metadata={"kept": [[1], [2]], "n": 1, "when": "x"}, agent_id="bot",
        )  # fmt: skip
        first = await store.put(item)
        change = {
            "text_content": "other words",
            "user_id": "bob",
            "metadata.n": 2,
            "metadata.when": firestore.DELETE_FIELD,
        }
        await asyncio.to_thread(raw.document("a").update, change)
        for found in (await store.get("a"), (await store.list({"user_id": "bob"})).items[0]):
            assert found is not None
            assert (found.content, found.user_id, found.agent_id) == ("other words", "bob", "bot")
            assert found.metadata == {"kept": [[1], [2]], "n": 2}, "what was never native stays"
            assert (found.tags, found.importance, found.created_at) == (("t",), 0.9, first.created_at)
            assert found.version > first.version
        assert await store.count({"user_id": "ann"}) == 0
        assert await store.count({"metadata.n": 2}) == 1
        assert [hit.item.id for hit in await store.search("other")] == ["a"]
        assert (await store.search("first")).hits == []
        with pytest.raises(VersionConflict):
            await store.put(item, if_version=first.version)
        later = from_micros(clock()) + timedelta(seconds=5)
        await asyncio.to_thread(raw.document("a").update, {"expiration": later})
        assert (await store.get("a") or item).expires_at == later
        clock.advance(5)
        assert await store.get("a") is None
        assert await store.count() == 0


async def test_a_text_changed_by_a_v2_program_is_scored_as_it_is_now_without_a_look(
    project: str, raw: Any, clock: ManualClock
) -> None:
    async with open_store(project, clock) as store:
        await store.put(MemoryItem(id="a", content="marmot marmot"))
        await store.put(MemoryItem(id="b", content="marmot"))
        await asyncio.to_thread(raw.document("a").update, {"text_content": "eagle"})
        assert [hit.item.id for hit in await store.search("marmot")] == ["b"]
        assert not (await store.verify()).ok
        assert (await store.repair()).actions == ["1 documents of other programs were given our fields"]
        assert [hit.item.id for hit in await store.search("eagle")] == ["a"]
        assert (await store.verify()).ok


async def test_a_v2_program_reads_what_we_write(project: str, raw: Any, clock: ManualClock) -> None:
    async with open_store(project, clock) as store:
        stored = await store.put(
            MemoryItem(
                id="mem_x", content="words", kind="conversation", user_id="ann", session_id="s", metadata={"n": 1, "no": [[1]]},
                embedding=[1.0, 0.5], expires_at=from_micros(clock()) + timedelta(days=1),
            )
        )  # fmt: skip
    document = (await asyncio.to_thread(raw.document("mem_x").get)).to_dict()
    del document["memory"], document["memory_vector"]
    assert document == {
        "id": "mem_x", "user_id": "ann", "session_id": "s", "item_type": "conversation", "text_content": "words",
        "timestamp": stored.created_at, "expiration": stored.expires_at, "embedding": [1.0, 0.5],
        "metadata": {"n": 1, "content_hash": hashlib.sha256(b"words").hexdigest()},
    }  # fmt: skip
    duplicates = raw.where(filter=firestore.FieldFilter("user_id", "==", "ann")).where(
        filter=firestore.FieldFilter("metadata.content_hash", "==", hashlib.sha256(b"words").hexdigest())
    )
    assert len(await asyncio.to_thread(lambda: list(duplicates.stream()))) == 1


async def test_writes_on_documents_of_v2_programs_follow_every_rule(project: str, raw: Any, clock: ManualClock) -> None:
    async with open_store(project, clock, legacy_check=None) as store:
        await raw_set(raw, PLAIN, NUMBERS, SILENT)  # after the look, so none has our fields
        with pytest.raises(AlreadyExists):
            await store.add(MemoryItem(id="mem_1", content="taken"))
        bob = store.scoped(user_id="bob")
        assert await bob.delete("mem_1") is False
        assert await store.touch("mem_1", ttl=50)
        touched = await store.get("mem_1")
        assert touched is not None
        assert (touched.access_count, touched.content, touched.created_at) == (1, "the marmot whistles", WHEN)
        changed = await store.update("mem_1", metadata={"mood": "wild"}, if_version=touched.version)
        assert (changed.created_at, changed.access_count) == (WHEN, 1)
        assert changed.metadata["legacy"] == {"persona_active": "cherry"}
        document = (await asyncio.to_thread(raw.document("mem_1").get)).to_dict()
        assert (document["persona_active"], document["metadata"]["mood"]) == ("cherry", "wild")
        replaced = await store.put(MemoryItem(id="mem_2", content="new", user_id="bob"))
        assert (replaced.created_at, replaced.content) == (WHEN, "new")
        assert await store.delete("mem_3")
        assert await store.get("mem_3") is None


async def test_a_document_that_is_no_item_is_told_and_not_dropped_in_silence(
    project: str, raw: Any, clock: ManualClock
) -> None:
    await raw_set(raw, PLAIN)
    await asyncio.to_thread(raw.document("no_time").set, {"id": "no_time", "user_id": "ann", "text_content": "x"})
    await asyncio.to_thread(raw.document("~odd").set, v2_item("~odd", "odd"))
    async with open_store(project, clock) as store:
        assert [item.id for item in await store.list()] == ["mem_1"]
        assert (await store.health()).details["unreadable"] == 2
        assert len((await store.verify()).problems) == 2
        await store.put(MemoryItem(id="b", content="x"))
        before = store._connected().reads
        store._adopter._looked = None
        await store.count()
        assert store._connected().reads - before <= 6, "what cannot be adopted is not read again at every look"
    document = (await asyncio.to_thread(raw.document("no_time").get)).to_dict()
    assert "memory" not in document
