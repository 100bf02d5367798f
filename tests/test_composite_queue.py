"""Writes that wait for a primary: in the order in which they came, once, and until it is known what became of each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from composites import Faults, file, memory, queued, stale

from memory import MemoryItem
from memory.backends.composite import MirroredStore
from memory.backends.composite.queue import ATTEMPTS, Queue
from memory.errors import (
    AlreadyExists,
    BackendUnavailable,
    InvalidItem,
    MemoryStoreError,
    NotFound,
    StorageFull,
    UnknownOutcome,
)
from memory.layers import Hook, Layer
from memory.ops import Result, Status

Failing = Callable[[int], str | MemoryStoreError | None]
"""From the number of a call (1, 2...) to how it fails: before it is sent, without its request, or its reply, having arrived; or
what it is told."""


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is applied before a test says so."""
    monkeypatch.setattr("memory.backends.composite.mirrored.POLL_SECONDS", 3_600)


def queue_of(store: MirroredStore) -> Queue:
    assert store.queue is not None
    return store.queue


def failing(hook: str, how: Failing) -> Layer:
    calls = 0

    def layer(name: str, inner: Hook) -> Hook:
        async def failing(*args: Any) -> Any:
            nonlocal calls
            if name != hook:
                return await inner(*args)
            calls += 1
            step = how(calls)
            if isinstance(step, MemoryStoreError):
                return [Result(Status.FAILED, error=step) for _ in args[0]]
            if step == "before":
                raise BackendUnavailable("it failed")
            results = [Result(Status.UNKNOWN) for _ in args[0]] if step == "request lost" else await inner(*args)
            return [Result(Status.UNKNOWN) for _ in results] if step else results

        return failing

    return layer


def fail(store: MirroredStore, member: str, how: Failing) -> None:
    """From now on the writes of a member fail so."""
    found = next(one.store for one in store.members if one.name == member)
    found._do_write = failing("write", how)("write", found._do_write)


async def waiting(store: MirroredStore, faults: Faults, *contents: int, id: str = "a") -> list[UnknownOutcome]:
    """Writes that wait, and a primary that is back."""
    faults.down.add("primary")
    unknown = []
    for content in contents:
        with pytest.raises(UnknownOutcome) as caught:
            await store.put(MemoryItem(id=id, content=content))
        unknown.append(caught.value)
    faults.down.clear()
    return unknown


async def outcome(store: MirroredStore, id: str = "a") -> tuple[Any, int, int]:
    """What is stored, how many writes wait, and how many were given up."""
    found = await store.get(id)
    return None if found is None else found.content, len(queue_of(store).waiting), queue_of(store).overtaken


async def test_writes_that_began_to_wait_within_a_millisecond_are_applied_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = Faults()
    async with queued(tmp_path, faults, failures=1_000) as store:
        ids = iter("fedcba987654321")
        monkeypatch.setattr(
            "memory.backends.composite.queue.new_id", lambda: f"00000000-0000-7000-8000-00000000000{next(ids)}"
        )
        await waiting(store, faults, *range(10))
        await queue_of(store).drain()
        assert await outcome(store) == (9, 0, 0)


@pytest.mark.parametrize("how", ["request lost", "reply lost"])
@pytest.mark.parametrize("which", [1, 2])
async def test_a_primary_that_does_not_say_is_asked_again(how: str, which: int, tmp_path: Path) -> None:
    faults = Faults()
    async with queued(tmp_path, faults, failures=1_000) as store:
        await store.put(MemoryItem(id="a", content=0))
        await waiting(store, faults, 1, 2)
        fail(store, "primary", lambda call: how if call == which else None)
        await queue_of(store).drain()
        assert await outcome(store) == (2, 0, 0)


