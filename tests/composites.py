"""The compositions that tests of composites run over, and members that fail at any step."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from memory import MemoryStore
from memory.backends.composite import MirroredStore, Promotion, Route, RoutedStore, TieredStore
from memory.backends.in_memory import InMemoryStore
from memory.backends.sqlite import SqliteStore
from memory.errors import BackendUnavailable
from memory.layers import Hook, Layer
from memory.ops import Result, Status

STEPS = ("before", "after")
WHOLE_STEPS = ("before", "request lost", "reply lost")
WRITE_STEPS = ("before", "request lost", "half", "reply lost")

Cell = tuple[str, str, str]
"""A member, the hook that was called of it, and the step at which the call failed."""
met: ContextVar[list[Cell]] = ContextVar("met")
"""Where whoever calls wants to know which faults its call met."""


class Faults:
    """Layers of members that fail: before a call, without its request having arrived, half way, or with its reply lost.

    ``rate``: the share of calls that fail. Of the steps that a call has, the one is taken that was seen least of this
    member and hook, and a call with a step that was never seen fails every other time, so that rare ones are reached.
    ``injected``: how many have failed.
    """

    def __init__(self, seed: int = 0, rate: float = 0.0) -> None:
        self._random = random.Random(seed)
        self.rate = rate
        self.injected: Counter[Cell] = Counter()
        self.down: set[str] = set()
        """Members that are down: every call of them fails before it is sent."""

    @property
    def total(self) -> int:
        return sum(self.injected.values())

    def _strikes(self, member: str, hook: str, args: Sequence[Any]) -> str | None:
        """The step at which a call fails; None for one that does not."""
        steps = STEPS
        if hook == "write":
            ops, atomic = args
            # One write is there or not, and so is a batch that is all or nothing: neither can stop half way.
            steps = WRITE_STEPS if len(ops) > 1 and not atomic else WHOLE_STEPS
        seen = {step: self.injected[member, hook, step] for step in steps}
        least = min(seen.values())
        if self._random.random() >= (self.rate if least else self.rate and 0.5):
            return None
        return self._random.choice([step for step, count in seen.items() if count == least])

    def of(self, member: str) -> tuple[Layer, ...]:
        """The layers of one member."""

        def layer(name: str, hook: Hook) -> Hook:
            async def faulty(*args: Any) -> Any:
                if member in self.down:
                    raise BackendUnavailable(f"{member} is down")
                step = self._strikes(member, name, args)
                if step is None:
                    return await hook(*args)
                self.injected[member, name, step] += 1
                met.get([]).append((member, name, step))
                if step == "before":
                    raise BackendUnavailable(f"{member} failed")
                if name != "write":
                    await hook(*args)
                    raise BackendUnavailable(f"{member} failed after it had answered")
                ops, atomic = args
                done = {"request lost": 0, "half": len(ops) // 2, "reply lost": len(ops)}[step]
                if done:
                    await hook(ops[:done], atomic)
                return [Result(Status.UNKNOWN) for _ in ops]

            return faulty

        return (layer,)


def memory(name: str, faults: Faults) -> MemoryStore:
    return InMemoryStore(layers=faults.of(name))


def file(place: Path, name: str, faults: Faults, **options: Any) -> MemoryStore:
    return SqliteStore(place / f"{name}.db", synchronous="off", layers=faults.of(name), **options)


def tiered(place: Path, faults: Faults, **options: Any) -> TieredStore:
    return TieredStore(memory("fast", faults), file(place, "truth", faults), **options)


def tiered_files(place: Path, faults: Faults, **options: Any) -> TieredStore:
    return TieredStore(file(place, "fast", faults), file(place, "truth", faults), **options)


def mirrored(place: Path, faults: Faults, **options: Any) -> MirroredStore:
    mirrors = {"copy": memory("copy", faults), "index": file(place, "index", faults)}
    return MirroredStore(file(place, "primary", faults), mirrors, vectors="index", text="index", **options)


def mirrored_in_memory(place: Path, faults: Faults, **options: Any) -> MirroredStore:
    mirrors = {"copy": memory("copy", faults), "index": memory("index", faults)}
    return MirroredStore(file(place, "primary", faults), mirrors, vectors="index", text="index", **options)


def by_namespace(place: Path, faults: Faults, **options: Any) -> RoutedStore:
    routes = {
        "a": Route(file(place, "a", faults), under="a"),
        "n": Route(file(place, "n", faults), namespace="n"),
        "rest": Route(file(place, "rest", faults)),
    }
    return RoutedStore(routes, **options)


def by_content(place: Path, faults: Faults, **options: Any) -> RoutedStore:
    routes = {
        "working": Route(file(place, "working", faults), kind="working", promote=Promotion(accesses=3), order=1),
        "tagged": Route(file(place, "tagged", faults), tag="x", order=2),
        "odd": Route(file(place, "odd", faults), where={"metadata.n": {"$in": [1, 3, 5, 7, 9]}}, order=3),
        "rest": Route(file(place, "rest", faults)),
    }
    return RoutedStore(routes, journal=file(place, "journal", faults), **options)


def nested(place: Path, faults: Faults, **options: Any) -> TieredStore:
    """A fast tier before a mirrored pair, of which one part is routed. Breakers are as patient inside as outside."""
    patience = {name: options[name] for name in ("failures", "recovery") if name in options}
    routes = {"a": Route(file(place, "a", faults), under="a"), "rest": Route(file(place, "rest", faults))}
    copy = RoutedStore(routes, layers=faults.of("routed"), **patience)
    truth = MirroredStore(file(place, "primary", faults), {"copy": copy}, layers=faults.of("truth"), **patience)
    return TieredStore(memory("fast", faults), truth, **options)


COMPOSITIONS: dict[str, Callable[..., Any]] = {
    "tiered": tiered,
    "tiered_files": tiered_files,
    "mirrored": mirrored,
    "mirrored_in_memory": mirrored_in_memory,
    "by_namespace": by_namespace,
    "by_content": by_content,
    "nested": nested,
}


def queued(place: Path, faults: Faults, **options: Any) -> MirroredStore:
    """Writes wait while the primary is down."""
    mirrors = {"copy": memory("copy", faults)}
    queue = file(place, "queue", faults)
    return MirroredStore(file(place, "primary", faults), mirrors, queue=queue, **options)


def queued_and_stale(place: Path, faults: Faults, **options: Any) -> MirroredStore:
    """Writes wait, and reads go on, while the primary is down."""
    return mirrored_in_memory(place, faults, queue=file(place, "queue", faults), stale_reads=True, **options)


def stale(place: Path, faults: Faults, **options: Any) -> MirroredStore:
    """Reads go on while the primary is down, writes are refused."""
    primary, mirrors = file(place, "primary", faults), {"copy": file(place, "copy", faults)}
    return MirroredStore(primary, mirrors, vectors="copy", text="copy", stale_reads=True, **options)


def tiered_queued(place: Path, faults: Faults, **options: Any) -> TieredStore:
    """A fast tier before a truth whose writes wait while its primary is down."""
    patience = {name: options[name] for name in ("failures", "recovery") if name in options}
    truth = queued(place, faults, **patience)
    return TieredStore(memory("fast", faults), truth, **options)


OUTAGES: dict[str, Callable[..., Any]] = {
    "queued": queued,
    "queued_and_stale": queued_and_stale,
    "stale": stale,
    "tiered_queued": tiered_queued,
}
"""Compositions that go on, by half, while their primary is down."""
