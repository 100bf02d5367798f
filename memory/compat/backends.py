"""Which store an old storage works on: what its configuration names, or one that `install` names for all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory.compat.configs import (
    CompositeStoreConfig,
    PostgresConfig,
    RedisConfig,
    StoreType,
    VectorStoreConfig,
    fields,
    part_of,
)
from memory.errors import InvalidSetting
from memory.manager import MemoryManager
from memory.registry import create_store

if TYPE_CHECKING:
    from memory.store import MemoryStore, View

instead: str | None = None
"""The backend of all old storages, by name or URL, in place of what they are configured for."""
MIRRORED = "memory.backends.composite:MirroredStore"
"""What an old composite is: one store acknowledges, the others follow it."""


class Place:
    """A store that is not made yet: a backend and its options.

    ``name``: the namespace of its entries where all old storages share one store. ``ttl``: seconds that an entry lives which
    names no end. ``model``: the embedder that its configuration names. ``parts`` makes a composite, given its embedder.
    """

    def __init__(
        self,
        spec: str,
        name: tuple[str, ...],
        *,
        ttl: float | None = None,
        model: str | None = None,
        parts: Callable[[str | None], MemoryStore] | None = None,
        **options: Any,
    ) -> None:
        self.name, self.ttl, self.model = name, ttl, model
        self._spec, self._options, self._parts = spec, options, parts

    def manager(self) -> MemoryManager:
        """A manager of the store, which is made here: reads files, so it is called in a thread."""
        if instead is not None:
            return MemoryManager(instead)
        given: dict[str, Any] = {} if self.model is None or _says_embedder() else {"embedder": self.model}
        if self._parts is not None:
            return MemoryManager(self._parts(_embedder(given)))
        self._make_room()
        return MemoryManager(self._spec, **self._options, **given)

    def part(self) -> MemoryStore:
        """The store as a part of a composite, which makes the vectors itself."""
        if self._parts is not None:
            raise InvalidSetting("a composite storage cannot be a part of another", setting="stores")
        self._make_room()
        return create_store(self._spec, embedder=None, **self._options)

    def _make_room(self) -> None:
        """Make the folder of a file, as the old system did."""
        path = self._options.get("path")
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)

    def view(self, store: MemoryStore) -> MemoryStore | View:
        """What of the store is this storage's own."""
        return store if instead is None else store.scoped(self.name)


def in_memory() -> Place:
    """Gone with the process."""
    return Place("in_memory", ("inmemory",))


def redis(config: Any = None) -> Place:
    """Redis, as configured."""
    config = RedisConfig() if config is None else fields(config, RedisConfig)
    return Place(config.url, ("redis", config.prefix), ttl=config.ttl, prefix=config.prefix)


def postgres(config: Any = None) -> Place:
    """Postgres, as configured."""
    config = PostgresConfig() if config is None else fields(config, PostgresConfig)
    own = {"schema": config.schema, "prefix": f"{config.table}_", "pool": config.pool}
    return Place(config.url, ("postgres", config.schema, config.table), ttl=config.ttl, **own)


def vector(config: Any = None) -> Place:
    """FAISS, in the old folder."""
    config = VectorStoreConfig() if config is None else fields(config, VectorStoreConfig)
    path = Path(config.folder) / "memory.db"
    return Place("faiss", ("vector", config.folder), ttl=config.ttl, model=config.embedder, path=path)


def composite(config: Any = None, more: Sequence[Place] = ()) -> Place:
    """Several of these: the first acknowledges, the others follow it."""
    config = CompositeStoreConfig() if config is None else config
    parts = []
    if config.cache_store is not None:
        parts.append(of_description(config.cache_store))
    if config.vector_store is not None:
        parts.append(vector(config.vector_store))
    parts += more
    if not parts:
        raise InvalidSetting("a composite needs a cache_store, a vector_store or a storage", setting="config")
    model = next((part.model for part in parts if part.model is not None), None)

    def made(embedder: str | None) -> MemoryStore:
        stores = [part.part() for part in parts]
        mirrors = {f"store{number}": store for number, store in enumerate(stores[1:], 1)}
        by_vector = next((name for name, part in zip(mirrors, parts[1:], strict=True) if part.model is not None), None)
        return create_store(MIRRORED, primary=stores[0], mirrors=mirrors, vectors=by_vector, embedder=embedder)

    if len(parts) == 1:
        return parts[0]
    return Place("composite", ("composite",), ttl=parts[0].ttl, model=model, parts=made)


def of_description(config: Any) -> Place:
    """What a MemoryStoreConfig describes. Raises InvalidSetting when its part is missing."""
    kind, part = part_of(config)
    makers: dict[StoreType, Callable[[Any], Place]] = {
        StoreType.REDIS: redis,
        StoreType.POSTGRES: postgres,
        StoreType.VECTOR: vector,
        StoreType.COMPOSITE: composite,
    }
    return makers[kind](part)


def _says_embedder() -> bool:
    """Whether the settings name an embedder, which then wins over the old configuration's model."""
    from memory.settings import Settings

    return "embedder" in Settings()._origins


def _embedder(given: dict[str, Any]) -> Any:
    """The embedder of a composite, which no settings are read for."""
    from memory.settings import Settings, embedder_from

    return given.get("embedder") or embedder_from(Settings())
