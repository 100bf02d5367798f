"""Whose turn it is to compute on the loop: work comes in slices of half a millisecond, one slice to a turn of the loop.

Without the second half slices would add up: a turn of the loop runs every task that is ready, and as many that compute as
became ready together would hold it together.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextvars import ContextVar
from weakref import WeakKeyDictionary

SLICE_SECONDS = 0.0005
_resumed: ContextVar[float] = ContextVar("resumed", default=0.0)
_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, _Turn] = WeakKeyDictionary()


def is_due() -> bool:
    """Whether this task has computed for a slice since it last let others run, however many steps that were."""
    return time.perf_counter() - _resumed.get() > SLICE_SECONDS


def rested() -> None:
    """Say that this task has just waited for an answer: others have run meanwhile."""
    _resumed.set(time.perf_counter())


async def pause() -> None:
    """Let other tasks run, and come back in a turn that has room for a slice."""
    await asyncio.sleep(0)
    await own_turn()
    rested()


async def own_turn() -> None:
    """Before a task computes: wait for a turn of the loop in which nobody has computed for a slice yet.

    First come, first served. It leaves no word in the task's context, which a collection of garbage would walk through.
    """
    loop = asyncio.get_running_loop()
    turn = _turns.get(loop)
    if turn is None:
        turn = _turns[loop] = _Turn()
    if not turn.taken:
        turn.begin(loop)
    elif turn.waiting or time.perf_counter() - turn.began > SLICE_SECONDS:
        await turn.come(loop)


class _Turn:
    """A loop's present turn, and who waits for another. It is taken until whoever is next begins or `_end` is called."""

    def __init__(self) -> None:
        self.taken = False
        self.began = 0.0
        self.waiting: deque[asyncio.Future[None]] = deque()

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """This turn is the running task's."""
        self.taken, self.began = True, time.perf_counter()
        self._pass_on(loop)

    async def come(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait until all who came before have had a turn."""
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
