"""Counters that show a double effect: every step is acknowledged once, or certainly did not happen.

A counter is an item whose content is a number, raised by compare-and-set, and whose accesses are counted by touch. Both
have to be exactly what was acknowledged, however many replies were lost on the way and however often ``retry()`` ran.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from memory.errors import (
    AlreadyExists,
    BackendUnavailable,
    DeadlineExceeded,
    NotFound,
    Overloaded,
    UnknownOutcome,
    VersionConflict,
)
from memory.model import MemoryItem
from memory.ops import FeedRead
from memory.store import MemoryStore

AWAY = (BackendUnavailable, Overloaded, DeadlineExceeded)
"""The server cannot be used now; nothing was written."""
REFUSED = (AlreadyExists, VersionConflict, NotFound)
PAUSE_SECONDS = 0.02
SETTLE_SECONDS = 30.0
"""How long an unknown outcome is asked about while the server is away."""
UNDECIDED = 20
"""Answers of "unknown" from a server that is there, after which somebody else has written since: many, as replies of retries are lost
too, and a new connection to Postgres takes several."""


async def settled(error: UnknownOutcome, tally: Counter[str], foreign: list[str]) -> Any:
    """What an unknown write turns out to be: its result, None when it certainly did not happen, or the error itself."""
    tally["unknown outcomes"] += 1
    until, undecided = time.monotonic() + SETTLE_SECONDS, 0
    while time.monotonic() < until and undecided < UNDECIDED:
        try:
            result = await error.retry()
        except UnknownOutcome as again:
            error, undecided = again, undecided + 1
        except AWAY:
            pass
        except REFUSED:
            break
        except Exception as raised:
            foreign.append(repr(raised))
        else:
            tally["finished by retry"] += 1
            return result
        await asyncio.sleep(PAUSE_SECONDS)
    else:
        tally["still unknown"] += 1
        return error
    tally["certainly not applied"] += 1
    return None


async def until(ready: Callable[[], bool], seconds: float) -> float:
    """Wait until something is the case, at most so long; how many seconds that took."""
    began = time.monotonic()
    while True:
        took = time.monotonic() - began
        if ready() or took > seconds:
            return took
        await asyncio.sleep(0.005)


class Counting:
    """Callers that each raise a counter of their own and race for a few shared ones, until told to end."""

    def __init__(self, store: MemoryStore, *, callers: int, seed: int, name: str = "c") -> None:
        self.store, self.callers, self.name = store, callers, name
        self.random = random.Random(seed)
        self.tally: Counter[str] = Counter()
        self.raised: Counter[str] = Counter()
        self.touched: Counter[str] = Counter()
        self.open: Counter[str] = Counter()
        """Writes of a counter that stay unknown."""
        self.foreign: list[str] = []
        self.acknowledged = 0
        self.newest = 0.0
        """When a write was acknowledged last, by time.monotonic."""
        self.ending = False

    @property
    def names(self) -> list[str]:
        """All counters; the last ones are shared."""
        return [f"{self.name}-{number}" for number in range(self.callers + 2)]

    async def prepare(self) -> None:
        """Make the counters."""
        await self.store.put_many([MemoryItem(id=name, content=0, text="counter") for name in self.names])

    async def run(self, steps: int | None = None) -> None:
        """Count: so many steps each, or until ``ending``."""
        async with asyncio.TaskGroup() as group:
            for number in range(self.callers):
                group.create_task(self._caller(number, steps))

    async def _caller(self, number: int, steps: int | None) -> None:
        done = 0
        while not self.ending and (steps is None or done < steps):
            done += 1
            own = self.random.random() < 0.8
            name = self.names[number] if own else self.names[self.callers + self.random.randrange(2)]
            try:
                if self.random.random() < 0.6:
                    await self._raise(name)
                else:
                    await self._take(self.store.touch(name), name, self.touched)
            except AWAY:
                self.tally["calls refused"] += 1
                await asyncio.sleep(PAUSE_SECONDS)
            except Exception as error:
                self.foreign.append(repr(error))
                await asyncio.sleep(PAUSE_SECONDS)

    async def _raise(self, name: str) -> None:
        found = await self.store.get(name)
        if found is not None:
            new = MemoryItem(id=name, content=found.content + 1, text="counter")
            await self._take(self.store.put(new, if_version=found.version), name, self.raised)

    async def _take(self, call: Awaitable[Any], name: str, count: Counter[str]) -> None:
        try:
            result = await call
        except VersionConflict:
            return
        except UnknownOutcome as error:
            result = await settled(error, self.tally, self.foreign)
        if isinstance(result, UnknownOutcome):
            self.open[name] += 1
        elif result:
            count[name] += 1
            self.acknowledged += 1
            self.newest = time.monotonic()

    async def check(self) -> list[str]:
        """What is wrong: counts that are not what was acknowledged, and errors that nobody should see."""
        wrong = [f"a foreign error: {error}" for error in self.foreign]
        events = await self._events() if self.store.feed else None
        for number, name in enumerate(self.names):
            found = await self.store.get(name)
            if found is None:
                wrong.append(f"the counter {name} is gone")
                continue
            spare = self.open[name]
            if number < self.callers and spare:
                wrong.append(f"{spare} writes of {name} stay unknown, though one caller alone writes it")
            for what, value, expected in (
                ("content", found.content, self.raised[name]),
                ("access_count", found.access_count, self.touched[name]),
                ("events", None if events is None else events[name], self.raised[name] + self.touched[name] + 1),
            ):
                if value is not None and not expected <= value <= expected + spare:
                    kind = "lost" if value < expected else "a double effect"
                    wrong.append(f"{name}: {what} is {value} instead of {expected} (+ {spare} unknown): {kind}")
        return wrong

    async def _events(self) -> Counter[str]:
        """How many changes the feed tells of each counter."""
        found: Counter[str] = Counter()
        after = 0
        while events := (await self.store._feed(FeedRead(after=after, limit=500, now=self.store._clock()))).events:
            found.update(event.key[1] for event in events)
            after = events[-1].seq
        return found
