"""The old modules and their names, and what new code writes instead. Imports nothing: the rewriting command needs no store."""

from __future__ import annotations

ROOTS = ("capabilities.memory", "pepperpy.capabilities.memory")
"""The old packages."""
NEW = "memory.compat"
"""Where all the names are now."""

_ERRORS = (
    *("MemoryError", "MemoryBackendError", "MemoryStorageError", "MemoryRetrievalError", "MemoryDeletionError"),
    *("MemoryExistsError", "MemoryCleanupError", "MemoryBackendNotFoundError", "MemoryBackendAlreadyExistsError"),
    "MemoryBackendInvalidError",
)
_VALUES = (
    "MemoryScope",
    "MemoryType",
    "MemoryIndex",
    "MemoryQuery",
    "MemoryEntry",
    "MemorySearchResult",
    "MemoryResult",
)
_BASES = ("BaseMemory", "BaseMemoryStore")
_STORAGES = ("PostgresStorage", "RedisStorage", "VectorStorage", "InMemoryStorage", "CompositeStorage")
_CONFIGS = ("RedisConfig", "PostgresConfig", "VectorStoreConfig", "CompositeStoreConfig", "MemoryStoreConfig")

MODULES: dict[str, tuple[str, ...]] = {
    "base": (*_VALUES, *_BASES),
    "manager": ("MemoryManager",),
    "factory": ("create_store", "StoreError"),
    "exceptions": _ERRORS,
    "config": ("StoreType", *_CONFIGS),
    "storage": (*_STORAGES, "PostgresConfig"),
    "storage.config": ("PostgresConfig",),
    "storage.postgres": ("PostgresStorage",),
    "storage.redis": ("RedisStorage",),
    "storage.vector": ("VectorStorage",),
    "storage.inmemory": ("InMemoryStorage",),
    "storage.composite": ("CompositeStorage",),
}
"""Below an old package: module -> its names. The package itself has all of them."""
NAMES = tuple(dict.fromkeys(name for names in MODULES.values() for name in names))
"""All the names, each once."""

ADVICE: dict[str, str] = {
    "PostgresStorage": 'MemoryManager("postgresql://user@host/database")',
    "RedisStorage": 'MemoryManager("redis://host:6379")',
    "VectorStorage": 'MemoryManager("faiss", embedder="sentence-transformers:all-MiniLM-L6-v2")',
    "InMemoryStorage": 'MemoryManager("in_memory")',
    "CompositeStorage": 'MemoryManager("composite")',
    "MemoryManager": "one memory.MemoryManager, with ttl= for what is kept for a short term",
    "create_store": "memory.create_store(name or URL)",
    "RedisConfig": "the address redis://host:6379, or MEMORY_REDIS_URL",
    "PostgresConfig": "the address postgresql://user@host/database, or MEMORY_POSTGRES_DSN",
    "VectorStoreConfig": "path= and embedder=, or MEMORY_PATH and MEMORY_EMBEDDER",
    "CompositeStoreConfig": "the options of the backend composite",
    "MemoryStoreConfig": "a backend's name or URL, or MEMORY_BACKEND_TYPE",
}
"""Class or function -> what new code makes instead."""
METHODS: dict[str, str] = {
    "start": "await memory.open(), or async with",
    "stop": "await memory.close(), or async with",
    "store": "await memory.store.put(MemoryItem(id=key, content=value, kind=type), ttl=seconds)",
    "retrieve": "await memory.get(key), which is None when there is none",
    "delete": "await memory.delete(key)",
    "exists": "await memory.store.exists(key)",
    "search": "await memory.search(query, where=filter, limit=n)",
    "similar": 'await memory.search(vector=item.embedding, mode="vector", limit=n)',
    "reindex": "await memory.store.reembed() for vectors; other indexes are always in step",
    "cleanup_expired": "await memory.store.sweep(), which runs by itself every sweep_interval",
}
"""Method of an old storage or manager -> what new code calls instead."""


def split(module: str) -> tuple[str, str] | None:
    """An old package and the module below it ("" for the package itself); None for a module that is none of these."""
    for root in ROOTS:
        if module == root:
            return root, ""
        if module.startswith(root + "."):
            below = module.removeprefix(root + ".")
            return (root, below) if below in MODULES else None
    return None


def names_of(below: str) -> tuple[str, ...]:
    """The names of an old module, by its name below the package."""
    return MODULES[below] if below else NAMES
