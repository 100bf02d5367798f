"""Sentences about batches: their order, what fails of them, and all or nothing."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import pytest

from memory.clock import ManualClock
from memory.errors import AlreadyExists, BatchError, InvalidItem, UnsupportedOperation
from memory.store import MemoryStore
from memory.testing.contract.suite import Make, Suite, Tap, ids, item, needs, whole


class Batches(Suite):
    """put_many."""

    async def test_results_of_a_batch_are_in_order(self, store: MemoryStore) -> None:
        stored = await store.put_many([item(id, content=id * 2) for id in "hcabz"])
        assert [(one.id, one.content) for one in stored] == [
            ("h", "hh"),
            ("c", "cc"),
            ("a", "aa"),
            ("b", "bb"),
            ("z", "zz"),
        ]
        assert await store.get_many(list("hcabz")) == stored
        assert await store.put_many([]) == []

    async def test_duplicates_in_a_batch_apply_in_order(self, store: MemoryStore) -> None:
        stored = await store.put_many([item("a", 1), item("b", 2), item("a", 3), item("a", 4)])
        assert [one.content for one in stored] == [1, 2, 3, 4]
        versions = [stored[i].version for i in (0, 2, 3)]
        assert versions == sorted(set(versions))
        assert await store.get("a") == stored[3]
        assert await store.count() == 2

    async def test_a_batch_larger_than_any_page_is_written_whole(self, store: MemoryStore) -> None:
        stored = await store.put_many([item(f"{i:04}", i) for i in range(1_203)])
        assert [one.content for one in stored] == list(range(1_203))
        assert await store.count() == 1_203

    async def test_put_many_checks_every_item_before_any_is_written(self, make: Make) -> None:
        tap = Tap()
        store = await make(layers=(tap,)).open()
        with pytest.raises(InvalidItem) as caught:
            await store.put_many([item("a"), item("b"), item("c", importance=2.0), item("d")])
        assert vars(caught.value)["index"] == 2
        assert tap.calls == []
        with pytest.raises(InvalidItem):
            await store.put_many([item(f"{i:04}") for i in range(700)] + [item("x", metadata={"n": float("nan")})])
        assert tap.calls == []
        assert await store.count() == 0

    async def test_a_failed_item_of_a_batch_does_not_stop_the_others(self, store: MemoryStore) -> None:
        ann, bob = store.scoped(user_id="ann"), store.scoped(user_id="bob")
        await bob.put(item("b", "bob's"))
        with pytest.raises(BatchError) as caught:
            await ann.put_many([item("a"), item("b"), item("c")])
        first, second, third = caught.value.results
        assert (first.id, third.id) == ("a", "c")
        assert isinstance(second, AlreadyExists)
        assert list(caught.value.errors) == [1]
        assert await ids(ann) == ["a", "c"]
        assert (await bob.get("b") or item()).content == "bob's"

    async def test_an_atomic_batch_is_written_whole_or_not_at_all(self, store: MemoryStore) -> None:
        needs(store, "atomic_batches")
        ann, bob = store.scoped(user_id="ann"), store.scoped(user_id="bob")
        await bob.put(item("m", "bob's"))
        before = await ann.put(item("a", "old"))
        gone = await ann.put(item("g", "gone"))
        await ann.delete("g")
        with pytest.raises(BatchError) as caught:
            await ann.put_many([item("a", "new"), item("g", "back"), item("m", "mine"), item("z")], atomic=True)
        assert len(caught.value.errors) == 4, "an atomic batch that failed reports no success"
        assert await ids(store) == ["a", "m"]
        assert await ann.get("a") == before
        again = await ann.put(item("g"))
        assert again.version > gone.version
        stored = await ann.put_many([item("a", "new"), item("z")], atomic=True)
        assert await ann.get_many(["a", "z"]) == stored

    async def test_an_atomic_batch_that_failed_leaves_no_trace_in_search_or_dedup(self, store: MemoryStore) -> None:
        needs(store, "atomic_batches")
        ann, bob = store.scoped(user_id="ann"), store.scoped(user_id="bob")
        await bob.put(item("m", "bob's"))
        await ann.put(item("a", "old words"))
        with pytest.raises(BatchError):
            await ann.put_many([item("a", "fresh phrase"), item("m"), item("z", "fresh phrase")], atomic=True)
        assert [hit.item.id for hit in await store.search("fresh phrase")] == []
        assert [hit.item.id for hit in await store.search("old words")] == ["a"]
        kept = await ann.put(item("k", "fresh phrase"), dedup="content")
        assert kept.id == "k"
        assert (await ann.put(item("l", "old words"), dedup="content")).id == "a"

    async def test_an_atomic_batch_is_refused_where_it_is_not_declared(self, make: Make) -> None:
        tap = Tap()
        store = await make(layers=(tap,)).open()
        if whole(store).capabilities.atomic_batches:
            pytest.skip("this backend has atomic batches")
        with pytest.raises(UnsupportedOperation):
            await store.put_many([item()], atomic=True)
        assert tap.calls == []

    async def test_a_batch_may_share_one_ttl(self, store: MemoryStore, clock: ManualClock) -> None:
        await store.put_many([item("a"), item("b")], ttl=2)
        clock.advance(1)
        assert await store.count() == 2
        clock.advance(1)
        assert await store.count() == 0
