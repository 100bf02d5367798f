"""What this machine is, in the terms of the floors that the targets were set on: each measured here, beside what it was
there. A target met or missed here says as much about the machine as about the store; the ratios say more.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import numpy as np

from benchmarks.measure import p50, timed_sync
from benchmarks.session import Session

NAME = "machine"
RECORDS = 10_000
CHASE = 4_000_000
"""Places of 8 bytes that are visited at random: more than caches hold."""

# µs, on the machine that the targets were set on.
PUBLISHED = {
    "await": 0.06,
    "asyncio.Lock": 0.35,
    "create_task": 4.7,
    "executor hop": 71,
    "SQLite get, direct": 4.9,
    "SQLite commit, normal": 24,
    "SQLite commit, full": 148,
    "fsync": 170,
}


async def run(session: Session) -> None:
    for what, each in (("await", _awaits), ("asyncio.Lock", _locks), ("create_task", _tasks), ("executor hop", _hops)):
        count = 100 if what == "executor hop" else 2_000
        _tell(session, what, [await each(count) for _ in range(session.options.rounds)])
    for durability in ("normal", "full"):
        _sqlite(session, durability)
    _fsync(session)
    _memory(session)


def _sqlite(session: Session, durability: str) -> None:
    path, calls = session.path("floor"), session.options.calls
    db = _table(path, durability)
    if durability == "normal":
        rng = random.Random(1)
        keys = [rng.randrange(RECORDS) for _ in range(calls)]
        _median(session, "SQLite get, direct", lambda i: db.execute("SELECT v FROM t WHERE k = ?", (i,)).get, keys)
    fresh = iter(range(RECORDS, 10**9))
    _median(
        session,
        f"SQLite commit, {durability}",
        lambda _: db.execute("INSERT INTO t VALUES (?, ?)", (next(fresh), bytes(700))),
        range(calls // 2),
    )
    db.close()
    session.discard(path)


def _tell(session: Session, what: str, values: Any) -> None:
    known = PUBLISHED.get(what)
    here = sorted(values)[len(values) // 2]
    note = "no published value" if known is None else f"published {known:g}: here {here / known:.1f} times"
    session.add(NAME, what, "", "µs", values, note=note)


def _median(session: Session, what: str, call: Callable[[int], Any], numbers: Any) -> None:
    _tell(session, what, p50([timed_sync(call, numbers) for _ in range(session.options.rounds)]))


async def _awaits(count: int) -> float:
    async def nothing() -> None:
        pass

    start = time.perf_counter()
    for _ in range(count):
        await nothing()
    return (time.perf_counter() - start) / count * 1e6


async def _locks(count: int) -> float:
    lock = asyncio.Lock()
    start = time.perf_counter()
    for _ in range(count):
        async with lock:
            pass
    return (time.perf_counter() - start) / count * 1e6


async def _tasks(count: int) -> float:
    async def nothing() -> None:
        pass

    start = time.perf_counter()
    for _ in range(count):
        await asyncio.create_task(nothing())
    return (time.perf_counter() - start) / count * 1e6


async def _hops(count: int) -> float:
    loop = asyncio.get_running_loop()
    start = time.perf_counter()
    for _ in range(count):
        await loop.run_in_executor(None, int)
    return (time.perf_counter() - start) / count * 1e6


def _table(path: Path, durability: str) -> apsw.Connection:
    db = apsw.Connection(str(path))
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", durability)
    db.execute("CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)")
    with db:
        db.executemany("INSERT INTO t VALUES (?, ?)", [(i, bytes(700)) for i in range(RECORDS)])
    return db


def _fsync(session: Session) -> None:
    path = session.path("floor")
    with path.open("wb", buffering=0) as file:

        def write(_: int) -> None:
            file.write(bytes(4_096))
            os.fdatasync(file.fileno())

        _median(session, "fsync", write, range(session.options.calls // 4))
    path.unlink()


def _memory(session: Session) -> None:
    """One access to memory that no cache holds: each place names the next, in one cycle through all of them."""
    order = np.random.default_rng(1).permutation(CHASE)
    following = np.empty(CHASE, dtype=np.int64)
    following[order] = np.roll(order, -1)
    ours, near = following.data, np.roll(np.arange(1_000), -1).data

    def chase(places: Any, steps: int) -> float:
        at, start = 0, time.perf_counter()
        for _ in range(steps):
            at = places[at]
        return (time.perf_counter() - start) / steps * 1e6

    rounds = [chase(ours, 100_000) - chase(near, 100_000) for _ in range(session.options.rounds)]
    _tell(session, "random access to memory", [max(0.0, spent) for spent in rounds])
