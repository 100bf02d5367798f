"""``python -m memory.testing machine | differential | storm``: proofs by hand, as long as asked for."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from memory.testing.making import maker

BACKEND = "in_memory, sqlite, a server's URL, or module:Class"


def parser() -> argparse.ArgumentParser:
    """The arguments of all commands."""
    top = argparse.ArgumentParser(prog="python -m memory.testing", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    machine = commands.add_parser("machine", help="random programs against a plain model")
    machine.add_argument("--backend", default="in_memory", help=f"{BACKEND} (default in_memory)")
    machine.add_argument("--examples", type=int, default=1_000, help="programs to try (default 1000)")
    machine.add_argument("--steps", type=int, default=50, help="steps of each program (default 50)")
    machine.add_argument("--no-shrink", action="store_true", help="show the first program found, not the shortest")
    differential = commands.add_parser("differential", help="one random sequence on several backends at once")
    differential.add_argument(
        "--backend", action="append", required=True, help=f"{BACKEND}; the first is the reference"
    )
    differential.add_argument("--steps", type=int, default=2_000, help="operations (default 2000)")
    differential.add_argument("--seed", type=int, default=1, help="the same seed draws the same sequence (default 1)")
    differential.add_argument(
        "--seconds", type=float, default=60.0, help="to look for the shortest program (default 60)"
    )
    storm = commands.add_parser("storm", help="many callers, a third of their calls cancelled")
    storm.add_argument("--backend", default="in_memory", help=f"{BACKEND} (default in_memory)")
    storm.add_argument("--operations", type=int, default=20_000, help="calls in all (default 20000)")
    storm.add_argument("--callers", type=int, default=64, help="at the same time (default 64)")
    storm.add_argument("--cancelled", type=float, default=0.3, help="share of the calls (default 0.3)")
    storm.add_argument("--seed", type=int, default=1, help="the same seed makes the same choices (default 1)")
    return top


def machine(asked: argparse.Namespace, folder: Path) -> str:
    """Random programs against the model. Raises what shows the program."""
    from memory.testing.machine import check

    check(maker(asked.backend), folder, examples=asked.examples, steps=asked.steps, shrink=not asked.no_shrink)
    return f"{asked.backend}: {asked.examples} programs of {asked.steps} steps agree with the model"


def differential(asked: argparse.Namespace, folder: Path) -> str:
    """One sequence on several stores. Raises Mismatch."""
    from memory.testing.differential import check

    makes = {backend: maker(backend) for backend in asked.backend}
    check(makes, folder, steps=asked.steps, seed=asked.seed, shrink_seconds=asked.seconds)
    return f"{', '.join(makes)}: {asked.steps} steps agree"


def storm(asked: argparse.Namespace, folder: Path) -> str:
    """Cancellations on one store. Raises AssertionError with the table."""
    from memory.testing.storm import storm as raging

    async def run() -> str:
        make = maker(asked.backend)
        feed = {"feed": True} if make(folder).capabilities.feed else {}
        async with make(folder, **feed) as store:
            options = {"callers": asked.callers, "cancelled": asked.cancelled, "seed": asked.seed}
            outcome = await raging(store, operations=asked.operations, **options)
        if not outcome.ok:
            raise AssertionError(outcome.table())
        return outcome.table()

    return asyncio.run(run())


PROOFS: dict[str, Callable[[argparse.Namespace, Path], str]] = {
    "machine": machine,
    "differential": differential,
    "storm": storm,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a proof by hand; 1 when it fails."""
    asked = parser().parse_args(arguments)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="memory-testing-") as folder:
        try:
            said = PROOFS[asked.command](asked, Path(folder))
        except Exception as error:
            sys.stderr.write(f"{asked.backend}: {asked.command} failed: ")
            traceback.print_exception(error)  # with the program
            return 1
    sys.stdout.write(f"{said} ({time.perf_counter() - started:.0f} s)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
