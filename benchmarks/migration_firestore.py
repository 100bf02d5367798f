"""The ends of migrations that live on Firestore's emulator."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec

from benchmarks import workload
from memory import MemoryItem, MemoryStore, create_store
from memory.registry import BACKENDS
from memory.testing.services import ServiceMissing, firestore

MOST = 1_000
"""Items: the emulator takes milliseconds for each."""
QUICK = 200
PAGE = 300


class Emulated:
    """An end in a project of its own. ``holds_all``: V1 has one namespace and no item with an agent and a user, so it is only
    read from, and holds the workload without namespaces and agents."""

    durability = "process"

    def __init__(self, name: str, url: str, stack: AsyncExitStack) -> None:
        self.name, self.holds_all = name, name == "firestore_v2"
        self._url, self._stack = url, stack
        self._filled: dict[int, MemoryStore] = {}

    def _store(self) -> Any:
        project = "bench-" + uuid.uuid4().hex[:8]
        return create_store(self.name, project_id=project, emulator=self._url, sweep_interval=None)

    async def filled(self, size: int) -> MemoryStore:
        """A store that holds the workload."""
        if size not in self._filled:
            store = await self._stack.enter_async_context(self._store())
            items = workload.records(0, size)
            if not self.holds_all:
                items = [msgspec.structs.replace(item, namespace=("default",), agent_id=None) for item in items]
            for start in range(0, size, 500):
                await store.put_many(items[start : start + 500])
            self._filled[size] = store
        return self._filled[size]

    @asynccontextmanager
    async def empty(self) -> AsyncIterator[MemoryStore]:
        """A new store."""
        async with self._store() as store:
            yield store

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[Callable[[list[MemoryItem]], Awaitable[None]]]:
        """What writes by hand into a new place."""
        from benchmarks.firestore_by_hand import ByHand

        hand = ByHand("bench-" + uuid.uuid4().hex[:8], self._url)
        yield hand.write
        hand.close()

    async def read(self, held: Any) -> AsyncIterator[list[MemoryItem]]:
        """Everything by hand, in the order of the documents' names."""
        from benchmarks.firestore_by_hand import ByHand

        hand = ByHand(held.place.project, self._url, held.names.items)
        async for items in hand.every(PAGE):
            yield items
        hand.close()


@asynccontextmanager
async def emulator() -> AsyncIterator[list[Emulated]]:
    """The ends there are: none where the emulator is missing."""
    async with AsyncExitStack() as stack:
        try:
            server = stack.enter_context(firestore())
        except ServiceMissing:
            yield []
            return
        names = [name for name in ("firestore_v2", "firestore_v1") if name in BACKENDS]
        yield [Emulated(name, server.url, stack) for name in names]
