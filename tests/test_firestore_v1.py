"""Documents of V1 programs as items. The other side is a process of its own, which knows only V1's layout
(firestore_v1_raw.py) and writes before the store opens and while it is open."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

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
    v1_data,
    v1_item,
)

from memory import AlreadyExists, F, ManualClock, MemoryItem
from memory.backends.firestore.connection import Connection
from memory.backends.firestore.queries import NAME, Query
from memory.errors import CorruptData, UnknownOutcome, UnsupportedOperation
from memory.testing.contract.suite import Tap, answers

# --- what V1 programs wrote --------------------------------------------------------------------


@pytest.mark.parametrize("meanwhile", [False, True], ids=["before open", "while open"])
@pytest.mark.parametrize("name", FIXTURES)
async def test_every_document_of_a_fixture_appears_everywhere(
    v1: V1, clock: ManualClock, name: str, meanwhile: bool
) -> None:
    documents = json.loads(FIXTURES[name].read_text("utf-8"))["documents"]
    dead = {one["name"] for one in documents if (one["fields"]["expiration"] or {"$time": "9"})["$time"] < "2026"}
    live = {one["name"]: one for one in documents if one["name"] not in dead}
    if not meanwhile:
        await v1("load", fixture=str(FIXTURES[name]))
    async with store_of(v1, clock) as store:
        if meanwhile:
            await v1("load", fixture=str(FIXTURES[name]))
        assert await store.count() == len(live)
        assert await listed(store) == sorted(live, key=str.encode)
        assert await listed(store, order="-key") == sorted(live, key=str.encode, reverse=True)
        by_time = sorted(live, key=lambda id: (live[id]["fields"]["timestamp"]["$time"], id.encode()))
        assert await listed(store, order="created_at") == by_time
        assert await listed(store, order="updated_at") == by_time
        newest = sorted(by_time, key=lambda id: live[id]["fields"]["timestamp"]["$time"], reverse=True)
        assert await listed(store, order="-created_at") == newest
        assert await listed(store, order="-accessed_at") == newest
        assert await listed(store, order="importance") == sorted(live, key=str.encode)
        found = {item.id: item for item in await store.get_many(live) if item is not None}
        assert found.keys() == live.keys()
        asked: dict[tuple[str, Any], set[str]] = {}
        for id, one in live.items():
            fields, item = one["fields"], found[id]
            data = one["collection"] == AGENTS
            owner = (None, fields["agent_id"], None) if data else (fields["user_id"], None, fields["session_id"])
            assert (item.user_id, item.agent_id, item.session_id) == tuple(part or None for part in owner)
            assert item.kind == fields["data_type" if data else "item_type"]
            assert item.created_at == datetime.fromisoformat(fields["timestamp"]["$time"]) == item.updated_at
            assert item.namespace == ("default",)
            assert item.version > 0
            if not data:
                assert item.content == fields["text_content"]
            wanted: dict[str, Any] = {"kind": item.kind, "created_at": item.created_at, "id": id}
            wanted |= {name: getattr(item, name) for name in ("user_id", "agent_id", "session_id")}
            for question in wanted.items():
                asked.setdefault(question, set()).add(id)
            if item.searchable:
                hits = await store.search(item.searchable, limit=50)
                assert id in [hit.item.id for hit in hits]
        wheres = [{name_: value} for name_, value in asked]
        lists = await answers(lambda where: listed(store, where), wheres)
        counts = await answers(store.count, wheres)
        for (question, own), seen, count in zip(asked.items(), lists, counts, strict=True):
            assert own <= set(seen), question
            assert count == len(seen), question
        for id in dead:
            assert await store.get(id) is None
        assert (await store.verify()).ok
        report = await store.verify()
        assert report.checked == len(documents)
        for one in documents:
            assert await v1("raw", collection=one["collection"], name=one["name"]) == one["fields"], (
                "nothing is written"
            )


async def test_every_operator_of_a_filter_finds_them(v1: V1, clock: ManualClock) -> None:
    await v1("load", fixture=str(FIXTURES["conversation"]))
    await v1("load", fixture=str(FIXTURES["agents"]))
    async with store_of(v1, clock) as store:
        for where, expected in (
            (F.user_id == "bob", [f"{U}06", f"{U}07"]),
            (F.user_id != "ann", [f"{U}06", f"{U}07", *(f"{A}0{i}" for i in range(1, 8) if i != 6)]),
            ({"session_id": {"$in": ["s2", "s3"]}}, [f"{U}05", f"{U}06"]),
            ({"session_id": None, "user_id": "bob"}, [f"{U}07"]),
            ({"user_id": {"$exists": False}}, [f"{A}0{i}" for i in range(1, 8) if i != 6]),
            ({"agent_id": "scout", "kind": "metric"}, [f"{A}04", f"{A}05"]),
            ({"kind": {"$nin": ["conversation", "report", "log", "plan"]}}, [f"{U}07", f"{A}04", f"{A}05", f"{A}07"]),
            (F.metadata.turn >= 3, [f"{U}03", f"{U}04"]),
            (F.metadata.tokens["in"] == 12.0, [f"{U}02"]),
            ({"metadata.scores": {"$contains": "x"}}, [f"{U}04"]),
            ({"metadata.legacy.persona_active": "cherry"}, [f"{U}02", f"{U}04"]),
            ({"metadata.legacy.priority": {"$gt": 6}}, [f"{A}07"]),
            ({"content.cost": {"$lt": 2}}, [f"{A}01"]),
            ({"content": {"$startswith": "looked"}}, [f"{A}02"]),
            ({"content": 42}, [f"{A}04"]),
            ({"content": None}, [f"{A}05"]),
            (F.created_at > WHEN + timedelta(hours=12), [f"{U}05", f"{U}06", f"{A}04", f"{A}05"]),
            ({"expires_at": {"$exists": True}}, [f"{A}04"]),
            ({"$or": [{"user_id": "bob"}, {"agent_id": "planner", "kind": "plan"}]}, [f"{U}06", f"{U}07", f"{A}01"]),
            ({"$not": {"importance": 0.5}}, []),
        ):
            assert await listed(store, where) == expected, where
            assert await store.count(where) == len(expected), where
            for order in ("-key", "created_at", "-created_at", "-importance"):
                assert sorted(await listed(store, where, order=order)) == sorted(expected), (where, order)
        view = store.scoped(user_id="ann", session_id="s1")
        assert await listed(view, order="-created_at") == [f"{U}04", f"{U}01", f"{U}02", f"{U}03", f"{U}11"]
        assert await store.scoped(agent_id="scout").count() == 3
        assert await store.namespaces() == [("default",)]
        assert await listed(store, namespace=("other",)) == []
        assert await store.scoped(("other",)).get(f"{U}01") is None


async def test_they_are_found_by_text_by_vector_and_by_both(v1: V1, clock: ManualClock) -> None:
    await v1("load", fixture=str(FIXTURES["conversation"]))
    await v1("load", fixture=str(FIXTURES["scars"]))
    async with store_of(v1, clock) as store:
        assert [hit.item.id for hit in await store.search("burrow in October")] == [f"{U}04"]
        assert [hit.item.id for hit in await store.search("marmot", where={"user_id": "bob"})] == [f"{U}06"]
        near = await store.search(vector=[0.25, -0.5, 1.0, 0.0])
        assert near.hits[0].item.id == f"{U}02"
        assert near.hits[0].score == pytest.approx(1.0)
        assert len(near) == 4, "that of another size is no vector of this store"
        assert (await store.get(f"{U}27") or MemoryItem(content=0)).embedding is None
        both = await store.search("grass", vector=[0.25, -0.5, 1.0, 0.0], mode="hybrid")
        assert both.hits[0].item.id == f"{U}02"
        around = await store.search("sleep", neighbours=1, where={"user_id": "ann"})
        assert {hit.item.id for hit in around} == {f"{U}02", f"{U}03", f"{U}04"}


async def test_equal_times_come_each_once_in_the_order_of_names(v1: V1, clock: ManualClock) -> None:
    names = [f"{i:03}" for i in range(40)]
    for name in names:
        make = v1_item if int(name) % 3 else v1_data
        when = time(f"2025-05-0{1 + int(name) // 16}T12:00:00+00:00")
        await v1("set", **make(name, f"text {name}", timestamp=when))
    async with store_of(v1, clock) as store:
        assert await listed(store, order="created_at") == names
        groups = [names[32:], names[16:32], names[:16]]
        assert await listed(store, order="-created_at") == [name for group in groups for name in group]
        for limit in (1, 7, 16, 100):
            page = await store.list(order="-created_at", limit=limit)
            assert [item.id for item in page] == [name for group in groups for name in group][:limit]


# --- what cannot be told apart, or is no item ----------------------------------------------------


async def test_of_two_documents_of_one_name_the_memory_item_is_shown_and_the_other_told(
    v1: V1, clock: ManualClock
) -> None:
    for id in ("a", "b", "c"):
        await v1("set", **v1_data(id, f"data {id}", timestamp=time("2025-01-01T00:00:00+00:00"), data_type="same"))
    await v1("set", **v1_item("b", "item b", item_type="same"))
    tap = Tap()
    async with store_of(v1, clock, layers=(tap,)) as store:
        assert (await store.get("b") or MemoryItem(content=0)).content == "item b"
        for order in ("key", "-key", "created_at", "-created_at", "importance"):
            assert sorted(await listed(store, order=order)) == ["a", "b", "c"], order
        assert await listed(store, {"agent_id": "planner"}) == ["a", "c"]
        assert await listed(store, {"kind": "same"}) == ["a", "b", "c"]
        assert await store.count() == 3
        assert {hit.item.id for hit in await store.search("data item")} == {"a", "b", "c"}
        assert (await store.health()).details["hidden"] == 1
        (problem,) = (await store.verify()).problems
        assert (problem.key[1], "hidden" in problem.what) == ("b", True)
        with pytest.raises(AlreadyExists):
            await store.update("b", user_id=None, agent_id="planner")
        assert await store.touch("b")
        assert await store.delete("b")
        assert (await store.get("b") or MemoryItem(content=0)).content == "data b", "what it hid is there again"
        await v1("set", **v1_item("b", "item b"))
        tap.replies = 1
        with pytest.raises(UnknownOutcome) as caught:
            await store.delete("b")
        assert await caught.value.retry() is True
        assert (await store.get("b") or MemoryItem(content=0)).content == "data b", "only one was deleted"
        assert (await store.verify()).ok
        assert await store.delete("b")
        assert await store.get("b") is None


async def test_documents_that_are_no_items_are_told_and_left_alone(v1: V1, clock: ManualClock) -> None:
    await v1("set", **v1_item("good", "marmot"))
    bare = {"id": "bare", "timestamp": time("2025-05-01T12:00:00+00:00")}
    await v1("set", collection=ITEMS, name="bare", fields=bare)
    await v1(
        "set", collection=ITEMS, name="no_time", fields={"id": "no_time", "text_content": "marmot", "user_id": "ann"}
    )
    await v1("set", collection=AGENTS, name="nobody", fields={**v1_data("nobody", 1)["fields"], "agent_id": None})
    await v1("set", **v1_item("x" * 600, "a name that no id can have"))
    async with store_of(v1, clock) as store:
        assert await listed(store) == ["bare", "good"], "a field that is missing hides nothing"
        assert await listed(store, order="-created_at") == ["good", "bare"]
        assert await listed(store, {"session_id": None}) == ["bare", "good"]
        assert await listed(store, {"kind": "message"}) == ["bare"]
        assert await store.count({"user_id": None}) == 1
        assert [hit.item.id for hit in await store.search("marmot")] == ["good"]
        with pytest.raises(CorruptData):
            await store.get("no_time")
        assert len((await store.verify()).problems) == 3
        details = (await store.health()).details
        assert (details["unreadable"], details["without_timestamp"]) == (3, 1)
    assert await v1("raw", collection=ITEMS, name="bare") == bare


async def test_what_is_no_document_of_v1_is_refused(v1: V1, clock: ManualClock) -> None:
    async with store_of(v1, clock) as store:
        with pytest.raises(UnsupportedOperation):
            await store.put_many([MemoryItem(content=1)], atomic=True)
        with pytest.raises(UnsupportedOperation):
            await anext(store.watch())
        assert await v1("read", collection=ITEMS) == {}


# --- questions -----------------------------------------------------------------------------------


async def test_no_question_needs_an_index_that_firestore_does_not_make_by_itself(
    v1: V1, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Query] = []
    for method in ("query", "count"):
        real = getattr(Connection, method)

        async def watched(self: Any, query: Query, meter: Any, real: Any = real) -> Any:
            asked.append(query)
            return await real(self, query, meter)

        monkeypatch.setattr(Connection, method, watched)
    for name in ("conversation", "agents", "scars"):
        await v1("load", fixture=str(FIXTURES[name]))
    async with store_of(v1, clock) as store:
        filters = (
            None,
            {"user_id": "ann"},
            {"kind": "log", "agent_id": "planner"},
            {"user_id": "ann", "session_id": "s1"},
        )
        for where in filters:
            for order in ("key", "created_at", "updated_at", "accessed_at", "importance"):
                await listed(store, where, order=order)
                await listed(store, where, order=f"-{order}")
            await store.count(where)
            await store.search("marmot", where=where, neighbours=1)
            await store.search(vector=[1.0, 0.0, 0.0, 0.0], where=where)
        for fields in ({"user_id": "ann"}, {"agent_id": "planner"}, {"content": "long " * 500}):
            await store.put(MemoryItem(**{"content": "x", **fields}), dedup="content")
        await store.delete_where({"user_id": "bob"})
        await store.namespaces()
        await store.health()
        await store.verify()
        await store.sweep()
        await store.stats()
    assert len(asked) > 100
    for query in asked:
        ordered = [path for path, _ in query.orders if path != NAME]
        ranged = {one.path for one in query.conditions if one.operator not in ("==", "in")}
        equal = {one.path for one in query.conditions} - ranged
        assert len({*ordered, *ranged}) <= 1, query
        assert not equal or not (ordered or ranged), query
        down = {down for _, down in query.orders}
        assert len(down) <= 1, query
        assert query.orders != ((NAME, True),), query
        assert query.limit is None or query.limit <= 301


async def test_reads_are_bounded_when_asked(v1: V1, clock: ManualClock) -> None:
    for i in range(30):
        await v1("set", **v1_item(f"{i:02}", f"marmot {i}", timestamp=time(f"2025-05-01T12:00:{i:02}+00:00")))
    async with store_of(v1, clock, max_reads=20) as store:
        assert len(await store.list(limit=10)) == 10
        assert len(await store.list(limit=10, order="-created_at")) == 10
        assert await store.count({"user_id": "nobody"}) == 0
        for call in (
            store.count,
            lambda: store.list(order="-key"),
            lambda: store.search("marmot"),
            lambda: store.search(vector=[1.0]),
            lambda: store.list({"metadata.x": 1}),
        ):
            with pytest.raises(UnsupportedOperation, match="max_reads"):
                await call()
