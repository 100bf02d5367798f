"""Stores, loops and threads: who may wait for whom, and that nobody waits for ever."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import pydoc
import socket
import threading
import time
from collections import Counter
from typing import Any

import pytest

from memory import Closed, MemoryItem, MemoryManager, MemoryStore, WrongLoop
from memory.backends.in_memory import InMemoryStore
from memory.store.base import ENTERING
from memory.store.transports import abandon


class SlowStore(InMemoryStore):
    """in_memory whose reads take a minute."""

    async def _read(self, op: Any) -> Any:
        await asyncio.sleep(60)
        return await super()._read(op)


def test_a_twin_that_waits_while_its_loop_ends_raises_closed() -> None:
    store = SlowStore()
    ready, loops = threading.Event(), []

    async def home() -> None:
        await store.open()
        loops.append(asyncio.get_running_loop())
        ready.set()
        await asyncio.sleep(0.2)

    thread = threading.Thread(target=lambda: asyncio.run(home()))
    thread.start()
    assert ready.wait(5)
    began = time.monotonic()
    with pytest.raises(Closed):
        store.get_sync("x")
    assert time.monotonic() - began < 5
    thread.join()


@pytest.mark.parametrize("cls", [MemoryStore, MemoryManager])
def test_a_twin_reads_like_the_method_that_it_is_the_twin_of(cls: type[Any]) -> None:
    bound = MemoryManager("in_memory") if cls is MemoryManager else InMemoryStore()
    twins = [name for name in dir(cls) if name.endswith("_sync")]
    assert len(twins) > 20
    for name in twins:
        method, twin = getattr(cls, name.removesuffix("_sync")), getattr(cls, name)
        wanted, found = inspect.signature(method), inspect.signature(twin)
        assert list(found.parameters) == list(wanted.parameters), name
        assert str(found.return_annotation) == str(wanted.return_annotation).replace("AsyncIterator", "Iterator"), name
        assert list(inspect.signature(getattr(bound, name)).parameters) == list(wanted.parameters)[1:], name
        assert not inspect.iscoroutinefunction(getattr(bound, name)), name
        for one in (twin, getattr(bound, name)):
            told = pydoc.plain(pydoc.render_doc(one))
            assert f"{name}(" in told, name
            assert "Synchronous twin of" in told, name
            assert "args: 'P.args'" not in told, name
    assert "Write the item, new or in place of the one under its key" in (MemoryStore.put_sync.__doc__ or "")
    with InMemoryStore() as store:
        assert MemoryStore.put_sync(store, MemoryItem(content="x", id="a")).id == "a", "as a function of its class"


def test_a_store_open_on_one_loop_refuses_another() -> None:
    store = InMemoryStore()
    with store:

        async def elsewhere() -> None:
            with pytest.raises(WrongLoop):
                await store.get("x")
            with pytest.raises(WrongLoop):
                await store.open()

        asyncio.run(elsewhere())


def test_a_private_loop_ends_with_the_store() -> None:
    before = threading.active_count()
    with InMemoryStore() as store:
        assert store._home.private
        assert [thread.name for thread in threading.enumerate()].count(
            "memory-loop"
        ) == 1  # the first store loads modules in others
    assert threading.active_count() == before


async def test_a_crowd_of_searches_is_begun_over_many_turns_of_the_loop() -> None:
    turn, begun = 0, Counter[int]()

    def clock() -> int:  # asked by each search once
        begun[turn] += 1
        return 1

    async def turns() -> None:
        nonlocal turn
        while True:
            await asyncio.sleep(0)
            turn += 1

    async with InMemoryStore(clock=clock, sweep_interval=None) as store:
        await store.put(MemoryItem(content="the marmot whistles"))
        await store.search("marmot")  # loads what is loaded once
        begun.clear()
        counting = asyncio.ensure_future(turns())
        asked = "".join(chr(97 + i % 26) * 3 + " " for i in range(500))
        async with asyncio.TaskGroup() as group:
            for i in range(1_000):
                group.create_task(store.search(f"{asked} {i}"))
        counting.cancel()
    assert begun.total() >= 1_000
    assert max(begun.values()) < 300, "what each computes would add up in one turn"


async def test_searches_that_outlive_their_store_leave_no_place_too_many_when_it_is_open_again() -> None:
    store = await InMemoryStore(sweep_interval=None).open()
    tasks = [asyncio.create_task(store.search("marmot")) for _ in range(3 * ENTERING)]
    await asyncio.sleep(0)
    assert store._entrance.locked()
    await store.close()
    async with store:
        async with asyncio.timeout(10):
            for task in tasks:
                with contextlib.suppress(Closed):
                    await task
        for gate, places in ((store._entrance, ENTERING), (store._searching, store.searches_at_once)):
            for _ in range(places):
                assert not gate.locked()
                await gate.acquire()
            assert gate.locked()


def test_a_connection_is_let_go_though_its_loop_has_ended() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop = asyncio.new_event_loop()
        _, writer = loop.run_until_complete(asyncio.open_connection(*listener.getsockname()))
        other, _ = listener.accept()
        loop.close()
        assert abandon(writer.transport)
        with other:
            other.settimeout(5)
            assert other.recv(1) == b"", "the other end sees that it is closed"
        assert not abandon(writer.transport), "again is harmless"


async def test_a_connection_whose_loop_goes_on_is_closed_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        other, _ = listener.accept()
        with other:
            assert not abandon(writer.transport)
            assert await reader.read() == b""
        assert writer.is_closing()