@pytest.mark.parametrize("how", ["request lost", "reply lost"])
async def test_a_removal_a_write_and_an_access_of_which_the_primary_does_not_say_happen_once(
    how: str, tmp_path: Path
) -> None:
    faults = Faults()
    async with queued(tmp_path, faults, failures=1_000) as store:
        await store.put(MemoryItem(id="a", content=0))
        await store.touch("a")
        faults.down.add("primary")
        for write in (store.delete("a"), store.put(MemoryItem(id="a", content=1)), store.touch("a")):
            with pytest.raises(UnknownOutcome):
                await write
        faults.down.clear()
        fail(store, "primary", lambda call: how if call % 2 else None)
        await queue_of(store).drain()
        found = await store.get("a")
        assert found is not None
        assert (found.content, found.access_count) == (1, 1)
        assert await outcome(store) == (1, 0, 0)


async def test_a_primary_that_goes_down_again_between_two_writes_of_one_item_gets_the_second_later(
    tmp_path: Path,
) -> None:
    faults = Faults()
    async with queued(tmp_path, faults, failures=1_000) as store:
        await waiting(store, faults, 1, 2)
        fail(store, "primary", lambda call: "before" if call == 2 else None)
        with pytest.raises(BackendUnavailable):
            await queue_of(store).drain()
        assert (await outcome(store))[0] == 1
        await queue_of(store).drain()
        assert await outcome(store) == (2, 0, 0)


async def test_a_process_that_ends_between_two_writes_of_one_item_loses_neither(tmp_path: Path) -> None:
    faults = Faults()
    async with queued(tmp_path, faults, failures=1_000) as store:
        await waiting(store, faults, 1, 2)
        fail(store, "primary", lambda call: "before" if call > 1 else None)
        with pytest.raises(BackendUnavailable):
            await queue_of(store).drain()
    async with queued(tmp_path, faults, failures=1_000) as store:
        await queue_of(store).drain()
        assert await outcome(store) == (2, 0, 0)


@pytest.mark.parametrize("retried", [False, True])
@pytest.mark.parametrize("how", ["request lost", "reply lost", "before"])
async def test_a_queue_that_does_not_say_whether_it_keeps_a_write_is_not_taken_for_one_that_does_not(
    how: str, retried: bool, tmp_path: Path
) -> None:
    faults = Faults()
    async with queued(tmp_path, faults, failures=1_000) as store:
        fail(store, "queue", lambda call: how if call == 1 else None)
        faults.down.add("primary")
        with pytest.raises(BackendUnavailable if how == "before" else UnknownOutcome) as caught:
            await store.put(MemoryItem(id="a", content=1))
        if retried and isinstance(caught.value, UnknownOutcome):
            with pytest.raises(UnknownOutcome):
                await caught.value.retry()
        faults.down.clear()
        await queue_of(store).drain()
        kept = how == "reply lost" or (retried and how == "request lost")
        assert await outcome(store) == (1 if kept else None, 0, 0)
    async with queued(tmp_path, faults, failures=1_000) as store:
        assert await outcome(store) == (1 if kept else None, 0, 0), "nothing was left behind"


@pytest.mark.parametrize("how", ["request lost", "reply lost", "before"])
async def test_what_is_applied_leaves_the_queue_also_where_its_removal_is_in_doubt(how: str, tmp_path: Path) -> None:
    faults = Faults()
    async with queued(tmp_path, faults, failures=1_000) as store:
        (unknown,) = await waiting(store, faults, 1)
        fail(store, "queue", lambda call: how if call == 1 else None)
        try:
            await queue_of(store).drain()
        except BackendUnavailable:
            assert how == "before"
        await store.delete("a")
        await queue_of(store).drain()
        assert await outcome(store) == (None, 0, 0)
        assert await queue_of(store).member.store.count() == 0
        with pytest.raises(UnknownOutcome):
            await unknown.retry()


async def test_a_retry_that_comes_before_the_queue_is_no_write_of_others(tmp_path: Path) -> None:
    faults = Faults()
    async with queued(tmp_path, faults, failures=1_000) as store:
        first, second = await waiting(store, faults, 1, 2)
        assert (await first.retry()).content == 1
        await queue_of(store).drain()
        assert await outcome(store) == (2, 0, 0)
        assert (await second.retry()).content == 2
        first, second = await waiting(store, faults, 3, 4)
        assert (await second.retry()).content == 4
        await queue_of(store).drain()
        assert await outcome(store) == (4, 0, 1), "the first was overtaken by the second"


