"""Sentences about cancellation at any await, and about never holding the loop."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from memory.clock import ManualClock
from memory.errors import MemoryStoreError
from memory.model import MemoryItem
from memory.store import MemoryStore, deleting, transfer, upkeep, writes
from memory.store import settle as settling
from memory.store.searching import Mode
from memory.testing.contract.calls import possible_calls, prepare, refill
from memory.testing.contract.suite import Make, Suite, busy, ids, item, settle
from memory.testing.embedder import WordEmbedder
from memory.testing.heartbeat import assert_calm
from memory.testing.stepping import DENSE, Stepped, When, moments

PATIENCE = 10.0
"""Seconds for a call after one that was cancelled: nobody waits until what it held is taken for abandoned."""


class Cancelling(Suite):
    """Cancel any call at any await: the store stays usable and nothing is left behind."""

    @busy  # cancelled tasks are garbage by the hundred, and the collector of a large test process holds the loop
    async def test_a_call_cancelled_at_any_await_leaves_the_store_usable(
        self, make: Make, clock: ManualClock, place: Path
    ) -> None:
        tasks, errors = asyncio.all_tasks(), _errors_of_the_loop()
        store = await make(feed=make().capabilities.feed).open()
        await prepare(store, place)
        threads, files = threading.active_count(), await asyncio.to_thread(_open_files)
        calls = possible_calls(store, place)
        with small_batches():
            for name, call in calls.items():
                await _cancel_everywhere(store, clock, name, call)
                await _nothing_is_held(store, place, name)
        async with asyncio.timeout(PATIENCE):
            assert (await store.verify()).ok
            await store.search("marmot")
            await store.close()
        assert threading.active_count() <= threads + 8, "only helpers of asyncio.to_thread may be left"
        await settle(PATIENCE, partial(_ended, tasks, files))
        gc.collect()  # a failure is told when the last that could have learned of it is gone
        assert errors == [], "what nobody waited for has failed"

    async def test_a_cancelled_batch_leaves_each_item_whole(self, store: MemoryStore) -> None:
        def put(number: int) -> Awaitable[list[MemoryItem]]:
            return store.put_many([item(f"{i:03}", number, metadata={"s": number}) for i in range(100)])

        with small_batches():
            for number, (at, when) in enumerate(await _moments(partial(put, 0)), 1):
                run = Stepped(partial(put, number), at, when)
                await asyncio.wait({run.task})
                assert run.task.cancelled() or not run.reached, (at, when)
                found = (await store.list(limit=200)).items
                assert len(found) == 100
                assert [one.id for one in found if one.metadata["s"] != one.content] == [], (at, when)

    async def test_a_cancelled_open_can_be_repeated(self, make: Make) -> None:
        for at, when in await _moments(make().open):
            store = make()
            run = Stepped(store.open, at, when)
            await asyncio.wait({run.task})
            assert run.task.cancelled() or not run.reached, (at, when)
            async with asyncio.timeout(20):
                await store.open()
                await store.put(item())
                assert await store.exists("a")
                await store.close()

    async def test_a_first_open_may_be_cancelled_again_and_again(self, make: Make) -> None:
        """What the store is made of is begun, each time a little further, and never ended."""
        at = 0
        while True:
            run = Stepped(make().open, at)
            async with asyncio.timeout(20):
                await asyncio.wait({run.task})
            if not run.reached:
                break
            assert run.task.cancelled(), at
            at += 1 + at // DENSE
        store = run.task.result()
        await store.put(item())
        assert await store.exists("a")
        assert (await store.verify()).ok

    async def test_a_cancelled_close_can_be_repeated(self, make: Make) -> None:
        store = await make().open()
        await store.put(item())
        for at, when in await _moments(store.close):
            store = await make().open()
            await store.put(item())
            run = Stepped(store.close, at, when)
            await asyncio.wait({run.task})
            assert run.task.cancelled() or not run.reached, (at, when)
            async with asyncio.timeout(20):
                await store.close()
                await store.open()
                await store.put(item())
                await store.close()

    async def test_one_cancelled_caller_does_not_hurt_the_others(self, store: MemoryStore) -> None:
        tasks = [asyncio.ensure_future(store.put(item(f"{i:03}"))) for i in range(60)]
        await asyncio.sleep(0)
        for task in tasks[::3]:
            task.cancel()
        await asyncio.wait(tasks)
        for i, task in enumerate(tasks):
            if i % 3:
                assert (await task).id == f"{i:03}"
        found = await ids(store)
        assert {f"{i:03}" for i in range(60) if i % 3} <= set(found)


async def _cancel_everywhere(store: MemoryStore, clock: ManualClock, name: str, call: Callable[[], Any]) -> None:
    """Cancel the call where it waits for the first time, for the second and so on, at once and as it is answered."""
    for at, when in await _moments(call):
        if name.startswith("delete"):
            await refill(store)
        elif name == "sweep":
            await store.put(item("gone"), ttl=1)
            clock.advance(2)
        run = Stepped(call, at, when)
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([run.task])
            assert run.task.cancelled() or not run.reached, (name, at, when, "it goes on, though cancelled")
            if not run.reached:
                run.task.result()  # it went another way, and was done before
            stored = await store.put(item("witness", at))
            assert await store.get("witness") == stored, (name, at, when)
    async with asyncio.timeout(PATIENCE):
        await call()


async def _moments(call: Callable[[], Any]) -> list[tuple[int, When]]:
    """Where and how a call can be cancelled, as one run of it shows that is left alone."""
    whole = Stepped(call)
    await whole.task
    return moments(whole.suspended)


async def _nothing_is_held(store: MemoryStore, place: Path, name: str) -> None:
    """No connection, and no file that is not whole."""

    async def idle() -> bool:
        return not (await store.health()).details.get("connections_in_use")

    await settle(PATIENCE, idle)
    assert await asyncio.to_thread(_half_written, place) == [], name


def _half_written(place: Path) -> list[str]:
    """Files that are not whole: parts of them, and exports that lack lines, since the store did not change."""
    parts = [path.name for path in place.iterdir() if ".part" in path.name]
    lines = {path.name: path.read_bytes().count(b"\n") for path in sorted(place.glob("call-*.jsonl"))}
    return parts + [name for name, count in lines.items() if count != max(lines.values())]


async def _ended(tasks: set[asyncio.Task[Any]], files: int) -> bool:
    """Whether no other tasks run than before the store was opened, and it keeps nothing open: a driver may, but no more
    than there was when the store had just been opened."""
    return asyncio.all_tasks() <= tasks and await asyncio.to_thread(_open_files) <= files


def _open_files() -> int:
    """How many files and connections this process has open, where it can know."""
    known = Path("/proc/self/fd")
    return len(list(known.iterdir())) if known.exists() else 0


def _errors_of_the_loop() -> list[str]:
    """What the running loop is told from now on of failures that nobody has learned of. A driver's own futures may fail
    unheard, when it is cancelled as it connects."""
    errors: list[str] = []

    def note(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error, future = context.get("exception"), context.get("future")
        if isinstance(error, MemoryStoreError) or isinstance(future, asyncio.Task) or future is None:
            errors.append(f"{context['message']}: {error!r}")

    asyncio.get_running_loop().set_exception_handler(note)
    return errors


@contextmanager
def small_batches(size: int = 16) -> Iterator[None]:
    """Few items are many batches: an export, an import and a restore have a second page, and a last one."""
    with ExitStack() as stack:
        for module in (deleting, settling, transfer, upkeep, writes):
            stack.enter_context(mock.patch.object(module, "BATCH", size))
        yield


class Calm(Suite):
    """Nothing holds the loop longer than 10 ms."""

    @busy
    async def test_no_phase_holds_the_loop(self, make: Make, place: Path) -> None:
        store = await make().open()
        text = "the marmot whistles at an eagle over the alpine meadow while the river sleeps under snow " * 3
        await store.search(text)  # loads what is loaded once
        await store.put(item("warm", text))
        turn = 0

        async def work() -> None:
            nonlocal turn
            turn += 1
            await store.put_many(
                [item(f"{turn}-{i:04}", f"{text} {i}", metadata={"n": i, "s": text}) for i in range(600)]
            )
            await store.search("marmot whistle river 17", limit=50, neighbours=1)
            await store.list({"metadata.n": {"$gte": 300}, "metadata.s": {"$startswith": "no"}}, order="-importance")
            await store.list(limit=1_000)
            await store.count({"metadata.s": {"$ne": "x"}})
            await store.export_jsonl(place / f"{turn}.jsonl")
            await store.import_jsonl(place / f"{turn}.jsonl")
            await store.verify()
            await store.delete_where({"metadata.n": {"$exists": True}})
            await store.namespaces()

        await assert_calm(work)

    @busy
    async def test_a_crowd_of_searches_does_not_hold_the_loop(self, make: Make) -> None:
        words = WordEmbedder()
        store = await make(embedder=words).open()
        text = "the marmot whistles at an eagle over the alpine meadow"
        modes: tuple[Mode, ...] = ("text", "vector", "hybrid")
        await store.put_many([item(f"{i:03}", f"{text} {i}", session_id=f"s{i % 5}") for i in range(200)])
        await store.search(text, mode="hybrid")  # loads what is loaded once

        async def work() -> None:
            async with asyncio.TaskGroup() as group:
                for i in range(30):
                    group.create_task(store.search(f"marmot meadow {i}", mode=modes[i % 3], neighbours=i % 2))

        await assert_calm(work)

    @busy
    async def test_a_large_record_does_not_hold_the_loop(self, make: Make) -> None:
        store = await make().open()
        text = " ".join(f"word{i % 4_000}" for i in range(24_000))

        async def work() -> None:
            await store.put(item("big", text))
            await store.search("word17")
            await store.get("big")
            await store.update("big", metadata={"x": 1})

        await work()
        await assert_calm(work)
