"""Timing: single calls, sides that take turns, a heartbeat that notices when the event loop is held."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import count, islice
from statistics import median
from typing import Any, TypeVar

from benchmarks.figures import percentile

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
    found = await turns(list(sides.values()), rounds, calls, 10)
    return dict(zip(sides, found, strict=True))


def p50(rounds: Sequence[list[float]]) -> tuple[float, ...]:
    """The median of each round."""
    return tuple(median(spent) for spent in rounds)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, ...]:
    """Round by round."""
    return tuple(a / b for a, b in zip(ours, theirs, strict=True))


class Heartbeat:
    """How late a task woke up that wanted to run every millisecond: the longest hold of the event loop, in ms.

    ``worst_busy`` is the loop thread's own processor time during the worst beat: near ``worst`` when Python held the
    loop, near 0 when the thread waited (for the GIL, for a lock, for a core that another process had).
    """

    def __init__(self) -> None:
        self.late: list[float] = []
        self.worst = 0.0
        self.worst_busy = 0.0

    @property
    def p99(self) -> float:
        return percentile(self.late, 0.99) if self.late else 0.0

    async def _beat(self) -> None:
        wall, busy = time.perf_counter, time.thread_time
        while True:
            start, used = wall(), busy()
            await asyncio.sleep(0.001)
            late = (wall() - start - 0.001) * 1e3
            self.late.append(late)
            if late > self.worst:
                self.worst, self.worst_busy = late, (busy() - used) * 1e3


@asynccontextmanager
async def heartbeat() -> AsyncIterator[Heartbeat]:
    """A heart beats while the block runs."""
    heart = Heartbeat()
    task = asyncio.create_task(heart._beat())
    await asyncio.sleep(0.005)
    heart.late.clear()
    heart.worst = heart.worst_busy = 0.0
    try:
        yield heart
        await asyncio.sleep(0.002)  # so that a hold at the very end is noticed too
    finally:
        task.cancel()
        await asyncio.wait([task])


async def paced(call: Callable[[int], Awaitable[Any]], until: asyncio.Event, every: float = 0.001) -> list[float]:
    """ms from when each call was due to its end, one due every ``every`` seconds until the event is set.

    Counting from when it was due also counts the wait for a loop that somebody held.
    """
    spent: list[float] = []
    number, due = 0, time.perf_counter() + every
    while not until.is_set():
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        await call(number)
        spent.append((time.perf_counter() - due) * 1e3)
        number += 1
        # What was missed during a hold is asked for at once: each of those calls was late too.
        due += every
    return spent
