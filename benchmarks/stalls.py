"""Does anything hold the event loop? A heartbeat and a get every 2 ms through every phase of a store's life.

A hold is judged by the longest of all rounds; what the loop's thread only waited for a core that other processes had, or that
stood still, is taken off. The note says how long the thread was computing during the worst one: near the hold, Python held
the loop; near nothing, the thread waited for the GIL or a lock, whose owner may have waited for a core. "idle" is the same measurement while nothing
happens: what the machine itself adds. Code that nobody has run yet may have to be read from disk, by a thread that has the GIL:
what is mapped at the start of a phase is locked in memory, and the note tells how many pages were read all the same. And it says how
long the longest collection of garbage took meanwhile: in whichever thread it runs, nothing else does.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

from benchmarks import crowding, workload
from benchmarks.crowding import BATCH
from benchmarks.figures import percentile
from benchmarks.measure import Heartbeat, collections, heartbeat, paced
from benchmarks.session import Session
from benchmarks.stillness import Stillness, keep_code, watching
from memory import F, MemoryItem, MemoryStore
from memory.model import Key

NAME = "stalls"
ROUNDS = 3
EVERY = 0.002
LOCK_SECONDS = 1.0
BIG = 64 * 1024
"""Characters of the records that make the log grow until it is written back into the file."""

Work = Callable[[], Awaitable[object]]


class _Phases:
    """Runs phases and keeps the beats and gets of each, over all rounds."""

    def __init__(self, still: Stillness | None = None) -> None:
        self._still = still
        self.hearts: dict[str, list[Heartbeat]] = {}
        self.gets: dict[str, list[float]] = {}
        self.collections: dict[str, float] = {}
        """The longest of each phase, in milliseconds."""
        self.floors: dict[str, str] = {}
        """Of a phase, the one that shows what the caller's own tasks cost in it."""

    async def run(self, name: str, work: Work, store: MemoryStore | None, size: int) -> None:
        """Do the work while a heart beats and, where there is an open store, gets come in."""
        keys = workload.keys(size)
        keep_code()
        with collections() as spent:
            heart = await self._beside(name, work, store, keys)
        self.hearts.setdefault(name, []).append(heart)
        self.collections[name] = max(self.collections.get(name, 0.0), *spent, 0.0)

    async def _beside(self, name: str, work: Work, store: MemoryStore | None, keys: Sequence[Key]) -> Heartbeat:
        async with heartbeat(self._still) as heart:
            ended = asyncio.Event()
            callers = None if store is None else asyncio.create_task(_gets(store, keys, ended))
            result = await work()
            ended.set()
            if callers is not None:
                self.gets.setdefault(name, []).append(percentile(await callers or [0.0], 0.99))
        del result  # a hundred thousand items that a caller lets go at once are its own affair
        return heart


async def _gets(store: MemoryStore, keys: Sequence[Key], ended: asyncio.Event) -> list[float]:
    async def call(number: int) -> None:
        path, id = keys[number * 7_919 % len(keys)]
        await store.get(id, namespace=path)

    return await paced(call, ended, EVERY)


async def run(session: Session) -> None:
    with watching() as still:
        await _all(session, still)


async def _all(session: Session, still: Stillness) -> None:
    options = session.options
    for backend in options.backends:
        for size in options.records:
            phases = _Phases(still)
            for _ in range(1 if options.quick else min(ROUNDS, options.rounds)):
                await _life(session, phases, backend, size)
            await _in_one_call(session, phases, backend, size)
            await _crowd(session, phases, backend, size)
            unjudged = {"idle", *phases.floors.values()}
            for name, hearts in phases.hearts.items():
                worst = max(hearts, key=lambda heart: heart.worst)
                floor = [heart.worst for heart in phases.hearts.get(phases.floors.get(name, ""), ())]
                session.add(
                    NAME, f"longest hold of the loop: {name}", backend, "ms", [heart.worst for heart in hearts],
                    records=size, target="none" if name in unjudged else "longest hold of the loop", worst=True, floor=floor,
                    note=f"computing {worst.worst_busy:.1f} of it; p99 {worst.p99:.2f}; garbage {phases.collections[name]:.1f}; "
                    f"a core stood still {max(heart.still for heart in hearts):.1f}; pages of files read {worst.worst_read}",
                )  # fmt: skip
            for name, spent in phases.gets.items():
                session.add(
                    NAME, f"get p99: {name}", backend, "ms", spent, records=size,
                    target="none" if name in unjudged else "get p99", floor=phases.gets.get(phases.floors.get(name, ""), []),
                )  # fmt: skip


