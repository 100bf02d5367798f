"""Sentences about time to live: an expired item is absent to every operation, at once."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from memory.clock import ManualClock, from_micros
from memory.errors import BackendUnavailable, InvalidItem, NotFound, VersionConflict
from memory.store import MemoryStore
from memory.testing.contract.suite import Make, Suite, home, ids, item, needs, settle, whole


async def plant(store: MemoryStore, clock: ManualClock) -> int:
    """A live item "b" and an expired item "a", both about marmots; returns the version "a" had."""
    await store.put(item("b", "marmot burrow"))
    version = (await store.put(item("a", "marmot whistle", namespace=("default",), tags=("x",)), ttl=10)).version
    await store.put(item("z", "marmot", namespace=home(store, "only", "expired")), ttl=10)
    clock.advance(10)
    return version


class Expiring(Suite):
    """Expiry, with the clock in hand."""

    async def test_an_item_is_gone_when_now_reaches_expires_at(self, store: MemoryStore, clock: ManualClock) -> None:
        stored = await store.put(item(), ttl=1.5)
        assert stored.expires_at == from_micros(clock()) + timedelta(seconds=1.5)
        clock.advance(1.499999)
        assert await store.get("a") == stored
        assert await store.count() == 1
        clock.advance(0.000001)
        assert await store.get("a") is None
        assert await store.count() == 0

    async def test_expires_at_can_be_given_as_a_time(self, store: MemoryStore, clock: ManualClock) -> None:
        at = from_micros(clock()) + timedelta(hours=1)
        stored = await store.put(item(expires_at=at))
        assert stored.expires_at == at
        clock.advance(3599.9)
        assert await store.exists("a")
        clock.advance(0.1)
        assert not await store.exists("a")

    async def test_an_item_born_expired_is_never_seen(self, store: MemoryStore, clock: ManualClock) -> None:
        await store.put(item("a", "old"))
        await store.put(item("a", "dead", expires_at=from_micros(clock())))
        assert await store.get("a") is None
        assert await ids(store) == []
        assert (await store.search("old dead")).hits == []

    async def test_ttl_and_expires_at_together_are_refused(self, store: MemoryStore, clock: ManualClock) -> None:
        with pytest.raises(InvalidItem):
            await store.put(item(expires_at=from_micros(clock()) + timedelta(1)), ttl=5)
        await store.put(item())
        with pytest.raises(InvalidItem):
            await store.touch("a", ttl=5, expires_at=None)
        with pytest.raises(InvalidItem):
            await store.update("a", ttl=5, expires_at=None)

    async def test_an_expired_item_is_absent_to_point_reads(self, store: MemoryStore, clock: ManualClock) -> None:
        await plant(store, clock)
        assert await store.get("a") is None
        assert await store.get_many(["a"]) == [None]
        assert not await store.exists("a")

    async def test_an_expired_item_is_absent_to_count(self, store: MemoryStore, clock: ManualClock) -> None:
        await plant(store, clock)
        assert await store.count() == 1
        assert await store.count({"id": "a"}) == 0
        assert await store.count({"tags": {"$contains": "x"}}) == 0
        assert await store.count(under=("only",)) == 0

    async def test_an_expired_item_is_absent_to_lists_in_every_order(
        self, store: MemoryStore, clock: ManualClock
    ) -> None:
        await plant(store, clock)
        for order in ("key", "created_at", "-updated_at", "accessed_at", "-importance"):
            assert await ids(store, order=order) == ["b"]
            assert await ids(store, {"id": {"$ne": "x"}}, order=order, limit=1) == ["b"]
        assert [one.id async for batch in store.stream() for one in batch] == ["b"]

    async def test_an_expired_item_is_absent_to_namespaces(self, store: MemoryStore, clock: ManualClock) -> None:
        await plant(store, clock)
        assert await store.namespaces() == [("default",)]

    async def test_an_expired_item_is_absent_to_search(self, store: MemoryStore, clock: ManualClock) -> None:
        await store.search("marmot")
        await plant(store, clock)
        assert [hit.item.id for hit in await store.search("marmot")] == ["b"]
        assert (await store.search("whistle")).hits == []

    async def test_an_expired_item_does_not_count_in_df(self, store: MemoryStore, clock: ManualClock) -> None:
        await plant(store, clock)
        (hit,) = await store.search("marmot", explain=True)
        assert hit.components["terms"][0]["df"] == 1

    async def test_an_expired_item_is_nobodys_neighbour(self, store: MemoryStore, clock: ManualClock) -> None:
        await store.put(item("1", "first marmot", session_id="s"))
        clock.advance(1)
        await store.put(item("2", "marmot marmot", session_id="s"), ttl=5)
        clock.advance(1)
        await store.put(item("3", "nothing here", session_id="s"))
        clock.advance(10)
        hits = {hit.item.id: hit.score for hit in await store.search("marmot", neighbours=1)}
        own = (await store.search("marmot")).hits[0].score
        assert set(hits) == {"1", "3"}
        assert hits["3"] == pytest.approx(0.3 * own / 1.6)

    async def test_an_expired_item_is_absent_to_add(self, store: MemoryStore, clock: ManualClock) -> None:
        version = await plant(store, clock)
        added = await store.add(item("a", "new"))
        now = from_micros(clock())
        assert (added.created_at, added.access_count) == (now, 0)
        assert added.version > version

    async def test_an_expired_item_is_absent_to_put(self, store: MemoryStore, clock: ManualClock) -> None:
        await store.put(item(), ttl=10)
        await store.touch("a")
        clock.advance(10)
        again = await store.put(item())
        now = from_micros(clock())
        assert (again.created_at, again.accessed_at, again.access_count) == (now, now, 0)

    async def test_an_expired_item_is_absent_to_an_expectation(self, store: MemoryStore, clock: ManualClock) -> None:
        version = await plant(store, clock)
        with pytest.raises(VersionConflict) as caught:
            await store.put(item("a", "new"), if_version=version)
        assert caught.value.actual is None
        assert await store.delete("a", if_version=version) is False
        assert await store.touch("a", if_version=version) is False

    async def test_an_expired_item_is_absent_to_update(self, store: MemoryStore, clock: ManualClock) -> None:
        await plant(store, clock)
        with pytest.raises(NotFound):
            await store.update("a", metadata={"x": 1})

    async def test_an_expired_item_cannot_be_touched_back_to_life(self, store: MemoryStore, clock: ManualClock) -> None:
        await plant(store, clock)
        assert await store.touch("a", ttl=1000) is False
        assert await store.touch("a", expires_at=None) is False
        assert await store.get("a") is None

    async def test_an_expired_item_is_absent_to_delete(self, store: MemoryStore, clock: ManualClock) -> None:
        await plant(store, clock)
        assert await store.delete("a") is False
        assert await store.delete_many(["a", "b"]) == [False, True]
        assert await store.delete_where({"id": "a"}) == 0

    async def test_an_expired_item_is_absent_to_dedup(self, store: MemoryStore, clock: ManualClock) -> None:
        await plant(store, clock)
        kept = await store.put(item("c", "marmot whistle"), dedup="content")
        assert kept.id == "c"

    async def test_an_expired_item_is_not_exported(self, store: MemoryStore, clock: ManualClock, place: object) -> None:
        await plant(store, clock)
        path = f"{place}/out.jsonl"
        assert await store.export_jsonl(path) == 1

    async def test_touch_moves_the_expiry(self, store: MemoryStore, clock: ManualClock) -> None:
        await store.put(item(), ttl=10)
        clock.advance(9)
        assert await store.touch("a", ttl=10)
        clock.advance(9)
        assert await store.exists("a")
        assert await store.touch("a", expires_at=None)
        clock.advance(1e6)
        assert await store.exists("a")
        assert await store.touch("a", expires_at=from_micros(clock()))
        assert not await store.exists("a")

    async def test_touch_without_a_ttl_leaves_the_expiry(self, store: MemoryStore, clock: ManualClock) -> None:
        await store.put(item(), ttl=10)
        clock.advance(5)
        await store.touch("a")
        clock.advance(5)
        assert not await store.exists("a")

    async def test_update_keeps_or_moves_the_expiry_as_asked(self, store: MemoryStore, clock: ManualClock) -> None:
        stored = await store.put(item(), ttl=10)
        clock.advance(5)
        assert (await store.update("a", metadata={"n": 1})).expires_at == stored.expires_at
        assert (await store.update("a", ttl=10)).expires_at == from_micros(clock()) + timedelta(seconds=10)
        assert (await store.update("a", expires_at=None)).expires_at is None

    async def test_a_page_is_full_although_items_have_expired(self, store: MemoryStore, clock: ManualClock) -> None:
        for i in range(40):
            await store.put(item(f"{i:02}"), ttl=5 if i % 4 else None)
        clock.advance(5)
        page = await store.list(limit=8)
        assert [one.id for one in page] == [f"{i:02}" for i in range(0, 32, 4)]


class Sweeping(Suite):
    """Reclaiming the space of what has expired."""

    async def test_sweep_removes_the_expired_and_says_how_many(self, make: Make, clock: ManualClock) -> None:
        store = await make().open()
        await store.put_many([item(f"{i:03}") for i in range(300)], ttl=5)
        kept = await store.put(item("kept"), ttl=6)
        clock.advance(5)
        assert await store.sweep() == 300
        assert await store.sweep() == 0
        assert await store.get("kept") == kept
        assert (await store.verify()).ok

    async def test_verify_counts_what_is_stored_expired_or_not(self, make: Make, clock: ManualClock) -> None:
        store = await make().open()
        await store.put_many([item("a", user_id="ann"), item("b")])
        await store.put(item("c"), ttl=1)
        assert (await store.verify()).checked == 3
        clock.advance(2)
        assert (await store.verify()).checked == 3
        await store.sweep()
        assert (await store.verify()).checked == 2

    async def test_sweep_leaves_an_item_that_was_renewed(self, make: Make, clock: ManualClock) -> None:
        store = await make().open()
        await store.put(item("a"), ttl=5)
        await store.put(item("b"), ttl=5)
        await store.put(item("c"), ttl=5)
        await store.touch("a", ttl=50)
        await store.update("b", expires_at=None)
        clock.advance(5)
        await store.put(item("c", "again"))
        assert await store.sweep() == 0
        assert await ids(store) == ["a", "b", "c"]

    async def test_versions_rise_across_sweep_and_a_long_time(self, make: Make, clock: ManualClock) -> None:
        store = await make().open()
        version = (await store.put(item("a"), ttl=5)).version
        other = (await store.put(item("b"))).version
        await store.delete("b")
        clock.advance(5)
        await store.sweep()
        clock.advance(10 * 86_400)
        await store.sweep()
        assert (await store.put(item("a"))).version > version
        assert (await store.put(item("b"))).version > other

    async def test_swept_items_are_gone_from_search_and_dedup(self, make: Make, clock: ManualClock) -> None:
        store = await make().open()
        await store.put(item("a", "marmot whistle"), ttl=5)
        clock.advance(5)
        await store.sweep()
        assert (await store.search("marmot")).hits == []
        assert (await store.put(item("b", "marmot whistle"), dedup="content")).id == "b"
        assert [hit.item.id for hit in await store.search("marmot")] == ["b"]

    async def test_the_sweeper_works_by_itself_when_asked(self, make: Make, clock: ManualClock) -> None:
        needs(make(), "feed")
        store: Any = await make(feed=True, sweep_interval=0.01).open()
        await store.put(item("a"), ttl=5)
        watcher = store.watch()
        task = asyncio.ensure_future(anext(watcher))
        await asyncio.sleep(0.1)
        clock.advance(5)
        async with asyncio.timeout(10):
            change = await task
        await watcher.aclose()
        assert (change.kind, change.key[1]) == ("delete", "a")

    async def test_the_sweeper_goes_on_after_whatever_goes_wrong(self, make: Make) -> None:
        store: Any = make(sweep_interval=0.01)
        inner: Any = whole(store)
        real, swept = inner._sweep, []
        failures = [OverflowError("a float too large"), BackendUnavailable("down"), KeyError("x")]

        async def sweep(now: int) -> int:
            if failures:
                raise failures.pop()
            swept.append(await real(now))
            return 0

        async def has_swept() -> bool:
            return bool(swept)

        inner._sweep = sweep
        await store.open()
        await settle(10, has_swept)
        assert not failures
        await store.close()
