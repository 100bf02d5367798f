"""Random programs against a plain model: what no list of sentences thinks of.

``python -m memory.testing machine --backend sqlite --examples 1000`` runs it by hand. In a test::

    from memory.testing.machine import check

    def test_random_programs_agree_with_the_model(tmp_path):
        check(lambda place, **options: MyStore(place / "data", **options), tmp_path)

A run is 50 examples of 50 steps, the same ones each time; ``MEMORY_MACHINE_EXAMPLES`` (and ``MEMORY_MACHINE_STEPS``)
in the environment ask for more, and a run of more than 50 tries others each time.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from memory.store import MemoryStore
from memory.testing.machine.nearness import VectorMachine
from memory.testing.machine.rules import StoreMachine

EXAMPLES, STEPS = 50, 50
MakeAt = Callable[..., MemoryStore]
"""``make(place, **options)``: a store, not opened, whose data is at the place."""


def check(
    make: MakeAt, place: Path, *, examples: int | None = None, steps: int | None = None, shrink: bool = True
) -> None:
    """Run the machine over stores made by ``make``, each in a new folder below ``place``.

    Raises AssertionError with the shortest program found that the store and the model disagree about; with
    ``shrink=False`` with the first one found.
    """
    asked = examples or int(os.environ.get("MEMORY_MACHINE_EXAMPLES", "0")) or EXAMPLES
    chosen = settings(
        max_examples=asked,
        stateful_step_count=steps or int(os.environ.get("MEMORY_MACHINE_STEPS", "0")) or STEPS,
        deadline=None,
        derandomize=asked <= EXAMPLES,
        database=None,
        print_blob=False,
        phases=(Phase.generate, Phase.shrink) if shrink else (Phase.generate,),
        suppress_health_check=[HealthCheck(check) for check in HealthCheck],  # pyright knows no enum here
    )
    runs: list[Any] = []

    def start() -> VectorMachine:
        runs.append(None)
        return VectorMachine(make, place / f"run-{len(runs)}")

    run_state_machine_as_test(start, settings=chosen)  # type: ignore[arg-type]  # any callable will do


__all__ = ["EXAMPLES", "STEPS", "StoreMachine", "VectorMachine", "check"]
