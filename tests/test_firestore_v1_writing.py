"""Items as V1 programs read them, and their documents changed by us: what a process tells that knows only V1's layout."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from firestore_v1 import (
    AGENTS,
    FIXTURES,
    ITEMS,
    V1,
    WHEN,
    A,
    U,
    listed,
    store_of,
    time,
    v1_item,
)

from memory import AlreadyExists, ManualClock, MemoryItem, VersionConflict
from memory.clock import from_micros

# --- what we write -----------------------------------------------------------------------------


def everything() -> list[MemoryItem]:
    """Items with all that V1 has no field for."""
    return [
        MemoryItem(
            id="full", content={"a": [1, 1.0, [2]], "s": "words of ours"}, kind="fact", tags=("x", "y"), importance=0.9,
            user_id="ann", agent_id="bot", session_id="s", metadata={"n": 1, "deep": [[1]], "__x__": 1}, embedding=[0.1, 0.2],
        ),
        MemoryItem(id="plain", content="just words"),
        MemoryItem(id="data", content={"steps": ["a", 1, None]}, agent_id="bot", kind="plan", embedding=[1.0, 0.0]),
        MemoryItem(id="nested", content=[[1], [2]], agent_id="bot"),
        MemoryItem(id="text", content=5, text="searched", user_id="ann"),
        MemoryItem(id="empty", content="", user_id="ann"),
    ]  # fmt: skip


async def test_a_v1_program_reads_what_we_write(v1: V1, clock: ManualClock) -> None:
    async with store_of(v1, clock, source={"by": "us"}) as store:
        stored = {item.id: item for item in await store.put_many(everything())}
        await store.touch("plain", ttl=60)
        for id, item in stored.items():
            if id != "plain":
                assert await store.get(id) == item
        assert (await store.get("full") or stored["plain"]).source == {"by": "us"}
        now = time(from_micros(clock()).isoformat())
        items, data = await v1("read", collection=ITEMS), await v1("read", collection=AGENTS)
        assert sorted(items) == ["empty", "full", "plain", "text"]
        assert sorted(data) == ["data", "nested"]
        assert items["full"] == {
            "id": "full", "user_id": "ann", "session_id": "s", "timestamp": now, "item_type": "fact", "persona_active": None,
            "text_content": "words of ours", "embedding": pytest.approx([0.1, 0.2]), "metadata": {"n": 1}, "expiration": None,
        }  # fmt: skip
        later = time(from_micros(clock() + 60_000_000).isoformat())
        assert (items["plain"]["user_id"], items["plain"]["expiration"]) == ("", later)
        assert (items["text"]["text_content"], items["empty"]["text_content"]) == ("searched", "")
        assert data["data"] == {
            "id": "data", "agent_id": "bot", "data_type": "plan", "timestamp": now, "metadata": {}, "expiration": None,
            "content": {"steps": ["a", 1, None]},
        }  # fmt: skip
        assert data["nested"]["content"] == "[[1],[2]]"
        assert await v1("duplicates", user_id="ann", text="searched") == ["text"]
        await store.delete("full")
        assert sorted(await v1("read", collection=ITEMS)) == ["empty", "plain", "text"]


async def test_an_update_of_a_v1_document_keeps_what_it_has_beside(v1: V1, clock: ManualClock) -> None:
    await v1("load", fixture=str(FIXTURES["scars"]))
    async with store_of(v1, clock) as store:
        before = await v1("raw", collection=ITEMS, name=f"{U}28")
        item = await store.get(f"{U}28")
        assert item is not None
        assert item.metadata == {
            "when": "2025-05-04T10:00:00Z",
            "legacy": {
                "odd_field": {"a": [1, 2]}, "priority": 3, "reviewed_at": "2025-05-04T10:00:00Z",
                "metadata": {"legacy": "theirs"},
            },
        }  # fmt: skip
        changed = await store.update(f"{U}28", metadata={"mood": "calm"}, if_version=item.version, tags=("t",))
        assert (changed.created_at, changed.content) == (WHEN, item.content)
        assert await store.get(f"{U}28") == changed
        after = await v1("raw", collection=ITEMS, name=f"{U}28")
        del after["memory"]
        assert after == {**before, "metadata": {**before["metadata"], "mood": "calm"}}, "times stay times"
        exact = await v1("raw", collection=ITEMS, name=f"{U}25")
        await store.update(f"{U}25", importance=1.0)
        assert (await v1("raw", collection=ITEMS, name=f"{U}25"))["embedding"] == exact["embedding"]
        await store.update(f"{U}27", importance=1.0)
        assert (await v1("raw", collection=ITEMS, name=f"{U}27"))["embedding"] == [0.5, 0.5], "kept, though not shown"
        await store.update(f"{U}27", content="other words")
        assert (await v1("raw", collection=ITEMS, name=f"{U}27"))["embedding"] is None, "it was of other words"


async def test_vectors_keep_all_their_digits(v1: V1, clock: ManualClock) -> None:
    await v1("load", fixture=str(FIXTURES["conversation"]))
    async with store_of(v1, clock) as store:
        await store.touch(f"{U}04")
        await store.update(f"{U}04", metadata={"x": 1})
        document = await v1("raw", collection=ITEMS, name=f"{U}04")
        assert document["embedding"] == [0.1, 0.2, 0.30000000000000004, -0.4]
        assert document["persona_active"] == "cherry"


async def test_every_write_on_a_v1_document_follows_the_rules(v1: V1, clock: ManualClock) -> None:
    await v1("load", fixture=str(FIXTURES["conversation"]))
    await v1("load", fixture=str(FIXTURES["agents"]))
    async with store_of(v1, clock) as store:
        with pytest.raises(AlreadyExists):
            await store.add(MemoryItem(id=f"{U}01", content="taken"))
        with pytest.raises(AlreadyExists):
            await store.add(MemoryItem(id=f"{A}01", content="taken"))
        bob = store.scoped(user_id="bob")
        assert not await bob.delete(f"{U}01")
        assert not await bob.touch(f"{A}01")
        assert await store.touch(f"{A}01")
        touched = await store.get(f"{A}01")
        assert touched is not None
        assert (touched.access_count, touched.content["cost"], touched.updated_at) == (1, 1.5, WHEN)
        with pytest.raises(VersionConflict):
            await store.update(f"{A}01", importance=1.0, if_version=touched.version - 1)
        replaced = await store.put(MemoryItem(id=f"{U}01", content="new", user_id="ann"))
        assert (replaced.created_at, replaced.access_count) == (WHEN, 0)
        assert (await v1("raw", collection=ITEMS, name=f"{U}01"))["metadata"] == {}
        assert await store.delete_where({"kind": "conversation", "user_id": "ann"}) == 4
        assert await store.delete(f"{A}02")
        assert f"{A}02" not in await v1("read", collection=AGENTS)
        assert await store.sweep() == 1, "the expired agent data"
        assert f"{A}06" not in await v1("read", collection=AGENTS)


async def test_what_a_v1_program_changes_in_our_documents_wins(v1: V1, clock: ManualClock) -> None:
    async with store_of(v1, clock) as store:
        first = {item.id: item for item in await store.put_many(everything())}
        await v1(
            "update",
            collection=ITEMS,
            name="full",
            fields={"text_content": "theirs", "user_id": "bob", "metadata.n": 2},
        )
        found = await store.get("full")
        assert found is not None
        assert (found.text, found.content, found.user_id) == ("theirs", first["full"].content, "bob")
        assert found.metadata == {"n": 2, "deep": [[1]], "__x__": 1}
        assert (found.tags, found.importance, found.agent_id) == (("x", "y"), 0.9, "bot")
        assert found.version > first["full"].version
        with pytest.raises(VersionConflict):
            await store.put(first["full"], if_version=first["full"].version)
        await v1("update", collection=ITEMS, name="plain", fields={"text_content": "eagle", "persona_active": "user"})
        await v1("update", collection=AGENTS, name="nested", fields={"content": {"k": 1}, "data_type": "seen"})
        assert (await store.get("plain") or found).content == "eagle"
        assert (await store.get("plain") or found).metadata == {"legacy": {"persona_active": "user"}}
        nested = await store.get("nested")
        assert nested is not None
        assert (nested.content, nested.kind, nested.agent_id) == ({"k": 1}, "seen", "bot")
        assert await listed(store, {"user_id": "bob"}) == ["full"]
        assert await listed(store, {"kind": "seen"}) == ["nested"]
        assert [hit.item.id for hit in await store.search("eagle")] == ["plain"]
        later = from_micros(clock()) + timedelta(seconds=5)
        await v1("update", collection=ITEMS, name="plain", fields={"expiration": time(later.isoformat())})
        assert (await store.get("plain") or found).expires_at == later
        # Whole, as V1 writes: all that was ours alone is gone.
        await v1("set", **v1_item("full", "theirs alone"))
        whole = await store.get("full")
        assert whole is not None
        assert (whole.content, whole.tags, whole.agent_id, whole.importance) == ("theirs alone", (), None, 0.5)
        await v1("delete", collection=AGENTS, name="nested")
        assert await store.get("nested") is None
        assert (await store.verify()).ok


async def test_an_item_moves_between_the_collections_with_its_owner(v1: V1, clock: ManualClock) -> None:
    async with store_of(v1, clock) as store:
        first = await store.put(MemoryItem(id="a", content="words", agent_id="bot"))
        moved = await store.update("a", user_id="ann")
        assert (await v1("read", collection=AGENTS), list(await v1("read", collection=ITEMS))) == ({}, ["a"])
        back = await store.update("a", user_id=None)
        assert (await v1("read", collection=ITEMS), list(await v1("read", collection=AGENTS))) == ({}, ["a"])
        assert first.version < moved.version < back.version
        assert await store.get("a") == back
        assert await listed(store) == ["a"]
        assert (back.created_at, back.agent_id) == (first.created_at, "bot")


# --- dedup ---------------------------------------------------------------------------------------


async def test_duplicates_of_v1_documents_are_found(v1: V1, clock: ManualClock) -> None:
    await v1("load", fixture=str(FIXTURES["scars"]))
    long = "the same long words " * 200
    for name, end in (("long1", "one"), ("long2", "two")):
        await v1("set", **v1_item(name, long + end))
    async with store_of(v1, clock) as store:
        for fields, expected in (
            ({"content": "the same words", "kind": "fact", "user_id": "ann"}, f"{U}21"),
            ({"content": "the same words", "kind": "fact", "user_id": "bob"}, f"{U}23"),
            ({"content": "the same words", "kind": "fact", "agent_id": "planner"}, f"{A}21"),
            ({"content": "an item of nobody", "kind": "note"}, f"{U}29"),
            ({"content": long + "two", "kind": "conversation", "user_id": "ann"}, "long2"),
            ({"content": "the same words", "kind": "other", "user_id": "ann"}, "new0"),
            ({"content": "gone for long", "kind": "conversation", "user_id": "ann"}, "new1"),
            ({"content": "the same words", "kind": "fact", "agent_id": "scout"}, "new2"),
            ({"content": long + "three", "kind": "conversation", "user_id": "ann"}, "new3"),
        ):
            news = sum(id.startswith("new") for id in await listed(store))
            item = MemoryItem(id=f"new{news}", **fields)
            assert (await store.put(item, dedup="content")).id == expected, fields
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(store.put(MemoryItem(id=f"r{i}", content="raced"), dedup="content")) for i in range(8)
            ]
        assert len({task.result().id for task in tasks}) == 1
