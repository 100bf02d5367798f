"""One writer at a time for each document within this process; the next in line is told what the last one left there.

Firestore decides who wins a race, by preconditions. Lanes only keep callers of one process from racing each other: of 64
writers to one document each would lose to all before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from memory.backends.firestore.document import Document

Known = dict[str, Document | None]
"""Document -> what is there (None: nothing). Not in it: unknown."""


class _Lane:
    __slots__ = ("left", "lock", "wanted")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.wanted = 0
        self.left: Known = {}


class Lanes:
    """The documents that are being written."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}

    @asynccontextmanager
    async def hold(self, names: Iterable[str]) -> AsyncIterator[Known]:
        """The lanes of these documents, entered in one order. Yields what is known of them; what the caller leaves in it
        is handed on."""
        wanted = sorted(set(names))
        entered: list[str] = []
        for name in wanted:
            self._lanes.setdefault(name, _Lane()).wanted += 1
        known: Known = {}
        try:
            for name in wanted:
                await self._lanes[name].lock.acquire()
                entered.append(name)
                known.update(self._lanes[name].left)
            yield known
        except BaseException:
            known.clear()  # what was under way may or may not have happened
            raise
        finally:
            for name in wanted:
                lane = self._lanes[name]
                lane.wanted -= 1
                if not lane.wanted:
                    del self._lanes[name]
                elif name in entered:
                    lane.left = {name: known[name]} if name in known else {}
                if name in entered:
                    lane.lock.release()
