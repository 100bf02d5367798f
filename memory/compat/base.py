"""The old interfaces, which programs implement and pass to a manager."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Generator
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from memory.compat.values import MemoryEntry, MemoryIndex, MemoryQuery, MemoryScope, MemorySearchResult, MemoryType, V

K = TypeVar("K", bound=str | UUID)


class Results(AsyncIterator[MemorySearchResult[V]]):
    """What a search finds, for ``async for``. Some old programs await the search first, and may."""

    def __init__(self, search: Callable[[], AsyncIterator[MemorySearchResult[V]]]) -> None:
        self._found = search()

    async def __anext__(self) -> MemorySearchResult[V]:
        return await anext(self._found)

    def __await__(self) -> Generator[Any, None, Results[V]]:
        return self._itself().__await__()

    async def _itself(self) -> Results[V]:
        return self


class BaseMemory(ABC, Generic[K, V]):
    """A memory as a manager uses it."""

    @abstractmethod
    async def store(
        self,
        key: K,
        value: V,
        type: MemoryType | str = MemoryType.SHORT_TERM,
        scope: MemoryScope | str = MemoryScope.SESSION,
        metadata: dict[str, Any] | None = None,
        expires_at: datetime | None = None,
        indices: set[MemoryIndex] | None = None,
    ) -> MemoryEntry[V]:
        """Remember a value under a key, in place of what is there."""

    @abstractmethod
    async def retrieve(self, key: K, type: MemoryType | str | None = None) -> MemoryEntry[V]:
        """The entry under a key. Raises KeyError when there is none."""

    @abstractmethod
    def search(self, query: MemoryQuery) -> AsyncIterator[MemorySearchResult[V]]:
        """The entries that answer a question, best first."""

    @abstractmethod
    def similar(self, key: K, limit: int = 10, min_score: float = 0.0) -> AsyncIterator[MemorySearchResult[V]]:
        """The entries that are like one, best first. Raises KeyError when there is no such entry."""

    @abstractmethod
    async def cleanup_expired(self) -> int:
        """Remove what has expired; returns how many."""


class BaseMemoryStore(BaseMemory[Any, V]):
    """A memory that is opened and closed."""

    async def start(self) -> None:
        """Make it ready; again is harmless."""

    async def stop(self) -> None:
        """Release what it holds; again is harmless."""

    @abstractmethod
    async def delete(self, key: Any) -> bool:
        """Forget an entry. False when there is none."""

    async def reindex(self, index: MemoryIndex | str = MemoryIndex.SEMANTIC) -> int:
        """Make an index anew; returns how many entries are in it: none, where there is no index."""
        return 0
