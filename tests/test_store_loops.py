"""Stores, loops and threads: who may wait for whom, and that nobody waits for ever."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from memory import Closed, WrongLoop
from memory.backends.in_memory import InMemoryStore


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
        assert threading.active_count() == before + 1
    assert threading.active_count() == before
