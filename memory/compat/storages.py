"""The old storages, on the backends of today."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self

from memory.compat import backends
from memory.compat.base import BaseMemoryStore, K, Results
from memory.compat.exceptions import (
    MemoryBackendError,
    MemoryBackendInvalidError,
    MemoryCleanupError,
    MemoryDeletionError,
    MemoryError,
    MemoryExistsError,
    MemoryRetrievalError,
    MemoryStorageError,
    as_old,
    raised_as,
)
from memory.compat.searching import found, like
from memory.compat.values import (
    NAIVE,
    MemoryEntry,
    MemoryIndex,
    MemoryQuery,
    MemoryScope,
    MemorySearchResult,
    MemoryType,
    V,
    entry_of,
)
from memory.errors import Closed, NotFound
from memory.manager import MemoryManager as Manager
from memory.manager.originals import plain
from memory.migration.capabilities.entries import DEFAULT_SCOPE, DEFAULT_TYPE, INDEX, tags_of, word
from memory.model import MemoryItem

if TYPE_CHECKING:
    from memory.compat.configs import CompositeStoreConfig, PostgresConfig, RedisConfig, VectorStoreConfig
    from memory.store import MemoryStore, View


class Storage(BaseMemoryStore[V], Generic[K, V]):
    """An old storage: keys are ids, types kinds, scope and indices tags; see memory.migration.capabilities.entries.

    Errors are the old ones and those of memory.errors at once. One that is not started raises RuntimeError.
    """

    store_type: ClassVar[str]
    """The old name of its kind."""

    def __init__(self, place: backends.Place) -> None:
        self._place = place
        self._manager: Manager | None = None
        self._seen: MemoryStore | View | None = None
        self._opening = asyncio.Lock()

    async def start(self) -> None:
        """Open the store; again is harmless."""
        with raised_as(MemoryBackendError, self.store_type):
            async with self._opening:
                if self._seen is not None:
                    return
                manager = await asyncio.to_thread(self._place.manager)
                await manager.open()
                self._manager, self._seen = manager, self._place.view(manager.store)

    async def stop(self) -> None:
        """Close the store; again is harmless."""
        with raised_as(MemoryBackendError, self.store_type):
            async with self._opening:
                manager, self._manager, self._seen = self._manager, None, None
                if manager is not None:
                    await manager.close()

    @property
    def started(self) -> bool:
        """Whether it is open."""
        return self._seen is not None

    def _view(self, kind: type[MemoryError]) -> MemoryStore | View:
        """The store, if it is open."""
        if self._seen is None:
            raise as_old(
                Closed(f"this {self.store_type} storage is not started: await storage.start()"), kind, self.store_type
            )
        return self._seen

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

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
        """Remember a value under a key, in place of what is there. ``expires_at`` without a zone is UTC.

        Raises MemoryStorageError, which is a ValueError for a key or value that cannot be kept.
        """
        view = self._view(MemoryStorageError)
        with raised_as(MemoryStorageError, self.store_type):
            tags = tags_of(
                word(scope, "scope", DEFAULT_SCOPE), [word(one, "indices", "semantic") for one in indices or ()]
            )
            if expires_at is not None and expires_at.utcoffset() is None:
                expires_at, tags = expires_at.replace(tzinfo=UTC), (*tags, NAIVE)
            item = MemoryItem(
                id=str(key),
                content=plain(value),
                kind=word(type, "type", DEFAULT_TYPE),
                tags=tags,
                metadata=plain(metadata or {}),
                expires_at=expires_at,
            )
            stored = await view.put(item, ttl=self._place.ttl if expires_at is None else None)
        return entry_of(stored)

    async def retrieve(self, key: K, type: MemoryType | str | None = None) -> MemoryEntry[V]:
        """The entry under a key, if it is of this type. Raises MemoryRetrievalError; a KeyError when there is none."""
        view = self._view(MemoryRetrievalError)
        with raised_as(MemoryRetrievalError, self.store_type):
            item = await view.get(str(key))
            if item is None or (type is not None and item.kind != word(type, "type", DEFAULT_TYPE)):
                raise NotFound(f"there is no entry {str(key)!r}", key=(("default",), str(key)))
        return entry_of(item)

    async def delete(self, key: Any) -> bool:
        """Forget an entry. False when there is none. Raises MemoryDeletionError."""
        view = self._view(MemoryDeletionError)
        with raised_as(MemoryDeletionError, self.store_type):
            return await view.delete(str(key))

    async def exists(self, key: Any) -> bool:
        """Whether there is an entry under a key. Raises MemoryExistsError."""
        view = self._view(MemoryExistsError)
        with raised_as(MemoryExistsError, self.store_type):
            return await view.exists(str(key))

    def search(self, query: MemoryQuery) -> Results[V]:
        """The entries that answer a question, best first, each with a score above 0, at most 1.

        Raises MemoryRetrievalError, also when more is asked for than a search ranks.
        """
        return Results(lambda: self._searched(query))

    def similar(self, key: Any, limit: int = 10, min_score: float = 0.0) -> Results[V]:
        """The entries that are like one, best first. Raises MemoryRetrievalError; a KeyError when there is no such entry."""
        return Results(lambda: self._like(str(key), limit, min_score))

    async def _searched(self, query: MemoryQuery) -> AsyncIterator[MemorySearchResult[V]]:
        view = self._view(MemoryRetrievalError)
        with raised_as(MemoryRetrievalError, self.store_type):
            results = await found(view, query)
        for item, score in results:
            yield MemorySearchResult(entry=entry_of(item), score=score)

    async def _like(self, key: str, limit: int, min_score: float) -> AsyncIterator[MemorySearchResult[V]]:
        view = self._view(MemoryRetrievalError)
        with raised_as(MemoryRetrievalError, self.store_type):
            results = await like(view, key, limit, min_score)
        for item, score in results:
            yield MemorySearchResult(entry=entry_of(item), score=score)

    async def reindex(self, index: MemoryIndex | str = MemoryIndex.SEMANTIC) -> int:
        """How many entries an index holds: those stored with it, and those stored without any.

        Indexes are kept in step with each write; of the semantic one, vectors that are owed are made.
        """
        view = self._view(MemoryBackendError)
        with raised_as(MemoryBackendError, self.store_type):
            wanted = INDEX + word(index, "index", "semantic")
            if wanted == INDEX + "semantic" and view._store.embedding is not None:
                await view._store.reembed()
            others = [{"tags": {"$contains": INDEX + one.value}} for one in MemoryIndex]
            return await view.count({"$or": [{"tags": {"$contains": wanted}}, {"$not": {"$or": others}}]})

    async def cleanup_expired(self) -> int:
        """Reclaim the space of what has expired, which nobody sees any more; returns how many entries went."""
        view = self._view(MemoryCleanupError)
        with raised_as(MemoryCleanupError, self.store_type):
            return await view._store.sweep()


class InMemoryStorage(Storage[K, V]):
    """Entries that are gone with the process, on ``in_memory``."""

    store_type = "inmemory"

    def __init__(self, config: object = None) -> None:
        super().__init__(backends.in_memory())


class RedisStorage(Storage[K, V]):
    """Entries in Redis, on ``redis``."""

    store_type = "redis"

    def __init__(self, config: RedisConfig | None = None) -> None:
        super().__init__(backends.redis(config))


class PostgresStorage(Storage[K, V]):
    """Entries in Postgres, on ``postgres``."""

    store_type = "postgres"

    def __init__(self, config: PostgresConfig | None = None) -> None:
        super().__init__(backends.postgres(config))


class VectorStorage(Storage[K, V]):
    """Entries found by their vectors, on ``faiss``."""

    store_type = "vector"

    def __init__(self, config: VectorStoreConfig | None = None) -> None:
        super().__init__(backends.vector(config))


class CompositeStorage(Storage[K, V]):
    """Entries in several storages at once, on ``composite``; the first acknowledges.

    ``config`` names a cache and a store of vectors; ``stores`` are storages, in place of what it names or after it. Raises
    MemoryBackendInvalidError when there is none at all.
    """

    store_type = "composite"

    def __init__(self, config: CompositeStoreConfig | None = None, *stores: Storage[Any, Any]) -> None:
        with raised_as(MemoryBackendInvalidError, self.store_type):
            place = backends.composite(config, [one._place for one in stores])
        super().__init__(place)
