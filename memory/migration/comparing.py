"""After moving: what happened at the source meanwhile is followed, and both sides are compared."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from memory.errors import ResumeExpired
from memory.migration.deciding import Do
from memory.migration.journal import Comparing
from memory.migration.moving import Entry
from memory.migration.records import Pair, differing
from memory.migration.sources import Source, StoreSource, pages
from memory.model import Key, key_order

if TYPE_CHECKING:
    from collections.abc import Callable

    from memory.migration.moving import Left, Mover

Sorted = tuple[bytes, bytes]


class Comparison:
    """Compares a source with a target after a migration.

    What was written or deleted at the source since it was moved is moved again or taken back; whatever else differs is
    told as a difference. Deletion is followed only for what this migration wrote and nobody has changed since.
    """

    def __init__(self, source: Source, mover: Mover, size: int, progress: Callable[[int], None]) -> None:
        self.source, self.mover, self.size, self.progress = source, mover, size, progress
        self.compared = 0
        self.others = 0
        self.meanwhile = 0

    async def replay(self, after: int, *, covered: bool) -> int:
        """Follow the source's feed from a place on to its end; returns where that is.

        ``covered``: a full comparison finds what a feed that no longer reaches back cannot tell; else raises ResumeExpired.
        """
        while True:
            changed = await self.source.changed(after)
            if changed is None:
                if covered:
                    return after
                raise ResumeExpired(
                    "the source's feed no longer reaches back to where the migration began, so what changed since is not "
                    "known; run it again with the full comparison, or keep the feed longer (feed_retention)"
                )
            for start in range(0, len(changed.keys), self.size):
                entries = await self._look(changed.keys[start : start + self.size])
                acted, left = await self.mover.settle(entries)
                self.meanwhile += len(acted)
                for one in left:
                    self.mover.find(one.kind, one.entry.key, one.why)
            after = changed.after
            if not changed.more:
                return after

    async def full(self, target: StoreSource) -> None:
        """Compare every item of both sides, in key order, in one pass."""
        await self.mover.journal.sync()
        self.mover.note(Comparing())
        async with aclosing(merged(self.source, target, self.size)) as stream:
            async for entries in stream:
                doubtful: list[Key] = []
                async for part in self.mover.target._slices(entries):
                    for entry in part:
                        do, _ = self.mover.decide(entry, comparing=True)
                        self.compared += entry.pair is not None
                        self.others += do is Do.NOTHING and entry.held is not None
                        if do not in (Do.SAME, Do.NOTHING, Do.KEEP):
                            doubtful.append(entry.key)
                for start in range(0, len(doubtful), self.size):
                    await self._examine(doubtful[start : start + self.size])
                self.progress(self.compared)

    async def sample(self, count: int) -> None:
        """Compare so many items of the source, picked at random, each as likely as any other."""
        await self.mover.journal.sync()
        self.mover.note(Comparing())
        picked: list[Key] = []
        seen = 0
        async with aclosing(pages(self.source, None, self.size)) as stream:
            async for pairs in stream:
                for _, item in pairs:
                    seen += 1
                    if len(picked) < count:
                        picked.append(item.key)
                    elif (place := random.randrange(seen)) < count:
                        picked[place] = item.key
        for start in range(0, len(picked), self.size):
            keys = picked[start : start + self.size]
            await self._examine(keys)
            self.compared += len(keys)
            self.progress(self.compared)

    async def _examine(self, keys: Sequence[Key]) -> None:
        """Look again at items that seemed to differ: follow what the source did, and tell the rest."""
        entries = await self._look(keys)
        acted, left = await self.mover.settle(entries, comparing=True)
        self.meanwhile += len(acted)
        for one in left:
            self._tell(one.entry, one)
        for entry in await self._look(acted):
            do, why = self.mover.decide(entry, comparing=True)
            if do not in (Do.SAME, Do.NOTHING):
                self._tell(entry, None, why or "it changes at the source faster than it is moved")
        if left:
            await self.mover.journal.sync()

    def _tell(self, entry: Entry, left: Left | None, why: str = "") -> None:
        wanted = self.mover.wanted(entry)
        fields: tuple[str, ...] = ()
        if wanted is not None and entry.held is not None:
            fields = differing(wanted, entry.held, self.mover.vectors)
        self.mover.find("difference", entry.key, why if left is None else left.why, fields)

    async def _look(self, keys: Sequence[Key]) -> list[Entry]:
        """What both sides hold now; what expired on either is on neither."""
        pairs, rows = await self.source.read(keys), await self.mover.held(keys)
        now = max(self.source.now(), self.mover.target._clock())
        entries: list[Entry] = []
        for key, pair, row in zip(keys, pairs, rows, strict=True):
            expiries = [one.expires for one in (row, None if pair is None else pair[0]) if one is not None]
            if len(set(expiries)) == 1 and expiries[0] is not None and expiries[0] <= now:
                continue
            entries.append(Entry(key, pair, row))
        return entries


class _Side:
    """One of two streams that are merged."""

    def __init__(self, stream: AsyncIterator[list[Pair]]) -> None:
        self.stream = stream
        self.waiting: list[tuple[Sorted, Pair]] = []
        self.ended = False

    async def fill(self) -> None:
        """Read on, if nothing waits."""
        if not self.waiting and not self.ended:
            page = await anext(self.stream, None)
            self.ended = page is None
            self.waiting = [(key_order(pair[1].key), pair) for pair in page or ()]

    def take(self, last: Sorted | None) -> dict[Sorted, Pair]:
        """What waits up to a key; None: all."""
        taken = [one for one in self.waiting if last is None or one[0] <= last]
        self.waiting = self.waiting[len(taken) :]
        return dict(taken)


async def merged(source: Source, target: Source, size: int) -> AsyncGenerator[list[Entry], None]:
    """What both sides hold, in key order, at most two pages of each in memory."""
    one, other = pages(source, None, size), pages(target, None, size)
    sides = (_Side(one), _Side(other))
    try:
        while True:
            for side in sides:
                await side.fill()
            ends = [side.waiting[-1][0] for side in sides if side.waiting]
            if not ends:
                return
            last = min(ends) if all(side.waiting for side in sides) else None
            ours, theirs = (side.take(last) for side in sides)
            entries: list[Entry] = []
            for order in sorted(ours.keys() | theirs.keys()):
                pair, held = ours.get(order), theirs.get(order)
                known = pair or held
                assert known is not None  # the key came from one of them
                entries.append(Entry(known[1].key, pair, None if held is None else held[0]))
            yield entries
    finally:
        for stream in (one, other):
            await stream.aclose()
