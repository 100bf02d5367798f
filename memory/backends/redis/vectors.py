"""Vectors: which records have one in a space, and which lack one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from memory.backends.redis.keys import tag_of
from memory.backends.redis.reading import fetch, row_of
from memory.backends.redis.scanning import PAGE, Cursor
from memory.keys import encode_key
from memory.model import Key
from memory.ops import Row, Space

if TYPE_CHECKING:
    from memory.backends.redis.backend import RedisStore


async def unattached(store: RedisStore, space: Space, after: Key | None, limit: int) -> list[Row]:
    """See MemoryStore._unattached: what is among a tag's keys and not among its keys with a vector."""
    number = await store.spaces.number_of(space) or b"----"
    rows: list[Row] = []
    tags = await store.tags.all()
    start = b""
    if after is not None:
        start = encode_key(after)
        tags = [tag for tag in tags if tag >= tag_of(after[0])]
    for tag in tags:
        head = b"v" + number
        lower = b"(" + start if start else b"["
        keys = Cursor(store, tag, store.names.keys(tag), lower, b"(\xff", strip=0)
        while not keys.done and len(rows) < limit:
            await keys.more(PAGE)
            some = keys.take()
            if not some:
                break
            held = Cursor(
                store, tag, store.names.index(tag), b"[" + head + some[0], b"[" + head + some[-1], strip=len(head)
            )
            while not held.done:
                await held.more(PAGE)
            having = {held.key(entry) for entry in held.take()}
            lacking = [key for key in some if key not in having]
            records = await fetch(store, tag, lacking[: limit - len(rows)], "hbv")
            rows += [row_of(store, one) for one in records if one is not None]
        if len(rows) >= limit:
            break
    return rows[:limit]
