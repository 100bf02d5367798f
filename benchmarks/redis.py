"""Redis beside the same work written by hand, by turns: get, put, bulk, and 64 callers at once; and how it grows.

Starts its own servers. Growth and recall are measured of the core alone and with the query engine.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks import serving, workload
from benchmarks.growing import growing
from benchmarks.measure import ratios
from benchmarks.redis_by_hand import ByHand
from benchmarks.session import Session, fill, left_out
from memory import MemoryStore
from memory.backends.redis import RedisStore
from memory.testing.services import ServiceMissing

NAME = "redis"
CACHE = 512
"""Megabytes of vectors that a store may hold: enough for all of 100,000."""


async def run(session: Session) -> None:
    for backend in ("redis", "redis_stack"):
        try:
            server = session.server(backend)
        except ServiceMissing as missing:
            left_out(backend, missing)
            continue
        if backend == "redis":
            await _by_hand(session, server.url)
        sizes = session.options.records
        stores = {size: await session.filled(backend, size, vector_cache=CACHE) for size in sizes}
        await growing(session, NAME, backend, stores)


async def _by_hand(session: Session, url: str) -> None:
    options = session.options
    size = min(options.records)
    async with RedisStore(url, prefix="bench", index=workload.INDEXED, sweep_interval=None) as store:
        await fill(store, size, options.vectors)
        hand = ByHand(store, url)
        await hand.open()
        try:
            for item in workload.records(0, min(size, options.calls), options.vectors):
                await hand.bare_put(item)
            await serving.points(session, NAME, store, hand, size, Bare(hand))
            await _bulk(session, store, hand, size)
            await serving.callers(session, NAME, store, hand, size, together=[hand] * serving.LANES)
        finally:
            await hand.close()


class Bare:
    """The least that stores a record: one hash of two fields."""

    def __init__(self, hand: ByHand) -> None:
        self.get, self.put = hand.bare_get, hand.bare_put


async def _bulk(session: Session, store: MemoryStore, hand: ByHand, size: int) -> None:
    """New records, 500 at a time; by hand in one pipeline."""
    options, start = session.options, size
    ours: list[float] = []
    theirs: list[float] = []
    count = 100 if options.quick else 2_000
    for number in range(options.rounds + 1):
        for mine in (True, False) if number % 2 else (False, True):
            items = workload.records(start, start + count, options.vectors)
            start += count
            began = time.perf_counter()
            for at in range(0, count, 500):
                if mine:
                    await store.put_many(items[at : at + 500])
                else:
                    await hand.put_many(items[at : at + 500])
            (ours if mine else theirs).append(count / (time.perf_counter() - began))
    tell: dict[str, Any] = {"records": size, "durability": store.durability}
    session.add(NAME, "bulk", "redis", "/s", ours[1:], floor=theirs[1:], **tell)
    session.add(NAME, "bulk: ÷ by hand", "redis", "×", ratios(ours[1:], theirs[1:]), **tell)
