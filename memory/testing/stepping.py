"""A call that is run step by step, and cancelled at a suspension of its own: where it waits, not after so many turns of the loop."""

from __future__ import annotations

import asyncio
import enum
import itertools
from collections.abc import Awaitable, Callable, Generator
from typing import Any

BOTH = 10
"""So many of a call's first suspensions are tried both ways; those after them one way, by turns."""
DENSE = 20
"""So many of the first are all tried."""
GROWTH = 1.3
"""By which the distance between two tried ones grows from there on."""
LAST = 3
"""So many of the last are all tried."""


class When(enum.Enum):
    """When a call that waits is cancelled."""

    AT_ONCE = "at once"
    """As it begins to wait: what it waits for is given up."""
    ANSWERED = "answered"
    """As what it waits for has come, before the call learns of it: an answer, a lock or a connection that nobody takes."""


def sample(count: int) -> list[int]:
    """The suspensions to try of a call that has so many: the first, some between, ever further apart, and the last."""
    chosen = list(range(min(count, DENSE)))
    distance = 2.0
    while chosen and (following := chosen[-1] + int(distance)) < count - LAST:
        chosen.append(following)
        distance *= GROWTH
    return [*chosen, *range(max(DENSE, count - LAST), count)]


def moments(count: int) -> list[tuple[int, When]]:
    """Where and how to cancel a call that has so many suspensions."""
    found = [(at, when) for at in range(min(count, BOTH)) for when in When]
    ways = itertools.cycle(When)
    return [*found, *((at, next(ways)) for at in sample(count)[BOTH:])]


class Stepped:
    """One run of a call in a task of its own. ``suspended``: how often it has waited so far. ``reached``: whether it was cancelled."""

    def __init__(self, call: Callable[[], Awaitable[Any]], at: int | None = None, when: When = When.AT_ONCE) -> None:
        self._call = call
        self._at = at
        self._when = when
        self.suspended = 0
        self.reached = False
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> Any:
        return await _Steps(self._begin(), self._waits)

    async def _begin(self) -> Any:
        return await self._call()

    def _waits(self, future: Any) -> None:
        """The call has given the loop something to wait for (None: only a turn)."""
        if self.suspended == self._at:
            self.reached = True
            if self._when is When.AT_ONCE or not isinstance(future, asyncio.Future):
                self.task.cancel()
            else:
                # Before the task adds its own callback: it is cancelled first, and then woken.
                future.add_done_callback(lambda _: self.task.cancel())
        self.suspended += 1


class _Steps:
    """Runs a coroutine as ``await`` does, and tells each time what it waits for."""

    def __init__(self, coroutine: Any, waits: Callable[[Any], None]) -> None:
        self._coroutine = coroutine
        self._waits = waits

    def __await__(self) -> Generator[Any, Any, Any]:
        step, argument = self._coroutine.send, None
        while True:
            try:
                future = step(argument)
            except StopIteration as end:
                return end.value
            self._waits(future)
            try:
                step, argument = self._coroutine.send, (yield future)
            except BaseException as error:  # whatever the task is told, and GeneratorExit where it is thrown away
                step, argument = self._coroutine.throw, error
