"""What waits for the writer, how much of it may be committed on the loop, and letting go of what was written."""

from __future__ import annotations

import time
from collections.abc import Iterable

from memory.backends.sqlite.planning import Unit
from memory.backends.sqlite.workers import Breather, Job
from memory.ops import Put

QUICK_OPS = 8
QUICK_BYTES = 32 * 1024
QUICK_SECONDS = 0.002
PAUSE_SECONDS = 0.02
LONGEST_PAUSE = 1.0
LET_GO = 16
"""Writes freed in one step."""


class Request:
    """One call of the hook."""

    __slots__ = ("job", "size", "unit")

    def __init__(self, unit: Unit, job: Job) -> None:
        self.unit = unit
        self.job = job
        self.size = sum(len(one.op.body) + len(one.op.embedding or b"") for one in unit.ops if type(one.op) is Put)

    @property
    def units(self) -> list[Unit]:
        """What can fail alone."""
        if self.unit.atomic:
            return [self.unit]
        return [Unit([one], atomic=False) for one in self.unit.ops]


def small_group(waiting: Iterable[Request]) -> list[Request]:
    """The requests at the head of the queue that may be written on the loop in one go."""
    group: list[Request] = []
    ops = size = 0
    for request in waiting:
        ops += len(request.unit.ops)
        size += request.size
        if ops > QUICK_OPS or size > QUICK_BYTES:
            break
        group.append(request)
    return group


def let_go(group: Iterable[Request]) -> None:
    """Free what was written, from the thread, a few at a time: a thousand records at once would keep the GIL for 5 ms."""
    breather = Breather()
    for request in group:
        ops = request.unit.ops
        while ops:
            del ops[-LET_GO:]
            breather.breathe()


class Pace:
    """Whether commits on the loop are quick. After a slow one, on a disk that makes writes wait after all, there are none
    for a while: four times as long if the next is slow too, so that a processor that was away costs little."""

    def __init__(self, *, quick: bool) -> None:
        self._from = 0.0 if quick else float("inf")
        self._pause = PAUSE_SECONDS

    @property
    def is_quick(self) -> bool:
        """Whether one may be tried now."""
        return time.perf_counter() > self._from

    def took(self, started: float) -> None:
        """One has ended that began at this time of `time.perf_counter`."""
        now = time.perf_counter()
        if now - started <= QUICK_SECONDS:
            self._pause = PAUSE_SECONDS
            return
        self._from = now + self._pause
        self._pause = min(LONGEST_PAUSE, 4 * self._pause)
