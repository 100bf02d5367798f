"""How long an event loop was held: a task that beats, and the longest silence between two beats."""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

LIMIT_SECONDS = 0.010
"""What the promise allows: nothing holds the loop longer than 10 ms."""


class Heartbeat:
    """Beats while the body of ``async with`` runs; ``worst`` is the longest silence in seconds.

    A silence is wall-clock time, so it also sees C calls and other threads that hold the GIL, which blockbuster
    does not. The machine's own noise is in it too: judge by ``assert_calm``, not by a single run.
    """

    def __init__(self, interval: float = 0.001) -> None:
        self.interval = interval
        self.worst = 0.0
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
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
        try:
            await task
        except asyncio.CancelledError:
            pass

    async def _beat(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(self.interval)
            now = time.perf_counter()
            self.worst = max(self.worst, now - last - self.interval)
            last = now


async def assert_calm(
    work: Callable[[], Awaitable[object]], *, limit: float = LIMIT_SECONDS, rounds: int = 3, tries: int = 3
) -> float:
    """Run the work ``rounds`` times; the median of the worst gaps must stay below ``limit`` seconds.

    A busy machine may stop this process for longer than the limit, so a bad median is measured again, up to
    ``tries`` times. Work that holds the loop by itself fails every time. Returns the median that passed.
    """
    medians: list[float] = []
    for _ in range(tries):
        gaps: list[float] = []
        for _ in range(rounds):
            gc.collect()  # so that the work is not charged for the garbage of what ran before
            async with Heartbeat() as heart:
                await work()
            gaps.append(heart.worst)
        medians.append(statistics.median(gaps))
        if medians[-1] < limit:
            return medians[-1]
    shown = ", ".join(f"{gap * 1000:.1f}" for gap in medians)
    raise AssertionError(
        f"the event loop was held for {shown} ms (medians of {rounds}); the limit is {limit * 1000:g} ms"
    )
