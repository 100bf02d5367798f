"""``python -m memory.testing machine``: random programs against the model, as many as asked for."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from memory.store import MemoryStore


def maker(backend: str) -> Any:
    """``make(place, **options)`` for in_memory, sqlite, or the ``module:Class`` of a store made with or without a path."""
    named = {"in_memory": "memory.backends.in_memory:InMemoryStore", "sqlite": "memory.backends.sqlite:SqliteStore"}
    module, _, name = named.get(backend, backend).partition(":")
    kind = getattr(import_module(module), name)
    known = signature(kind).parameters
    wants_path = "path" in known
    # What is shown here does not depend on fsync; the proofs under memory.testing.faults do.
    fast = {"synchronous": "off"} if "synchronous" in known else {}

    def make(place: Path, **options: Any) -> MemoryStore:
        options = {**fast, **options}
        store: MemoryStore = kind(place / "memory.db", **options) if wants_path else kind(**options)
        return store

    return make


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a proof by hand; 1 when the store and the model disagree."""
    top = argparse.ArgumentParser(prog="python -m memory.testing", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    machine = commands.add_parser("machine", help="random programs against a plain model")
    machine.add_argument("--backend", default="in_memory", help="in_memory, sqlite or module:Class (default in_memory)")
    machine.add_argument("--examples", type=int, default=1_000, help="programs to try (default 1000)")
    machine.add_argument("--steps", type=int, default=50, help="steps of each program (default 50)")
    machine.add_argument("--no-shrink", action="store_true", help="show the first program found, not the shortest")
    asked = top.parse_args(arguments)

    from memory.testing.machine import check

    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="memory-machine-") as folder:
        try:
            check(
                maker(asked.backend),
                Path(folder),
                examples=asked.examples,
                steps=asked.steps,
                shrink=not asked.no_shrink,
            )
        except Exception as error:
            sys.stderr.write(f"{asked.backend} and the model disagree: ")
            traceback.print_exception(error)  # with the program, as notes
            return 1
    seconds = time.perf_counter() - started
    sys.stdout.write(
        f"{asked.backend}: {asked.examples} programs of {asked.steps} steps agree with the model ({seconds:.0f} s)\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
