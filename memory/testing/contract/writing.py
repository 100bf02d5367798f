"""Sentences about put, add and delete: what a write keeps, returns and leaves alone."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memory.clock import ManualClock, from_micros
from memory.errors import AlreadyExists
from memory.layers import Hook
from memory.model import MemoryItem
from memory.store import MemoryStore
from memory.testing.contract.suite import Make, Suite, body, home, ids, item, needs, stamp, walk


def spoil(value: Any) -> None:
    """Change everything that can be changed in a JSON value."""
    parts = list(value.values()) if isinstance(value, dict) else list(value)
    for part in parts:
        if isinstance(part, dict | list):
            spoil(part)
    if isinstance(value, dict):
        value.update(dict.fromkeys(value, "spoiled"), spoiled="spoiled")
    else:
        value.append("spoiled")


class Writing(Suite):
    """Put, add, delete."""

    async def test_a_put_item_comes_back_with_every_field(self, store: MemoryStore) -> None:
        said = MemoryItem(
            id="all",
            namespace=home(store, "acme", "bot"),
            kind="episodic",
            content={"who": "ann", "n": [1, 2.5, None, True, {"deep": "x"}]},
            text="searched words",
            metadata={"score": 3, "nested": {"list": [1, [2]]}},
            tags=("red", "blue"),
            user_id="ann",
            session_id="s1",
            importance=0.25,
        )
        stored = await store.put(said)
        found = await store.get("all", namespace=home(store, "acme", "bot"))
        assert found == stored
        for field in (
            "content",
            "text",
            "metadata",
            "tags",
            "kind",
            "user_id",
            "session_id",
            "importance",
            "namespace",
        ):
            assert getattr(found, field) == getattr(said, field)

    async def test_defaults_of_an_item_come_back_as_they_are(self, store: MemoryStore) -> None:
        stored = await store.put(MemoryItem(content="x"))
        found = await store.get(stored.id)
        assert found == stored
        assert found is not None
        assert (found.namespace, found.kind, found.tags, found.metadata) == (("default",), "note", (), {})
        assert (found.text, found.user_id, found.session_id, found.embedding) == (None, None, None, None)
        assert (found.importance, found.expires_at, found.access_count) == (0.5, None, 0)

    async def test_a_new_item_is_stamped_with_now(self, store: MemoryStore, clock: ManualClock) -> None:
        stored = await store.put(item())
        now = from_micros(clock())
        assert stamp(stored) == (now, now, now, None, 0)
        assert stored.version > 0

    async def test_a_creation_time_that_was_given_is_kept(self, store: MemoryStore, clock: ManualClock) -> None:
        long_ago = datetime(2001, 2, 3, 4, 5, 6, 789012, tzinfo=UTC)
        await store.put(item(created_at=long_ago))
        found = await store.get("a")
        assert found is not None
        assert (found.created_at, found.updated_at) == (long_ago, from_micros(clock()))

    async def test_times_keep_their_microseconds(self, store: MemoryStore, clock: ManualClock) -> None:
        clock.micros += 123_457
        stored = await store.put(item(), ttl=0.000001)
        assert stored.created_at.microsecond == 123_457
        assert stored.expires_at == stored.created_at + timedelta(microseconds=1)
        assert await store.get("a") == stored

    async def test_put_on_a_live_key_keeps_created_at(self, store: MemoryStore, clock: ManualClock) -> None:
        first = await store.put(item(content="one"))
        clock.advance(5)
        second = await store.put(item(content="two"))
        found = await store.get("a")
        assert found == second
        assert second.content == "two"
        assert (second.created_at, second.updated_at) == (first.created_at, from_micros(clock()))

    async def test_put_on_a_live_key_ignores_another_creation_time(self, store: MemoryStore) -> None:
        first = await store.put(item())
        second = await store.put(item(created_at=datetime(1999, 1, 1, tzinfo=UTC)))
        assert second.created_at == first.created_at
        assert await store.get("a") == second

    async def test_put_on_a_live_key_keeps_the_access_count(self, store: MemoryStore, clock: ManualClock) -> None:
        await store.put(item(content="one"))
        clock.advance(1)
        await store.touch("a")
        await store.touch("a")
        touched = from_micros(clock())
        clock.advance(1)
        second = await store.put(item(content="two"))
        assert (second.access_count, second.accessed_at) == (2, touched)
        assert await store.get("a") == second

    async def test_put_replaces_the_whole_body(self, store: MemoryStore) -> None:
        await store.put(item(content={"a": 1}, metadata={"m": 1}, tags=("t",), user_id="ann", text="words"))
        second = await store.put(item(content={"b": 2}))
        assert (second.content, second.metadata, second.tags, second.user_id, second.text) == (
            {"b": 2},
            {},
            (),
            None,
            None,
        )
        assert await store.get("a") == second

    async def test_put_without_a_ttl_lifts_the_expiry(self, store: MemoryStore, clock: ManualClock) -> None:
        await store.put(item(), ttl=10)
        await store.put(item())
        clock.advance(100)
        assert await store.get("a") is not None

    async def test_a_deleted_and_recreated_item_is_new(self, store: MemoryStore, clock: ManualClock) -> None:
        await store.put(item())
        await store.touch("a")
        assert await store.delete("a")
        clock.advance(3)
        again = await store.put(item())
        now = from_micros(clock())
        assert stamp(again) == (now, now, now, None, 0)

    async def test_every_put_has_a_higher_version(self, store: MemoryStore) -> None:
        versions = [(await store.put(item(content=i))).version for i in range(5)]
        assert versions == sorted(set(versions))

    async def test_an_identical_put_is_a_write_too(self, store: MemoryStore) -> None:
        first = await store.put(item())
        second = await store.put(item())
        assert second.version > first.version

    async def test_add_refuses_a_live_key(self, store: MemoryStore) -> None:
        first = await store.add(item(content="one"))
        with pytest.raises(AlreadyExists) as caught:
            await store.add(item(content="two"))
        assert caught.value.key == (("default",), "a")
        assert await store.get("a") == first

    async def test_add_of_a_deleted_key_succeeds(self, store: MemoryStore) -> None:
        await store.add(item(content="one"))
        await store.delete("a")
        await store.add(item(content="two"))
        assert (await store.get("a") or item()).content == "two"

    async def test_the_same_id_in_two_namespaces_is_two_items(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        await store.put(item(content="one", namespace=("x",)))
        await store.put(item(content="two", namespace=("y",)))
        await store.delete("a", namespace=("x",))
        assert await store.get("a", namespace=("x",)) is None
        assert (await store.get("a", namespace=("y",)) or item()).content == "two"

    async def test_delete_says_whether_it_was_there(self, store: MemoryStore) -> None:
        await store.put(item())
        assert await store.delete("a") is True
        assert await store.delete("a") is False
        assert await store.get("a") is None
        assert await store.delete("never") is False

    async def test_delete_many_answers_in_order(self, store: MemoryStore) -> None:
        await store.put_many([item("a"), item("b")])
        assert await store.delete_many(["x", "b", "a", "b"]) == [False, True, True, False]
        assert await store.count() == 0
        assert await store.delete_many([]) == []

    async def test_delete_where_deletes_exactly_what_matches(self, store: MemoryStore) -> None:
        await store.put_many([item(str(i), metadata={"n": i}) for i in range(10)])
        assert await store.delete_where({"metadata.n": {"$gte": 4}}) == 6
        assert await ids(store) == ["0", "1", "2", "3"]
        assert await store.delete_where({"metadata.n": 99}) == 0

    async def test_delete_where_deletes_more_than_a_thousand(self, store: MemoryStore) -> None:
        await store.put_many([item(f"{i:04}", metadata={"odd": i % 2}) for i in range(2_300)])
        assert await store.delete_where({"metadata.odd": 1}) == 1_150
        assert await store.count() == 1_150
        assert await store.count({"metadata.odd": 1}) == 0

    async def test_delete_where_stays_in_its_namespace(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        await store.put_many([item(str(i), namespace=ns) for i, ns in enumerate([("x",), ("x", "y"), ("xy",)])])
        assert await store.delete_where(None, namespace=("x",)) == 1
        assert await ids(store) == ["1", "2"]
        assert await store.delete_where(None, under=("x",)) == 1
        assert await ids(store) == ["2"]

    async def test_what_was_put_can_be_changed_without_changing_the_store(self, store: MemoryStore) -> None:
        content: Any = {"list": [1, {"x": 1}]}
        metadata = {"m": {"n": 1}}
        await store.put(item(content=content, metadata=metadata))
        content["list"][1]["x"] = 99
        metadata["m"]["n"] = 99
        found = await store.get("a")
        assert found is not None
        assert (found.content, found.metadata) == ({"list": [1, {"x": 1}]}, {"m": {"n": 1}})
        assert await store.count({"metadata.m.n": 1}) == 1

    async def test_what_was_returned_can_be_changed_without_changing_the_store(self, store: MemoryStore) -> None:
        stored = await store.put(item(content={"list": [1]}, metadata={"m": {"n": 1}}))
        first = await store.get("a")
        assert first is not None
        for returned in (stored, first, (await store.list()).items[0]):
            returned.content["list"].append(2)
            returned.metadata["m"]["n"] = 99
            second = await store.get("a")
            assert second is not None
            assert (second.content, second.metadata) == ({"list": [1]}, {"m": {"n": 1}})
            assert await store.count({"metadata.m.n": 1}) == 1
        assert await ids(store, {"content.list": [1]}) == ["a"]

    async def test_the_owner_says_the_source_and_the_payload_does_not(self, make: Make) -> None:
        store = await make(source={"by": "owner"}).open()
        stored = await store.put(item(source={"by": "attacker", "trust": 1}))
        assert stored.source == {"by": "owner"}
        assert (await store.get("a") or item()).source == {"by": "owner"}
        robot = store.scoped(source={"by": "robot"})
        await robot.put(item("b", source={"by": "owner"}))
        assert await ids(store, {"source.by": "robot"}) == ["b"]
        assert await store.delete_where({"source.by": "robot"}) == 1
        updated = await robot.update("a", metadata={"x": 1})
        assert updated.source == {"by": "robot"}

    async def test_what_is_done_to_a_returned_item_does_not_change_who_writes(self, make: Make) -> None:
        said = {"by": "owner", "more": {"trust": "low", "list": [1]}}
        store = await make(source=said).open()
        given = {"by": "robot", "more": {"trust": "none", "list": [2]}}
        writers: dict[str, Any] = {
            "owner": store,
            "robot": store.scoped(source=given),
            "viewed": store.scoped(user_id="ann"),
        }
        for source in (said, given):
            spoil(source)
        expected = {"by": "owner", "more": {"trust": "low", "list": [1]}}
        robots = {"by": "robot", "more": {"trust": "none", "list": [2]}}
        for name, writer in writers.items():
            wanted = robots if name == "robot" else expected
            returned = [
                await writer.put(item(f"{name}-put")),
                await writer.add(item(f"{name}-add", source=dict(wanted))),
                *await writer.put_many([item(f"{name}-many1"), item(f"{name}-many2")]),
                await writer.update(f"{name}-put", metadata={"x": 1}),
                await writer.get(f"{name}-add"),
                *await writer.list({"id": {"$startswith": name}}),
                *[hit.item for hit in await writer.search("text", where={"id": {"$startswith": name}})],
            ]
            for one in returned:
                assert one is not None
                assert one.source == wanted
            for one in returned:
                spoil(one.source)
            await writer.put(returned[0])
            assert [one.source for one in await walk(writer, {"id": {"$startswith": name}})] == [wanted] * 4
            assert (await writer.put(item(f"{name}-after"))).source == wanted
        typed = store.scoped(source={"trust": 1})
        assert type((await typed.put(item("typed", source={"trust": True}))).source["trust"]) is int

    async def test_what_was_given_can_be_changed_without_changing_the_store(self, make: Make) -> None:
        mine: list[Any] = []

        def changing(name: str, hook: Hook) -> Hook:
            async def change(*args: Any) -> Any:
                while mine:  # the operation is under way: what was given is the caller's again
                    spoil(mine.pop())
                return await hook(*args)

            return change if name in ("read", "write") else hook

        def given(id: str) -> MemoryItem:
            made = item(id, {"list": [1], "deep": {"x": "word"}}, metadata={"m": {"n": 1}}, tags=["t"])
            mine.extend([made.content, made.metadata, made.tags])
            return made

        store = await make(layers=(changing,)).open()
        await store.put(given("a"))
        await store.add(given("b"))
        await store.put_many([given("c"), given("d")])
        mine += [patch := {"m": {"o": [1]}}, more := [1]]
        await store.update("a", metadata=patch, content={"list": more})
        for one in await walk(store):
            assert one.content == {"list": [1], "deep": {"x": "word"}}
            assert one.metadata == {"m": {"n": 1, "o": [1]} if one.id == "a" else {"n": 1}}
            assert one.tags == ("t",)
        assert await ids(store, {"metadata.m.n": 1}) == ["a", "b", "c", "d"]
        assert sorted(hit.item.id for hit in await store.search("word")) == ["a", "b", "c", "d"]
        assert (await store.verify()).ok

    async def test_two_spellings_of_a_namespace_are_one(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        await store.put(item(namespace="notes"))
        found = await store.get("a", namespace=("notes",))
        assert body(found) == body(await store.get("a", namespace="notes"))
        assert found is not None
        assert found.namespace == ("notes",)
