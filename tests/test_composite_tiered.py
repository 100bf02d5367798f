"""A fast tier before the truth: one read for all who miss, no older copy over a newer one, staleness that is bounded."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from composites import Faults, file, tiered
from msgspec.structs import replace
from servers import server

from memory import MemoryItem, MemoryStore
from memory.backends.composite import TieredStore
from memory.backends.in_memory import InMemoryStore
from memory.backends.sqlite import SqliteStore
from memory.clock import ManualClock
from memory.errors import BackendUnavailable, StorageFull, UnknownOutcome
from memory.layers import Hook
from memory.ops import Put, Read, Result, Status
from memory.testing.contract.suite import Tap, settle
from memory.testing.making import maker


class Watched:
    """A layer that counts the calls of a member, and can hold its reads back after they have been answered."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken: set[str] = set()

    def __call__(self, name: str, hook: Hook) -> Hook:
        async def watched(*args: Any) -> Any:
            self.calls[name] += 1
            if name in self.broken:
                raise BackendUnavailable(f"{name} does not work")
            answer = await hook(*args)
            if name == "read":
                await self.gate.wait()
            return answer

        return watched


def made(place: Path, truth: Watched, fast: Watched | None = None, **options: Any) -> TieredStore:
    """On a machine that is held up for longer than the staleness, reads go to the truth, so there is much of it here."""
    options = {"staleness": 60.0, **options}
    layers = () if fast is None else (fast,)
    return TieredStore(
        InMemoryStore(layers=layers), SqliteStore(place / "truth.db", synchronous="off", layers=(truth,)), **options
    )


async def followed(store: TieredStore) -> None:
    """Wait until the truth's feed is followed, before which the truth alone answers."""

    async def known() -> bool:
        return store.follower.behind <= store.staleness

    await settle(5, known)


async def forget(store: TieredStore) -> None:
    """Take the copies away, as their expiry would."""
    await followed(store)
    await store.tier.clear(store._clock())


async def test_a_thousand_callers_that_miss_one_key_make_one_read(tmp_path: Path) -> None:
    truth = Watched()
    async with made(tmp_path, truth) as store:
        stored = await store.put(MemoryItem(id="a", content="x"))
        await forget(store)
        truth.calls.clear()
        truth.gate.clear()
        callers = [asyncio.ensure_future(store.get("a")) for _ in range(1_000)]
        await asyncio.sleep(0.01)
        for caller in callers[::2]:
            caller.cancel()
        await asyncio.sleep(0)
        truth.gate.set()
        assert [await caller for caller in callers[1::2]] == [stored] * 500
        assert truth.calls["read"] == 1
        assert await store.get("a") == stored
        assert truth.calls["read"] == 1, "the copy answers"


async def test_an_error_of_the_one_read_reaches_all_and_is_not_kept(tmp_path: Path) -> None:
    truth = Watched()
    async with made(tmp_path, truth) as store:
        await store.put(MemoryItem(id="a", content="x"))
        await forget(store)
        truth.broken.add("read")
        callers = [asyncio.ensure_future(store.get("a")) for _ in range(10)]
        await asyncio.wait(callers)
        assert all(isinstance(caller.exception(), BackendUnavailable) for caller in callers)
        truth.broken.clear()
        assert await store.exists("a")


@pytest.mark.parametrize("change", ["put", "delete", "touch", "unknown"])
async def test_a_read_that_was_under_way_while_its_key_was_written_is_not_kept(change: str, tmp_path: Path) -> None:
    truth = Watched()
    tap = Tap()
    store = TieredStore(InMemoryStore(), SqliteStore(tmp_path / "truth.db", synchronous="off", layers=(truth, tap)))
    async with store:
        old = await store.put(MemoryItem(id="a", content="old"))
        await forget(store)
        truth.gate.clear()
        reader = asyncio.ensure_future(store.get("a"))
        await asyncio.sleep(0.01)
        if change == "put":
            await store.put(MemoryItem(id="a", content="new"))
        elif change == "delete":
            await store.delete("a")
        elif change == "touch":
            await store.touch("a")
        else:
            tap.replies = 1
            with pytest.raises(UnknownOutcome):
                await store.put(MemoryItem(id="a", content="new"))
        truth.gate.set()
        assert await reader == old, "it began before the write"
        (row,) = await store.truth.read(_read("a"))
        for _ in range(3):
            found = await store.get("a")
            assert (found and found.version) == (row and row.version)
            await asyncio.sleep(0.01)


