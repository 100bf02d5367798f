"""Migrations between every two backends: items a second, beside a raw read plus a raw bulk write."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from itertools import product
from pathlib import Path

import apsw

from benchmarks.by_hand import ByHand
from benchmarks.measure import ratios
from benchmarks.session import Session
from memory import MemoryItem, MemoryStore
from memory.backends.sqlite.records import FULL_SQL, to_row
from memory.codec import decode
from memory.migration import migrate
from memory.ops import Position, Scan

NAME = "migration"
BATCH = 500
DURABILITY = {"in_memory": "none", "sqlite": "normal"}


async def run(session: Session) -> None:
    options = session.options
    for source, target in product(options.backends, options.backends):
        pair, durability = f"{source} -> {target}", DURABILITY[target]
        for size in options.records:
            whole: list[float] = []
            moving: list[float] = []
            hand: list[float] = []
            for _ in range(options.rounds):
                everything, moved = await _migrated(session, source, target, size)
                whole.append(size / everything)
                moving.append(size / moved)
                hand.append(size / await _by_hand(session, source, target, size))
            told = {"records": size, "durability": durability}
            session.add(NAME, "migrate", pair, "/s", whole, **told, floor=hand, note="planned, moved, all compared")
            session.add(NAME, "migrate: moving alone", pair, "/s", moving, **told, floor=hand)
            session.add(
                NAME, "moving alone ÷ raw read and raw bulk write", pair, "×", ratios(moving, hand), **told,
                note=f"raw {min(hand):,.0f} /s at least",
            )  # fmt: skip


async def _migrated(session: Session, source: str, target: str, size: int) -> tuple[float, float]:
    """Seconds of a whole migration, and of its moving alone."""
    path, state = session.path("moved"), session.path("journal")
    planned: list[float] = []

    def tell(phase: str, done: int, total: int | None) -> None:
        if phase == "planning":
            planned[:] = [time.perf_counter()]
        elif phase == "moving":
            planned[1:] = [time.perf_counter()]

    held = await session.filled(source, size, "normal")
    async with session.store(target, path, DURABILITY[target]) as store:
        start = time.perf_counter()
        report = await migrate(held, store, state=state, progress=tell)
        spent = time.perf_counter() - start
    assert report.ok, report
    assert report.created == size
    session.discard(path)
    session.discard(state)
    return spent, planned[1] - planned[0]


async def _by_hand(session: Session, source: str, target: str, size: int) -> float:
    """Seconds of reading everything in key order and writing it in batches, with the same indexes."""
    held = await session.filled(source, size, "normal")
    path = session.path("hand")
    async with session.store(target, path, DURABILITY[target]) as store:
        if target == "in_memory":
            spent = await _READS[source](held, _Hook(store).put_many)
        else:
            await store.close()  # it has made the tables
            hand = ByHand(path, DURABILITY[target])

            async def put_many(items: list[MemoryItem]) -> None:
                hand.put_many(items)

            spent = await _READS[source](held, put_many)
            hand.close()
    session.discard(path)
    return spent


Write = Callable[[list[MemoryItem]], Awaitable[None]]


class _Hook:
    """A backend that has no driver is written through its hook."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    async def put_many(self, items: list[MemoryItem]) -> None:
        await self.store._write([self.store._privileged(self.store, item, None) for item in items], False)


async def _read_hook(held: MemoryStore, write: Write) -> float:
    start = time.perf_counter()
    after: Position | None = None
    while True:
        page = await held._scan(Scan(now=held._clock(), after=after, limit=BATCH))
        items = [decode(row) for row in page.rows]
        if items:
            await write(items)
            after = Position(*items[-1].key)
        if not page.more:
            return time.perf_counter() - start


async def _read_file(held: MemoryStore, write: Write) -> float:
    start = time.perf_counter()
    db = apsw.Connection(str(Path(held.path)), flags=apsw.SQLITE_OPEN_READONLY)  # type: ignore[attr-defined]
    rows = db.execute(f"SELECT {FULL_SQL} FROM items ORDER BY key")
    items: list[MemoryItem] = []
    for row in rows:
        items.append(decode(to_row(row)))
        if len(items) == BATCH:
            await write(items)
            items = []
    await write(items)
    db.close()
    return time.perf_counter() - start


_READS = {"in_memory": _read_hook, "sqlite": _read_file}
