"""How long an event loop was held: a task that beats, and the longest silence between two beats."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from types import TracebackType
from typing import Self

LIMIT_SECONDS = 0.010
"""What the promise allows: nothing holds the loop longer than 10 ms."""


REFERENCE_SECONDS = 0.001
"""What `_known_work` takes on the machine that the limit is meant for."""
MOST_SLOW = 4.0
alone: Callable[[], AbstractContextManager[object]] = nullcontext
"""Entered while a silence is measured again. A run of tests in several processes sets it to what keeps the others still:
they may have been the cause."""


def limit_now() -> float:
    """The limit in seconds; eight times as much while every line is traced (coverage, a debugger)."""
    monitored = getattr(sys, "monitoring", None)
    traced = sys.gettrace() is not None or (monitored is not None and monitored.get_tool(monitored.COVERAGE_ID))
    return LIMIT_SECONDS * 8 if traced else LIMIT_SECONDS


def slowness() -> float:
    """How many times slower than it should be this machine is just now, from 1 to 4.

    A virtual machine whose host is busy may run everything at a third of its speed for a while, without any process
    here to blame, and tell nobody: the same known work takes so much longer. What is measured next to it does too.
    """
    took = []
    for _ in range(5):
        began = time.perf_counter()
        _known_work()
        took.append(time.perf_counter() - began)
    return min(MOST_SLOW, max(1.0, statistics.median(took) / REFERENCE_SECONDS))


def _known_work() -> int:
    """Python as this library does it: objects made, strings formatted, JSON written, a few hundred times."""
    made = [{"id": f"{i:08x}", "content": f"a note about {i}, a line of words", "tags": [i, i + 1]} for i in range(320)]
    return sum(len(json.dumps(one)) for one in made)


@contextmanager
def queueing() -> Iterator[Callable[[], float]]:
    """Tells how many seconds this thread was ready to run in all and had no core; always 0 where the system does not tell.

    It reads the file without giving up the GIL, as ``os.pread`` would: a thread that takes it would hold the loop.
    """
    try:
        handle = os.open("/proc/thread-self/schedstat", os.O_RDONLY)
    except OSError:
        yield lambda: 0.0
        return
    pread, text = ctypes.PyDLL(None).pread, ctypes.create_string_buffer(100)
    pread.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64)

    def queued() -> float:
        size = pread(handle, text, 100, 0)
        return int(text.raw[:size].split()[1]) / 1e9

    try:
        yield queued
    finally:
        os.close(handle)


class Heartbeat:
    """Beats while the body of ``async with`` runs; ``worst`` is the longest silence in seconds.

    A silence is wall-clock time, so it also sees C calls and other threads that hold the GIL, which blockbuster does
    not. The time this thread only waited for a processor is taken off, where the system tells it (Linux).
    """

    def __init__(self, interval: float = 0.001) -> None:
        self.interval = interval
        self.worst = 0.0
        self._task: asyncio.Task[None] | None = None
        self._told = ExitStack()

    async def __aenter__(self) -> Self:
        self._queued = self._told.enter_context(queueing())
        self._task = asyncio.get_running_loop().create_task(self._beat())
        await asyncio.sleep(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        task = self._task
        assert task is not None
        # The last gap counts too: a body that never lets go is seen when it ends.
        await asyncio.sleep(self.interval)
        task.cancel()
        await asyncio.wait({task})
        self._told.close()

    def _clock(self) -> float:
        """Seconds of which none were spent in the run queue of a busy machine."""
        return time.perf_counter() - self._queued()

    async def _beat(self) -> None:
        last = self._clock()
        while True:
            await asyncio.sleep(self.interval)
            now = self._clock()
            self.worst = max(self.worst, now - last - self.interval)
            last = now


async def assert_calm(
    work: Callable[[], Awaitable[object]], *, limit: float | None = None, rounds: int = 3, tries: int = 3
) -> float:
    """Run the work up to ``rounds`` times, an odd number; the median of the worst gaps must stay below ``limit`` (``limit_now()``).

    A busy machine may stop this process for longer than the limit, so a bad median is measured again, ``alone``, up to
    ``tries`` times. Work that holds the loop by itself fails every time. Returns the median that passed, or what it is at most.
    """
    limit = limit_now() if limit is None else limit
    medians: list[float] = []
    for attempt in range(tries):
        with alone() if attempt else nullcontext():
            medians.append(await _median(work, rounds, limit))
        if medians[-1] < limit or medians[-1] < limit * slowness():
            return medians[-1]
    shown = ", ".join(f"{gap * 1000:.1f}" for gap in medians)
    raise AssertionError(
        f"the event loop was held for {shown} ms (medians of {rounds}); the limit is {limit * 1000:g} ms"
    )


async def _median(work: Callable[[], Awaitable[object]], rounds: int, limit: float) -> float:
    """The median of the worst gaps; once more than half of them are below the limit, what it is at most."""
    gaps: list[float] = []
    while len(gaps) < rounds and sum(gap < limit for gap in gaps) <= rounds // 2:
        gc.collect()  # so that the work is not charged for the garbage of what ran before
        async with Heartbeat() as heart:
            await work()
        gaps.append(heart.worst)
    return sorted(gaps)[rounds // 2]