async def test_a_fill_never_replaces_what_another_process_has_written(tmp_path: Path) -> None:
    """Two stores share the fast tier; the one that fills is slow, the other one writes meanwhile."""
    truth = Watched()

    def store(*layers: Watched) -> TieredStore:
        fast = SqliteStore(tmp_path / "fast.db", synchronous="off")
        return TieredStore(fast, SqliteStore(tmp_path / "truth.db", synchronous="off", layers=layers))

    async with store(truth) as slow, store() as other:
        await other.put_many([MemoryItem(id=id, content="old") for id in "ab"])
        await forget(other)
        truth.gate.clear()
        readers = [asyncio.ensure_future(slow.get(id)) for id in "ab"]
        await asyncio.sleep(0.01)
        new = await other.put(MemoryItem(id="a", content="new"))
        await other.delete("b")
        truth.gate.set()
        await asyncio.wait(readers)
        assert await other.get("a") == new
        assert await other.get("b") is None
        assert await slow.get("a") == new
        assert await slow.get("b") is None


async def test_what_is_missing_is_remembered_and_what_is_written_is_seen(tmp_path: Path) -> None:
    truth = Watched()
    clock = ManualClock()
    async with made(tmp_path, truth, clock=clock, keep_missing=10.0) as store:
        await store.follower.drain()
        for _ in range(5):
            assert await store.get("a") is None
        assert truth.calls["read"] == 1
        stored = await store.put(MemoryItem(id="a", content="x"))
        assert await store.get("a") == stored
        await store.delete("a")
        assert await store.get("a") is None
        assert truth.calls["read"] == 1
        await store.follower.drain()
        clock.advance(10)
        assert await store.get("a") is None
        assert truth.calls["read"] == 2
        await asyncio.sleep(0.01)  # it is noted after it was answered
        assert await store.scoped(user_id="ann").get("a") is None
        assert truth.calls["read"] == 2, "one note serves every view"


async def test_what_had_expired_is_read_again_when_the_clock_is_set_back(tmp_path: Path) -> None:
    truth, clock = Watched(), ManualClock()
    async with made(tmp_path, truth, clock=clock) as store:
        await store.put(MemoryItem(id="a", content="x"), ttl=100)
        await store.follower.drain()
        clock.advance(150)
        assert await store.get("a") is None
        await asyncio.sleep(0.01)  # it is noted after it was answered
        truth.calls.clear()
        assert await store.get_many(["a"]) == [None]
        assert truth.calls["read"] == 0, "noted"
        clock.advance(-100)
        found = [await store.get("a"), *await store.get_many(["a"]), *(await store.list()).items]
        assert [one and one.content for one in found] == ["x", "x", "x"]


async def test_views_see_their_own_only_though_one_copy_serves_all(tmp_path: Path) -> None:
    async with made(tmp_path, Watched()) as store:
        stored = await store.scoped(user_id="ann").put(MemoryItem(id="a", content="x"))
        for _ in range(2):
            assert await store.scoped(user_id="bob").get("a") is None
            assert await store.scoped(user_id="ann").get("a") == stored
            assert await store.scoped("elsewhere").get("a") is None


async def test_a_feed_that_cannot_be_followed_sends_reads_to_the_truth(tmp_path: Path) -> None:
    truth = Watched()
    async with made(tmp_path, truth, staleness=0.1) as store:
        stored = await store.put(MemoryItem(id="a", content="x"))

        async def from_copy() -> bool:
            truth.calls.clear()
            assert await store.get("a") == stored
            return not truth.calls["read"]

        async def from_truth() -> bool:
            return not await from_copy()

        await settle(5, from_copy)
        truth.broken.add("feed")
        await settle(5, from_truth)
        assert (await store.health()).details["behind_seconds"] > 0.1
        truth.broken.clear()
        await settle(5, from_copy)


