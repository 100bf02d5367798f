"""The old manager: a memory for each term."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Generic

from memory.compat.base import BaseMemory, K, Results
from memory.compat.exceptions import MemoryBackendNotFoundError, MemoryRetrievalError
from memory.compat.values import MemoryEntry, MemoryQuery, MemoryScope, MemorySearchResult, MemoryType
from memory.migration.capabilities.entries import word
from memory.telemetry import get_logger

Value = dict[str, Any]
_log = get_logger("compat")


class _NoMemoryError(MemoryBackendNotFoundError, ValueError):
    """No memory is configured for a type."""


class _NoEntryError(MemoryRetrievalError, KeyError):
    """No memory has an entry under a key."""


class MemoryManager(Generic[K]):
    """Entries by how long they are meant to last: each type has its memory; working memory is the short term's.

    ``cleanup_interval`` and ``reindex_interval`` are seconds; memories that are no stores of this library need both.
    Memories that are not started yet are started and stopped with it.
    """

    def __init__(
        self,
        short_term: BaseMemory[K, Value],
        medium_term: BaseMemory[Any, Value] | None = None,
        long_term: BaseMemory[Any, Value] | None = None,
        cleanup_interval: float = 300,
        reindex_interval: float = 3600,
    ) -> None:
        given = {"short_term": short_term, "medium_term": medium_term, "long_term": long_term}
        self._memories: dict[str, BaseMemory[Any, Value]] = {
            name: memory for name, memory in given.items() if memory is not None
        }
        self._intervals = {"cleanup_expired": cleanup_interval, "reindex": reindex_interval}
        self._started: list[Any] = []
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def is_active(self) -> bool:
        """Whether it is started."""
        return bool(self._tasks)

    async def start(self) -> None:
        """Begin to look after the memories. Raises RuntimeError when it has begun already."""
        if self._tasks:
            raise RuntimeError("this memory manager is active already")
        for memory in dict.fromkeys(self._memories.values()):
            if not getattr(memory, "started", True):
                await memory.start()  # type: ignore[attr-defined]
                self._started.append(memory)
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._every(name, seconds)) for name, seconds in self._intervals.items()]

    async def stop(self) -> None:
        """End it, and close the memories that it opened; again is harmless."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        started, self._started = self._started, []
        for memory in reversed(started):
            await memory.stop()

    async def store(
        self,
        key: K,
        value: Value,
        type: MemoryType | str = MemoryType.SHORT_TERM,
        scope: MemoryScope | str = MemoryScope.SESSION,
        metadata: dict[str, Any] | None = None,
        expires_in: timedelta | float | None = None,
    ) -> MemoryEntry[Value]:
        """Remember a value in the memory of its type. ``expires_in``: a timedelta, or seconds. Raises what that raises;
        ValueError for a type that has no memory."""
        lasts = expires_in if isinstance(expires_in, timedelta | None) else timedelta(seconds=expires_in)
        expires = None if lasts is None else datetime.now(UTC) + lasts
        memory = self._memory(type)
        return await memory.store(key, value, type=type, scope=scope, metadata=metadata, expires_at=expires)

    async def retrieve(self, key: K, type: MemoryType | str | None = None) -> MemoryEntry[Value]:
        """The entry under a key, in the memory of a type or in the first that has it. Raises KeyError."""
        if type is not None:
            return await self._memory(type).retrieve(key, type=type)
        for memory in dict.fromkeys(self._memories.values()):
            try:
                return await memory.retrieve(key)
            except KeyError:
                continue
        raise _NoEntryError(f"there is no entry {str(key)!r}")

    def search(self, query: MemoryQuery, type: MemoryType | str | None = None) -> Results[Value]:
        """The entries that answer a question, of one memory or of all, best first, at most ``query.limit``."""
        return Results(lambda: self._searched(query, type))

    def similar(
        self, key: K, type: MemoryType | str | None = None, limit: int = 10, min_score: float = 0.0
    ) -> Results[Value]:
        """The entries that are like one, in the memory of a type or in those that have it, best first. Raises KeyError."""
        return Results(lambda: self._like(key, type, limit, min_score))

    async def _searched(
        self, query: MemoryQuery, type: MemoryType | str | None
    ) -> AsyncIterator[MemorySearchResult[Value]]:
        found: list[MemorySearchResult[Value]] = []
        for memory in self._of(type):
            found += await _all(memory.search(query))
        if query.order_by is None:
            found.sort(key=lambda result: -result.score)
        for result in found[: query.limit]:
            yield result

    async def _like(
        self, key: K, type: MemoryType | str | None, limit: int, min_score: float
    ) -> AsyncIterator[MemorySearchResult[Value]]:
        found: list[MemorySearchResult[Value]] = []
        known = False
        for memory in self._of(type):
            try:
                found += await _all(memory.similar(key, limit=limit, min_score=min_score))
                known = True
            except KeyError:
                continue
        if not known:
            raise _NoEntryError(f"there is no entry {str(key)!r}")
        found.sort(key=lambda result: -result.score)
        for result in found[:limit]:
            yield result

    def _of(self, type: MemoryType | str | None) -> list[BaseMemory[Any, Value]]:
        return list(dict.fromkeys(self._memories.values())) if type is None else [self._memory(type)]

    def _memory(self, type: MemoryType | str) -> BaseMemory[Any, Value]:
        name = word(type, "type", "short_term")
        memory = self._memories.get("short_term" if name == "working" else name)
        if memory is None:
            raise _NoMemoryError(f"there is no memory for the type {name!r}; there are: {', '.join(self._memories)}")
        return memory

    async def _every(self, name: str, seconds: float) -> None:
        """Look after all memories again and again; what fails is logged, and tried at the next turn."""
        while True:
            await asyncio.sleep(seconds)
            for memory in dict.fromkeys(self._memories.values()):
                work = getattr(memory, name, None)
                try:
                    if work is not None:
                        await (work() if name == "cleanup_expired" else work("semantic"))
                except Exception as error:  # noqa: BLE001 - a memory of the caller's may raise anything
                    _log.warning("upkeep failed", what=name, error=error)


async def _all(results: Any) -> list[MemorySearchResult[Value]]:
    """What a memory finds; one of the caller's own may give its iterator only when it is awaited."""
    if not hasattr(results, "__aiter__"):
        results = await results
    return [result async for result in results]
