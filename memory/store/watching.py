"""Watching the change feed: committed writes of every process, in order, resumable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from memory.codec import decode
from memory.errors import InvalidItem, ResumeExpired, UnsupportedOperation
from memory.filters import parse, predicate
from memory.model import INT_MAX
from memory.ops import Event, Events, FeedRead, Read, Scope
from memory.store import cursors
from memory.store.bound import Bound, Namespace
from memory.store.types import Change
from memory.sync import blocking_iterator

if TYPE_CHECKING:
    from memory.filters import Where

POLL_SECONDS = 0.05
"""How long a watcher waits for other processes' commits; this process's own wake it at once."""
PAGE = 500


class Watches(Bound):
    """The watching part of a store or view."""

    async def watch(
        self,
        where: Where = None,
        *,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        resume: str | None = None,
        timeout: float | None = None,
    ) -> AsyncIterator[Change]:
        """Committed changes from now on, or after ``resume`` (the token of an earlier change), without end.

        A put comes with the item as it is when read; a filter is asked about that item. An item that leaves the
        scope comes as a delete; with a filter, deletes of items never matched come too, by key only. Expiry
        itself is no event; the sweeper's removal is. ``timeout``: end after this many seconds without a change.
        The store must be opened with ``feed=True``: else UnsupportedOperation. Raises InvalidCursor, and
        ResumeExpired when the feed no longer reaches back to the token.
        """
        store = self._enter()
        if not store.feed:
            raise UnsupportedOperation(f"this {store.name} store keeps no feed; open it with feed=True to watch it")
        if timeout is not None and (type(timeout) not in (int, float) or not timeout >= 0):
            raise InvalidItem("timeout must be a number of seconds", field="timeout")
        filter = parse(where)
        accept = None if filter is None else predicate(filter)
        scope = self._narrow(namespace, under)
        digest = cursors.question("watch", scope or self._scope, filter)
        after = None if resume is None else cursors.read(resume, digest, int)
        if after is not None and not 0 <= after <= INT_MAX:
            raise cursors.altered()
        wake = asyncio.Event()
        store._watchers.add(wake)
        try:
            quiet_since = asyncio.get_running_loop().time()
            while True:
                store = self._enter()
                wake.clear()
                events: Events = await store._do_feed(FeedRead(after=after, limit=PAGE, now=store._clock()))
                if after is None:
                    after = events.head
                elif after < events.oldest - 1 or after > events.head:
                    raise ResumeExpired(
                        "the change feed no longer reaches back to this token; list the items again, then watch anew"
                    )
                for event in events.events:
                    after = event.seq
                    change = None if scope is None else await self._change(event, scope, accept, digest)
                    if change is not None:
                        yield change
                        quiet_since = asyncio.get_running_loop().time()
                if len(events.events) < PAGE and not wake.is_set():
                    patience = POLL_SECONDS
                    if timeout is not None:
                        left = quiet_since + timeout - asyncio.get_running_loop().time()
                        if left <= 0:
                            return
                        patience = min(patience, left)
                    try:
                        async with asyncio.timeout(patience):
                            await wake.wait()
                    except TimeoutError:
                        pass
        finally:
            store._watchers.discard(wake)

    watch_sync = blocking_iterator(watch)

    async def _change(self, event: Event, scope: Scope, accept: object, digest: str) -> Change | None:
        """The event as this scope sees it; None when it does not concern it."""
        if not scope.covers_namespace(event.key[0]):
            return None
        inside = event.owner is not None and scope.covers_owner(*event.owner)
        if not inside and not (event.was is not None and scope.covers_owner(*event.was)):
            return None
        token = cursors.write(digest, event.seq)
        if event.removed or not inside:
            return Change("delete", event.key, event.version, token)
        store = self._enter()
        (row,) = await store._do_read(Read(keys=(event.key,), now=store._clock(), scope=scope))
        if row is not None and row.embedding is not None:
            await store._vectors_ready()
        item = None if row is None else decode(row)
        if item is not None and callable(accept) and not accept(item):
            return None
        return Change("put", event.key, event.version, token, item)
