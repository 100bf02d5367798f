"""Whose turn it is to compute on the loop: work comes in slices of half a millisecond, one slice to a turn of the loop.

Without the second half slices would add up: a turn of the loop runs every task that is ready, and as many that compute as
became ready together would hold it together.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from weakref import WeakKeyDictionary

SLICE_SECONDS = 0.0005
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turn] = WeakKeyDictionary()


def is_due() -> bool:
    """Whether a slice was computed in this turn of the loop, by whomever: then `pause`. The first who asks begins it."""
    loop = asyncio.get_running_loop()
    turn = _turns.get(loop) or _first(loop)
    if turn.taken:
        return turn.is_over()
    turn.begin(loop)
    return False


async def pause() -> None:
    """Let other tasks run, and come back in a turn that has room for a slice."""
    loop = asyncio.get_running_loop()
    turn = _turns.get(loop) or _first(loop)
    if not turn.taken:
        turn.begin(loop)
    await turn.come(loop)


async def own_turn() -> None:
    """Before a task computes: wait for a turn of the loop in which nobody has computed for a slice yet.

    First come, first served. It leaves no word in the task's context, which a collection of garbage would walk through.
    """
    loop = asyncio.get_running_loop()
    turn = _turns.get(loop) or _first(loop)
    if not turn.taken:
        turn.begin(loop)
    elif turn.waiting or turn.is_over():
        await turn.come(loop)


class _Turn:
    """A loop's present turn, and who waits for another. It is taken until whoever is next begins or `_end` is called."""

    def __init__(self) -> None:
        self.taken = False
        self.waiting: deque[asyncio.Future[None]] = deque()
        self._began = 0.0
        self._followed = False
        """Whether a task comes back in the next turn, ahead of those who wait."""

    def is_over(self) -> bool:
        """Whether a slice has been computed."""
        return time.perf_counter() - self._began > SLICE_SECONDS

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """This turn is the running task's."""
        self.taken, self._began = True, time.perf_counter()
        self._pass_on(loop)

    async def come(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for a turn after this one, until all who came before have had theirs."""
        if self._followed or self.waiting:
            await self._wait(loop)
            return
        self._followed = True  # mostly a task is alone: without a future that is one turn in place of two
        try:
            await asyncio.sleep(0)
        finally:
            self._followed = False
        if not self.taken:
            self.begin(loop)
        elif self.is_over():
            await self._wait(loop)

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        place: asyncio.Future[None] = loop.create_future()
        self.waiting.append(place)
        try:
            await place
        except BaseException:
            if place.done() and not place.cancelled():  # cancelled between being called and coming
                self._pass_on(loop)
            raise
        self.begin(loop)

    def _pass_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """The next turn is that of the first who waits, if anybody does."""
        while self.waiting:
            place = self.waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        loop.call_soon(self._end, loop)

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        self.taken = False
        if self.waiting:
            self.begin(loop)


def _first(loop: asyncio.AbstractEventLoop) -> _Turn:
    turn = _turns[loop] = _Turn()
    return turn
