"""The change feed: one stream, written by the same script as the record.

In a cluster a script reaches one slot only, so it writes into a stream of its tag. Whoever reads takes new events from
these into the stream of the store, where each gets its number: once, because what was taken of a tag is kept in that
same slot, and in the order of the tag. So one number says where a reader stands, and nothing is lost or comes late.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory.backends.redis.reading import unpack_texts
from memory.backends.redis.records import time_of
from memory.backends.redis.scripts import COLLECT, FEED
from memory.keys import decode_key
from memory.ops import Event, Events, FeedRead, Owner
from memory.store.together import all_of

if TYPE_CHECKING:
    from memory.backends.redis.backend import RedisStore

PAGE = 100
"""Events taken at once from a tag: the driver is slow with answers of many parts."""


async def read_feed(store: RedisStore, op: FeedRead) -> Events:
    """See MemoryStore._feed."""
    if store.servers.cluster:
        await collect(store)
    names = store.names
    start, limit = (0, 0) if op.after is None else (op.after + 1, op.limit)
    head, oldest, *told = unpack_texts(await store.servers.run(FEED, [names.feed, names.counter], start, limit))
    newest = int(head)
    events: list[Event] = []
    async for part in store.slices(range(0, len(told), 5)):
        events += [_event(told[place : place + 5]) for place in part]
    return Events(events, newest, _number(oldest) if oldest else newest + 1)


def _number(id: bytes) -> int:
    return int(id.partition(b"-")[0])


def _event(told: list[bytes]) -> Event:
    id, key, stamp, owner, was = told
    return Event(
        seq=_number(id),
        key=decode_key(key),
        version=int(stamp[19:39]),
        at=time_of(stamp[1:19]),
        removed=stamp[:1] == b"1",
        owner=_owner(owner),
        was=_owner(was),
    )


def _owner(raw: bytes) -> Owner | None:
    if not raw:
        return None
    user, agent, session = [name.decode() or None for name in raw.split(b"\0")]
    return (user, agent, session)


async def collect(store: RedisStore) -> None:
    """Take what the tags have written since into the feed of the store."""
    tags = await store.tags.all()
    await all_of([_collect(store, tag) for tag in tags])


async def _collect(store: RedisStore, tag: bytes) -> None:
    names = store.names
    outbox, _ = names.outbox(tag)
    while True:
        found = await store.servers.call(outbox, "XRANGE", outbox, "-", "+", "COUNT", PAGE)
        if not found:
            return
        parts: list[Any] = [tag]
        for id, fields in found:
            parts += [_number(id), *fields[1::2]]
        await store.servers.run(COLLECT, [names.feed, names.counter, names.moved], *parts)
        await store.servers.call(outbox, "XTRIM", outbox, "MINID", _number(found[-1][0]) + 1)


async def forget_events(store: RedisStore, before: int) -> None:
    """Remove events that are older than a moment."""
    if store.servers.cluster:
        await collect(store)
    feed = store.names.feed
    while True:
        found = await store.servers.call(feed, "XRANGE", feed, "-", "+", "COUNT", PAGE)
        old = [id for id, fields in found if time_of(fields[3][1:19]) <= before]
        if not old:
            return
        kept = [id for id, fields in found if time_of(fields[3][1:19]) > before]
        # Times nearly rise; an old one behind a newer one waits for it.
        first = _number(kept[0]) if kept else _number(old[-1]) + 1
        await store.servers.call(feed, "XTRIM", feed, "MINID", first)
        if kept:
            return
