"""Sentences about opening, closing, loops and forks."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from memory.errors import Closed, MemoryStoreError, WrongLoop
from memory.model import MemoryItem
from memory.store import MemoryStore
from memory.store.types import Capabilities
from memory.testing.contract.calls import called, every_call, operations
from memory.testing.contract.suite import Make, Suite, agrees, busy, ids, item, needs


async def _holds(store: MemoryStore, stored: MemoryItem) -> bool:
    return await store.get(stored.id) == stored


async def _lacks(store: MemoryStore, id: str) -> bool:
    return not await store.exists(id)


class Lifecycle(Suite):
    """Open, close, loops, forks."""

    async def test_every_operation_is_among_the_calls(self, make: Make, place: Path) -> None:
        assert called(every_call(make(), place)) == operations(MemoryStore)

    async def test_a_store_that_is_not_open_says_so(self, make: Make, place: Path) -> None:
        store = make()
        for name, call in every_call(store, place).items():
            with pytest.raises(Closed, match="open"):
                await call()
            assert name

    async def test_a_closed_store_says_so(self, make: Make, place: Path) -> None:
        store = await make().open()
        view = store.scoped(user_id="ann")
        await store.close()
        for call in every_call(store, place).values():
            with pytest.raises(Closed, match="closed"):
                await call()
        with pytest.raises(Closed):
            await view.get("a")
        with pytest.raises(Closed):
            await view.put(item())

    async def test_open_and_close_again_are_harmless(self, make: Make) -> None:
        store = make()
        await store.close()
        assert await store.open() is store
        assert await store.open() is store
        await store.put(item())
        await store.open()
        assert await store.exists("a")
        await store.close()
        await store.close()

    async def test_many_may_open_at_once(self, make: Make) -> None:
        store = make()
        async with asyncio.TaskGroup() as group:
            for _ in range(8):
                group.create_task(store.open())
        await store.put(item())
        assert await store.count() == 1

    async def test_async_with_opens_and_closes(self, make: Make) -> None:
        async with make() as store:
            await store.put(item())
        with pytest.raises(Closed):
            await store.get("a")

    async def test_a_closed_store_opens_again(self, make: Make) -> None:
        store = await make().open()
        await store.put(item("a", "kept?"))
        await store.close()
        await store.open()
        assert await store.exists("a") is store.capabilities.persistent
        await store.put(item("b"))
        assert await store.exists("b")

    async def test_what_was_written_survives_close_and_open(self, make: Make) -> None:
        store = await make().open()
        needs(store, "persistent")
        stored = await store.put_many(
            [item(f"{i:03}", f"marmot {i}", metadata={"n": i}, embedding=[float(i)]) for i in range(200)]
        )
        await store.delete("007")
        del stored[7]
        await store.close()
        store = await make().open()
        assert await store.get_many([one.id for one in stored]) == stored
        assert len((await store.search("marmot 5", limit=200)).hits) == 199
        assert await ids(store, {"metadata.n": {"$gte": 195}}) == ["195", "196", "197", "198", "199"]
        assert (await store.put(item("x", "marmot 5"), dedup="content")).id == "005"
        assert (await store.verify()).ok

    async def test_two_stores_on_the_same_data_see_each_others_writes(self, make: Make) -> None:
        one = await make().open()
        needs(one, "shared")
        other = await make().open()
        for i in range(20):
            writer, reader = (one, other) if i % 2 else (other, one)
            stored = await writer.put(item(str(i), f"marmot {i}"))
            await agrees(reader, partial(_holds, reader, stored))
            assert await reader.count() == i + 1
            assert len((await reader.search("marmot", limit=50)).hits) == i + 1
        assert await one.delete("3")
        await agrees(other, partial(_lacks, other, "3"))
        assert (await other.verify()).ok

    async def test_close_waits_for_or_refuses_what_is_under_way(self, make: Make) -> None:
        store = await make().open()
        await store.put_many([item(f"{i:04}", f"marmot {i}") for i in range(400)])
        calls: list[tuple[Callable[[], Any], Any]] = [
            (lambda: store.list({"metadata.x": None}, order="-updated_at", limit=400), 400),
            (lambda: store.list(limit=400), 400),
            (lambda: store.search("marmot", limit=200), 200),
            (lambda: store.put_many([item(f"n{i}") for i in range(700)]), 700),
        ]
        counting = [
            asyncio.ensure_future(store.count({"metadata.x": {"$ne": 1}})),
            asyncio.ensure_future(store.count()),
        ]
        tasks = [asyncio.ensure_future(call()) for call, _ in calls]
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await store.close()
            await asyncio.wait([*tasks, *counting])
        for task, (_, size) in zip(tasks, calls, strict=True):
            error = task.exception()
            assert error is None or isinstance(error, MemoryStoreError), repr(error)
            assert error is not None or len(await task) == size, "no partial answer"
        for one in counting:
            error = one.exception()
            assert error is None or isinstance(error, MemoryStoreError), repr(error)
            assert error is not None or await one >= 400, "no partial answer"

    async def test_another_event_loop_is_refused_at_once(self, store: MemoryStore, place: Path) -> None:
        found: list[BaseException | None] = []

        def elsewhere() -> None:
            async def attempt() -> None:
                for call in every_call(store, place).values():
                    try:
                        await call()
                        found.append(None)
                    except BaseException as error:
                        found.append(error)
                for call in (store.open, store.close):
                    try:
                        await call()
                        found.append(None)
                    except BaseException as error:
                        found.append(error)

            asyncio.run(attempt())

        await asyncio.to_thread(elsewhere)
        assert [type(error) for error in found] == [WrongLoop] * (len(every_call(store, place)) + 2)
        await store.put(item())

    async def test_a_twin_on_a_running_loop_is_refused_with_advice(self, make: Make) -> None:
        for store in (make(), await make().open()):
            view = store.scoped(user_id="u")
            calls: list[Callable[[], Any]] = [
                partial(store.get_sync, "a"), partial(store.put_sync, item()), store.open_sync, store.close_sync, view.count_sync,
                partial(next, store.stream_sync()), partial(next, store.watch_sync()),
            ]  # fmt: skip
            for call in calls:
                with pytest.raises(WrongLoop, match="await"):
                    call()

    async def test_twins_run_on_the_home_loop_from_other_threads(self, store: MemoryStore) -> None:
        def work() -> list[str]:
            store.put_sync(item("a", "marmot"))
            store.scoped(user_id="ann").put_sync(item("b"))
            assert store.get_sync("a") is not None
            assert [hit.item.id for hit in store.search_sync("marmot")] == ["a"]
            return [one.id for batch in store.stream_sync(batch_size=1) for one in batch]

        assert await asyncio.to_thread(work) == ["a", "b"]

    async def test_a_store_opened_by_its_twin_owns_a_private_loop(self, make: Make) -> None:
        store = make()
        before = threading.active_count()

        def work() -> None:
            with store:
                store.put_sync(item())
                assert store.count_sync() == 1
                with pytest.raises(MemoryStoreError):
                    store.add_sync(item())
            with pytest.raises(Closed):
                store.get_sync("a")

        thread = threading.Thread(target=work)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert threading.active_count() <= before + 1, "only the helper thread of this test may be left"

    async def test_a_twin_of_a_store_whose_loop_is_gone_says_closed(self, make: Make) -> None:
        store = make()

        def work() -> None:
            asyncio.run(leave_open(store))
            with pytest.raises(Closed):
                store.get_sync("a")

        async def leave_open(store: MemoryStore) -> None:
            await store.open()

        await asyncio.to_thread(work)

    @busy  # the fork of a large process takes longer than a loop may be held
    async def test_a_forked_child_is_refused_at_once(self, store: MemoryStore) -> None:
        await store.put(item())
        reading, writing = os.pipe()
        child = _fork()
        if child == 0:  # pragma: no cover - runs in the child
            signal.alarm(10)
            _report(store, writing)
        os.close(writing)
        try:
            answer = await asyncio.to_thread(os.read, reading, 1_000)
            await asyncio.to_thread(os.waitpid, child, 0)
        finally:
            os.close(reading)
        assert answer.decode() == "WrongLoop WrongLoop WrongLoop"
        assert await store.exists("a"), "the parent goes on"

    async def test_capabilities_are_declared_and_checked(self, make: Make) -> None:
        store = make()
        assert type(store.capabilities) is Capabilities
        assert store.name
        assert isinstance(store.name, str)
        with pytest.raises(TypeError):
            type("Wrong", (MemoryStore,), {"name": "wrong"})
        if not store.capabilities.feed:
            return
        with pytest.raises(TypeError):
            type("Wrong", (MemoryStore,), {"name": "wrong", "capabilities": store.capabilities})


def _fork() -> int:
    import warnings

    with warnings.catch_warnings():
        # 3.12 warns of a fork beside threads; that it is refused cleanly is what is shown here.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _report(store: MemoryStore, writing: int) -> None:  # pragma: no cover - runs in the child
    answers = []
    try:
        for attempt in (
            lambda: asyncio.new_event_loop().run_until_complete(store.get("a")),
            lambda: store.get_sync("a"),
            lambda: asyncio.new_event_loop().run_until_complete(store.open()),
        ):
            try:
                attempt()
                answers.append("nothing")
            except BaseException as error:
                answers.append(type(error).__name__)
        os.write(writing, " ".join(answers).encode())
    finally:
        os._exit(0)
