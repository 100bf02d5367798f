"""One run of the benchmarks: its options, the stores they share, the figures they leave."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

from benchmarks import targets, workload
from benchmarks.figures import Figure
from benchmarks.machine import Others
from benchmarks.measure import ratios
from memory import MemoryStore, create_store
from memory.testing import services
from memory.testing.making import maker
from memory.testing.services import Service, ServiceMissing

DURABILITIES = {"in_memory": ("none",), "sqlite": ("normal", "full")}
SERVED = ("redis", "redis_stack", "redis_cluster", "postgres", "postgres_plain", "pgbouncer")
"""Backends on a server that the run starts: names in memory.testing.services."""
BUILDING = ("maintenance_work_mem=512MB", "dynamic_shared_memory_type=mmap")
"""Of Postgres: the index over 100,000 vectors shall fit into memory, whatever the machine grants as shared memory."""


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for. ``calls``: of each operation in a round."""

    directory: Path
    backends: tuple[str, ...] = ("in_memory", "sqlite")
    records: tuple[int, ...] = (10_000, 100_000)
    size: int = 100_000
    rounds: int = 5
    calls: int = 400
    vectors: bool = True
    locomo: Path | None = None
    embedder: str | None = None
    weights: tuple[tuple[float, float], ...] = ()
    """Further mixes of text and vector for the hybrid searches of retrieval."""
    quick: bool = False


class Session:
    """Holds a filled store of every size asked for, and copies of its file."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.figures: list[Figure] = []
        self._exit = AsyncExitStack()
        self._stores: dict[tuple[str, int, str], MemoryStore] = {}
        self._masters: dict[int, Path] = {}
        self._servers: dict[str, Service] = {}
        self._names = 0
        self._others = Others()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._exit.aclose()

    # --- figures -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Start counting what others keep busy anew."""
        self._others = Others()

    def add(
        self,
        benchmark: str,
        what: str,
        backend: str,
        unit: str,
        values: Iterable[float],
        *,
        records: int | None = None,
        durability: str = "",
        target: str | None = None,
        note: str = "",
        worst: bool = False,
        floor: Sequence[float] | None = None,
    ) -> Figure:
        """Keep a figure. ``target``: the name its limit has in benchmarks.targets, when that is not ``what``;
        ``floor``: the same work by hand, round by round."""
        limit = targets.target(target or what, backend, records, durability)
        others = self._others.cores()
        figure = Figure(
            benchmark, what, backend, unit, tuple(values), records, durability, limit, note,
            None if others is None else round(others, 2), worst, median(floor) if floor else None,
        )  # fmt: skip
        self.figures.append(figure)
        return figure

    def add_growth(
        self, benchmark: str, what: str, backend: str, spent: Mapping[int, Sequence[float]], durability: str = "",
        by_hand: Mapping[int, Sequence[float]] | None = None,
    ) -> None:  # fmt: skip
        """Keep how many times what it cost at the smallest size something costs at the largest; the floor is the same by hand."""
        small, large = min(spent), max(spent)
        if small == large:
            return
        judged = (small, large) == (targets.SMALL, targets.LARGE)
        self.add(
            benchmark, f"growth of {what}, {small:,} to {large:,}", backend, "×", ratios(spent[large], spent[small]),
            durability=durability, target=f"growth of {what.partition(',')[0]}" if judged else "none",
            floor=ratios(by_hand[large], by_hand[small]) if by_hand else None,
        )  # fmt: skip

    # --- stores --------------------------------------------------------------------------------

    def path(self, stem: str) -> Path:
        """A new name in the directory of this run."""
        self._names += 1
        return self.options.directory / f"{stem}-{self._names}.db"

    def discard(self, path: Path) -> None:
        """Remove a closed file of this run that nobody needs any more."""
        for end in ("", "-wal", "-shm"):
            path.with_name(path.name + end).unlink(missing_ok=True)

    def store(self, backend: str, path: Path | None = None, durability: str = "full", **options: Any) -> MemoryStore:
        """A store, not yet open, with the workload's indexes. A missing path is a new one. Raises ServiceMissing."""
        options = {"index": workload.INDEXED, "sweep_interval": None, **options}
        if backend == "pgbouncer":
            options["pgbouncer"] = True
        if backend in SERVED:
            return maker(self.server(backend).url)(path or self.path("store"), **options)
        if backend in ("sqlite", "faiss"):
            options |= {"path": path or self.path("store"), "synchronous": durability}
        if backend == "faiss":
            options |= {"embedder": None, **options}
        return create_store(backend, **options)

    def server(self, name: str) -> Service:
        """A server, started when it is first asked for and stopped at the end of the run; Postgres with fsync. PgBouncer is
        before the Postgres without pgvector.

        Raises ServiceMissing, which says what to install.
        """
        if name not in self._servers:
            start = getattr(services, name)
            if name == "pgbouncer":
                made = start(self.server("postgres_plain"))
            else:
                made = start(durable=True, settings=BUILDING) if name.startswith("postgres") else start()
            self._servers[name] = self._exit.enter_context(made)
        return self._servers[name]

    async def filled(self, backend: str, records: int, durability: str = "full", **options: Any) -> MemoryStore:
        """An open store that holds the first ``records`` of the workload, shared by all who ask for the same."""
        if backend == "in_memory":
            durability = "none"
        name = (backend, records, f"{durability}{options or ''}")
        if name not in self._stores:
            path = None
            if backend == "sqlite":
                path = await self.file(records)
            store = self.store(backend, path, durability, **options)
            self._stores[name] = await self._exit.enter_async_context(store)
            if backend != "sqlite":
                await fill(store, records, self.options.vectors)
        return self._stores[name]

    async def file(self, records: int) -> Path:
        """A copy of its own of a closed SQLite file that holds the workload."""
        master = self._masters.get(records)
        if master is None:
            master = self.path("master")
            async with self.store("sqlite", master, "normal") as store:
                await fill(store, records, self.options.vectors)
            self._masters[records] = master
        copy = self.path("copy")
        await asyncio.to_thread(shutil.copyfile, master, copy)
        return copy


def left_out(what: str, missing: ServiceMissing) -> None:
    """Say that something is not measured, and what to install."""
    print(f"{what}: left out. {missing}", file=sys.stderr)


async def fill(store: MemoryStore, records: int, vectors: bool, start: int = 0) -> None:
    """Put the workload's records up to ``records`` into a store."""
    for items in workload.batches(start, records, vectors):
        await store.put_many(items)
