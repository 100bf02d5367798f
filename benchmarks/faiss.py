"""faiss at its own size: building, opening, searching, under filters, its memory; beside HNSW of hnswlib and of FAISS.

Two sets of vectors, both seeded: one in clusters of 500, and a harder one without any, whose numbers fall off as those of
embeddings do (a search then has thousands of vectors that are nearly as near). Recall is against ``exact=True``. The floor is
FAISS alone in one thread: the bits of all vectors, then the vectors in memory of as many as the recall of 0.98 takes. The peers hold all vectors
and know no records: the time to read ten is not in theirs. Graphs take minutes to build, so they are built up to PEERS vectors;
above that, records are no more than what is searched by, since the rest would take most of the time to fill a store.
At the end the store is opened with ``ivf``, and searched again when its lists are there.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks import workload
from benchmarks.figures import percentile
from benchmarks.machine import forget_peak, memory
from benchmarks.measure import awaiting, calling, collections, fitted, heartbeat
from benchmarks.nearest import JUDGED, NARROWED, NEAREST, search
from benchmarks.nearest_by_hand import HAS_FAISS, TOP, Floor
from benchmarks.session import Session
from memory import MemoryItem

NAME = "faiss"
SIZE = 100_000
PEERS = 200_000
ASKED = 200
LEAST = 20_001
"""Vectors from which on there is an index, which may be in lists."""
RESCORED = (400, 2_000, 8_000, 32_000)
"""So many vectors are compared by FAISS alone, or so many."""
COMPARED = 20
"""Searches whose recall is looked at; an exact one reads every vector."""
ROUND_SECONDS = 2.0
CLUSTER = 500
NOISE = 0.7
"""Of a vector in a cluster, beside the centre's numbers."""
FALL = -0.4
"""Power of its rank by which a number of the second set is smaller than the first."""


