"""Firestore stopped, silent, or gone in the middle: typed errors within the deadline, and nothing lost or done twice."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from servers import server

from memory import (
    BackendUnavailable,
    DeadlineExceeded,
    ManualClock,
    MemoryItem,
    MemoryStoreError,
    UnknownOutcome,
)
from memory.backends.firestore.v2 import FirestoreV2Store
from memory.backends.firestore.v2.names import document_id
from memory.store.breaker import Breaker


@pytest.fixture
def emulator() -> Iterator[Any]:
    service = server("firestore")
    if not hasattr(service, "pause"):
        pytest.skip("the emulator of the environment is not ours to pause")
    yield service
    service.resume()
    if service._child is None:
        service.start()


@pytest.fixture
async def store(emulator: Any) -> AsyncIterator[FirestoreV2Store]:
    store = FirestoreV2Store(
        project_id="fail-" + uuid.uuid4().hex[:12], emulator=emulator.url, clock=ManualClock(), sweep_interval=None,
        timeout=2.0, breaker_failures=3, breaker_recovery=0.3,
    )  # fmt: skip
    async with asyncio.timeout(30):
        while True:
            try:
                await store.open()
                await store.put(MemoryItem(id="warm", content="x"))
                await store.delete("warm")
                break
            except MemoryStoreError:  # it has just been started again
                await store.close()
    yield store
    await store.close()


def every_call(store: FirestoreV2Store) -> list[Callable[[], Any]]:
    return [
        lambda: store.get("a"),
        store.list,
        store.count,
        lambda: store.search("marmot"),
        lambda: store.put(MemoryItem(id="b", content="x")),
        lambda: store.delete("a"),
    ]


async def test_a_silent_server_is_given_up_within_the_deadline(store: FirestoreV2Store, emulator: Any) -> None:
    await store.put(MemoryItem(id="a", content="marmot"))
    await asyncio.to_thread(emulator.pause)

    async def given_up(call: Callable[[], Any]) -> float:
        started = time.monotonic()
        with pytest.raises((DeadlineExceeded, BackendUnavailable)):
            await call()
        return time.monotonic() - started

    # All at once: each waits for itself, and none has failed yet when the last is made, so that the breaker refuses none.
    async with asyncio.TaskGroup() as group:
        calls = [group.create_task(given_up(call)) for call in every_call(store)]
    waited = [call.result() for call in calls]
    assert 1 < min(waited) <= max(waited) < 5
    store._connected().breaker.left(failed=False)
    await asyncio.to_thread(emulator.resume)
    assert (await store.get("a") or MemoryItem(content=0)).content == "marmot"


async def test_a_dead_server_is_told_at_once_and_used_again_when_it_is_back(
    store: FirestoreV2Store, emulator: Any
) -> None:
    await store.put(MemoryItem(id="a", content="marmot"))
    await asyncio.to_thread(emulator.kill)
    for call in every_call(store):
        started = time.monotonic()
        with pytest.raises(BackendUnavailable, match=emulator.url):
            await call()
        assert time.monotonic() - started < 2
    await asyncio.to_thread(emulator.start)
    async with asyncio.timeout(20):
        while True:
            try:
                await store.put(MemoryItem(id="a", content="again"))
                break
            except MemoryStoreError:
                await asyncio.sleep(0.2)
    assert (await store.get("a") or MemoryItem(content=0)).content == "again"


async def test_a_commit_without_a_reply_is_unknown_and_retry_finishes_it_once(
    store: FirestoreV2Store, emulator: Any
) -> None:
    await store.put(MemoryItem(id="a", content=0))
    connection = store._connected()
    encoded = connection._encoded

    async def then_silent(made: Any) -> bytes:
        data = await encoded(made)
        await asyncio.to_thread(emulator.pause)
        return data

    for number, call in enumerate(
        (
            lambda: store.put(MemoryItem(id="a", content=1)),
            lambda: store.add(MemoryItem(id="b", content=1)),
            lambda: store.touch("a"),
            lambda: store.put(MemoryItem(id="c", content="same"), dedup="content"),
        )
    ):
        connection._encoded = then_silent  # type: ignore[method-assign]
        with pytest.raises(UnknownOutcome) as caught:
            await call()
        connection._encoded = encoded  # type: ignore[method-assign]
        await asyncio.to_thread(emulator.resume)
        connection.breaker.left(failed=False)
        await caught.value.retry()
        if number == 2:
            assert (await store.get("a") or MemoryItem(content=0)).access_count == 1
    assert [(item.id, item.content) for item in await store.list()] == [("a", 1), ("b", 1), ("c", "same")]


async def test_of_a_batch_each_item_tells_what_is_known(store: FirestoreV2Store, emulator: Any) -> None:
    from memory import BatchError

    connection = store._connected()
    encoded, turns = connection._encoded, iter(range(100))

    async def then_silent(made: Any) -> bytes:
        data = await encoded(made)
        if next(turns) == 2:
            await asyncio.to_thread(emulator.pause)
        return data

    connection._encoded = then_silent  # type: ignore[method-assign]
    items = [MemoryItem(id=f"{i:03}", content="y" * 60_000) for i in range(40)]
    with pytest.raises(BatchError) as caught:
        await store.put_many(items)
    await asyncio.to_thread(emulator.resume)
    connection._encoded = encoded  # type: ignore[method-assign]
    connection.breaker.left(failed=False)
    written = {item.id for item in await store.list(limit=100)}
    for item, outcome in zip(items, caught.value.results, strict=True):
        if isinstance(outcome, UnknownOutcome):
            await outcome.retry()
        elif isinstance(outcome, MemoryStoreError):
            assert item.id not in written
            await store.put(item)
        else:
            assert item.id in written
    assert await store.count() == 40


async def test_the_breaker_opens_loudly_and_sends_nothing(store: FirestoreV2Store, emulator: Any) -> None:
    store._connected().breaker = Breaker(3, 60.0)
    await asyncio.to_thread(emulator.kill)
    for _ in range(3):
        with pytest.raises(BackendUnavailable, match="cannot be reached"):
            await store.get("a")
    before = store._connected().reads
    for call in every_call(store):
        with pytest.raises(BackendUnavailable, match="failed 3 times in a row") as caught:
            await call()
        assert caught.value.retry_after > 0  # type: ignore[attr-defined]
    assert (await store.health()).status == "unhealthy"
    assert store._connected().reads >= before
    await asyncio.to_thread(emulator.start)


def test_the_breaker_lets_one_call_try() -> None:
    now = [0.0]
    breaker = Breaker(2, 10.0, lambda: now[0])
    for _ in range(2):
        breaker.enter("x")
        breaker.left(failed=True)
    with pytest.raises(BackendUnavailable):
        breaker.enter("x")
    now[0] = 10.0
    breaker.enter("x")
    with pytest.raises(BackendUnavailable):
        breaker.enter("x")  # while the trial is under way
    breaker.left(failed=True)
    with pytest.raises(BackendUnavailable):
        breaker.enter("x")
    now[0] = 20.0
    breaker.enter("x")
    breaker.abandoned()
    breaker.enter("x")
    breaker.left(failed=False)
    assert not breaker.is_open
    breaker.enter("x")


async def test_a_document_of_another_key_is_never_shown(store: FirestoreV2Store) -> None:
    """A hash that collides, made by hand."""
    from memory.errors import CorruptData

    await store.put(MemoryItem(id="a/b", content="secret", user_id="ann"))
    taken = document_id((("default",), "a/b"))
    store.document_id = lambda key: taken  # type: ignore[method-assign]
    assert await store.get("other/id") is None
    with pytest.raises(CorruptData):
        await store.put(MemoryItem(id="other/id", content="x"))
    assert (await store.get("a/b") or MemoryItem(content=0)).content == "secret"


async def test_closing_in_the_middle_of_a_batch_tells_each_item_what_is_known() -> None:
    from memory import BatchError

    options: dict[str, Any] = {"project_id": "close-" + uuid.uuid4().hex[:12], "emulator": server("firestore").url}
    store = await FirestoreV2Store(**options, sweep_interval=None).open()
    items = [MemoryItem(id=f"{i:03}", content="y" * 30_000) for i in range(200)]
    writing = asyncio.ensure_future(store.put_many(items))
    while store._connected().commits < 8:
        await asyncio.sleep(0)
    await store.close()
    with pytest.raises(BatchError) as caught:
        await writing
    async with FirestoreV2Store(**options, sweep_interval=None) as again:
        written = {item.id for item in await again.list(limit=300)}
    assert 0 < len(written) < 200
    for item, outcome in zip(items, caught.value.results, strict=True):
        assert isinstance(outcome, MemoryStoreError) is (item.id not in written)
