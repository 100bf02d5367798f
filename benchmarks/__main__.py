"""The command: which benchmarks, at what size, on which backends; a table, and JSON where asked."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import (
    bulk,
    callers,
    composite,
    embedding,
    faiss,
    firestore,
    floors,
    footprint,
    migration,
    opening,
    overhead,
    points,
    postgres,
    redis,
    report,
    retrieval,
    searching,
    stalls,
    vectors,
)
from benchmarks.figures import Figure
from benchmarks.machine import facts
from benchmarks.session import SERVED, Options, Session

BENCHMARKS: dict[str, Callable[[Session], Awaitable[None]]] = {
    module.NAME: module.run
    for module in (
        floors,
        overhead,
        points,
        bulk,
        searching,
        vectors,
        callers,
        composite,
        redis,
        postgres,
        firestore,
        faiss,
        opening,
        stalls,
        footprint,
        embedding,
        migration,
        retrieval,
    )
}
BACKENDS = ("in_memory", "sqlite")
RETRIEVING = ("faiss", *SERVED)
"""Further backends, for retrieval only."""


def _mix(written: str) -> tuple[float, float]:
    text, vector = (float(part) for part in written.split(":"))
    return text, vector


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures the stores and puts the project's target beside each figure.",
        epilog="retrieval needs --locomo FILE and is left out without it. What the figures mean: docs/benchmarks.md",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)}; default all")
    parser.add_argument("--records", type=int, nargs="+", help="sizes of the stores (default 10000 100000)")
    parser.add_argument(
        "--backend",
        nargs="+",
        choices=(*BACKENDS, *RETRIEVING),
        default=list(BACKENDS),
        help=f"default {' and '.join(BACKENDS)}; the others, servers started, for retrieval only",
    )
    parser.add_argument("--size", type=int, default=faiss.SIZE, help=f"vectors of faiss (default {faiss.SIZE:,})")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured (default 5)")
    parser.add_argument("--quick", action="store_true", help="a small size and few rounds: does it run?")
    parser.add_argument("--no-vectors", action="store_true", help="records without their 384-dimension vector")
    parser.add_argument("--locomo", type=Path, metavar="FILE", help="a LoCoMo file, for retrieval")
    parser.add_argument("--embedder", metavar="NAME", help="of retrieval and embedding: minilm, or as a store takes it")
    parser.add_argument(
        "--weights",
        nargs="+",
        type=_mix,
        default=[],
        metavar="T:V",
        help="further mixes for retrieval's hybrid searches",
    )
    parser.add_argument("--directory", type=Path, help="where the stores' files go meanwhile (default: temporary)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--strict", action="store_true", help="exit with 1 when a target is missed")
    told = parser.parse_args(given)
    unknown = [name for name in told.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    if "retrieval" in told.names and told.locomo is None:
        parser.error("retrieval needs --locomo FILE")
    apart = [backend for backend in told.backend if backend in RETRIEVING]
    if apart and told.names != ["retrieval"]:
        parser.error(
            f"only retrieval runs on {apart[0]}; otherwise it is measured by the benchmarks faiss, redis, postgres"
        )
    if told.rounds < 1 or min(told.records or [1]) < 1 or told.size < 10_000:
        parser.error("--rounds and --records must be at least 1, --size 10,000")
    return told


async def measure(names: Sequence[str], options: Options, console: Console) -> list[Figure]:
    """Run benchmarks one after the other."""
    async with Session(options) as session:
        for name in names:
            started = time.perf_counter()
            session.begin()
            await BENCHMARKS[name](session)
            console.print(f"[dim]{name}: {time.perf_counter() - started:.0f} s[/]")
        return session.figures


def main(given: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; the exit code."""
    told = arguments(given)
    machine = facts()
    with tempfile.TemporaryDirectory(prefix="memory-benchmarks-", dir=told.directory) as directory:
        options = Options(
            directory=Path(directory),
            backends=tuple(dict.fromkeys(told.backend)),
            records=tuple(sorted(set(told.records or ([1_000] if told.quick else [10_000, 100_000])))),
            rounds=min(told.rounds, 2) if told.quick else told.rounds,
            size=told.size,
            calls=10 if told.quick else 400,
            vectors=not told.no_vectors,
            locomo=told.locomo,
            embedder=told.embedder,
            weights=tuple(told.weights),
            quick=told.quick,
        )
        figures = asyncio.run(measure(told.names or list(BENCHMARKS), options, Console(stderr=True)))
    report.show(figures, machine, Console(width=None if sys.stdout.isatty() else 250))
    if told.json is not None:
        report.write(figures, machine, told.json)
    return 1 if told.strict and any(figure.met is False for figure in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
