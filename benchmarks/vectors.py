"""Searching by vector and by both, rows included, beside the arithmetic by hand; every size and side by turns.

Over the whole store, with filters that a tenth and a hundredth of the records pass, in one namespace of a hundred. By
hand: see benchmarks.nearest_by_hand. Recall is against ``exact=True`` of the same store.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import msgspec
import numpy as np

from benchmarks import footprint, workload
from benchmarks.figures import percentile
from benchmarks.measure import Rounds, Side, awaiting, calling, fitted, ratios
from benchmarks.mixing_by_hand import MixesByHand
from benchmarks.nearest import NARROWED, NEAREST, Narrowed, recall, search
from benchmarks.nearest_by_hand import FEW, HAS_FAISS, TOP, Floor, Program, rows_of
from benchmarks.session import Session
from memory import MemoryStore

NAME = "vectors"
CALLERS = 64
ROUND_SECONDS = 3.0
"""About how long one round of one figure may take, all sizes and sides together."""
PROMISED = "by hand, as promised"
ASKED = 200
QUESTIONS = 50


async def run(session: Session) -> None:
    options = session.options
    if not options.vectors:
        print("vectors: left out, because the records have none", file=sys.stderr)
        return
    if not HAS_FAISS:
        print("vectors: without faiss beside it (pip install 'agent-memory-backends[faiss]')", file=sys.stderr)
    floors = {size: Floor(rows_of(size)) for size in options.records}
    for backend in options.backends:
        stores = {size: await session.filled(backend, size) for size in options.records}
        await _searches(session, backend, stores, floors)
        await recall(session, NAME, backend, stores)
        await _callers(session, backend, stores)
        if backend == "sqlite":
            await _first(session)
            for size in options.records[-1:] if options.quick else options.records:
                rounds = [await footprint.grown(session, backend, size, "vectors") for _ in range(_few(session))]
                session.add(
                    NAME, "memory grown, searched by vector", backend, "MB", rounds, records=size, note="peak",
                    target="memory grown",
                )  # fmt: skip
        await _bulk(session, backend)


def _round_seconds(session: Session) -> float:
    return 0.1 if session.options.quick else ROUND_SECONDS


def _few(session: Session) -> int:
    return 1 if session.options.quick else 2


# --- one at a time -----------------------------------------------------------------------------


async def _searches(
    session: Session, backend: str, stores: Mapping[int, MemoryStore], floors: Mapping[int, Floor]
) -> None:
    asked = workload.wanted(ASKED)
    programs = {size: Program(await session.file(size), floors[size]) for size in stores if backend == "sqlite"}
    for what, narrowed in NARROWED.items():
        sides: dict[tuple[int, str], Side] = {}
        for size, store in stores.items():
            sides[size, ""] = awaiting(partial(search, store, asked, narrowed))
            if what == NEAREST:
                ways = {"numpy scan": floors[size].scan, "numpy 1-bit codes": floors[size].coded}
                if HAS_FAISS:
                    ways["faiss 1-bit codes"] = floors[size].faiss
                if size in programs:
                    ways["by hand"] = programs[size].search
                sides |= {(size, by): calling(partial(_found, way, asked)) for by, way in ways.items()}
            elif "not indexed" not in what:
                passing = _passing(size, narrowed)
                way = partial(_found_among, floors[size], passing, asked)
                sides[size, "numpy scan of those that pass"] = calling(way)
                if size in programs:
                    sides[size, "by hand"] = calling(partial(_found_within, programs[size], narrowed, asked))
                    if size <= FEW:
                        sides[size, PROMISED] = calling(partial(_answered, programs[size], narrowed, asked))
        _tell(session, what, backend, await _by_turns(session, sides))
    for program in programs.values():
        program.close()
    await _hybrids(session, backend, stores, floors)


async def _hybrids(
    session: Session, backend: str, stores: Mapping[int, MemoryStore], floors: Mapping[int, Floor]
) -> None:
    asked, sides, programs = workload.wanted(ASKED), {}, []
    for size, store in stores.items():
        questions = workload.questions(QUESTIONS, size)
        sides[size, ""] = awaiting(partial(_hybrid, store, questions, asked))
        if backend == "sqlite":
            programs.append(MixesByHand(await session.file(size), floors[size]))
            sides[size, "by hand"] = calling(partial(_mixed, programs[-1], questions, asked))
    _tell(session, "hybrid top-10", backend, await _by_turns(session, sides))
    for program in programs:
        program.close()


def _mixed(program: MixesByHand, questions: list[str], asked: Any, number: int) -> None:
    program.search(questions[number % QUESTIONS], asked[number % ASKED])


async def _hybrid(store: MemoryStore, questions: list[str], asked: Any, number: int) -> None:
    await store.search(questions[number % QUESTIONS], vector=asked[number % ASKED], limit=TOP)


def _found(way: Callable[[Any], Any], asked: Any, number: int) -> None:
    way(asked[number % ASKED])


def _found_among(floor: Floor, passing: list[Any], asked: Any, number: int) -> None:
    floor.among(passing[number % len(passing)], asked[number % ASKED])


def _found_within(program: Program, narrowed: Narrowed, asked: Any, number: int) -> None:
    program.search_within(narrowed(number), asked[number % ASKED])


def _answered(program: Program, narrowed: Narrowed, asked: Any, number: int) -> None:
    program.answer(narrowed(number), asked[number % ASKED])


def _passing(size: int, narrowed: Narrowed) -> list[Any]:
    """Places of the records that pass what the first fifty searches are narrowed by."""
    if "namespace" in narrowed(0):
        return [np.arange(number * 7 % workload.NAMESPACES, size, workload.NAMESPACES) for number in range(50)]
    scores, found = _score_of_each(size), []
    for number in range(50):
        limits = narrowed(number)["where"]["metadata.score"]
        found.append(np.flatnonzero((scores >= limits["$gte"]) & (scores < limits.get("$lt", np.inf))))
    return found


@cache
def _score_of_each(size: int) -> Any:
    return np.array([item.metadata["score"] for part in workload.batches(0, size, vectors=False) for item in part])


async def _by_turns(session: Session, sides: Mapping[tuple[int, str], Side]) -> dict[tuple[int, str], Rounds]:
    return await fitted(sides, session.options.rounds, session.options.calls // 2, _round_seconds(session))


def _tell(session: Session, what: str, backend: str, found: Mapping[tuple[int, str], Rounds]) -> None:
    def each(size: int, by: str, share: float = 0.5) -> list[float]:
        return [percentile(spent, share) / 1e3 for spent in found[size, by]]

    sizes = [size for size, by in found if not by]
    for size in sizes:
        hand = next((by for by in (PROMISED, "by hand", "numpy scan of those that pass") if (size, by) in found), None)
        floor = None if hand is None else each(size, hand)
        session.add(NAME, f"{what}, p50", backend, "ms", each(size, ""), records=size, floor=floor)
        session.add(NAME, f"{what}, p95", backend, "ms", each(size, "", 0.95), records=size)
        for by in [by for held, by in found if held == size and by]:
            session.add(NAME, f"{what}: ÷ {by}", backend, "×", ratios(each(size, ""), each(size, by)), records=size)
            session.add(NAME, f"{what}: {by}", backend, "ms", each(size, by), records=size)
    growing = "vector" if what == NEAREST else what
    session.add_growth(NAME, growing, backend, {size: each(size, "") for size in sizes})


# --- many at once, the first, memory, bulk -----------------------------------------------------


async def _callers(session: Session, backend: str, stores: Mapping[int, MemoryStore]) -> None:
    asked = workload.wanted(200)

    async def ask(store: MemoryStore, callers: int, each: int) -> float:
        async def caller(number: int) -> None:
            for i in range(each):
                await store.search(vector=asked[(number * each + i) % len(asked)], limit=TOP)

        start = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(callers):
                group.create_task(caller(number))
        return callers * each / (time.perf_counter() - start)

    for size, store in stores.items():
        rate = await ask(store, 1, 5)
        each = max(1, min(8, round(rate * _round_seconds(session) / CALLERS / 2)))
        together, alone = [], []
        for _ in range(session.options.rounds):
            alone.append(await ask(store, 1, max(5, CALLERS * each // 4)))
            together.append(await ask(store, CALLERS, each))
        session.add(NAME, "64 callers searching by vector", backend, "/s", together, records=size)
        session.add(NAME, "64 callers: ÷ one caller", backend, "×", ratios(together, alone), records=size)


async def _first(session: Session) -> None:
    spent: dict[int, list[float]] = {}
    vector = workload.wanted(1)[0]
    for size in session.options.records:
        path = await session.file(size)
        for number in range(session.options.rounds + 1):
            store = session.store("sqlite", path)
            async with store:
                start = time.perf_counter()
                await store.search(vector=vector, limit=TOP)
                if number:  # the very first of a run imports
                    spent.setdefault(size, []).append((time.perf_counter() - start) * 1e3)
    for size, values in spent.items():
        session.add(NAME, "first vector search", "sqlite", "ms", values, records=size)


async def _bulk(session: Session, backend: str) -> None:
    """A load of records with their vectors, beside the same without."""
    for size in session.options.records:
        rates: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(_few(session)):
            for vectors in (True, False):
                path, spent = session.path("vectors"), 0.0
                async with session.store(backend, path) as store:
                    for items in workload.batches(0, size):
                        if not vectors:
                            items = [msgspec.structs.replace(item, embedding=None) for item in items]
                        start = time.perf_counter()
                        await store.put_many(items)
                        spent += time.perf_counter() - start
                rates[vectors].append(size / spent)
                session.discard(path)
        full = "full" if backend == "sqlite" else "none"
        session.add(NAME, "bulk with vectors", backend, "/s", rates[True], records=size, durability=full)
        session.add(
            NAME, "bulk with vectors: ÷ without", backend, "×", ratios(rates[True], rates[False]), records=size,
            durability=full,
        )  # fmt: skip
