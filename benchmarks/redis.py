"""Redis beside the same work written by hand, by turns: get, put, bulk, and 64 callers at once. Starts its own server."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks import workload
from benchmarks.measure import Side, p50, ratios, timed, turns
from benchmarks.redis_by_hand import ByHand
from benchmarks.session import Session
from memory import MemoryStore
from memory.backends.redis import RedisStore
from memory.testing.services import ServiceMissing, redis

NAME = "redis"
CALLERS = 64
TOGETHER = 16
"""Records of one call in a pipeline by hand: about as many as the store takes."""


async def run(session: Session) -> None:
    options = session.options
    size = min(options.records)
    try:
        with redis() as server:
            store = RedisStore(server.url, prefix="bench", index=workload.INDEXED, sweep_interval=None)
            async with store:
                for items in workload.batches(0, size, options.vectors):
                    await store.put_many(items)
                hand = ByHand(store, server.url)
                await hand.open()
                try:
                    await _points(session, store, hand, size)
                    await _bulk(session, store, hand, size)
                    await _callers(session, store, hand, size)
                finally:
                    await hand.close()
    except ServiceMissing:
        return  # the report has no rows of it


async def _points(session: Session, store: MemoryStore, hand: ByHand, size: int) -> None:
    options = session.options
    items = workload.records(0, min(size, options.calls), options.vectors)
    written = workload.rewritten(items) + items
    for item in items:
        await hand.bare_put(item)
    keys = workload.keys(size)
    known = [item.key for item in items]

    async def get(i: int) -> None:
        assert await store.get(keys[i][1], namespace=keys[i][0]) is not None

    for what, ours, by_hand, bare, most in (
        ("get", get, lambda i: hand.get(keys[i]), lambda i: hand.bare_get(known[i % len(known)]), size),
        ("put", lambda i: store.put(written[i]), lambda i: hand.put(written[i]), lambda i: hand.bare_put(written[i]), len(written)),
    ):  # fmt: skip
        sides = [_side(call, most) for call in (ours, by_hand, bare)]
        spent = [p50(rounds) for rounds in await turns(sides, options.rounds, options.calls)]
        tell: dict[str, Any] = {"records": size, "durability": store.durability if what == "put" else ""}
        session.add(NAME, f"{what} p50", "redis", "µs", spent[0], floor=spent[1], **tell)
        session.add(NAME, f"{what}: ÷ by hand", "redis", "×", ratios(spent[0], spent[1]), **tell)
        session.add(NAME, f"{what}: by hand", "redis", "µs", spent[1], **tell)
        session.add(NAME, f"{what}: bare command", "redis", "µs", spent[2], **tell)


def _side(call: Callable[[int], Awaitable[Any]], most: int) -> Side:
    rng = random.Random(most)

    async def side(count: int) -> list[float]:
        return await timed(call, [rng.randrange(most) for _ in range(count)])

    return side


async def _bulk(session: Session, store: MemoryStore, hand: ByHand, size: int) -> None:
    """New records, 500 at a time; by hand in one pipeline."""
    options, start = session.options, size
    ours: list[float] = []
    theirs: list[float] = []
    count = 500 if options.quick else 2_000
    for number in range(options.rounds + 1):
        for mine in (True, False) if number % 2 else (False, True):
            items = workload.records(start, start + count, options.vectors)
            start += count
            began = time.perf_counter()
            for at in range(0, count, 500):
                if mine:
                    await store.put_many(items[at : at + 500])
                else:
                    await hand.put_many(items[at : at + 500], TOGETHER)
            (ours if mine else theirs).append(count / (time.perf_counter() - began))
    tell: dict[str, Any] = {"records": size, "durability": store.durability}
    session.add(NAME, "bulk", "redis", "/s", ours[1:], floor=theirs[1:], **tell)
    session.add(NAME, "bulk: ÷ by hand", "redis", "×", ratios(ours[1:], theirs[1:]), **tell)


async def _callers(session: Session, store: MemoryStore, hand: ByHand, size: int) -> None:
    """64 callers at once, beside 64 callers of the driver, each with a connection of its own."""
    options = session.options
    items = workload.records(0, min(size, 1_000), options.vectors)
    written = workload.rewritten(items) + items
    keys = workload.keys(size)

    async def get(i: int) -> None:
        await store.get(keys[i % size][1], namespace=keys[i % size][0])

    for what, ours, by_hand in (
        ("get", get, lambda i: hand.get(keys[i % size])),
        ("put", lambda i: store.put(written[i % len(written)]), lambda i: hand.put(written[i % len(written)])),
    ):
        rates: tuple[list[float], list[float]] = ([], [])
        for number in range(options.rounds + 1):
            for side in (0, 1) if number % 2 else (1, 0):
                rates[side].append(await _rate((ours, by_hand)[side], options.calls * 4, number))
        tell: dict[str, Any] = {"records": size, "durability": store.durability if what == "put" else ""}
        session.add(NAME, f"64 callers, {what}", "redis", "/s", rates[0][1:], floor=rates[1][1:], **tell)
        session.add(
            NAME, f"64 callers, {what}: ÷ uncoalesced", "redis", "×", ratios(rates[0][1:], rates[1][1:]), **tell
        )


async def _rate(call: Callable[[int], Awaitable[Any]], calls: int, seed: int) -> float:
    rng = random.Random(seed)
    numbers = iter([rng.randrange(1_000_000) for _ in range(calls)])

    async def caller() -> None:
        for number in numbers:
            await call(number)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller())
    return calls / (time.perf_counter() - began)
