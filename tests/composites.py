"""The compositions that tests of composites run over, and members that fail at any step."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memory import MemoryStore
from memory.backends.composite import MirroredStore, Promotion, Route, RoutedStore, TieredStore
from memory.backends.in_memory import InMemoryStore
from memory.backends.sqlite import SqliteStore
from memory.errors import BackendUnavailable
from memory.layers import Hook, Layer
from memory.ops import Result, Status


class Faults:
    """Layers of members that fail: before a call, without its request having arrived, half way, or with its reply lost.

    ``rate``: the share of calls that fail. ``injected``: how many have, by member and step.
    """

    def __init__(self, seed: int = 0, rate: float = 0.0) -> None:
        self._random = random.Random(seed)
        self.rate = rate
        self.injected: dict[tuple[str, str, str], int] = {}
        self.down: set[str] = set()
        """Members that are down: every call of them fails before it is sent."""

    @property
    def total(self) -> int:
        return sum(self.injected.values())

    def of(self, member: str) -> tuple[Layer, ...]:
        """The layers of one member."""

        def layer(name: str, hook: Hook) -> Hook:
            async def faulty(*args: Any) -> Any:
                if member in self.down:
                    raise BackendUnavailable(f"{member} is down")
                if self._random.random() >= self.rate:
                    return await hook(*args)
                steps = ("before", "request lost", "half", "reply lost") if name == "write" else ("before", "after")
                step = self._random.choice(steps)
                self.injected[member, name, step] = self.injected.get((member, name, step), 0) + 1
                if step == "before":
                    raise BackendUnavailable(f"{member} failed")
                if name != "write":
                    await hook(*args)
                    raise BackendUnavailable(f"{member} failed after it had answered")
                ops, atomic = args
                done = 0 if step == "request lost" else len(ops) if step == "reply lost" or atomic else len(ops) // 2
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
    return RoutedStore(routes, journal=file(place, "journal", Faults()), **options)


def nested(place: Path, faults: Faults, **options: Any) -> TieredStore:
    """A fast tier before a mirrored pair, of which one part is routed."""
    routes = {"a": Route(file(place, "a", faults), under="a"), "rest": Route(file(place, "rest", faults))}
    copy = RoutedStore(routes, layers=faults.of("routed"))
    truth = MirroredStore(file(place, "primary", faults), {"copy": copy}, layers=faults.of("truth"))
    return TieredStore(memory("fast", faults), truth, **options)


COMPOSITIONS: dict[str, Callable[..., Any]] = {
    "tiered": tiered,
    "tiered_files": tiered_files,
    "mirrored": mirrored,
    "by_namespace": by_namespace,
    "by_content": by_content,
    "nested": nested,
}
