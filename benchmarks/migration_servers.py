"""The ends of migrations that live on servers which the run starts: Redis and Postgres."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from benchmarks import workload
from benchmarks.session import Session, left_out
from memory import MemoryItem, MemoryStore
from memory.codec import decode
from memory.ops import Row
from memory.testing.making import name_of
from memory.testing.services import ServiceMissing

MOST = 10_000
"""Items."""
PAGE = 500
Write = Callable[[list[MemoryItem]], Awaitable[None]]


class Served:
    """An end on a server: each store under a prefix, or in a schema, of its own."""

    durability: str

    def __init__(self, session: Session, name: str) -> None:
        self.session, self.name = session, name
        self.url = session.server(name).url

    async def filled(self, size: int) -> MemoryStore:
        """A store that holds the workload."""
        return await self.session.filled(self.name, size)

    @asynccontextmanager
    async def empty(self) -> AsyncIterator[MemoryStore]:
        """A new store."""
        async with self.session.store(self.name, self.session.path("moved")) as store:
            yield store


class OnRedis(Served):
    durability = "process"

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[Write]:
        """What writes by hand into a new place, which knows its namespaces and vectors already."""
        from benchmarks.redis_by_hand import ByHand

        store: Any = self.session.store(self.name, self.session.path("hand"))
        async with store:
            known = workload.records(0, workload.NAMESPACES)
            await store.put_many([*known, msgspec.structs.replace(known[0], namespace=("default",))])
            hand = ByHand(store, self.url)
            await hand.open()
            yield hand.put_many
            await hand.close()

    async def read(self, held: Any) -> AsyncIterator[list[MemoryItem]]:
        """Everything by hand, by known keys in order."""
        from redis.asyncio import Redis

        from memory.backends.redis.keys import tag_of
        from memory.keys import encode_key

        alone = await held.namespaces()  # of a workload without namespaces
        keys = [(alone[0] if len(alone) == 1 else path, id) for path, id in workload.keys(await held.count())]
        keys.sort(key=encode_key)
        async with Redis.from_url(self.url) as client:
            for start in range(0, len(keys), PAGE):
                pipeline = client.pipeline(transaction=False)
                for key in keys[start : start + PAGE]:
                    pipeline.hgetall(held.names.record(tag_of(key[0]), encode_key(key)))
                yield [_item(stored[b"b"], stored.get(b"v0001")) for stored in await pipeline.execute()]


class OnPostgres(Served):
    durability = "power"

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[Write]:
        """What writes by hand into the tables of a new store."""
        from benchmarks.postgres_by_hand import ByHand

        place = self.session.path("hand")
        async with self.session.store(self.name, place):
            hand = await ByHand.open(self.url, name_of(place))
            yield hand.put_many
            await hand.close()

    async def read(self, held: Any) -> AsyncIterator[list[MemoryItem]]:
        """Everything by hand, by a cursor in key order."""
        import asyncpg

        connection = await asyncpg.connect(self.url, server_settings={"jit": "off"})
        async with connection.transaction():
            asked = held.names.fill(
                "SELECT r.body, x.raw FROM $records r LEFT JOIN $vectors x ON x.key = r.key AND x.space = 1 ORDER BY r.key"
            )
            cursor = await connection.cursor(asked)
            while rows := await cursor.fetch(PAGE):
                yield [_item(body, raw) for body, raw in rows]
        await connection.close()


def _item(body: bytes, vector: bytes | None) -> MemoryItem:
    return decode(Row(body=body, version=1, created=0, updated=0, accessed=0, embedding=vector))


def servers(session: Session) -> dict[str, Served]:
    """The ends there are; one whose server is missing is left out, and said so."""
    found: dict[str, Served] = {}
    for name, kind in (("redis", OnRedis), ("postgres", OnPostgres)):
        try:
            found[name] = kind(session, name)
        except ServiceMissing as missing:
            left_out(name, missing)
    return found