async def _life(session: Session, phases: _Phases, backend: str, size: int) -> None:
    """One store from its first record to its end."""
    path = session.path("life")
    lock = 0.2 if session.options.quick else LOCK_SECONDS
    held = session.store(backend, path)
    await phases.run("open", held.open, None, size)
    items = workload.records(0, size, session.options.vectors)
    await phases.run("idle", lambda: asyncio.sleep(0.3), held, size)
    await phases.run("bulk load", lambda: _load(held, items), held, size)
    question = workload.questions(1, size)[0]
    await phases.run("first search", lambda: held.search(question), held, size)
    if backend == "sqlite":
        large = _large()
        await phases.run("checkpoints", lambda: _one_by_one(held, large), held, size)
        await phases.run("another process writes", lambda: _locked_out(path, held, items, lock), held, size)
        await held.close()
        held = session.store(backend, path)
        await phases.run("open, 2nd time", held.open, None, size)
        await phases.run("first search, 2nd time", lambda: held.search(question), held, size)
    asked = workload.questions(20, size)
    await phases.run("searches", lambda: _ask(held, asked), held, size)
    await phases.run("filter without an index", lambda: _list_all(held), held, size)
    await phases.run("count", lambda: held.count(F.metadata["place"]["floor"] >= 6), held, size)
    await phases.run("ordered", lambda: held.list(order="-updated_at", limit=1_000), held, size)
    await phases.run("verify", held.verify, held, size)
    await phases.run("stats and sweep", lambda: _tidy(held), held, size)
    await phases.run("backup", lambda: held.backup(path.with_suffix(".backup")), held, size)
    await phases.run("delete_where", lambda: held.delete_where(F.kind == "semantic"), held, size)
    await phases.run("close", held.close, None, size)
    session.discard(path)
    path.with_suffix(".backup").unlink(missing_ok=True)


async def _in_one_call(session: Session, phases: _Phases, backend: str, size: int) -> None:
    """The answer holds as many items with values of their own, and full collections of garbage walk through these."""
    items, path = workload.records(0, size, session.options.vectors), session.path("one-call")
    name, floor = "bulk load, one call", "metadata of as many records copied"
    phases.floors[name] = floor
    async with session.store(backend, path) as store:
        await phases.run(name, lambda: store.put_many(items), store, size)
        await phases.run(floor, lambda: _copied(items), store, size)
    session.discard(path)


async def _crowd(session: Session, phases: _Phases, backend: str, size: int) -> None:
    """Once: it takes as long as a thousand searches do."""
    searches = 100 if session.options.quick else crowding.SEARCHES
    items, path = workload.records(0, size, vectors=False), session.path("crowd")
    asked = workload.questions(50, max(1, size // 2))
    async with session.store(backend, path, embedder="hashing") as store:
        if not store.capabilities.reembeds:
            print(f"stalls: {backend} cannot reembed, so not with searches and a load either", file=sys.stderr)
            return
        await store.put_many(items[: size // 2])
        await store.search("the first search after a load is another phase", mode="hybrid")
        name, floor = f"{searches:,} searches, bulk load and reembed", f"{searches:,} tasks that only wait"
        phases.floors[name] = floor
        await phases.run(floor, lambda: crowding.waiting(searches), None, size)
        await phases.run(name, lambda: crowding.crowd(store, items, asked, searches), store, size)
        await phases.run(floor, lambda: crowding.waiting(searches), None, size)
    session.discard(path)


def _large() -> list[MemoryItem]:
    words = " ".join(workload.vocabulary()[:2_000])[:2_000]
    return [MemoryItem(id=f"large{i}", content={"blob": "x" * BIG}, text=words) for i in range(300)]


async def _load(store: MemoryStore, items: list[MemoryItem]) -> None:
    for start in range(0, len(items), BATCH):
        await store.put_many(items[start : start + BATCH])


async def _copied(items: list[MemoryItem]) -> list[dict[str, Any]]:
    """What any program does that keeps values of its own, a few at a time."""
    copies: list[dict[str, Any]] = []
    for number, item in enumerate(items):
        copies.append(deepcopy(item.metadata))
        if number % 100 == 0:
            await asyncio.sleep(0)
    return copies


async def _one_by_one(store: MemoryStore, items: list[MemoryItem]) -> None:
    for item in items:
        await store.put(item)


async def _ask(store: MemoryStore, asked: list[str]) -> None:
    for number, question in enumerate(asked):
        await store.search(question, neighbours=number % 2)
        # A caller that awaits one call that never waits after another holds the loop itself.
        await asyncio.sleep(0)


async def _list_all(store: MemoryStore) -> None:
    await store.list({"metadata.place.city": "nowhere"}, limit=10)


async def _tidy(store: MemoryStore) -> None:
    await store.stats()
    await store.sweep()


async def _locked_out(path: Path, store: MemoryStore, items: list[MemoryItem], seconds: float) -> None:
    """Writes that have to wait, because another process holds the write lock."""
    async with _lock_held(path, seconds), asyncio.TaskGroup() as group:
        for item in items[:50]:
            group.create_task(store.put(item))


_HOLD = """
import sys, time, apsw
db = apsw.Connection(sys.argv[1])
db.set_busy_timeout(5_000)
db.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
db.execute("ROLLBACK")
"""


@asynccontextmanager
async def _lock_held(path: Path, seconds: float) -> AsyncIterator[None]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _HOLD, str(path), str(seconds), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    await child.stdout.readline()
    started = time.perf_counter()
    try:
        yield
    finally:
        if time.perf_counter() - started < seconds / 2:
            raise RuntimeError("the writes did not wait for the other process: this measured nothing")
        await child.wait()