async def test_a_fast_tier_that_is_down_costs_speed_and_nothing_else(tmp_path: Path) -> None:
    faults = Faults()
    async with tiered(tmp_path, faults, failures=2, recovery=0.02) as store:
        await store.put_many([MemoryItem(id=id, content="old") for id in "abc"])
        faults.down.add("fast")
        new = await store.put(MemoryItem(id="a", content="new"))
        await store.delete("b")
        assert await store.get("a") == new
        health = await store.health()
        assert health.status == "degraded"
        assert "'fast'" in health.details["warnings"][0]
        assert health.details["members"]["fast"]["circuit"] in ("open", "half-open")
        assert health.details["doubtful_copies"] == 2
        faults.down.clear()

        async def well() -> bool:
            assert await store.get("a") == new
            assert await store.get("b") is None
            return (await store.health()).status == "healthy" and not store.tier.doubtful

        await settle(5, well)
        assert (await store.verify()).ok


@pytest.fixture(params=["in_memory", "sqlite", "redis", "redis_stack", "postgres"])
def fast(request: pytest.FixtureRequest, tmp_path: Path) -> MemoryStore:
    kind = request.param
    return maker(kind if kind in ("in_memory", "sqlite") else server(kind).url)(tmp_path)


async def test_a_copy_answers_whatever_the_fast_store_is(fast: MemoryStore, tmp_path: Path) -> None:
    truth = Watched()
    file = SqliteStore(tmp_path / "truth.db", synchronous="off", layers=(truth,))
    async with TieredStore(fast, file, staleness=60.0) as store:
        await followed(store)
        items = await store.put_many([MemoryItem(id=id, content=id, embedding=[1.0, 2.0]) for id in "ab"])
        truth.calls.clear()
        assert await store.get("a") == items[0]
        assert await store.get_many(["a", "b", "none"]) == [*items, None]

        async def kept() -> bool:
            return not store.tier.writing

        await settle(5, kept)
        assert await store.get_many(["none", "b"]) == [None, items[1]]
        assert truth.calls["read"] == 1, "for what is missing, once"
        details = (await store.health()).details
        assert (details["hits"], details["misses"], details["refused_copies"]) == (5, 1, 0)


async def test_copies_that_the_fast_store_refuses_are_told(tmp_path: Path) -> None:
    def refusing(name: str, hook: Hook) -> Hook:
        async def refused(*args: Any) -> Any:
            if name != "write" or type(args[0][0]) is not Put:
                return await hook(*args)
            return [Result(Status.FAILED, error=StorageFull("no room")) for _ in args[0]]

        return refused

    fast = InMemoryStore(layers=(refusing,))
    async with TieredStore(fast, SqliteStore(tmp_path / "truth.db", synchronous="off")) as store:
        stored = await store.put(MemoryItem(id="a", content="x"))
        assert await store.get("a") == stored
        health = await store.health()
        assert health.status == "degraded"
        assert "refused" in health.details["warnings"][0]
        assert health.details["hits"] == 0


async def test_a_truth_that_is_down_is_told_and_nothing_is_claimed(tmp_path: Path) -> None:
    faults = Faults()
    async with tiered(tmp_path, faults, failures=3, recovery=0.05) as store:
        stored = await store.put(MemoryItem(id="a", content="x"))
        faults.down.add("truth")
        with pytest.raises(BackendUnavailable):
            await store.put(MemoryItem(id="b", content="y"))
        with pytest.raises(BackendUnavailable):
            await store.get("b")
        with pytest.raises(BackendUnavailable):
            await store.list()
        assert (await store.health()).status == "unhealthy"
        faults.down.clear()
        await asyncio.sleep(0.05)
        assert await store.get("a") == stored
        assert await store.get("b") is None


