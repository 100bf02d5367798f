"""The ends of migrations that live on Firestore's emulator."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
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
    """An end in a project of its own. V1 holds the workload `reduced`."""

    durability = "process"

    def __init__(self, name: str, url: str, stack: AsyncExitStack) -> None:
        self.name, self._url, self.stack = name, url, stack
        self.holds_all = name == "firestore_v2"
        self._filled: dict[int, MemoryStore] = {}

    def _store(self) -> Any:
        project = "bench-" + uuid.uuid4().hex[:8]
        return create_store(self.name, project_id=project, emulator=self._url, sweep_interval=None)

    async def filled(self, size: int) -> MemoryStore:
        """A store that holds the workload."""
        if size not in self._filled:
            store = await self.stack.enter_async_context(self._store())
            await _fill(store, size, reduced=not self.holds_all)
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


class Reduced:
    """An end that holds only what V1 can take over."""

    def __init__(self, end: Any, stack: AsyncExitStack) -> None:
        self.name, self.durability, self.read = end.name, end.durability, end.read
        self._end, self._stack = end, stack
        self._filled: dict[int, MemoryStore] = {}

    async def filled(self, size: int) -> MemoryStore:
        """A store that holds the workload `reduced`."""
        if size not in self._filled:
            self._filled[size] = await self._stack.enter_async_context(self._end.empty())
            await _fill(self._filled[size], size, reduced=True)
        return self._filled[size]


async def _fill(store: MemoryStore, size: int, *, reduced: bool) -> None:
    """``reduced``: to what V1 can hold, which is one namespace, and no item with a user and an agent."""
    items = workload.records(0, size)
    if reduced:
        items = [msgspec.structs.replace(item, namespace=("default",), agent_id=None) for item in items]
    for start in range(0, size, 500):
        await store.put_many(items[start : start + 500])


def pairs(ends: Iterable[Any], there: Sequence[Emulated]) -> list[tuple[Any, Any]]:
    """Every ordered pair with Firestore in it."""
    both = [(one, other) for one in there for other in (*ends, *there) if one is not other]
    both += [(end, one) for end in ends for one in there]
    return [(one if other.name != "firestore_v1" else Reduced(one, other.stack), other) for one, other in both]


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
