"""Documents of V1 programs as items, and items as V1 programs read them. The other side is a process of its own, which knows
only V1's layout (firestore_v1_raw.py) and writes before the store opens, while it is open, and after it wrote."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from servers import server

from memory import AlreadyExists, F, ManualClock, MemoryItem, VersionConflict
from memory.backends.firestore.connection import Connection
from memory.backends.firestore.queries import NAME, Query
from memory.backends.firestore.v1 import FirestoreV1Store
from memory.clock import from_micros
from memory.errors import CorruptData, UnknownOutcome, UnsupportedOperation
from memory.testing.contract.suite import Tap

ITEMS, AGENTS = "memory_items", "agent_data"
HERE = Path(__file__).parent
FIXTURES = {path.stem: path for path in sorted((HERE / "fixtures/firestore_v1").glob("*.json"))}
WHEN = datetime(2025, 5, 1, 12, 0, 0, 123_456, tzinfo=UTC)
U, A = "0b7c1f5e-3a44-4c52-9d0e-0000000000", "f3d2a9c8-77b1-4e0f-8a55-0000000000"


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


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(HERE / "firestore_v1_raw.py"), str(server("firestore").url)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        yield started
        assert started.stdin is not None
        started.stdin.close()
        assert started.wait(20) == 0


@pytest.fixture
def v1(process: subprocess.Popen[str]) -> V1:
    return V1(process, "v1-" + uuid.uuid4().hex[:12])


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


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
            for name_, value in wanted.items():
                assert id in await listed(store, {name_: value}), (name_, value)
                assert await store.count({name_: value}) == len(await listed(store, {name_: value}))
            if item.searchable:
                hits = await store.search(item.searchable, limit=50)
                assert id in [hit.item.id for hit in hits]
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
