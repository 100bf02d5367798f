"""One writer at a time for each key, within this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager


class _Lane:
    __slots__ = ("lock", "wanted")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.wanted = 0


class Lanes:
    """What is being written, by names that have an order."""

    def __init__(self) -> None:
        self._lanes: dict[bytes, _Lane] = {}

    @asynccontextmanager
    async def hold(self, names: Iterable[bytes]) -> AsyncIterator[None]:
        """The lanes of these names, entered in one order."""
        wanted = sorted(set(names))
        entered: list[_Lane] = []
        for name in wanted:
            self._lanes.setdefault(name, _Lane()).wanted += 1
        try:
            for name in wanted:
                lane = self._lanes[name]
                await lane.lock.acquire()
                entered.append(lane)
            yield
        finally:
            for lane in entered:
                lane.lock.release()
            for name in wanted:
                self._lanes[name].wanted -= 1
                if not self._lanes[name].wanted:
                    del self._lanes[name]
