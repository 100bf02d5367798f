"""The old factory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from memory.compat.configs import StoreType, part_of
from memory.compat.exceptions import StoreError
from memory.compat.storages import CompositeStorage, PostgresStorage, RedisStorage, Storage, VectorStorage
from memory.errors import InvalidSetting

if TYPE_CHECKING:
    from memory.compat.configs import MemoryStoreConfig

_KINDS: dict[StoreType, type[Storage[Any, Any]]] = {
    StoreType.REDIS: RedisStorage,
    StoreType.POSTGRES: PostgresStorage,
    StoreType.VECTOR: VectorStorage,
    StoreType.COMPOSITE: CompositeStorage,
}


async def create_store(config: MemoryStoreConfig) -> Storage[Any, Any]:
    """A storage of this description, started. Raises StoreError for a description that lacks its part, and what
    ``start`` raises."""
    return await made(config, lambda kind: kind)


async def made(config: MemoryStoreConfig, seen_as: Callable[[Any], Any]) -> Storage[Any, Any]:
    """What `create_store` gives; ``seen_as``: the class under which the caller knows a storage."""
    try:
        kind, part = part_of(config)
        storage: Storage[Any, Any] = seen_as(_KINDS[kind])(part)
    except InvalidSetting as error:
        raise StoreError(error.message, str(config.store_type)) from error
    await storage.start()
    return storage
