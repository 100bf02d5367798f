"""The differential test: one random sequence of operations on several stores at once, each step's outcomes compared.

::

    from memory.testing.differential import check
    from memory.testing.making import maker

    check({"in_memory": maker("in_memory"), "mine": make}, tmp_path)

Same ids, order, fields and typed errors, step by step: versions as ranks, scores to 1e-5, vectors exact, one clock for
all. ``python -m memory.testing differential --backend in_memory --backend sqlite --backend URL`` runs it by hand.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec

from memory.clock import ManualClock
from memory.testing.differential.running import Outcome, Score, Store
from memory.testing.differential.steps import Step, sequence
from memory.testing.making import MakeAt

TOLERANCE = 1e-5
"""Of scores."""
SHOWN = 300
"""Characters of an outcome that a message shows."""


class Disagreement(msgspec.Struct):
    """At which step which store said what."""

    at: int
    step: Step
    reference: str
    other: str
    where: str
    expected: Any
    found: Any

    def __str__(self) -> str:
        names = max(len(self.reference), len(self.other))
        said = [
            f"{name:<{names}} {_brief(one)}"
            for name, one in ((self.reference, self.expected), (self.other, self.found))
        ]
        return f"step {self.at + 1}: {self.step}\nthe outcomes differ at {self.where or 'the whole'}:\n" + "\n".join(
            said
        )


class Mismatch(AssertionError):
    """Two stores disagree. The message has the step, where the outcomes differ, and the shortest program found."""


def check(
    makes: Mapping[str, MakeAt], place: Path, *, steps: int = 2_000, seed: int = 1, shrink_seconds: float = 60.0
) -> Counter[str]:
    """Run a random sequence on stores of every kind in new folders below ``place``; the first is the reference.

    Returns how often each operation came, and each error. Raises Mismatch; looks at most so long for a shorter program.
    """
    program = sequence(steps, seed)
    tally: Counter[str] = Counter()
    found = asyncio.run(run(makes, program, place / "all", tally))
    if found is None:
        return tally
    short, found_short = _shortest(makes, program[: found.at + 1], found, place, time.monotonic() + shrink_seconds)
    lines = [f"  {number + 1} {step}" for number, step in enumerate(short)]
    raise Mismatch(
        f"{found.other} and {found.reference} disagree at {found}\n\n"
        f"the shortest program found ({len(short)} of {found.at + 1} steps):\n"
        + "\n".join(lines)
        + f"\n\n{found_short}"
    )


async def run(
    makes: Mapping[str, MakeAt], program: Sequence[Step], place: Path, tally: Counter[str] | None = None
) -> Disagreement | None:
    """The first disagreement about a program, if there is any."""
    clock = ManualClock()
    async with AsyncExitStack() as stack:
        feed = atomic = True
        for number, make in enumerate(makes.values()):
            declared = make(place / f"declared-{number}").capabilities
            feed, atomic = feed and declared.feed, atomic and declared.atomic_batches
        stores: list[Store] = []
        for number, (name, make) in enumerate(makes.items()):
            own = place / f"{number}"
            await asyncio.to_thread(own.mkdir, parents=True)
            store = Store(name, make, own, clock, feed=feed)
            store.atomic = atomic
            await store.open()
            stack.push_async_callback(store.close)
            stores.append(store)
        for at, step in enumerate(program):
            if step.name == "advance":
                clock.advance(step.arguments["seconds"])
            outcomes = [await _outcome(store, step) for store in stores]
            if tally is not None:
                tally[step.name] += 1
                if isinstance(outcomes[0], dict) and "error" in outcomes[0]:
                    tally[outcomes[0]["error"]] += 1
            for store, outcome in zip(stores, outcomes, strict=True):
                differs = difference(outcomes[0], outcome)
                if differs is None and isinstance(outcome, Raw):
                    differs = ("", "no foreign error", outcome)
                if differs is not None:
                    return Disagreement(at, step, stores[0].name, store.name, *differs)
    return None


class Raw(msgspec.Struct, frozen=True):
    """An error that is not of this package: wrong wherever it comes from."""

    error: str


async def _outcome(store: Store, step: Step) -> Outcome:
    try:
        return await store.do(step)
    except Exception as error:
        return Raw(repr(error))


def difference(expected: Outcome, found: Outcome, where: str = "") -> tuple[str, Any, Any] | None:
    """(place, expected, found) of the first difference between two outcomes, or None."""
    if isinstance(expected, Score) and isinstance(found, Score):
        return None if abs(expected - found) <= TOLERANCE else (where, expected, found)
    if isinstance(expected, dict) and isinstance(found, dict):
        for name in [*expected, *(name for name in found if name not in expected)]:
            if name not in expected or name not in found:
                return (f"{where}.{name}", expected.get(name, "nothing"), found.get(name, "nothing"))
            differs = difference(expected[name], found[name], f"{where}.{name}")
            if differs is not None:
                return differs
        return None
    if isinstance(expected, list | tuple) and isinstance(found, list | tuple):
        for number, (one, other) in enumerate(zip(expected, found, strict=False)):
            differs = difference(one, other, f"{where}[{number}]")
            if differs is not None:
                return differs
        if len(expected) != len(found):
            return (f"{where} ({len(expected)} and {len(found)} entries)", expected, found)
        return None
    same = type(expected) is type(found) and expected == found and repr(expected) == repr(found)
    return None if same else (where, expected, found)


def _shortest(
    makes: Mapping[str, MakeAt], program: list[Step], found: Disagreement, place: Path, until: float
) -> tuple[list[Step], Disagreement]:
    """The program without what is not needed to make the stores disagree: ever smaller parts are left out."""
    tries, size = 0, len(program) // 2
    while size:
        start = 0
        while start < len(program) - 1 and time.monotonic() < until:
            shorter = program[:start] + program[min(start + size, len(program) - 1) :]
            tries += 1
            again = asyncio.run(run(makes, shorter, place / f"shorter-{tries}"))
            if again is None:
                start += size
            else:
                program, found = shorter[: again.at + 1], again
        size //= 2
    return program, found


def _brief(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."


__all__ = ["Disagreement", "Mismatch", "Step", "check", "difference", "run", "sequence"]
