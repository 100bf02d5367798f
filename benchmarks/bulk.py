"""Loading an empty store: records a second with all indexes, beside the same work written by hand."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks import workload
from benchmarks.by_hand import Bare, ByHand
from benchmarks.measure import ratios
from benchmarks.session import DURABILITIES, Session

NAME = "bulk"
BATCH = 500
"""Records in a transaction of the work by hand: what the store hands to a backend at once."""


async def run(session: Session) -> None:
    options = session.options
    for backend in options.backends:
        for durability in DURABILITIES[backend]:
            ours: dict[int, list[float]] = {size: [] for size in options.records}
            hand: dict[int, list[float]] = {size: [] for size in options.records}
            bare: dict[int, list[float]] = {size: [] for size in options.records}
            for _ in range(options.rounds):
                for size in options.records:
                    ours[size].append(await _store(session, backend, size, durability))
                    if backend == "sqlite":
                        hand[size].append(await _by_hand(session, size, durability))
                        bare[size].append(_bare(session, size, durability))
            for size in options.records:
                session.add(
                    NAME, "bulk", backend, "/s", ours[size], records=size, durability=durability, floor=hand[size]
                )
                if backend == "sqlite":
                    for what, other in (("by hand", hand), ("bare command", bare)):
                        session.add(
                            NAME, f"bulk: ÷ {what}", backend, "×", ratios(ours[size], other[size]),
                            records=size, durability=durability, note=f"{what} {min(other[size]):,.0f} /s at least",
                        )  # fmt: skip
            session.add_growth(
                NAME, "bulk per record", backend, _each(ours), durability, _each(hand) if backend == "sqlite" else None
            )


def _each(rates: dict[int, list[float]]) -> dict[int, list[float]]:
    """Seconds a record."""
    return {size: [1 / rate for rate in found] for size, found in rates.items()}


async def _store(session: Session, backend: str, size: int, durability: str) -> float:
    path = session.path("bulk")
    spent = 0.0
    async with session.store(backend, path, durability) as store:
        for items in workload.batches(0, size, session.options.vectors):
            start = time.perf_counter()
            await store.put_many(items)
            spent += time.perf_counter() - start
    session.discard(path)
    return size / spent


async def _by_hand(session: Session, size: int, durability: str) -> float:
    path = session.path("hand")
    async with session.store("sqlite", path, durability):
        pass  # makes the tables
    return _timed(session, ByHand(path, durability), size, path)


def _bare(session: Session, size: int, durability: str) -> float:
    path = session.path("bare")
    return _timed(session, Bare(path, durability), size, path)


def _timed(session: Session, hand: ByHand | Bare, size: int, path: Path) -> float:
    spent = 0.0
    for items in workload.batches(0, size, session.options.vectors):
        start = time.perf_counter()
        for first in range(0, len(items), BATCH):
            hand.put_many(items[first : first + BATCH])
        spent += time.perf_counter() - start
    hand.close()
    session.discard(path)
    return size / spent