async def test_copies_of_an_earlier_life_are_brought_up_to_date_by_the_feed(tmp_path: Path) -> None:
    def stores() -> tuple[MemoryStore, MemoryStore]:
        return file(tmp_path, "fast", Faults()), file(tmp_path, "truth", Faults(), feed=True)

    async with TieredStore(*stores()) as store:
        await store.put_many([MemoryItem(id=id, content="old") for id in "abc"])
        await store.follower.drain()
    async with stores()[1] as alone:
        await alone.put(MemoryItem(id="a", content="new"))
        await alone.delete("b")
    async with TieredStore(*stores()) as store:
        found = await store.get_many(["a", "b", "c"])
        assert [item and item.content for item in found] == ["new", None, "old"]
        assert (await store.verify()).ok


async def test_without_a_feed_copies_last_no_longer_than_the_bound(tmp_path: Path) -> None:
    clock = ManualClock()

    class NoFeed(SqliteStore):
        name = "no_feed"
        capabilities = replace(SqliteStore.capabilities, feed=False)

    def truth() -> MemoryStore:
        return NoFeed(tmp_path / "truth.db", synchronous="off")

    one, other = [TieredStore(InMemoryStore(), truth(), staleness=5.0, clock=clock) for _ in range(2)]
    async with one, other:
        assert (one.capabilities.feed, one.capabilities.staleness) == (False, 5.0)
        await one.put(MemoryItem(id="a", content="old"))
        assert await other.exists("a")
        new = await one.put(MemoryItem(id="a", content="new"))
        clock.advance(5)
        assert await other.get("a") == new


async def test_verify_finds_a_copy_that_is_wrong_and_repair_drops_it(tmp_path: Path) -> None:
    async with tiered(tmp_path, Faults()) as store:
        stored = await store.put(MemoryItem(id="a", content="x"))
        (row,) = await store.truth.read(_read("a"))
        await forget(store)
        await store.tier.fill({stored.key: replace(row, version=row.version + 1)}, store._clock())
        report = await store.verify()
        assert [(problem.what, problem.key) for problem in report.problems] == [("stale copy", stored.key)]
        await store.repair()
        assert (await store.verify()).ok
        assert await store.get("a") == stored


def _read(id: str) -> Any:
    return Read(keys=((("default",), id),), now=1)


# --- processes -----------------------------------------------------------------------------------

SCRIPT = """
import asyncio, json, sys, time
from pathlib import Path
from memory import MemoryItem
from memory.backends.composite import TieredStore
from memory.backends.in_memory import InMemoryStore
from memory.backends.sqlite import SqliteStore

async def main(place, part, seconds):
    fast = InMemoryStore() if part != "shared" else SqliteStore(Path(place) / "fast.db", synchronous="off")
    told = []
    async with TieredStore(fast, SqliteStore(Path(place) / "truth.db", synchronous="off"), staleness=0.5) as store:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if part == "reader":
                began = time.monotonic()
                found = await store.get_many(["w1", "w2"])
                told.append((began, [item.content if item else 0 for item in found]))
                await asyncio.sleep(0.002)
            else:
                value = time.monotonic()
                await store.put(MemoryItem(id=part, content=value))
                told.append((time.monotonic(), value))
                await asyncio.sleep(0.01)
    print(json.dumps(told))

asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
"""


@pytest.mark.realtime
def test_a_reader_beside_two_writing_processes_sees_nothing_staler_than_the_bound(tmp_path: Path) -> None:
    parts = ["w1", "w2", "reader"]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(tmp_path), part, "3"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for part in parts
    ]
    ended = [process.communicate(timeout=60) for process in running]
    assert all(process.returncode == 0 for process in running), [error[-500:] for _, error in ended]
    one, other, reads = (json.loads(out) for out, _ in ended)
    assert len(reads) > 100
    copies = 0
    for began, values in reads:
        for written, value in zip((one, other), values, strict=True):
            due = max((sent for acknowledged, sent in written if acknowledged < began - 0.5), default=0)
            assert value >= due, f"read {began - value:.3f} s after it was written"
            now = max((sent for acknowledged, sent in written if acknowledged < began), default=0)
            copies += value < now
    print(f"{copies} of {2 * len(reads)} reads were behind, none beyond the bound")
