"""Each item in the member that its rule says: moved without being lost or doubled, found with the scores of one store."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np  # noqa: F401 - loaded before a loop runs
import pytest
from composites import Faults, by_content, by_namespace, file, memory
from flavours import flavour

from memory import MemoryItem
from memory.backends.composite import Promotion, Route, RoutedStore
from memory.backends.in_memory import InMemoryStore
from memory.clock import ManualClock
from memory.errors import AlreadyExists, BackendUnavailable, InvalidSetting, UnknownOutcome, VersionConflict
from memory.ops import Read, Remove, Result, Status

WORDS = ("marmot", "eagle", "meadow", "river", "snow")


def corpus(count: int) -> list[MemoryItem]:
    """Items that the rules of every composition spread."""
    return [
        MemoryItem(
            id=f"{i:04}", namespace=(("a",), ("n",), ("b", "c"), ("a", "x"))[i % 4], kind=("note", "working")[i % 5 == 0],
            content=" ".join(WORDS[: 1 + i % 5] * (1 + i % 3)), tags=("x",) if i % 3 == 0 else (), metadata={"n": i % 12},
            session_id=f"s{i % 7}", importance=(i % 10) / 10, embedding=[1.0, float(i % 17)],
        )
        for i in range(count)
    ]  # fmt: skip


QUESTIONS: list[dict[str, Any]] = [
    {"query": "marmot"},
    {"query": "river snow", "where": {"metadata.n": {"$lt": 6}}},
    {"query": "eagle meadow", "under": "a", "neighbours": 2},
    {"vector": [1.0, 3.0]},
    {"query": "snow marmot", "vector": [1.0, 5.0], "mode": "hybrid", "order": "composite"},
    {"query": "river", "vector": [1.0, 5.0], "mode": "hybrid", "mmr": 0.5},
]


@pytest.fixture
def redis() -> Any:
    """Stores on a Redis server, which is started before the loop runs."""
    return flavour("redis")


@pytest.mark.parametrize("count", [300, pytest.param(6_000, marks=pytest.mark.full)])
@pytest.mark.parametrize("compose", [by_namespace, by_content])
async def test_a_search_over_routes_is_that_of_one_store_to_the_bit(compose: Any, count: int, tmp_path: Path) -> None:
    """Also where a word is in more than a thousand items of several members, so that only the newest are scored."""
    clock = ManualClock()
    async with compose(tmp_path, Faults(), clock=clock) as routed, InMemoryStore(clock=clock) as one:
        for start in range(0, count, 500):
            part = corpus(count)[start : start + 500]
            await routed.put_many(part)
            await one.put_many(part)
            clock.advance(1)
        held = [await route.store.count() for route in routed.routes]
        assert sum(held) == count
        assert all(held)
        for question in QUESTIONS:
            found, expected = [await store.search(limit=20, **question) for store in (routed, one)]
            assert [(hit.item.id, hit.score, hit.components) for hit in found] == [
                (hit.item.id, hit.score, hit.components) for hit in expected
            ], question
        for order in ("key", "-key", "created_at", "-created_at", "importance", "-importance"):
            pages = [await store.list(limit=50, order=order) for store in (routed, one)]
            assert [item.id for item in pages[0]] == [item.id for item in pages[1]], order
        assert await routed.namespaces() == await one.namespaces()


async def test_an_item_moves_when_it_is_written_so_that_it_belongs_elsewhere(tmp_path: Path) -> None:
    async with by_content(tmp_path, Faults()) as store:

        async def places() -> list[str]:
            rows = [await route.member.read(Read(keys=((("default",), "a"),), now=1)) for route in store.routes]
            return [route.name for route, (row,) in zip(store.routes, rows, strict=True) if row is not None]

        first = await store.put(MemoryItem(id="a", content="x"))
        seen, expected = [first.version], first
        for changes, place in (
            ({"tags": ("x",)}, "tagged"),
            ({"tags": (), "metadata": {"n": 3}}, "odd"),
            ({"kind": "working"}, "working"),
            ({"kind": "note", "metadata": {"n": None}}, "rest"),
        ):
            expected = await store.update("a", **changes)
            assert await places() == [place]
            assert await store.get("a") == expected
            assert expected.version > seen[-1]
            assert expected.created_at == first.created_at
            with pytest.raises(VersionConflict):
                await store.put(MemoryItem(id="a", content="y", tags=("x",)), if_version=seen[-1])
            with pytest.raises(AlreadyExists):
                await store.add(MemoryItem(id="a", content="y", tags=("x",)))
            seen.append(expected.version)
        await store.delete("a")
        for tags in (("x",), (), ("x",)):
            again = await store.put(MemoryItem(id="a", content="x", tags=tags))
            assert again.version > seen[-1], "no version comes back, wherever it is created"
            seen.append(again.version)
            await store.delete("a")
        assert (await store.verify()).ok


async def test_versions_rise_when_an_item_leaves_redis(tmp_path: Path, redis: Any) -> None:
    """Its versions are instants, and it knows those of a namespace only once it has written there, not when it opens."""
    seen: list[int] = []
    for tags, delete in ((("x",), False), ((), False), (("x",), True), ((), True), (("x",), False)):
        routes = {"tagged": Route(redis(tmp_path), tag="x"), "rest": Route(file(tmp_path, "rest", Faults()))}
        async with RoutedStore(routes, journal=file(tmp_path, "journal", Faults())) as store:
            seen.append((await store.put(MemoryItem(id="a", content="x", tags=tags))).version)
            if delete:
                await store.delete("a")
    assert seen == sorted(set(seen))


async def test_versions_do_not_run_away_from_namespace_to_namespace_of_redis(tmp_path: Path, redis: Any) -> None:
    """Each has a sequence of its own, of which nothing is known before the first write."""
    for turn in range(3):
        routes = {"tagged": Route(redis(tmp_path), tag="x"), "rest": Route(file(tmp_path, "rest", Faults()))}
        async with RoutedStore(routes, journal=file(tmp_path, "journal", Faults())) as store:
            for number in range(6):
                for tags in (("x",), ()):
                    item = MemoryItem(id=f"{tags}", namespace=(f"{turn} {number}",), content="x", tags=tags)
                    assert (await store.put(item)).version < 1.1 * store._clock()


async def test_versions_do_not_run_away_where_a_member_issues_instants(tmp_path: Path) -> None:
    """As Firestore does, which is far ahead of a member that counts: no number of openings adds that up."""

    class Instants(InMemoryStore):
        async def _open(self) -> None:
            await super()._open()
            self._version = self._seen = self._clock()

    for turn in range(6):
        routes = {"tagged": Route(Instants(), tag="x"), "rest": Route(InMemoryStore())}
        async with RoutedStore(routes, journal=file(tmp_path, "journal", Faults())) as store:
            for tags in (("x",), ()):
                stored = await store.put(MemoryItem(id=f"{turn} {tags}", content="x", tags=tags))
                assert stored.version < 1.1 * store._clock()


async def test_readers_see_exactly_one_copy_while_items_move(tmp_path: Path) -> None:
    async with by_content(tmp_path, Faults()) as store:
        await store.put_many([MemoryItem(id=f"{i}", content="a marmot", embedding=[1.0, 2.0]) for i in range(8)])
        stopped = False

        async def move(i: int) -> None:
            for turn in range(25):
                await store.update(f"{i}", tags=("x",) if turn % 2 else (), metadata={"n": turn % 3})

        async def read() -> int:
            seen = 0
            while not stopped:
                wanted = [f"{i}" for i in range(8)]
                assert [item.id for item in await store.list(limit=50)] == wanted
                assert [item and item.id for item in await store.get_many(wanted)] == wanted
                assert await store.count() == 8
                assert sorted(hit.item.id for hit in await store.search("marmot", limit=50)) == wanted
                assert sorted(hit.item.id for hit in await store.search(vector=[1.0, 2.0], limit=50)) == wanted
                seen += 1
            return seen

        readers = [asyncio.ensure_future(read()) for _ in range(2)]
        async with asyncio.TaskGroup() as group:
            for i in range(8):
                group.create_task(move(i))
        stopped = True
        assert all([await reader > 0 for reader in readers])
        assert (await store.verify()).ok


async def test_a_move_that_begins_while_another_is_finished_is_not_seen_twice(tmp_path: Path) -> None:
    """No old copy can be removed at first; the list finishes the move that it knows of, and then the other."""
    async with by_content(tmp_path, Faults(), failures=1_000) as store:
        await store.put_many([MemoryItem(id=id, content="x") for id in "ab"])
        rest, journal, begins = store.routes[-1].store, store.journal.member.store, asyncio.Event()
        remove, note, kept = rest._do_write, journal._do_write, {"a", "b"}

        async def once_in_vain(ops: Any, atomic: bool) -> Any:
            if type(ops[0]) is Remove and ops[0].key[1] in kept:
                kept.remove(ops[0].key[1])
                raise BackendUnavailable("gone")
            return await remove(ops, atomic)

        async def slowly(ops: Any, atomic: bool) -> Any:
            await begins.wait()
            return await note(ops, atomic)

        rest._do_write = once_in_vain
        await store.update("a", tags=("x",))
        journal._do_write = slowly
        moving = asyncio.ensure_future(store.update("b", tags=("x",)))
        while not store.placing.mover._gate.locked():
            await asyncio.sleep(0)
        listed = asyncio.ensure_future(store.list())
        await asyncio.sleep(0.01)
        begins.set()
        assert [item.id for item in await listed] == ["a", "b"]
        await moving
        assert not kept
        assert (await store.verify()).ok


@pytest.mark.parametrize("target_has_it", [True, False])
@pytest.mark.parametrize("source_has_it", [True, False])
async def test_a_crash_in_the_middle_of_a_move_leaves_one_copy(
    target_has_it: bool, source_has_it: bool, tmp_path: Path
) -> None:
    """The journal speaks of a move; whatever the crash left at either place, one copy counts and the other goes."""
    async with by_content(tmp_path, Faults()) as store:
        old = await store.put(MemoryItem(id="a", content="old"))
        source, target = store.routes[-1], store.routes[1]
        (row,) = await source.member.read(Read(keys=(old.key,), now=1))
        assert row is not None
        await store.placing.journal.begin(old.key, source.name, target.name, row.version)
        if target_has_it:
            await target.store.put(MemoryItem(id="a", content="new", tags=("x",)))
        if not source_has_it:
            await source.store.delete("a")
    async with by_content(tmp_path, Faults()) as store:
        found = await store.get("a")
        expected = "new" if target_has_it else "old" if source_has_it else None
        assert (found and found.content) == expected
        assert await store.count() == (expected is not None)
        assert [item.content for item in await store.list()] == ([expected] if expected else [])
        assert await store.placing.journal.left() == []
        assert (await store.verify()).ok


async def test_a_note_that_outlived_its_move_does_not_undo_the_next_one(tmp_path: Path) -> None:
    """Its removal failed; then the item moved back, acknowledged, and the process died before the old copy was gone."""
    ids = [f"{i}" for i in range(16)]  # the notes of each are found in either order
    async with by_content(tmp_path, Faults(), failures=1_000) as store:
        await store.put_many([MemoryItem(id=id, content="first") for id in ids])
        journal, tagged = store.journal.member.store, store.routes[1].store

        def without_removals(member: Any) -> Any:
            plain = member._do_write

            async def write(ops: Any, atomic: bool) -> Any:
                if type(ops[0]) is Remove:
                    raise BackendUnavailable("gone")
                return await plain(ops, atomic)

            member._do_write = write
            return plain

        plain = without_removals(journal)
        for id in ids:
            await store.update(id, content="second", tags=("x",))
        journal._do_write = plain
        without_removals(tagged)
        for id in ids:
            await store.update(id, content="third", tags=())
    async with by_content(tmp_path, Faults()) as store:
        assert [item and item.content for item in await store.get_many(ids)] == ["third"] * len(ids)
        assert await store.count() == len(ids)
        assert await store.placing.journal.left() == []
        assert (await store.verify()).ok


def killed(kills: int, place: Path, *how: str) -> dict[str, Any]:
    """What a run of kill_moves.py has told."""
    line = [sys.executable, str(Path(__file__).with_name("kill_moves.py")), str(kills), "1", str(place), *how]
    done = subprocess.run(line, capture_output=True, text=True, check=True, timeout=280)
    print(done.stdout)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.crash
@pytest.mark.parametrize("kills", [12, pytest.param(150, marks=pytest.mark.full)])
def test_a_process_that_is_killed_while_items_move_leaves_each_of_them_once(kills: int, tmp_path: Path) -> None:
    """With what was acknowledged last, or sent since; nothing is left of a move once the store is open again."""
    told = killed(kills, tmp_path)
    assert told["wrong"] == []
    assert told["kills"] == kills
    assert told["within"] >= kills // 6, "enough of the kills came within a move"
    assert told["compared"] > 5 * kills
    if kills > 100:
        assert min(told[step] for step in ("noted", "copied", "removed")) > 0, "at every step of one"


@pytest.mark.crash
def test_a_store_that_does_not_look_into_its_journal_is_caught(tmp_path: Path) -> None:
    assert killed(9, tmp_path, "forgetful")["wrong"]


async def test_a_route_that_is_gone_while_its_moves_are_open_is_asked_for(tmp_path: Path) -> None:
    async with by_content(tmp_path, Faults()) as store:
        await store.placing.journal.begin((("default",), "a"), "former", "rest", 1)
    with pytest.raises(InvalidSetting, match="a route 'former', which there is no more"):
        await by_content(tmp_path, Faults()).open()


async def test_an_outcome_that_is_unknown_in_a_move_is_settled_by_retry(tmp_path: Path) -> None:
    faults = Faults()
    async with by_content(tmp_path, faults, failures=1_000) as store:
        await store.put(MemoryItem(id="a", content="old"))
        tagged = store.routes[1].store
        plain = tagged._do_write

        async def lost(ops: Any, atomic: bool) -> Any:
            await plain(ops, atomic)
            return [Result(Status.UNKNOWN) for _ in ops]

        tagged._do_write = lost
        with pytest.raises(UnknownOutcome) as caught:
            await store.put(MemoryItem(id="a", content="new", tags=("x",)))
        assert (await store.get("a")).content == "old"
        tagged._do_write = plain
        stored = await caught.value.retry()
        assert await store.get("a") == stored
        assert stored.content == "new"
        assert await store.count() == 1
        assert (await store.verify()).ok


async def test_a_move_ends_though_an_earlier_reply_was_lost_as_well(tmp_path: Path) -> None:
    """What the member issued for the lost one lies above all that is known here, so it cannot tell of a repeat."""
    async with by_content(tmp_path, Faults(), failures=1_000) as store:
        await store.put(MemoryItem(id="a", content="old", tags=("x",)))
        tagged = store.routes[1].store
        plain = tagged._do_write

        def losing(*, arrives: bool) -> Any:
            async def lost(ops: Any, atomic: bool) -> Any:
                if arrives:
                    await plain(ops, atomic)
                return [Result(Status.UNKNOWN) for _ in ops]

            return lost

        tagged._do_write = losing(arrives=True)
        with pytest.raises(UnknownOutcome):
            await store.delete("a")
        await store.put(MemoryItem(id="a", content="between"))
        tagged._do_write = losing(arrives=False)
        with pytest.raises(UnknownOutcome) as caught:
            await store.put(MemoryItem(id="a", content="new", tags=("x",)))
        tagged._do_write = plain
        assert [item.content async for page in store.stream() for item in page] == ["new"]
        assert await caught.value.retry() == await store.get("a")
        assert (await store.verify()).ok


async def test_items_are_promoted_by_importance_accesses_and_age(tmp_path: Path) -> None:
    """Short-term items live only in a fast store, until a rule takes them to the one that lasts."""
    clock = ManualClock()
    routes = {
        "short": Route(
            memory("short", Faults()), kind="working", promote=Promotion(importance=0.8, accesses=2, age=60.0)
        ),
        "long": Route(file(tmp_path, "long", Faults())),
    }
    async with RoutedStore(routes, journal=file(tmp_path, "journal", Faults()), clock=clock) as store:

        async def lasting() -> list[str]:
            return sorted([item.id for item in await store.routes[1].store.list()])

        first = await store.put_many([MemoryItem(id=id, kind="working", content=id) for id in ("used", "old", "dull")])
        await store.put(MemoryItem(id="weighty", kind="working", content="x", importance=0.9))
        assert await lasting() == ["weighty"]
        await store.touch("used")
        await store.touch("used")
        used = await store.get("used")
        await store.sweep()
        assert await lasting() == ["used", "weighty"]
        moved = await store.get("used")
        assert used is not None
        assert moved is not None
        assert moved.version > used.version
        assert (moved.access_count, moved.created_at, moved.accessed_at) == (2, used.created_at, used.accessed_at)
        await store.delete("dull")
        clock.advance(60)
        await store.sweep()
        assert await lasting() == ["old", "used", "weighty"]
        assert await store.update("old", content="still promoted")
        assert await lasting() == ["old", "used", "weighty"]
        assert await store.count() == 3
        assert first[1].version < (await store.get("old")).version  # type: ignore[union-attr]


@pytest.mark.parametrize("compose", [by_namespace, by_content])
async def test_a_record_in_the_wrong_place_is_found_and_taken_to_the_right_one(compose: Any, tmp_path: Path) -> None:
    async with compose(tmp_path, Faults()) as store:
        await store.put(MemoryItem(id="a", namespace=("a",), content="right"))
        strange = store.routes[1].store
        await strange.put(MemoryItem(id="a", namespace=("a",), content="wrong"))
        await strange.put(MemoryItem(id="b", namespace=("a",), content="only here"))
        problems = (await store.verify()).problems
        assert {problem.what for problem in problems} == {"misplaced record"}
        assert "a" in {problem.key[1] for problem in problems}
        await store.repair()
        assert (await store.verify()).ok
        assert await store.count() == 2
        assert (await store.get("b", namespace="a")).content == "only here"


async def test_a_member_that_is_down_is_named_and_the_others_serve(tmp_path: Path) -> None:
    faults = Faults()
    async with by_namespace(tmp_path, faults, failures=1, recovery=0.01) as store:
        await store.put_many(corpus(40))
        faults.down.add("a")
        assert await store.get("0001", namespace="n")
        assert len(await store.list(namespace="n")) == 10
        await store.put(MemoryItem(id="new", namespace=("n",), content="x"))
        for call in (store.count, store.list, lambda: store.get("0000", namespace="a")):
            with pytest.raises(BackendUnavailable, match=r"'a'|a is down"):
                await call()
        health = await store.health()
        assert health.status == "degraded"
        assert "'a'" in health.details["warnings"][0]
        faults.down.clear()
        await asyncio.sleep(0.02)
        assert await store.count() == 41


async def test_dedup_finds_a_twin_on_another_route(tmp_path: Path) -> None:
    async with by_content(tmp_path, Faults()) as store:
        first = await store.put(MemoryItem(id="a", content={"x": 1}, tags=("x",)))
        again = await store.put(MemoryItem(id="b", content={"x": 1.0}, metadata={"n": 3}), dedup="content")
        assert again == first
        pair = await store.put_many(
            [MemoryItem(id=id, content="y", tags=tags) for id, tags in (("c", ("x",)), ("d", ()))], dedup="content"
        )
        assert [item.id for item in pair] == ["c", "c"]
        assert await store.count() == 2


async def test_a_batch_over_routes_is_deduplicated_in_order(tmp_path: Path) -> None:
    routes = {"red": Route(InMemoryStore(), tag="red"), "rest": Route(InMemoryStore())}
    async with RoutedStore(routes, journal=InMemoryStore()) as routed, InMemoryStore() as one:

        async def dealt(*told: tuple[str, str, str]) -> None:
            items = [MemoryItem(id=id, content=content, tags=(tag,)) for id, content, tag in told]
            for store in (routed, one):
                stored = await store.put_many(items, dedup="content")
                answers[store.name].append([(each.id, each.content, each.tags) for each in stored])
            assert answers["routed"] == answers["in_memory"]

        answers: dict[str, list[Any]] = {"routed": [], "in_memory": []}
        await dealt(("t", "x", "red"))
        await dealt(("t", "1", "red"), ("a", "x", "blue"))  # a's twin is none any more
        await dealt(("b", "1", "blue"), ("t", "2", "red"))  # b's twin is one, still
        await dealt(("a", "3", "red"), ("c", "x", "blue"), ("c", "3", "blue"))  # a moves away from what it was
        await dealt(("d", "3", "blue"), ("a", "4", "blue"), ("e", "3", "blue"))  # and back
        for id in "abcdet":
            there, here = await routed.get(id), await one.get(id)
            assert (there and there.content) == (here and here.content), id
        assert (await routed.verify()).ok
