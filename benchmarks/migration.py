"""Migrations between every two backends, those on servers and Firestore's layouts where these are here: items a second,
beside a raw read plus a raw bulk write."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import apsw

from benchmarks import migration_firestore, migration_servers
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
Write = Callable[[list[MemoryItem]], Awaitable[None]]


async def run(session: Session) -> None:
    options = session.options
    ends: dict[str, Any] = {name: Local(session, name) for name in options.backends}
    for source, target in product(ends, ends):
        for size in options.records:
            await _measure(session, ends[source], ends[target], size)
    local, size = set(ends), min(*options.records, migration_servers.MOST)
    ends |= migration_servers.servers(session)
    for source, target in product(ends, ends):
        if source != target and not {source, target} <= local:
            await _measure(session, ends[source], ends[target], size)
    async with migration_firestore.emulator() as there:
        for source, target in migration_firestore.pairs(ends.values(), there):
            most = migration_firestore.QUICK if options.quick else migration_firestore.MOST
            await _measure(session, source, target, min(*options.records, most))


async def _measure(session: Session, source: Any, target: Any, size: int) -> None:
    pair = f"{source.name} -> {target.name}"
    whole: list[float] = []
    moving: list[float] = []
    hand: list[float] = []
    for _ in range(session.options.rounds):
        everything, moved = await _migrated(session, source, target, size)
        whole.append(size / everything)
        moving.append(size / moved)
        hand.append(size / await _by_hand(source, target, size))
    told: dict[str, Any] = {"records": size, "durability": target.durability}
    session.add(NAME, "migrate", pair, "/s", whole, **told, floor=hand, note="planned, moved, all compared")
    session.add(NAME, "migrate: moving alone", pair, "/s", moving, **told, floor=hand)
    session.add(
        NAME, "moving alone ÷ raw read and raw bulk write", pair, "×", ratios(moving, hand), **told,
        note=f"raw {min(hand):,.0f} /s at least",
    )  # fmt: skip


async def _migrated(session: Session, source: Any, target: Any, size: int) -> tuple[float, float]:
    """Seconds of a whole migration, and of its moving alone."""
    state = session.path("journal")
    planned: list[float] = []

    def tell(phase: str, done: int, total: int | None) -> None:
        if phase == "planning":
            planned[:] = [time.perf_counter()]
        elif phase == "moving":
            planned[1:] = [time.perf_counter()]

    held = await source.filled(size)
    async with target.empty() as store:
        start = time.perf_counter()
        report = await migrate(held, store, state=state, progress=tell)
        spent = time.perf_counter() - start
    assert report.ok, report
    assert report.created == size
    session.discard(state)
    return spent, planned[1] - planned[0]


async def _by_hand(source: Any, target: Any, size: int) -> float:
    """Seconds of reading everything in order and writing it in batches, with the same indexes."""
    held = await source.filled(size)
    async with target.raw() as write, aclosing(source.read(held)) as items:
        start = time.perf_counter()
        async for some in items:
            await write(some)
        return time.perf_counter() - start


class Local:
    """An end on this machine, without a server."""

    def __init__(self, session: Session, name: str) -> None:
        self.session, self.name, self.durability = session, name, DURABILITY[name]

    async def filled(self, size: int) -> MemoryStore:
        """A store that holds the workload."""
        return await self.session.filled(self.name, size, "normal")

    @asynccontextmanager
    async def empty(self) -> AsyncIterator[MemoryStore]:
        """A new store."""
        path = self.session.path("moved")
        async with self.session.store(self.name, path, self.durability) as store:
            yield store
        self.session.discard(path)

    @asynccontextmanager
    async def raw(self) -> AsyncIterator[Write]:
        """What writes by hand into a new place."""
        path = self.session.path("hand")
        async with self.session.store(self.name, path, self.durability) as store:
            if self.name == "in_memory":
                yield _Hook(store).put_many
                return
        hand = ByHand(path, self.durability)  # the store has made the tables

        async def put_many(items: list[MemoryItem]) -> None:
            hand.put_many(items)

        yield put_many
        hand.close()
        self.session.discard(path)

    def read(self, held: MemoryStore) -> AsyncIterator[list[MemoryItem]]:
        """Everything by hand, in key order."""
        return _read_hook(held) if self.name == "in_memory" else _read_file(held)


class _Hook:
    """A backend that has no driver is written through its hook."""

    def __init__(self, store: MemoryStore) -> None:
        self.store = store

    async def put_many(self, items: list[MemoryItem]) -> None:
        await self.store._write([self.store._privileged(self.store, item, None) for item in items], False)


async def _read_hook(held: MemoryStore) -> AsyncIterator[list[MemoryItem]]:
    after: Position | None = None
    while True:
        page = await held._scan(Scan(now=held._clock(), after=after, limit=BATCH))
        items = [decode(row) for row in page.rows]
        if items:
            yield items
            after = Position(*items[-1].key)
        if not page.more:
            return


async def _read_file(held: MemoryStore) -> AsyncIterator[list[MemoryItem]]:
    db = apsw.Connection(str(Path(held.path)), flags=apsw.SQLITE_OPEN_READONLY)  # type: ignore[attr-defined]
    rows = db.execute(f"SELECT {FULL_SQL} FROM items ORDER BY key")
    items: list[MemoryItem] = []
    for row in rows:
        items.append(decode(to_row(row)))
        if len(items) == BATCH:
            yield items
            items = []
    yield items
    db.close()
