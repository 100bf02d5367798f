"""Timing: single calls, sides that take turns, a heartbeat that notices when the event loop is held."""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from itertools import count, islice
from math import ceil
from statistics import median
from typing import Any, TypeVar

from benchmarks.figures import percentile
from benchmarks.stillness import LATE, Stillness
from memory.testing.heartbeat import queueing

Side = Callable[[int], Awaitable[list[float]]]
"""Makes that many calls and returns what each took, in µs."""
Rounds = list[list[float]]
"""Of one side: round -> µs of each call."""
K = TypeVar("K", bound=Hashable)


async def timed(call: Callable[[int], Awaitable[Any]], numbers: Sequence[int]) -> list[float]:
    """µs of each awaited call, one after the other."""
    clock, spent = time.perf_counter_ns, []
    for number in numbers:
        start = clock()
        await call(number)
        spent.append((clock() - start) / 1e3)
    return spent


def timed_sync(call: Callable[[int], Any], numbers: Sequence[int]) -> list[float]:
    """µs of each call, one after the other."""
    clock, spent = time.perf_counter_ns, []
    for number in numbers:
        start = clock()
        call(number)
        spent.append((clock() - start) / 1e3)
    return spent


def awaiting(call: Callable[[int], Awaitable[Any]]) -> Side:
    """A side whose calls are numbered from 0 on."""
    numbers = count()

    async def side(calls: int) -> list[float]:
        return await timed(call, list(islice(numbers, calls)))

    return side


def calling(call: Callable[[int], Any]) -> Side:
    """The same of a call that is not awaited."""
    numbers = count()

    async def side(calls: int) -> list[float]:
        await asyncio.sleep(0)
        return timed_sync(call, list(islice(numbers, calls)))

    return side


async def turns(sides: Sequence[Side], rounds: int, calls: int, block: int = 50) -> list[Rounds]:
    """The sides by turns in small blocks, so that a busy minute hits all of them: [side][round] -> µs of each call."""
    found: list[Rounds] = [[[] for _ in range(rounds)] for _ in sides]
    for side in sides:
        await side(min(block, calls))
    for number in range(rounds):
        for start in range(0, calls, block):
            count = min(block, calls - start)
            order = range(len(sides)) if (start // block + number) % 2 else reversed(range(len(sides)))
            for which in order:
                found[which][number] += await sides[which](count)
    return found


async def fitted(sides: Mapping[K, Side], rounds: int, most: int, seconds: float) -> dict[K, Rounds]:
    """The sides by turns. Of slow ones fewer calls are made (10 at least), so that a round takes about so many seconds."""
    for side in sides.values():
        await side(1)
    started = time.perf_counter()
    for side in sides.values():
        await side(1)
    calls = max(10, min(most, round(seconds / (time.perf_counter() - started))))
    found = await turns(list(sides.values()), rounds, calls)
    return dict(zip(sides, found, strict=True))


def p50(rounds: Sequence[list[float]]) -> tuple[float, ...]:
    """The median of each round."""
    return tuple(median(spent) for spent in rounds)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, ...]:
    """Round by round."""
    return tuple(a / b for a, b in zip(ours, theirs, strict=True))


class Heartbeat:
    """How late a task woke up that wanted to run every millisecond: the longest hold of the event loop, in ms.

    What only the machine took is taken off, where the system tells it (Linux): the time that the loop's thread waited for a
    core that others had, or that a core stood still and the thread did not compute. ``worst_busy`` is the thread's own processor time during the worst
    beat: near ``worst`` when Python held the loop, near 0 when the thread waited for the GIL or for a lock, whose owner may
    have waited for a core.
    """

    def __init__(self) -> None:
        self.late: list[float] = []
        self.worst = 0.0
        self.worst_busy = 0.0
        self.worst_read = 0
        """Pages that were read from disk during the worst beat, of files that the process has mapped, as its code is."""
        self.still = 0.0
        """The longest time of a late beat that a core stood still, in ms."""
        self._long: list[tuple[int, float, float, float, float, int]] = []
        """Of those that were late by more than `LATE`: which of all, from when to when, seconds of waiting, and of computing,
        and pages read."""

    @property
    def p99(self) -> float:
        return percentile(self.late, 0.99) if self.late else 0.0

    async def _beat(self) -> None:
        wall, busy = time.perf_counter, time.thread_time
        with queueing() as queued:
            while True:
                start, used, waited, read = wall(), busy(), queued(), _pages_read()
                await asyncio.sleep(0.001)
                end = wall()
                waiting = queued() - waited
                self.late.append(max(0.0, end - start - 0.001 - waiting) * 1e3)
                if end - start > 0.001 + LATE:
                    self._long.append((len(self.late) - 1, start, end, waiting, busy() - used, _pages_read() - read))

    def _judge(self, still: Stillness | None) -> None:
        for number, start, end, waiting, used, read in self._long:
            stood = 0.0 if still is None else still.within(start, end)
            self.still = max(self.still, stood * 1e3)
            # A thread waits for its core while that stands still, too. It may have been another core: what the loop
            # computed meanwhile stays.
            held = end - start - 0.001 - waiting
            self.late[number] = late = max(0.0, min(held, max(held + waiting - stood, used))) * 1e3
            if late > self.worst:
                self.worst, self.worst_busy, self.worst_read = late, used * 1e3, read


def _pages_read() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_majflt


@asynccontextmanager
async def heartbeat(still: Stillness | None = None) -> AsyncIterator[Heartbeat]:
    """A heart beats while the block runs."""
    heart = Heartbeat()
    task = asyncio.create_task(heart._beat())
    await asyncio.sleep(0.005)
    heart.late.clear()
    heart._long.clear()
    try:
        yield heart
        await asyncio.sleep(0.002)  # so that a hold at the very end is noticed too
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.result()  # it has failed
        heart._judge(still)


async def paced(call: Callable[[int], Awaitable[Any]], until: asyncio.Event, every: float = 0.001) -> list[float]:
    """ms from when each call was due to its end, one due every ``every`` seconds until the event is set.

    Counting from when it was due also counts the wait for a loop that somebody held. All that fell due meanwhile are made
    then, as callers would make them who do not wait for each other.
    """
    clock, spent = time.perf_counter, []
    number, due = 0, clock() + every
    while not until.is_set():
        await asyncio.sleep(max(0.0, due - clock()))
        for _ in range(max(1, ceil((clock() - due) / every))):
            await call(number)
            spent.append((clock() - due) * 1e3)
            number, due = number + 1, due + every
    return spent


@contextmanager
def collections() -> Iterator[list[float]]:
    """How long each collection of garbage takes meanwhile, in milliseconds.

    What was there before is left out: what a benchmark itself holds is not the store's to be collected.
    """
    spent: list[float] = []
    began = 0.0

    def note(phase: str, info: dict[str, int]) -> None:
        nonlocal began
        if phase == "start":
            began = time.perf_counter()
        else:
            spent.append((time.perf_counter() - began) * 1_000)

    gc.collect()
    gc.freeze()
    gc.callbacks.append(note)
    try:
        yield spent
    finally:
        gc.callbacks.remove(note)
        gc.unfreeze()
