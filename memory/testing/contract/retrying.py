"""Sentences about unknown outcomes: a write whose reply was lost is finished without a double effect."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import pytest

from memory.clock import ManualClock
from memory.errors import BatchError, UnknownOutcome
from memory.store import MemoryStore
from memory.testing.contract.suite import Make, Suite, Tap, item, needs


async def lossy(make: Make, **options: object) -> tuple[MemoryStore, Tap]:
    """An open store and the tap that can lose its writes."""
    tap = Tap()
    return await make(layers=(tap,), **options).open(), tap


class Retrying(Suite):
    """Write tokens."""

    async def test_a_lost_reply_is_reported_as_unknown(self, make: Make) -> None:
        store, tap = await lossy(make)
        tap.replies = 1
        with pytest.raises(UnknownOutcome):
            await store.put(item())

    async def test_retry_of_a_put_that_happened_returns_its_first_result(self, make: Make, clock: ManualClock) -> None:
        store, tap = await lossy(make)
        tap.replies = 1
        with pytest.raises(UnknownOutcome) as caught:
            await store.put(item(content="once"))
        found = await store.get("a")
        assert found is not None
        clock.advance(60)
        assert await caught.value.retry() == found
        assert await caught.value.retry() == found
        assert await store.get("a") == found, "nothing was written a second time"

    async def test_retry_of_a_put_that_never_arrived_writes_it(self, make: Make) -> None:
        store, tap = await lossy(make)
        tap.requests = 1
        with pytest.raises(UnknownOutcome) as caught:
            await store.put(item(content="once"))
        assert await store.get("a") is None
        stored = await caught.value.retry()
        assert await store.get("a") == stored
        assert await caught.value.retry() == stored

    async def test_retry_of_a_put_after_an_own_delete_writes_it(self, make: Make) -> None:
        store, tap = await lossy(make)
        await store.put(item())
        await store.delete("a")
        tap.requests = 1
        with pytest.raises(UnknownOutcome) as caught:
            await store.put(item(content="again"))
        assert await caught.value.retry() == await store.get("a")

    async def test_retry_of_an_add_that_happened_is_no_conflict(self, make: Make) -> None:
        store, tap = await lossy(make)
        tap.replies = 1
        with pytest.raises(UnknownOutcome) as caught:
            await store.add(item())
        assert await caught.value.retry() == await store.get("a")

    async def test_retry_of_a_compare_and_set_that_happened_is_no_conflict(self, make: Make) -> None:
        store, tap = await lossy(make)
        first = await store.put(item(content=1))
        tap.replies = 1
        with pytest.raises(UnknownOutcome) as caught:
            await store.put(item(content=2), if_version=first.version)
        stored = await caught.value.retry()
        assert stored.content == 2
        assert await store.get("a") == stored

    async def test_retry_of_a_touch_counts_one_access(self, make: Make) -> None:
        store, tap = await lossy(make)
        await store.put(item())
        tap.replies = 1
        with pytest.raises(UnknownOutcome) as caught:
            await store.touch("a")
        assert await caught.value.retry() is True
        found = await store.get("a")
        assert found is not None
        assert found.access_count == 1

    async def test_retry_of_a_delete_that_happened_says_it_was_there(self, make: Make) -> None:
        store, tap = await lossy(make)
        await store.put(item())
        tap.replies = 1
        with pytest.raises(UnknownOutcome) as caught:
            await store.delete("a")
        assert await store.get("a") is None
        assert await caught.value.retry() is True

    async def test_retry_of_an_update_that_happened_applies_it_once(self, make: Make) -> None:
        store, tap = await lossy(make)
        await store.put(item(content={"a": 1}))
        tap.replies = 1
        with pytest.raises(UnknownOutcome) as caught:
            await store.update("a", content={"b": 2})
        stored = await caught.value.retry()
        assert stored.content == {"a": 1, "b": 2}
        assert await store.get("a") == stored

    async def test_retry_after_a_later_write_stays_unknown_and_applies_nothing(self, make: Make) -> None:
        for lost in ("replies", "requests"):
            store, tap = await lossy(make)
            await store.put(item(lost, "before"))
            setattr(tap, lost, 1)
            with pytest.raises(UnknownOutcome) as caught:
                await store.put(item(lost, "unknown"))
            later = await store.put(item(lost, "later"))
            with pytest.raises(UnknownOutcome):
                await caught.value.retry()
            assert await store.get(lost) == later
            await store.close()

    async def test_retry_of_a_put_does_not_undo_a_later_delete(self, make: Make) -> None:
        store, tap = await lossy(make)
        tap.replies = 1
        with pytest.raises(UnknownOutcome) as caught:
            await store.put(item())
        await store.delete("a")
        with pytest.raises(UnknownOutcome):
            await caught.value.retry()
        assert await store.get("a") is None

    async def test_retry_of_a_delete_does_not_delete_what_was_created_since(self, make: Make) -> None:
        store, tap = await lossy(make)
        await store.put(item(content="old"))
        tap.replies = 1
        with pytest.raises(UnknownOutcome) as caught:
            await store.delete("a")
        new = await store.put(item(content="new"))
        with pytest.raises(UnknownOutcome):
            await caught.value.retry()
        assert await store.get("a") == new

    async def test_each_item_of_a_batch_has_its_own_retry(self, make: Make) -> None:
        store, tap = await lossy(make)
        tap.replies = 1
        with pytest.raises(BatchError) as caught:
            await store.put_many([item("a", 1), item("b", 2)])
        errors = caught.value.results
        assert all(isinstance(error, UnknownOutcome) for error in errors)
        assert [await error.retry() for error in errors] == await store.get_many(["a", "b"])

    async def test_retry_of_a_dedup_put_keeps_one_item(self, make: Make) -> None:
        for lost in ("replies", "requests"):
            store, tap = await lossy(make)
            await store.delete_where(None, under=())
            setattr(tap, lost, 1)
            with pytest.raises(UnknownOutcome) as caught:
                await store.put(item("a", "same"), dedup="content")
            stored = await caught.value.retry()
            assert await store.get("a") == stored
            assert (await store.put(item("b", "same"), dedup="content")).id == "a"
            assert await store.count() == 1
            await store.close()

    async def test_a_retry_after_a_restart_of_the_engine_still_finds_its_token(self, make: Make) -> None:
        store, tap = await lossy(make)
        needs(store, "persistent")
        await store.put(item("b"))
        tap.replies = 2
        with pytest.raises(UnknownOutcome) as put:
            await store.put(item(content="once"))
        with pytest.raises(UnknownOutcome) as delete:
            await store.delete("b")
        found = await store.get("a")
        await store.close()
        await store.open()
        assert await put.value.retry() == found
        assert await delete.value.retry() is True
