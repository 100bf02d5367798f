"""The old configuration classes, and the backend that each names."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from urllib.parse import quote, urlencode

from memory.errors import InvalidSetting


class StoreType(StrEnum):
    """The kinds of storage that a description may name."""

    REDIS = "redis"
    POSTGRES = "postgres"
    VECTOR = "vector"
    COMPOSITE = "composite"


@dataclass(frozen=True)
class RedisConfig:
    """Where Redis is. ``ttl``: seconds that an entry lives which names no end of its own."""

    host: str = "localhost"
    port: int = 6379
    db: int = 0
    password: str | None = None
    username: str | None = None
    ssl: bool = False
    prefix: str = "memory"
    ttl: float | None = None
    ssl_ca_certs: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    ssl_cert_reqs: str | None = None

    @property
    def url(self) -> str:
        """The address, as the backend ``redis`` takes it."""
        given = {name: getattr(self, name) for name in _TLS if getattr(self, name) is not None}
        tls = f"?{urlencode(given)}" if self.ssl and given else ""
        database = f"/{self.db}" if self.db else ""
        return f"{'rediss' if self.ssl else 'redis'}://{_login(self.username, self.password)}{_host(self.host)}:{self.port}{database}{tls}"


@dataclass(frozen=True)
class PostgresConfig:
    """Where Postgres is: of both old modules of this name, whose pools had different words.

    The new tables stand beside the old one: in the same schema, their names beginning with the old table's.
    """

    host: str = "localhost"
    port: int = 5432
    database: str = "pepperpy"
    user: str = "postgres"
    password: str | None = "postgres"  # noqa: S105 - what the old system took when nobody said
    min_size: int = 1
    max_size: int = 10
    schema: str = "public"
    table: str = "memory"
    ttl: float | None = None
    min_connections: int | None = None
    max_connections: int | None = None

    @property
    def url(self) -> str:
        """The address, as the backend ``postgres`` takes it."""
        return f"postgresql://{_login(self.user, self.password)}{_host(self.host)}:{self.port}/{quote(self.database, safe='')}"

    @property
    def pool(self) -> int:
        """The greatest number of connections."""
        return self.max_size if self.max_connections is None else self.max_connections


@dataclass(frozen=True)
class VectorStoreConfig:
    """Where vectors are kept, and the sentence-transformers model that makes them, unless MEMORY_EMBEDDER names another."""

    model: str = "all-MiniLM-L6-v2"
    storage_path: str | None = None
    model_name: str | None = None
    """Another word for ``model``."""
    ttl: float | None = None

    @property
    def folder(self) -> str:
        """The folder of the storage."""
        return self.storage_path or "data/vector_store"

    @property
    def embedder(self) -> str:
        """The model, as an embedder is named."""
        return f"sentence-transformers:{self.model_name or self.model}"


@dataclass(frozen=True)
class CompositeStoreConfig:
    """A storage made of a cache and a store of vectors."""

    store_type: StoreType | str = StoreType.COMPOSITE
    cache_store: MemoryStoreConfig | None = None
    vector_store: VectorStoreConfig | None = None


@dataclass(frozen=True)
class MemoryStoreConfig:
    """What the factory makes a storage of: its kind, and the part that goes with it."""

    store_type: StoreType | str = StoreType.REDIS
    redis_config: RedisConfig | None = None
    postgres_config: PostgresConfig | None = None
    vector_config: VectorStoreConfig | None = None
    composite_config: CompositeStoreConfig | None = None


_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")


def _login(user: str | None, password: str | None) -> str:
    secret = f":{quote(password, safe='')}" if password else ""
    return f"{quote(user or '', safe='')}{secret}@" if user or password else ""


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def fields(config: Any, kind: type[Any]) -> Any:
    """A configuration as ours: itself, or an object of another make with the same attributes (an old class that was kept)."""
    if isinstance(config, kind):
        return config
    names = kind.__dataclass_fields__
    return kind(**{name: getattr(config, name) for name in names if getattr(config, name, None) is not None})


def part_of(config: Any) -> tuple[StoreType, Any]:
    """The kind that a MemoryStoreConfig names, and the part that goes with it. Raises InvalidSetting."""
    try:
        kind = StoreType(config.store_type)
    except ValueError:
        known = ", ".join(one.value for one in StoreType)
        raise InvalidSetting(
            f"there is no storage {config.store_type!r}; there are: {known}", setting="store_type"
        ) from None
    name = f"{kind.value}_config"
    part = getattr(config, name, None)
    if part is None:
        raise InvalidSetting(f"a storage of the kind {kind.value} needs {name}", setting=name)
    return kind, part