async def test_a_retry_that_was_refused_is_not_applied_after_all(tmp_path: Path) -> None:
    faults = Faults()
    async with queued(tmp_path, faults, failures=1_000) as store:
        await store.put(MemoryItem(id="a", content=0))
        faults.down.add("primary")
        with pytest.raises(UnknownOutcome):
            await store.delete("a")
        with pytest.raises(UnknownOutcome) as caught:
            await store.add(MemoryItem(id="a", content=1))
        faults.down.clear()
        with pytest.raises(AlreadyExists):
            await caught.value.retry()
        await queue_of(store).drain()
        assert await outcome(store) == (None, 0, 0)


@pytest.mark.parametrize(("error", "kept"), [(StorageFull("full"), 1), (InvalidItem("no"), 0)])
async def test_a_write_that_the_primary_refuses_waits_unless_it_is_the_items_fault(
    error: MemoryStoreError, kept: int, tmp_path: Path
) -> None:
    faults = Faults()
    async with queued(tmp_path, faults, failures=1_000) as store:
        await waiting(store, faults, 1)
        fail(store, "primary", lambda call: error if call == 1 else None)
        await queue_of(store).drain()
        assert (await outcome(store))[2] == 1 - kept
        await queue_of(store).drain()
        assert await outcome(store) == (1 if kept else None, 0, 1 - kept)


async def test_a_write_is_not_given_up_while_nobody_has_written_its_item(tmp_path: Path) -> None:
    faults = Faults()
    async with queued(tmp_path, faults, failures=1_000) as store:
        await store.put(MemoryItem(id="a", content=0))
        await waiting(store, faults, 1)
        fail(store, "primary", lambda call: "request lost" if call <= ATTEMPTS else None)
        await queue_of(store).drain()
        assert await outcome(store) == (0, 1, 0)
        await queue_of(store).drain()
        assert await outcome(store) == (1, 0, 0)


async def test_what_others_wrote_before_the_primary_went_down_is_no_reason_to_give_a_write_up(tmp_path: Path) -> None:
    faults = Faults()
    async with queued(tmp_path, faults, failures=1_000) as store, queued_elsewhere(tmp_path) as other:
        await other.put(MemoryItem(id="a", content="of another process"))
        await store.drain()
        await waiting(store, faults, 1)
        await queue_of(store).drain()
        assert await outcome(store) == (1, 0, 0)


def queued_elsewhere(place: Path) -> MirroredStore:
    faults = Faults()
    return MirroredStore(file(place, "primary", faults), {"copy": memory("copy", faults)})


async def test_what_was_overtaken_does_not_make_the_primary_look_sick(tmp_path: Path) -> None:
    faults = Faults()
    async with queued(tmp_path, faults, failures=2, recovery=60.0) as store:
        for number in range(5):
            await store.put(MemoryItem(id=str(number), content=0))
        faults.down.add("primary")
        for number in range(5):
            with pytest.raises(UnknownOutcome):
                await store.put(MemoryItem(id=str(number), content=1))
        faults.down.clear()
        store.primary.breaker.left(failed=False)
        for number in range(5):
            await store.put(MemoryItem(id=str(number), content=2))
        await queue_of(store).drain()
        assert [await outcome(store, str(number)) for number in range(5)] == [(2, 0, 5)] * 5


async def test_an_update_does_not_take_a_stale_copy_for_the_truth(tmp_path: Path) -> None:
    faults = Faults()
    async with stale(tmp_path, faults, failures=1_000) as store:
        faults.down.add("copy")
        await store.put(MemoryItem(id="a", content=1))
        faults.down = {"primary"}
        assert await store.get("a") is None
        assert (store.stale, store.stale_answers) == ("copy", 1)
        with pytest.raises(BackendUnavailable):
            await store.update("a", content=2)
        with pytest.raises(BackendUnavailable):
            await store.delete_where({"kind": "note"}, under=())
        faults.down.clear()
        with pytest.raises(NotFound):
            await store.update("b", content=2)
        assert await store.delete_where({"kind": "note"}, under=()) == 1
