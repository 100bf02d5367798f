"""Following a member's feed: what another process has written reaches the copies here within a bounded time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from memory.errors import Closed, MemoryStoreError
from memory.ops import Event, FeedRead
from memory.telemetry import get_logger

if TYPE_CHECKING:
    from memory.backends.composite.members import Member

POLL_SECONDS = 0.05
PAGE = 500
_log = get_logger("composite")


class Follower:
    """Hands the events of a feed on, in order, each page until it is applied.

    ``apply`` takes events; ``lost`` is called instead where the feed does not reach back to where this follower stands, and
    has to bring everything up to date; ``kept`` writes down how far it is.
    """

    def __init__(
        self,
        source: Member,
        apply: Callable[[list[Event]], Awaitable[None]],
        lost: Callable[[], Awaitable[None]],
        kept: Callable[[int], Awaitable[None]],
        label: str,
    ) -> None:
        self.source, self.label = source, label
        self._apply, self._lost, self._kept = apply, lost, kept
        self.position: int | None = None
        self.head = 0
        self.wake = asyncio.Event()
        self.error: str | None = None
        """Why it does not get on."""
        self._known = float("-inf")
        self._written = -1
        self._turn = asyncio.Lock()

    @property
    def behind(self) -> float:
        """Seconds for which something committed may have gone unnoticed; infinite before the first look."""
        return time.monotonic() - self._known

    async def step(self) -> bool:
        """Apply a page of events; whether that was the last there is. Raises what the members raise."""
        async with self._turn:
            asked = time.monotonic()
            after = self.position
            events = await self.source.ask(
                self.source.store._do_feed,
                FeedRead(after=after, limit=PAGE, now=self.source.store._clock()),
            )
            self.head = events.head
            if after is None or after < events.oldest - 1 or after > events.head:
                await self._lost()
                self.position = events.head
            elif events.events:
                await self._apply(events.events)
                self.position = events.events[-1].seq
            ended = len(events.events) < PAGE and after is not None
            if ended:
                self._known = asked
            self.error = None
            if self._written != self.position:
                assert self.position is not None
                await self._kept(self.position)
                self._written = self.position
            return ended

    async def drain(self) -> None:
        """Apply everything that is committed by now."""
        while not await self.step():
            pass

    def starts_at(self, position: int | None) -> None:
        """Where an earlier follower came to; None: nobody knows."""
        self.position, self._known = position, float("-inf")
        self._written = -1 if position is None else position

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            try:
                ended = await self.step()
            except Closed:
                return
            except MemoryStoreError as error:
                if self.error is None:
                    _log.warning("cannot follow", what=self.label, error=error)
                self.error, ended = str(error), True
            if not ended:
                continue
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self.wake.wait()
            except TimeoutError:
                pass
            self.wake.clear()
