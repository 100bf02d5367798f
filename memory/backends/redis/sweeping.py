"""Reclaiming space: expired records, old tombstones, old events, vectors of spaces that are no longer used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory.backends.redis.feed import forget_events
from memory.backends.redis.reading import fetch, walk
from memory.backends.redis.records import time_digits
from memory.backends.redis.scanning import PAGE
from memory.backends.redis.scripts import BURY
from memory.backends.redis.writing import write
from memory.keys import decode_key
from memory.ops import Remove, Status
from memory.store.settle import new_token

if TYPE_CHECKING:
    from memory.backends.redis.backend import RedisStore

GRAVE_MICROS = 86_400_000_000


async def sweep(store: RedisStore, now: int) -> int:
    """See MemoryStore._sweep."""
    removed = 0
    for tag in await store.tags.all():
        removed += await _expired(store, tag, now)
        await _tombstones(store, tag, now - GRAVE_MICROS)
    await forget_events(store, now - round(store.feed_retention * 1_000_000))
    await store.spaces.drop_unused()
    return removed


async def _expired(store: RedisStore, tag: bytes, now: int) -> int:
    removed, index, start = 0, store.names.index(tag), b"[x"
    while True:
        entries = await walk(store, index, start, b"(x" + time_digits(now) + b"\xff", PAGE)
        found = await fetch(store, tag, [entry[19:] for entry in entries], "h")
        removes = [
            Remove(key=decode_key(one.key), token=new_token(), now=now, expect=one.header.version, expired=True)
            for one in found
            if one is not None and not one.header.live(now)
        ]
        results = await write(store, removes)
        removed += sum(result.status is Status.DONE for result in results)
        if len(entries) < PAGE:
            return removed
        start = b"(" + entries[-1]


async def _tombstones(store: RedisStore, tag: bytes, before: int) -> None:
    names = store.names
    while entries := await walk(store, names.index(tag), b"[z", b"(z" + time_digits(before) + b"\xff", PAGE):
        keys, parts = [names.index(tag)], []
        for entry in entries:
            keys.append(names.record(tag, entry[19:]))
            parts += [entry[1:19], entry[19:]]
        await store.servers.run(BURY, keys, *parts)