async def run(session: Session) -> None:
    if not HAS_FAISS:
        print("faiss: left out. pip install 'agent-memory-backends[faiss]'", file=sys.stderr)
        return
    size = 2_000 if session.options.quick else session.options.size
    small = max(1_000, size // 10)
    for kind in ("clustered", "spread"):
        paths = {count: await _built(session, kind, count) for count in (small, size)}
        await _opened(session, kind, size, paths[size])
        await _searched(session, kind, paths)
        await _in_lists(session, kind, size, paths[size])
        for path in paths.values():
            for file in path.parent.glob(f"{path.name}*"):
                file.unlink()


# --- the two sets ------------------------------------------------------------------------------


class Vectors:
    """The vectors of a set of this size, unit vectors, a batch after the other; others of the same kind to search by."""

    def __init__(self, kind: str, size: int) -> None:
        shape = np.random.default_rng(workload.SEED + 4)
        self._centres = self._shape = None
        if kind == "clustered":
            self._centres = shape.standard_normal((size // CLUSTER, workload.DIMENSION), dtype=np.float32)
        else:
            turn = np.linalg.qr(shape.standard_normal((workload.DIMENSION, workload.DIMENSION)))[0]
            self._shape = (np.diag((1.0 + np.arange(workload.DIMENSION)) ** FALL) @ turn).astype(np.float32)

    def drawn(self, rng: np.random.Generator, count: int) -> Any:
        found = rng.standard_normal((count, workload.DIMENSION), dtype=np.float32)
        if self._centres is not None:
            found = self._centres[rng.integers(0, len(self._centres), count)] + np.float32(NOISE) * found
        else:
            found = found @ self._shape
        return found / np.linalg.norm(found, axis=1, keepdims=True)


def batches(kind: str, size: int) -> Iterator[list[MemoryItem]]:
    """The records of a set."""
    vectors, rng = Vectors(kind, size), np.random.default_rng(workload.SEED + 5)
    for items in workload.batches(0, size, vectors=False) if size <= PEERS else _small(size):
        made = vectors.drawn(rng, len(items))
        yield [msgspec.structs.replace(item, embedding=vector) for item, vector in zip(items, made, strict=True)]


def _small(size: int) -> Iterator[list[MemoryItem]]:
    """Records of a number, a namespace and a score."""
    scores = np.random.default_rng(workload.SEED + 7).integers(0, 1_000, size).tolist()
    for start in range(0, size, 5_000):
        keys = ((i, *workload.key(i)) for i in range(start, min(size, start + 5_000)))
        yield [MemoryItem(id=id, namespace=path, content=i, metadata={"score": scores[i]}) for i, path, id in keys]


def every(kind: str, size: int) -> Any:
    """Their vectors alone, (size, 384)."""
    vectors, rng = Vectors(kind, size), np.random.default_rng(workload.SEED + 5)
    return np.concatenate([vectors.drawn(rng, min(5_000, size - start)) for start in range(0, size, 5_000)])


def wanted(kind: str, size: int, count: int) -> Any:
    """Vectors to search by, (count, 384): of the set's kind, and none of it."""
    return Vectors(kind, size).drawn(np.random.default_rng(workload.SEED + 6), count)


# --- building, opening, memory -----------------------------------------------------------------


async def _built(session: Session, kind: str, size: int) -> Path:
    path, spent = session.path("faiss"), 0.0
    store, holds, garbage = session.store("faiss", path), [0.0], [0.0]
    async with store:
        for items in batches(kind, size):
            # Making the records holds the loop, and is not looked at; nor is what a collection walks through of them.
            with collections() as collected:
                async with heartbeat() as heart:
                    start = time.perf_counter()
                    results = await store.put_many(items)
                    spent += time.perf_counter() - start
            holds.append(heart.worst)
            del results  # five thousand items that a caller lets go at once are its own affair
            garbage += collected
        start = time.perf_counter()
    session.add(NAME, f"bulk, {kind}", "faiss", "/s", (size / spent,), records=size, durability="full", target="bulk")
    session.add(
        NAME, f"longest hold of the loop, bulk, {kind}", "faiss", "ms", (max(holds),), records=size, worst=True,
        target="longest hold of the loop", note=f"garbage {max(garbage):.1f}",
    )  # fmt: skip
    session.add(NAME, f"close after it, index made, {kind}", "faiss", "s", (time.perf_counter() - start,), records=size)
    return path


async def _opened(session: Session, kind: str, size: int, path: Path) -> None:
    told = json.dumps([str(path), kind, size])
    figures: dict[str, list[float]] = {}
    for _ in range(1 if session.options.quick else 3):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.faiss", told, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await child.communicate()
        if child.returncode:
            raise RuntimeError(f"the process that opens the store ended with {child.returncode}")
        for name, value in json.loads(output).items():
            figures.setdefault(name, []).append(value)
    note = f"{max(figures['memory grown']) * 2**20 / size:,.0f} bytes a vector, peak"
    for name, unit in {"open": "ms", "first vector search": "ms", "memory grown": "MB"}.items():
        session.add(
            NAME, f"{name}, {kind}", "faiss", unit, figures[name], records=size, target=name,
            note=note if unit == "MB" else "",
        )  # fmt: skip


async def _grown(path: str, kind: str, size: int) -> dict[str, float]:
    """In a fresh process: open, search, and how much that took."""
    from benchmarks.session import Options

    session = Session(Options(Path(path).parent))
    async with session.store("in_memory") as warm:
        await warm.put_many(workload.records(0, 50))
        await warm.search(vector=workload.wanted(1)[0])
    async with session.store("faiss", Path(f"{path}.warm")) as warm:
        await warm.put_many(workload.records(0, 50))
        await warm.search(vector=workload.wanted(1)[0])
    asked = wanted(kind, size, 50)
    forget_peak()
    base, _ = memory()
    store = session.store("faiss", Path(path))
    start = time.perf_counter()
    await store.open()
    opened = time.perf_counter()
    await search(store, asked, NARROWED[NEAREST], 0)
    first = time.perf_counter()
    for number in range(50):
        for what in JUDGED:
            await search(store, asked, NARROWED[what], number)
    _, peak = memory()
    await store.close()
    return {
        "open": (opened - start) * 1e3,
        "first vector search": (first - opened) * 1e3,
        "memory grown": peak - base,
    }


# --- searching ---------------------------------------------------------------------------------


async def _searched(session: Session, kind: str, paths: dict[int, Path]) -> None:
    stores = {count: session.store("faiss", path) for count, path in paths.items()}
    size = max(stores)
    asked = wanted(kind, size, ASKED)
    for store in stores.values():
        await store.open()
    try:
        rows = every(kind, size)
        floor = Floor(rows)
        enough, found_by_it = _enough(floor, asked)
        growing: dict[int, list[float]] = {}
        for what in JUDGED:
            sides = {count: awaiting(partial(search, store, asked, NARROWED[what])) for count, store in stores.items()}
            if what == NEAREST:
                sides[0] = calling(partial(_by_hand, partial(floor.faiss, rescored=enough), asked))
            seconds = 0.1 if session.options.quick else ROUND_SECONDS
            found = await fitted(sides, session.options.rounds, session.options.calls, seconds)
            each = {count: [percentile(spent, 0.5) / 1e3 for spent in rounds] for count, rounds in found.items()}
            session.add(
                NAME, f"{what}, {kind}, p50", "faiss", "ms", each[size], records=size, target=f"{what}, p50",
                floor=each.get(0),
            )  # fmt: skip
            if what == NEAREST:
                session.add(
                    NAME, f"{what}, {kind}: FAISS alone", "faiss", "ms", each[0], records=size,
                    note=f"{enough:,} vectors compared, recall {found_by_it:.3f}",
                )  # fmt: skip
                growing = {count: values for count, values in each.items() if count}
            await _recall(session, stores[size], asked, size, what, kind)
        few, many = min(growing), max(growing)
        session.add(
            NAME, f"growth of vector, {few:,} to {many:,}, {kind}", "faiss", "×",
            [b / a for a, b in zip(growing[few], growing[many], strict=True)], target="growth of vector",
        )  # fmt: skip
        if size <= PEERS and not session.options.quick:
            _peers(session, kind, rows, asked)
        elif size > PEERS:
            print(f"faiss: no graphs of {size:,} vectors are built (up to {PEERS:,})", file=sys.stderr)
    finally:
        for store in stores.values():
            await store.close()


async def _in_lists(session: Session, kind: str, size: int, path: Path) -> None:
    """The same store by the trained alternative: what training takes, and what it brings."""
    if size < LEAST:
        return
    asked = wanted(kind, size, ASKED)
    start = time.perf_counter()
    async with session.store("faiss", path, ivf=True) as store:
        await search(store, asked, NARROWED[NEAREST], 0)  # which sees that there are no lists
    session.add(NAME, f"lists trained, {kind}", "faiss", "s", (time.perf_counter() - start,), records=size)
    seconds = 0.1 if session.options.quick else ROUND_SECONDS
    async with session.store("faiss", path, ivf=True) as store:
        for what in JUDGED:
            sides = {size: awaiting(partial(search, store, asked, NARROWED[what]))}
            found = await fitted(sides, session.options.rounds, session.options.calls, seconds)
            session.add(
                NAME, f"{what}, {kind}, in lists, p50", "faiss", "ms",
                [percentile(spent, 0.5) / 1e3 for spent in found[size]], records=size, target=f"{what}, p50",
            )  # fmt: skip
            await _recall(session, store, asked, size, what, f"{kind}, in lists")


async def _recall(session: Session, store: Any, asked: Any, size: int, what: str, kind: str) -> None:
    shares = []
    for number in range(5 if session.options.quick else COMPARED):
        near = await search_keys(store, asked, what, number)
        true = await search_keys(store, asked, what, number, exact=True)
        shares.append(len(near & true) / max(1, len(true)))
    note = f"{len(shares)} searches, the least {min(shares):.1f}"
    session.add(
        NAME, f"recall, {what}, {kind}", "faiss", "", (float(np.mean(shares)),), records=size,
        target=f"recall, {what}", note=note,
    )  # fmt: skip


async def search_keys(store: Any, asked: Any, what: str, number: int, **how: Any) -> set[Any]:
    page = await store.search(vector=asked[number], limit=TOP, **NARROWED[what](number), **how)
    return {hit.item.key for hit in page}


def _enough(floor: Floor, asked: Any) -> tuple[int, float]:
    """How many vectors FAISS alone has to compare to find 0.98 of the nearest, or the most of `RESCORED`; and what it finds."""
    true = [set(floor.scan(vector)) for vector in asked[:COMPARED]]
    for count in RESCORED:
        near = [set(floor.faiss(vector, count)) for vector in asked[:COMPARED]]
        share = float(np.mean([len(a & b) / len(a) for a, b in zip(true, near, strict=True)]))
        if share >= 0.98:
            break
    return count, share


def _by_hand(way: Callable[[Any], Any], asked: Any, number: int) -> None:
    way(asked[number % ASKED])


def _peers(session: Session, kind: str, rows: Any, asked: Any) -> None:
    """Graphs in memory: time to build, to search, and recall, over all and over those that pass a filter."""
    size = len(rows)
    passing = {
        NEAREST: None,
        f"{NEAREST} of 10 %": np.random.default_rng(1).permutation(size)[: size // 10],
        f"{NEAREST} of 1 %": np.random.default_rng(2).permutation(size)[: size // 100],
        f"{NEAREST} in one namespace": np.arange(7, size, workload.NAMESPACES),
    }
    for peer, way in {"hnswlib": _hnswlib, "FAISS HNSW": _faiss_hnsw}.items():
        if peer == "hnswlib" and find_spec("hnswlib") is None:
            print("faiss: without hnswlib beside it (pip install hnswlib)", file=sys.stderr)
            continue
        start = time.perf_counter()
        ask = way(rows)
        session.add(NAME, f"{peer}: build, {kind}", "faiss", "s", (time.perf_counter() - start,), records=size)
        for what, places in passing.items():
            spent, shares = [], []
            for vector in asked[:COMPARED]:
                begun = time.perf_counter()
                found = ask(vector, places)
                spent.append((time.perf_counter() - begun) * 1e3)
                among = np.arange(size) if places is None else places
                true = among[np.argsort(-(rows[among] @ vector))[:TOP]]
                shares.append(len(set(true.tolist()) & set(found)) / TOP)
            session.add(NAME, f"{peer}: {what}, {kind}", "faiss", "ms", (float(np.median(spent)),), records=size)
            note = f"the least {min(shares):.1f}"
            session.add(
                NAME, f"{peer}: recall, {what}, {kind}", "faiss", "", (float(np.mean(shares)),), records=size, note=note
            )


Ask = Callable[[Any, Any], list[int]]


def _hnswlib(rows: Any) -> Ask:
    import hnswlib

    index = hnswlib.Index(space="ip", dim=rows.shape[1])
    index.init_index(max_elements=len(rows), M=16, ef_construction=100)
    index.add_items(rows)
    index.set_ef(64)
    index.set_num_threads(1)

    def ask(vector: Any, places: Any) -> list[int]:
        if places is None:
            return list(index.knn_query(vector, k=TOP)[0][0].tolist())
        allowed = set(places.tolist())
        try:
            return list(index.knn_query(vector, k=TOP, filter=allowed.__contains__)[0][0].tolist())
        except RuntimeError:  # it has found fewer than it was asked for, and gives none
            return []

    return ask


def _faiss_hnsw(rows: Any) -> Ask:
    import faiss

    faiss.omp_set_num_threads(2)
    index = faiss.IndexHNSWFlat(rows.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 80
    index.add(rows)
    faiss.omp_set_num_threads(1)

    def ask(vector: Any, places: Any) -> list[int]:
        how = faiss.SearchParametersHNSW(efSearch=64)
        if places is not None:
            chosen = faiss.IDSelectorBatch(places)
            how = faiss.SearchParametersHNSW(efSearch=64, sel=chosen)
        return list(index.search(vector[None], TOP, params=how)[1][0].tolist())

    return ask


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_grown(*json.loads(sys.argv[1])))))
