"""Where a migration reads. A store is one kind of source; a reader of a legacy layout may be another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from memory.codec import decode
from memory.filters import parse, predicate
from memory.migration.records import Pair
from memory.migration.report import Finding
from memory.model import Key
from memory.ops import Count, FeedRead, Position, Read, Scan, Scope

if TYPE_CHECKING:
    from memory.filters import Where
    from memory.ops import Row
    from memory.store import MemoryStore, View
    from memory.store.bound import Namespace

EVENTS = 500
FIRST = 32
"""Items in the first page, whose size nobody knows: of the largest they are 8 MB."""
PAGE_BYTES = 4 * 1024 * 1024


class Changed(NamedTuple):
    """What a feed tells: keys that were written or deleted, the last event's number, and whether more may follow."""

    keys: list[Key]
    after: int
    more: bool


class Source(Protocol):
    """What a migration needs to read from: live rows in key order, and by key."""

    def now(self) -> int:
        """The time by which items are live, in microseconds since the epoch."""
        ...

    def counterpart(self, target: MemoryStore) -> StoreSource:
        """Where a target holds what comes from here."""
        ...

    async def count(self) -> int:
        """How many live items there are in scope."""
        ...

    async def page(self, after: Position | None, limit: int) -> list[Pair]:
        """The next live items in key order (``memory.model.key_order``); fewer than ``limit``: these were the last."""
        ...

    async def read(self, keys: Sequence[Key]) -> list[Pair | None]:
        """The live items under these keys; None where there is none in scope."""
        ...

    async def unlisted(self) -> list[Finding]:
        """What lies at the source and is no item of it, so that it stays behind: a finding for each. Asked after all pages."""
        ...

    async def feed_head(self) -> int | None:
        """Where the feed of changes stands; None: there is none."""
        ...

    async def changed(self, after: int) -> Changed | None:
        """What changed after a place in the feed; None: the feed does not reach back so far."""
        ...


class StoreSource:
    """A store, or part of one."""

    def __init__(
        self,
        store: MemoryStore | View,
        *,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        where: Where = None,
    ) -> None:
        self._bound = store
        self.scope: Scope | None = store._narrow(namespace, under)
        self.where = parse(where)
        self._accept = None if self.where is None else predicate(self.where)

    def counterpart(self, target: MemoryStore) -> StoreSource:
        """The same namespaces of another store, whoever owns what lies there and whether or not it satisfies the filter:
        an item is looked for by its key, and may have changed in all else."""
        there = StoreSource(target)
        there.scope = None if self.scope is None else Scope(self.scope.path, self.scope.below)
        return there

    @property
    def _store(self) -> MemoryStore:
        return self._bound._enter()

    @property
    def whole(self) -> MemoryStore:
        """The store, open or not."""
        return self._bound._store

    def now(self) -> int:
        """The store's clock."""
        return self._bound._store._clock()

    async def count(self) -> int:
        """How many live items there are in scope."""
        store = self._store
        if self.scope is None:
            return 0
        total = await store._do_count(Count(now=self.now(), scope=self.scope, where=self.where))
        if total is not None:
            return int(total)
        counted, after = 0, None
        while pairs := await self.page(after, EVENTS):
            counted, after = counted + len(pairs), Position(*pairs[-1][1].key)
        return counted

    async def page(self, after: Position | None, limit: int) -> list[Pair]:
        """The next live items in key order."""
        if self.scope is None:
            return []
        scan = Scan(now=self.now(), scope=self.scope, where=self.where, after=after, limit=limit)
        return await self._store._filled(scan)

    async def read(self, keys: Sequence[Key]) -> list[Pair | None]:
        """The live items under these keys; None where there is none in scope."""
        store, scope = self._store, self.scope
        if scope is None or not keys:
            return [None] * len(keys)
        rows: list[Row | None] = await store._do_read(Read(keys=tuple(keys), now=self.now(), scope=scope))
        if any(row is not None and row.embedding is not None for row in rows):
            await store._vectors_ready()
        pairs: list[Pair | None] = []
        async for part in store._slices(rows):
            for row in part:
                item = None if row is None else decode(row)
                wanted = item is not None and (self._accept is None or self._accept(item))
                pairs.append((row, item) if row is not None and item is not None and wanted else None)
        return pairs

    async def unlisted(self) -> list[Finding]:
        """What the store cannot list, in the namespaces of the scope; where a filter or an owner is asked for, nobody can
        say whether it belongs to the part, and it is not told."""
        scope, store = self.scope, self._store
        if scope is None or self._accept is not None or scope != Scope(scope.path, scope.below):
            return []
        found: list[Finding] = []
        for one in await store._unlisted():
            if one.key is not None and scope.covers_namespace(one.key[0]):
                why = f"{one.what}: {one.detail}" if one.detail else one.what
                found.append(Finding(kind="unlisted", key=one.key, why=why))
        return found

    async def feed_head(self) -> int | None:
        """Where the store's feed stands; None: it keeps none."""
        store = self._store
        if not store.feed:
            return None
        return int((await store._do_feed(FeedRead(after=None, limit=1, now=self.now()))).head)

    async def changed(self, after: int) -> Changed | None:
        """What changed after a place in the store's feed, by anybody, in the namespaces of the scope."""
        told = await self._store._do_feed(FeedRead(after=after, limit=EVENTS, now=self.now()))
        if after < told.oldest - 1 or after > told.head:
            return None
        scope = self.scope
        keys = [event.key for event in told.events if scope is not None and scope.covers_namespace(event.key[0])]
        last = told.events[-1].seq if told.events else after
        return Changed(list(dict.fromkeys(keys)), last, len(told.events) == EVENTS)


async def pages(source: Source, after: Position | None, size: int) -> AsyncGenerator[list[Pair], None]:
    """All items after a position, up to ``size`` at a time; each page is read while the one before is worked on.

    Pages of large items are shorter: a page aims at 4 MB at most, by the size of the items in the page before.
    """
    limit = min(size, FIRST)
    reading = asyncio.ensure_future(source.page(after, limit))
    try:
        while pairs := await reading:
            if len(pairs) < limit:
                yield pairs
                return
            held = sum(len(row.body) + len(row.embedding or b"") for row, _ in pairs)
            limit = max(1, min(size, limit * 2, len(pairs) * PAGE_BYTES // held))
            reading = asyncio.ensure_future(source.page(Position(*pairs[-1][1].key), limit))
            await asyncio.sleep(0)  # so that it has begun before the page is worked on
            yield pairs
    finally:
        await abandoned(reading)


async def abandoned(task: asyncio.Future[Any]) -> None:
    """Cancel a task that nobody waits for any more, and see its end; an error of its own is not the first any more."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
