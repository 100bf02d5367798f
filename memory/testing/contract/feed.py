"""Sentences about the change feed: watch, resume, views, expiry of events."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from memory.clock import ManualClock
from memory.errors import BatchError, Closed, InvalidCursor, InvalidItem, ResumeExpired, UnsupportedOperation
from memory.model import MemoryItem
from memory.store import Change, MemoryStore
from memory.testing.contract.ordering import edited, position
from memory.testing.contract.suite import Make, Suite, item, needs, whole


async def start(store: Any, marker: MemoryItem | None = None, **options: Any) -> str:
    """A token from which all later changes follow: watches until a marker is seen, then until all are."""
    marker = marker or item("marker")
    watcher = store.watch(**options)
    first = asyncio.ensure_future(anext(watcher))
    async with asyncio.timeout(20):
        while not first.done():
            await store.put(marker)
            await asyncio.wait({first}, timeout=0.01)
    token: str = (await first).token
    await watcher.aclose()
    for change in await changes(store, token, **options):
        token = change.token
    return token


async def changes(store: Any, token: str, **options: Any) -> list[Change]:
    """What happened since the token."""
    return [change async for change in store.watch(resume=token, timeout=0, **options)]


def brief(found: list[Change]) -> list[tuple[str, str]]:
    """Kinds and ids."""
    return [(change.kind, change.key[1]) for change in found]


class Feed(Suite):
    """Watching."""

    async def test_every_write_is_an_event_in_order_deletes_included(self, store: MemoryStore) -> None:
        needs(store, "feed")
        token = await start(store)
        one = await store.put(item("a", 1))
        await store.add(item("b"))
        await store.put_many([item("c"), item("d"), item("c", "again")])
        await store.update("a", content=2)
        await store.touch("b")
        await store.delete("a")
        await store.delete_many(["b", "nobody"])
        await store.delete_where({"id": "d"})
        found = await changes(store, token)
        assert brief(found) == [
            ("put", "a"), ("put", "b"), ("put", "c"), ("put", "d"), ("put", "c"),
            ("put", "a"), ("put", "b"), ("delete", "a"), ("delete", "b"), ("delete", "d"),
        ]  # fmt: skip
        assert found[0].version == one.version
        assert found[0].key == (("default",), "a")
        versions = [change.version for change in found if change.key[1] == "a"]
        assert versions == sorted(set(versions)), "a delete has a version above the item's"

    async def test_a_put_comes_with_the_item_as_it_is_now(self, store: MemoryStore) -> None:
        needs(store, "feed")
        token = await start(store)
        await store.put(item("a", 1))
        now = await store.put(item("a", 2))
        await store.put(item("b"))
        await store.delete("b")
        found = await changes(store, token)
        assert [change.item for change in found] == [now, now, None, None]

    async def test_a_watcher_is_woken_by_a_write(self, store: Any) -> None:
        needs(store, "feed")
        token = await start(store)
        watcher = store.watch(resume=token)
        task = asyncio.ensure_future(anext(watcher))
        await asyncio.sleep(0.01)
        assert not task.done()
        await store.put(item("a"))
        async with asyncio.timeout(10):
            assert (await task).key[1] == "a"
        await watcher.aclose()

    async def test_watching_begins_now(self, store: Any) -> None:
        needs(store, "feed")
        await store.put(item("before"))
        watcher = store.watch()
        task = asyncio.ensure_future(anext(watcher))
        async with asyncio.timeout(20):
            while not task.done():
                await store.put(item("after"))
                await asyncio.wait({task}, timeout=0.01)
        assert (await task).key[1] == "after"
        await watcher.aclose()

    async def test_every_token_resumes_right_after_its_change(self, store: MemoryStore) -> None:
        needs(store, "feed")
        token = await start(store)
        await store.put_many([item(str(i)) for i in range(10)])
        found = await changes(store, token)
        for i, change in enumerate(found):
            assert brief(await changes(store, change.token)) == brief(found[i + 1 :])

    async def test_more_events_than_a_page_come_whole_and_in_order(self, store: MemoryStore) -> None:
        needs(store, "feed")
        token = await start(store)
        await store.put_many([item(f"{i:04}") for i in range(1_203)])
        assert [change.key[1] for change in await changes(store, token)] == [f"{i:04}" for i in range(1_203)]

    async def test_concurrent_writes_are_each_seen_once(self, store: MemoryStore) -> None:
        needs(store, "feed")
        token = await start(store)
        async with asyncio.TaskGroup() as group:
            for i in range(50):
                group.create_task(store.put(item(f"{i:02}")))
        found = await changes(store, token)
        assert sorted(change.key[1] for change in found) == [f"{i:02}" for i in range(50)]

    async def test_a_failed_write_is_no_event(self, store: MemoryStore) -> None:
        needs(store, "feed")
        ann, bob = store.scoped(user_id="ann"), store.scoped(user_id="bob")
        await bob.put(item("b"))
        token = await start(store)
        with pytest.raises(BatchError):
            await ann.put_many([item("b")])
        assert await store.delete("nobody") is False
        await store.put(item("same", "x"))
        await store.put(item("twin", "x"), dedup="content")
        assert brief(await changes(store, token)) == [("put", "same")]

    async def test_an_atomic_batch_that_failed_is_no_event_and_hides_none(self, store: MemoryStore) -> None:
        needs(store, "feed")
        needs(store, "atomic_batches")
        ann, bob = store.scoped(user_id="ann"), store.scoped(user_id="bob")
        await bob.put(item("b"))
        token = await start(store)
        await store.put(item("1"))
        with pytest.raises(BatchError):
            await ann.put_many([item("x"), item("y"), item("z"), item("b")], atomic=True)
        await store.put_many([item("2"), item("3"), item("4"), item("5")])
        found = await changes(store, token)
        assert [change.key[1] for change in found] == ["1", "2", "3", "4", "5"]
        assert [change.key[1] for change in await changes(store, found[1].token)] == ["3", "4", "5"]

    async def test_a_filter_is_asked_about_the_item_as_it_is(self, store: MemoryStore) -> None:
        needs(store, "feed")
        where = {"metadata.hot": True}
        token = await start(store, item("marker", metadata={"hot": True}), where=where)
        await store.put(item("a", metadata={"hot": True}))
        await store.put(item("b"))
        await store.put(item("c", metadata={"hot": 1}))
        await store.delete("a")
        found = brief(await changes(store, token, where=where))
        assert [entry for entry in found if entry[0] == "put"] == [("put", "a")]
        assert ("delete", "a") in found

    async def test_watch_keeps_to_a_namespace_or_what_lies_under_it(self, store: MemoryStore) -> None:
        needs(store, "feed")
        marker = item("marker", namespace=("a",))
        exact = await start(store, marker, namespace=("a",))
        below = await start(store, marker, under=("a",))
        for path in (("a",), ("a", "b"), ("ab",), ("b",)):
            await store.put(item(".".join(path), namespace=path))
        await store.delete("ab", namespace=("ab",))
        assert [key[1] for c in await changes(store, exact, namespace=("a",)) if (key := c.key)[1] != "marker"] == ["a"]
        assert [c.key[1] for c in await changes(store, below, under=("a",)) if c.key[1] != "marker"] == ["a", "a.b"]

    async def test_a_view_watches_only_its_own(self, store: MemoryStore) -> None:
        needs(store, "feed")
        ann = store.scoped(user_id="ann")
        token = await start(ann)
        await store.put(item("bobs", "secret", user_id="bob"))
        await ann.put(item("anns"))
        await store.update("bobs", content="more secrets")
        await store.delete("bobs")
        await ann.delete("anns")
        assert brief(await changes(ann, token)) == [("put", "anns"), ("delete", "anns")]

    async def test_an_item_that_leaves_the_scope_appears_as_a_delete(self, store: MemoryStore) -> None:
        needs(store, "feed")
        ann, bob = store.scoped(user_id="ann"), store.scoped(user_id="bob")
        for_ann, for_bob = await start(ann), await start(bob, item("marker2"))
        await ann.put(item("a"))
        await store.update("a", user_id="bob", content="bob's now")
        left, came = await changes(ann, for_ann), await changes(bob, for_bob)
        assert brief(left)[-1] == ("delete", "a")
        assert all(change.item is None for change in left)
        assert brief(came) == [("put", "a")]

    async def test_a_token_is_bound_to_its_question(self, store: Any) -> None:
        needs(store, "feed")
        token = await start(store)
        ann = store.scoped(user_id="ann")
        watchings: list[Callable[[], Any]] = [
            lambda: ann.watch(resume=token, timeout=0),
            lambda: store.watch({"kind": "note"}, resume=token, timeout=0),
            lambda: store.watch(under=("a",), resume=token, timeout=0),
            lambda: store.watch(resume="x" + token, timeout=0),
            lambda: store.watch(resume=5, timeout=0),
        ]
        for watching in watchings:
            with pytest.raises(InvalidCursor):
                await anext(watching())
        cursor = (await store.list(limit=1)).cursor
        await store.put(item("second"))
        cursor = (await store.list(limit=1)).cursor
        with pytest.raises(InvalidCursor):
            await anext(store.watch(resume=cursor, timeout=0))

    async def test_an_edited_token_is_refused(self, store: Any) -> None:
        needs(store, "feed")
        token = await start(store)
        await store.put(item("a"))
        bad: Any
        for bad in (-1, -(2**63), 2**63, 2**64, 10**30, 0.5, True, None, "1", [1], {}):
            with pytest.raises(InvalidCursor):
                await changes(store, edited(token, bad))
        for far in (2**53, 2**62, 2**63 - 2, 2**63 - 1):
            with pytest.raises(ResumeExpired):
                await changes(store, edited(token, far))
        for early in (0, 1):
            try:
                await changes(store, edited(token, early))
            except ResumeExpired:
                pass
        assert brief(await changes(store, edited(token, position(token)))) == [("put", "a")]

    async def test_a_token_too_old_is_refused_as_expired(self, make: Make, clock: ManualClock) -> None:
        first = make()
        needs(first, "feed")
        store = await make(feed=True, feed_retention=3600).open()
        token = await start(store)
        await store.put(item("a"))
        await store.put(item("b"))
        clock.advance(3000)
        await store.put(item("c"))
        await store.sweep()
        assert brief(await changes(store, token)) == [("put", "a"), ("put", "b"), ("put", "c")]
        clock.advance(1000)
        await store.sweep()
        with pytest.raises(ResumeExpired):
            await changes(store, token)
        fresh = await start(store)
        clock.advance(1_000_000)
        await store.sweep()
        assert await changes(store, fresh) == []
        await store.put(item("d"))
        assert brief(await changes(store, fresh)) == [("put", "d")]

    async def test_sweeping_an_expired_item_is_a_delete(self, make: Make, clock: ManualClock) -> None:
        first = make()
        needs(first, "feed")
        store = await make(feed=True).open()
        token = await start(store)
        await store.put(item("a"), ttl=5)
        clock.advance(5)
        assert brief(await changes(store, token)) == [("put", "a")]
        await store.sweep()
        assert brief(await changes(store, token)) == [("put", "a"), ("delete", "a")]

    async def test_watch_ends_after_a_quiet_time(self, store: MemoryStore) -> None:
        needs(store, "feed")
        async with asyncio.timeout(10):
            assert [change async for change in store.watch(timeout=0.02)] == []

    async def test_a_watcher_of_a_closed_store_ends_with_closed(self, make: Make) -> None:
        first = make()
        needs(first, "feed")
        store = await make(feed=True).open()
        watcher = store.watch()
        task = asyncio.ensure_future(anext(watcher))
        await asyncio.sleep(0.02)
        await store.close()
        with pytest.raises(Closed):
            async with asyncio.timeout(10):
                await task

    async def test_watch_without_a_feed_is_refused(self, make: Make) -> None:
        store = await make(feed=False).open()
        with pytest.raises(UnsupportedOperation):
            await anext(store.watch(timeout=0))

    async def test_a_feed_is_refused_where_it_is_not_declared(self, make: Make) -> None:
        if whole(make()).capabilities.feed:
            pytest.skip("this backend can keep a feed")
        with pytest.raises(UnsupportedOperation):
            make(feed=True)

    async def test_a_senseless_timeout_is_refused(self, store: Any) -> None:
        needs(store, "feed")
        for bad in (-1, "1", float("nan")):
            with pytest.raises(InvalidItem):
                await anext(store.watch(timeout=bad))

    async def test_the_feed_survives_close_and_open(self, make: Make) -> None:
        first = make()
        needs(first, "feed")
        needs(first, "persistent")
        store = await make(feed=True).open()
        token = await start(store)
        await store.put(item("a"))
        await store.close()
        store = await make(feed=True).open()
        await store.delete("a")
        assert brief(await changes(store, token)) == [("put", "a"), ("delete", "a")]

    async def test_a_feed_is_the_data_s_whoever_writes(self, make: Make) -> None:
        first = make()
        needs(first, "feed")
        needs(first, "shared")
        earlier = await make().open()
        await earlier.put(item("before", namespace=("known",)))
        watched = await make(feed=True).open()
        token = await start(watched)
        later = await make().open()
        await earlier.put(item("a", namespace=("known",)))
        await earlier.put(item("b", namespace=("new",)))
        await later.put(item("c", namespace=("newer",)))
        await later.delete("before", namespace=("known",))
        async with asyncio.timeout(20):
            seen = sorted(brief(await changes(watched, token)))
        assert seen == [("delete", "before"), ("put", "a"), ("put", "b"), ("put", "c")]

    async def test_another_store_on_the_same_data_is_watched_too(self, make: Make) -> None:
        first = make()
        needs(first, "feed")
        needs(first, "shared")
        one = await make(feed=True).open()
        other: Any = await make(feed=True).open()
        watcher = other.watch()
        task = asyncio.ensure_future(anext(watcher))
        async with asyncio.timeout(20):
            while not task.done():
                await one.put(item("elsewhere"))
                await asyncio.wait({task}, timeout=0.02)
        assert (await task).key[1] == "elsewhere"
        await watcher.aclose()
