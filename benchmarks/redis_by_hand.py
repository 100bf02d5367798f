"""What a program written by hand against redis-py would do: the same script with the same arguments, no framework.

It has no checks, scopes, deadlines or unknown outcomes in mind, and no coalescing: the floor, not a rival. `bare` is the
least that stores a record: one hash of two fields. What lies between the two is what the indexes cost.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from redis.asyncio import Redis

from memory import MemoryItem
from memory.backends.redis import RedisStore
from memory.backends.redis.arguments import arguments
from memory.backends.redis.keys import tag_of
from memory.backends.redis.scripts import WRITE
from memory.clock import to_micros
from memory.codec import content_hash, encode
from memory.keys import encode_key
from memory.model import Key
from memory.ops import Put
from memory.search.analysis import Analyser
from memory.vectors import vector_bytes

TOGETHER = 16
"""Records of one call in a pipeline by hand: about as many as the store takes."""


def _decoded(stored: dict[bytes, bytes]) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(stored[b"b"])
    found["version"] = int(stored[b"h"][8:28])
    vector = stored.get(b"v0001")
    found["embedding"] = None if vector is None else np.frombuffer(vector, dtype="<f4")
    return found


class ByHand:
    """Works on the keys of a store that has these namespaces already."""

    def __init__(self, store: RedisStore, url: str) -> None:
        self.client = Redis.from_url(url)
        self._names, self._fields = store.names, store.fields
        self._analyser = Analyser()

    async def open(self) -> None:
        await self.client.script_load(WRITE.text)

    async def close(self) -> None:
        await self.client.aclose()

    async def get(self, key: Key) -> dict[str, Any]:
        return _decoded(await self.client.hgetall(self._names.record(tag_of(key[0]), encode_key(key))))

    async def get_many(self, keys: Sequence[Key]) -> list[dict[str, Any]]:
        """In one pipeline."""
        pipeline = self.client.pipeline(transaction=False)
        for key in keys:
            pipeline.hgetall(self._names.record(tag_of(key[0]), encode_key(key)))
        return [_decoded(stored) for stored in await pipeline.execute()]

    def _call(self, items: Sequence[MemoryItem]) -> list[Any]:
        """The script's arguments for records of one tag."""
        names, tag = self._names, tag_of(items[0].namespace)
        keys = [names.keys(tag), names.index(tag), names.terms(tag), names.state(tag), names.feed, names.counter]
        parts: list[bytes] = [b"0", b"%d" % len(self._fields)]
        for item in items:
            counts, length = self._analyser.counts(item.searchable)
            told = arguments(
                Put(
                    key=item.key, item=item, body=encode(item), token=os.urandom(16), now=time.time_ns() // 1_000,
                    created=to_micros(item.created_at), digest=content_hash(item), terms=counts, length=length,
                    embedding=vector_bytes(item.embedding),
                ),
                self._fields,
            )  # fmt: skip
            keys.append(names.record(tag, told[2]))
            parts += told
        return [WRITE.digest.decode(), len(keys), *keys, *parts]

    async def put(self, item: MemoryItem) -> None:
        (answer,) = await self.client.evalsha(*self._call([item]))
        assert answer[:1] == b"="

    async def put_many(self, items: Sequence[MemoryItem], together: int = TOGETHER) -> None:
        """In one pipeline: the records of a tag so many to a call."""
        by_tag: dict[bytes, list[MemoryItem]] = {}
        for item in items:
            by_tag.setdefault(tag_of(item.namespace), []).append(item)
        pipeline = self.client.pipeline(transaction=False)
        for some in by_tag.values():
            for start in range(0, len(some), together):
                pipeline.evalsha(*self._call(some[start : start + together]))
        for answers in await pipeline.execute():
            assert all(answer[:1] == b"=" for answer in answers)

    async def bare_put(self, item: MemoryItem) -> None:
        name = b"bare:" + encode_key(item.key)
        await self.client.hset(name, mapping={"b": encode(item), "v": vector_bytes(item.embedding) or b""})

    async def bare_get(self, key: Key) -> None:
        body, _ = await self.client.hmget(b"bare:" + encode_key(key), "b", "v")
        msgspec.json.decode(body)
