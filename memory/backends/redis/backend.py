"""``redis``: Redis or Valkey; what a store is made of, and the hooks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from memory.backends.redis import (
    feed,
    layout,
    matching,
    nearest,
    reading,
    repairing,
    scanning,
    sweeping,
    vectors,
    verifying,
    writing,
)
from memory.backends.redis.address import OPTIONS, Address, from_client, from_url
from memory.backends.redis.engine import Engine
from memory.backends.redis.entries import Fields
from memory.backends.redis.facts import Facts, read_facts, used_memory
from memory.backends.redis.faults import LostError
from memory.backends.redis.keys import Names, check_prefix, tag_of
from memory.backends.redis.servers import Servers
from memory.backends.redis.spaces import Spaces
from memory.backends.redis.tags import Tags
from memory.backends.redis.vectorcache import VectorCache
from memory.errors import BackendUnavailable, Closed
from memory.model import Key
from memory.ops import (
    Around,
    Attach,
    Count,
    Events,
    FeedRead,
    Match,
    Matched,
    Nearest,
    Page,
    Problem,
    Put,
    Read,
    Result,
    Row,
    Scan,
    Space,
    Write,
)
from memory.store import Capabilities, MemoryStore
from memory.store.options import check_counts, check_seconds
from memory.store.types import Durability, RepairReport
from memory.telemetry import get_logger

T = TypeVar("T")
_log = get_logger("redis")


class RedisStore(MemoryStore):
    """Memories in Redis 7 or Valkey, which several processes may share.

    ``url``: ``redis://user:password@host:port/database``, ``rediss://`` for TLS, ``redis+cluster://`` or
    ``rediss+cluster://`` for a cluster. ``client`` instead: a redis.asyncio.Redis or RedisCluster whose servers to use; it
    is never closed. ``prefix`` begins the name of every key. ``pool``: connections to each server; ``waiting``: requests
    that may wait for them before Overloaded; ``timeout``: seconds for any request. ``vector_cache``: megabytes of vectors to hold
    here for searches. Further options as in MemoryStore.
    """

    name = "redis"
    capabilities: ClassVar[Capabilities] = Capabilities(
        persistent=True,
        shared=True,
        atomic_batches=False,
        feed=True,
        indexes_terms=True,
        reembeds=True,
        recall=0.98,
    )
    searches_at_once: ClassVar[int] = 4
    """Scores are computed here; while one search waits for the server, another computes."""

    address_options: ClassVar[Mapping[str, Sequence[str]]] = OPTIONS
    engine_above: ClassVar[int] = 5_000
    """Up to so many vectors that scope and filter leave are looked through one by one, exactly."""

    def __init__(
        self,
        url: str = "redis://localhost:6379",
        *,
        client: Any = None,
        prefix: str = "memory",
        pool: int = 8,
        waiting: int = 10_000,
        timeout: float = 5.0,
        vector_cache: int = 128,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        check_counts(pool=pool, waiting=waiting)
        check_counts(0, vector_cache=vector_cache)
        check_seconds(timeout=timeout)
        self._address: Address = from_url(url) if client is None else from_client(client)
        self.names = Names(check_prefix(prefix))
        self._limits = {"pool": pool, "waiting": waiting, "timeout": timeout}
        self._cache_bytes = vector_cache * 1_000_000
        self.cache = VectorCache(self._cache_bytes)
        self.engine = Engine(self)
        self._servers: Servers | None = None
        self._facts = Facts()
        self.fields: Fields = {}
        """The declared fields that records are indexed by."""
        self.leads: Fields = {}
        """Those of them by which all records are indexed."""
        self.tags = Tags(self)
        self.spaces = Spaces(self)
        self.points = reading.Points(self)

    @property
    def durability(self) -> Durability:
        """What survives after an acknowledged write, as the server's configuration said at open."""
        return self._facts.durability

    @property
    def has_engine(self) -> bool:
        """Whether the server's query engine is used."""
        return self._facts.engine

    @property
    def location(self) -> str | None:
        """The address, the prefix among its options."""
        url = self._address.url
        return None if url is None else f"{url}{'&' if '?' in url else '?'}prefix={self.names.prefix.decode()}"

    @property
    def servers(self) -> Servers:
        """Where requests go. Raises Closed."""
        if self._servers is None:
            raise Closed(f"this {self.name} store is closed")
        return self._servers

    # --- lifecycle -----------------------------------------------------------------------------

    async def _open(self) -> None:
        await self._close()  # what a close that was cancelled has left
        self._servers = Servers(self._address, **self._limits)  # type: ignore[arg-type]
        self._home_loop = asyncio.get_running_loop()
        marks = self.tags.marks
        self.tags, self.spaces, self.points = Tags(self), Spaces(self), reading.Points(self)
        self.tags.marks = marks
        self.cache = VectorCache(self._cache_bytes)
        self.engine = Engine(self)
        self._space = None
        await self._reading(self._get_ready)

    async def _get_ready(self) -> None:
        await self.servers.open()
        self._facts = await read_facts(self.servers)
        seconds, micros = await self.servers.call(self.names.format, "TIME")
        self.tags.since = int(seconds) * 1_000_000 + int(micros)
        await layout.prepare(self)
        await self.spaces.refresh()

    async def learn(self) -> None:
        """See layout.learn."""
        await layout.learn(self)

    async def _close(self) -> None:
        servers = self._servers
        if servers is None:
            return
        if self._home_loop is not asyncio.get_running_loop():
            servers.abandon()
        else:
            await servers.close()
            await self.points.finish()
        self._servers = None

    async def _reading(self, call: Callable[..., Awaitable[T]], *args: Any) -> T:
        """What may be asked again: once, when a connection breaks, which may have been dead before it was used."""
        try:
            try:
                return await call(*args)
            except LostError as error:
                self.lost(error)
                if error.seconds is not None:
                    raise
                return await call(*args)
        except LostError as error:
            raise error.for_read() from None
        except BackendUnavailable:
            await self.servers.relearn()
            raise

    def lost(self, error: LostError) -> None:
        """A connection broke or did not answer."""
        _log.warning("connection lost", backend=self.name, place=error.place, seconds=error.seconds)

    def slices(self, things: Sequence[T]) -> AsyncIterator[Sequence[T]]:
        """See Slicing._slices."""
        return self._slices(things)

    # --- hooks ---------------------------------------------------------------------------------

    def _floor(self, key: Key) -> int:
        return self.tags.floor(tag_of(key[0]))

    async def _write(self, ops: Sequence[Write], atomic: bool) -> list[Result]:
        return await writing.write(self, ops)

    async def _read(self, op: Read) -> list[Row | None]:
        return await self._reading(reading.read, self, op)

    async def _scan(self, op: Scan) -> Page:
        return await self._reading(scanning.scan, self, op)

    async def _count(self, op: Count) -> int | None:
        return await self._reading(scanning.count, self, op)

    async def _namespaces(self, op: Count) -> list[tuple[str, ...]]:
        if op.where is not None:
            return await super()._namespaces(op)
        return await self._reading(scanning.namespaces, self, op)

    async def _match(self, op: Match) -> Matched:
        return await self._reading(matching.match, self, op)

    async def _nearest(self, op: Nearest) -> list[Row]:
        await self._vectors_ready()
        return await self._reading(nearest.nearest, self, op)

    async def _around(self, op: Around) -> list[tuple[list[Row], list[Row]]]:
        return await self._reading(scanning.around, self, op)

    async def _attach(self, space: Space, ops: Sequence[Attach]) -> int:
        return await self._reading(self.spaces.attach, space, ops)

    async def _unattached(self, space: Space, after: Key | None, limit: int) -> list[Row]:
        return await self._reading(vectors.unattached, self, space, after, limit)

    async def _switch(self, space: Space, without: int) -> bool:
        return await self._reading(self.spaces.switch, space, without)

    async def _feed(self, op: FeedRead) -> Events:
        return await self._reading(feed.read_feed, self, op)

    async def _sweep(self, now: int) -> int:
        return await self._reading(sweeping.sweep, self, now)

    async def _verify(self) -> tuple[int, list[Problem]]:
        return await self._reading(verifying.verify, self)

    async def _repair(self) -> RepairReport:
        return await self._reading(repairing.repair, self)

    async def _health(self) -> dict[str, Any]:
        told = self._facts.told() | await self._reading(used_memory, self.servers)
        await asyncio.sleep(0)  # the connection that brought the answer is given back
        return told | {"connections_in_use": self.servers.in_use}

    # --- for the parts -------------------------------------------------------------------------

    def maker_of(self, op: Write) -> str | None:
        """Who made the vector that a write has stored, or owes one."""
        if type(op) is not Put:
            return None
        return self._space.embedder if op.embedding is not None and self._space is not None else op.embedder

    async def twin(self, tag: bytes, key: bytes, op: Write) -> Row | None:
        """The live record that a write found to have the same content; None when it has changed since."""
        assert type(op) is Put
        (found,) = await self._reading(reading.fetch, self, tag, [key], "hbv")
        if found is None or not found.header.live(op.now) or found.header.digest != op.digest.hex().encode():
            return None
        return reading.row_of(self, found)

    async def numpy_ready(self) -> None:
        """See Slicing._vectors_ready."""
        await self._vectors_ready()

    async def walk(self, name: bytes, start: bytes, end: bytes, limit: int) -> list[bytes]:
        """See reading.walk."""
        return await reading.walk(self, name, start, end, limit)
