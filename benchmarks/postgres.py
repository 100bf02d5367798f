"""Postgres beside the same work written by hand, by turns: get, put, bulk, and 64 callers at once; and how it grows.

Starts its own server, with pgvector.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import asyncpg

from benchmarks import serving, workload
from benchmarks.growing import growing
from benchmarks.measure import ratios
from benchmarks.postgres_by_hand import ByHand, Pooled
from benchmarks.session import Session, fill, left_out
from memory import MemoryItem, MemoryStore
from memory.backends.postgres import PostgresStore
from memory.backends.postgres.nearest import INDEXED_FROM
from memory.model import Key
from memory.testing.services import ServiceMissing

NAME = "postgres"
POOL = 10
"""Connections of the store, and of the 64 callers by hand."""


async def run(session: Session) -> None:
    options = session.options
    size = min(options.records)
    try:
        url = session.server(NAME).url
    except ServiceMissing as missing:
        left_out(NAME, missing)
        return
    async with PostgresStore(url, schema="bench", pool=POOL, sweep_interval=None) as store:
        await fill(store, size, vectors=True)
        async with AsyncExitStack() as stack:
            hands = [await ByHand.open(url, "bench") for _ in range(POOL)]
            for hand in hands:
                stack.push_async_callback(hand.close)
            await serving.points(session, NAME, store, hands[0], size)
            pooled = await Pooled.open(url, "bench", POOL)
            stack.push_async_callback(pooled.close)
            besides = {"connections lent by hand": Lent(hands)}
            await serving.callers(session, NAME, store, pooled, size, together=hands, besides=besides)
    await _bulk(session, url, 100 if options.quick else 5_000)
    stores = {size: await session.filled(NAME, size, pool=POOL) for size in options.records}
    for filled in stores.values():
        await _indexed(filled)
    await growing(session, NAME, NAME, stores)


async def _indexed(store: MemoryStore) -> None:
    """Wait for the index over the vectors, which the store builds a moment after the last of them."""
    assert isinstance(store, PostgresStore)
    index = store._in_session().index
    while not await index.build():
        row, _ = await index.look()
        if row["vectors"] < INDEXED_FROM:
            return  # so few are compared one by one
        await asyncio.sleep(0.1)  # it is being built


class Lent:
    """By hand for many callers, without asyncpg's pool: so many connections, each lent to one caller at a time."""

    def __init__(self, hands: Sequence[ByHand]) -> None:
        self._idle: asyncio.Queue[ByHand] = asyncio.Queue()
        for hand in hands:
            self._idle.put_nowait(hand)

    async def get(self, key: Key) -> Any:
        hand = await self._idle.get()
        try:
            return await hand.get(key)
        finally:
            self._idle.put_nowait(hand)

    async def put(self, item: MemoryItem) -> None:
        hand = await self._idle.get()
        try:
            await hand.put(item)
        finally:
            self._idle.put_nowait(hand)


async def _bulk(session: Session, url: str, count: int) -> None:
    """Into empty tables; by hand COPY first and the same indexes after it."""
    batches = list(workload.batches(0, count, vectors=True, size=500))
    ours: list[float] = []
    theirs: list[float] = []
    for number in range(session.options.rounds):
        for mine in (True, False) if number % 2 else (False, True):
            async with PostgresStore(url, schema="bulk", pool=POOL, sweep_interval=None) as store:
                hand = await ByHand.open(url, "bulk")
                try:
                    began = time.perf_counter()
                    if mine:
                        for items in batches:
                            await store.put_many(items)
                    else:
                        await hand.bulk(batches)
                    (ours if mine else theirs).append(count / (time.perf_counter() - began))
                finally:
                    await hand.close()
            connection = await asyncpg.connect(url)
            await connection.execute("DROP SCHEMA bulk CASCADE")
            await connection.close()
    tell: dict[str, Any] = {"records": count, "durability": "power"}
    session.add(NAME, "bulk", "postgres", "/s", ours, floor=theirs, **tell)
    session.add(NAME, "bulk: ÷ by hand", "postgres", "×", ratios(ours, theirs), **tell)
