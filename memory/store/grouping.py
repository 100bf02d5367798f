"""Callers of one turn of the loop share a call of the server: a get becomes part of one read by keys, a put of one batch.

A caller that finds nothing under way goes at once; those that come while it is under way wait for the end of the turn and
go together, in a task of their own, so that one that is cancelled leaves without breaking the statement off, which would
cost the connection. Each caller gets its own answer or error.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

A = TypeVar("A")
R = TypeVar("R")


class Group(Generic[A, R]):
    """Collects what callers ask; ``send`` answers many at once, in their order, with a result or an error for each. It is told
    since when (the loop's time) the first of them has waited, where it had to: that is part of what a deadline allows.

    ``size`` says how much one asks for, of which ``most`` fits into a group; ``at_once`` groups may be under way. With
    ``inline`` a caller that goes at once does so in its own task, which spares two turns of the loop. A group takes ``share``
    callers or more: as few as spread those that wait over all groups that may be under way, so that the server works on one
    while the answers of another are taken in.
    """

    def __init__(
        self,
        send: Callable[[list[A], float | None], Awaitable[list[R | BaseException]]],
        *,
        size: Callable[[A], int],
        most: int,
        inline: bool,
        at_once: float = math.inf,
        share: float = math.inf,
    ) -> None:
        self._send = send
        self._size = size
        self._most = most
        self._at_once = at_once
        self._share = share
        self._inline = inline
        self._asked: deque[tuple[A, asyncio.Future[R], float]] = deque()
        self._called = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._busy = 0

    @property
    def idle(self) -> bool:
        """Whether nothing is under way and nothing waits."""
        return not self._busy and not self._asked

    async def ask(self, what: A) -> R:
        """The answer to one caller."""
        if self._inline and self.idle:
            self._busy += 1
            try:
                (answer,) = await self._send([what], None)
            finally:
                self._busy -= 1
                self._wake()
            if isinstance(answer, BaseException):
                raise answer
            return answer
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        if self.idle:
            self._start([(what, future)], None)
        else:
            self._asked.append((what, future, loop.time()))
            self._wake()
        return await future

    def _wake(self) -> None:
        """Send what waits, at the end of this turn, if groups may go."""
        if self._asked and not self._called and self._busy < self._at_once:
            self._called = True
            asyncio.get_running_loop().call_soon(self._go)

    def _go(self) -> None:
        self._called = False
        share = max(self._share, len(self._asked) / self._at_once)
        while self._asked and self._busy < self._at_once:
            batch: list[tuple[A, asyncio.Future[R]]] = []
            room, since = self._most, None
            while self._asked and len(batch) < share and (not batch or self._size(self._asked[0][0]) <= room):
                what, future, asked = self._asked.popleft()
                if not future.done():  # else its caller has left
                    batch.append((what, future))
                    since = asked if since is None else since
                    room -= self._size(what)
            if not batch:
                return
            self._start(batch, since)

    def _start(self, batch: list[tuple[A, asyncio.Future[R]]], since: float | None) -> None:
        self._busy += 1
        task = asyncio.get_running_loop().create_task(self._answer(batch, since))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, batch: list[tuple[A, asyncio.Future[R]]], since: float | None) -> None:
        try:
            answers = await self._send([what for what, _ in batch], since)
            for (_, future), answer in zip(batch, answers, strict=True):
                if future.done():
                    continue
                if isinstance(answer, BaseException):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        except BaseException as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error) if not isinstance(error, asyncio.CancelledError) else future.cancel()
            if not isinstance(error, Exception):
                raise
        finally:
            self._busy -= 1
            self._wake()

    async def finish(self) -> None:
        """Wait for what is under way; what waits is sent too."""
        while self._tasks or self._asked:
            if self._tasks:
                await asyncio.wait(set(self._tasks))
            else:
                await asyncio.sleep(0)
