"""Every name of the old `capabilities.memory`, working on the stores of this library.

- A program is moved by `python -m memory.compat rewrite`, which turns its old imports into imports from here.
- A program that is not moved yet calls ``install()`` first, and its old imports work as they stand; every use of them
  warns with DeprecationWarning. `memory.compat.in_place` is for old trees that keep their files.
- What entries become is told in memory.migration.capabilities.entries; old data is brought in by `memory import-legacy`.

- ``base``, ``values``, ``configs``, ``exceptions``: interfaces, entries, configurations, errors.
- ``storages`` on ``backends``, with ``searching``; ``manager``; ``factory``.
- ``names``: old modules and what each held. ``installing``, ``deprecation``: the old import paths. ``rewriting``: the command.
"""

from __future__ import annotations

from memory.compat.base import BaseMemory, BaseMemoryStore
from memory.compat.configs import (
    CompositeStoreConfig,
    MemoryStoreConfig,
    PostgresConfig,
    RedisConfig,
    StoreType,
    VectorStoreConfig,
)
from memory.compat.exceptions import (
    MemoryBackendAlreadyExistsError,
    MemoryBackendError,
    MemoryBackendInvalidError,
    MemoryBackendNotFoundError,
    MemoryCleanupError,
    MemoryDeletionError,
    MemoryError,
    MemoryExistsError,
    MemoryRetrievalError,
    MemoryStorageError,
    StoreError,
)
from memory.compat.factory import create_store
from memory.compat.installing import install, uninstall
from memory.compat.manager import MemoryManager
from memory.compat.storages import CompositeStorage, InMemoryStorage, PostgresStorage, RedisStorage, VectorStorage
from memory.compat.values import (
    MemoryEntry,
    MemoryIndex,
    MemoryQuery,
    MemoryResult,
    MemoryScope,
    MemorySearchResult,
    MemoryType,
)

__all__ = [
    "BaseMemory",
    "BaseMemoryStore",
    "CompositeStorage",
    "CompositeStoreConfig",
    "InMemoryStorage",
    "MemoryBackendAlreadyExistsError",
    "MemoryBackendError",
    "MemoryBackendInvalidError",
    "MemoryBackendNotFoundError",
    "MemoryCleanupError",
    "MemoryDeletionError",
    "MemoryEntry",
    "MemoryError",
    "MemoryExistsError",
    "MemoryIndex",
    "MemoryManager",
    "MemoryQuery",
    "MemoryResult",
    "MemoryRetrievalError",
    "MemoryScope",
    "MemorySearchResult",
    "MemoryStorageError",
    "MemoryStoreConfig",
    "MemoryType",
    "PostgresConfig",
    "PostgresStorage",
    "RedisConfig",
    "RedisStorage",
    "StoreError",
    "StoreType",
    "VectorStorage",
    "VectorStoreConfig",
    "create_store",
    "install",
    "uninstall",
]
