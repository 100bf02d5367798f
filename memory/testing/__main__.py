"""``python -m memory.testing machine | differential``: proofs by hand, with as many programs as asked for."""

from __future__ import annotations

import argparse
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


PROOFS: dict[str, Callable[[argparse.Namespace, Path], str]] = {"machine": machine, "differential": differential}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a proof by hand; 1 when there is a disagreement."""
    asked = parser().parse_args(arguments)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="memory-testing-") as folder:
        try:
            said = PROOFS[asked.command](asked, Path(folder))
        except Exception as error:
            sys.stderr.write(f"{asked.backend}: {asked.command} disagrees: ")
            traceback.print_exception(error)  # with the program
            return 1
    sys.stdout.write(f"{said} ({time.perf_counter() - started:.0f} s)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
