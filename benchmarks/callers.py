"""64 callers at once: nine gets to a put, all at random keys; and the same mix by hand, without callers: a plain loop that
commits the puts of 64 operations together.
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

from benchmarks import workload
from benchmarks.by_hand import ByHand
from benchmarks.measure import ratios
from benchmarks.session import DURABILITIES, Session
from memory import MemoryItem, MemoryStore

NAME = "callers"
CALLERS = 64


async def run(session: Session) -> None:
    options = session.options
    for backend in options.backends:
        for durability in DURABILITIES[backend]:
            items = workload.records(0, min((1_000, *options.records)), options.vectors)
            written = (workload.rewritten(items), items)
            hands = {}
            if backend == "sqlite":
                hands = {size: ByHand(await session.file(size), durability) for size in options.records}
            stores = {size: await session.filled(backend, size, durability) for size in options.records}
            for puts, what in ((1, "64 callers, 90/10 get/put"), (0, "64 callers, get"), (10, "64 callers, put")):
                if not puts and durability == "normal":
                    continue  # reads are the same whatever the durability of writes
                rates: dict[int, list[float]] = {size: [] for size in stores}
                by_hand: dict[int, list[float]] = {size: [] for size in stores}
                for number in range(options.rounds + 1):
                    for size, store in stores.items():
                        calls = options.calls * (2 if puts == 10 else 10)
                        rates[size].append(await _rate(store, size, written[number % 2], puts, calls, number))
                        if hands:
                            by_hand[size].append(_by_hand(hands[size], size, written[number % 2], puts, calls, number))
                for size, found in rates.items():
                    tell: dict[str, Any] = {"records": size, "durability": durability if puts else ""}
                    floor = by_hand[size][1:]
                    session.add(NAME, what, backend, "/s", found[1:], floor=floor, **tell)
                    if floor:
                        session.add(NAME, f"{what}: ÷ by hand", backend, "×", ratios(found[1:], floor), **tell)
                        session.add(NAME, f"{what}: by hand", backend, "/s", floor, **tell)
            for hand in hands.values():
                hand.close()


async def _rate(store: MemoryStore, size: int, fresh: list[MemoryItem], puts: int, calls: int, seed: int) -> float:
    """Operations a second, ``puts`` of ten of them puts."""
    share, keys = -(-calls // CALLERS), workload.keys(size)

    async def caller(number: int) -> None:
        rng = random.Random(seed * CALLERS + number)
        for _ in range(share):
            if rng.randrange(10) < puts:
                await store.put(fresh[rng.randrange(len(fresh))])
            else:
                path, id = keys[rng.randrange(size)]
                await store.get(id, namespace=path)

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(CALLERS):
            group.create_task(caller(number))
    return share * CALLERS / (time.perf_counter() - start)


def _by_hand(hand: ByHand, size: int, fresh: list[MemoryItem], puts: int, calls: int, seed: int) -> float:
    """Operations a second of the same mix, one after the other on one connection."""
    rounds, keys = -(-calls // CALLERS), workload.keys(size)
    rng = random.Random(seed)
    start = time.perf_counter()
    for _ in range(rounds):
        written = []
        for _ in range(CALLERS):
            if rng.randrange(10) < puts:
                written.append(fresh[rng.randrange(len(fresh))])
            else:
                hand.get(keys[rng.randrange(size)])
        if written:
            hand.put_each(written)
    return rounds * CALLERS / (time.perf_counter() - start)
