"""Vectors in memory, a tag at a time, brought up to date by every search that uses them.

Each vector's entry in the index says by its version when it was written, so a search asks for what is above the highest
version it has: it sees every write that was acknowledged before it began, of whatever process. A deleted record has no such
entry; its vector is found to be stale when its record is read, which every result's is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from memory.backends.redis.reading import fetch, walk
from memory.backends.redis.records import unsealed_vector
from memory.backends.redis.scanning import PAGE

if TYPE_CHECKING:
    from memory.backends.redis.backend import RedisStore

BLOCK = 4_096
"""Rows of a block, which never grows, so nothing is copied; scored in one step of the loop, about a millisecond."""


class TagVectors:
    """The vectors of one tag in one space, each divided by its length."""

    def __init__(self, number: bytes, dimension: int) -> None:
        self.number, self._dimension = number, dimension
        self._since = b""
        self.keys: list[bytes] = []
        self.places: dict[bytes, int] = {}
        self.blocks: list[Any] = []
        self.gone: set[bytes] = set()
        self._lock = asyncio.Lock()

    @property
    def size(self) -> int:
        """Bytes held."""
        return len(self.blocks) * BLOCK * self._dimension * 4 + 200 * len(self.keys)

    async def refresh(self, store: RedisStore, tag: bytes, most: int) -> bool:
        """Read what was written since. False when that would be more than ``most`` bytes in all."""
        head = b"w" + self.number
        async with self._lock:
            while True:
                start = b"(" + self._since if self._since else b"[" + head
                entries = await walk(store, store.names.index(tag), start, b"(" + head + b"\xff", PAGE)
                keys = [entry[25:] for entry in entries]
                for one in await fetch(store, tag, keys, "hv", self.number):
                    if one is not None and one.vector is not None:
                        self._put(one.key, unsealed_vector(one.key, one.vector))
                if entries:
                    self._since = entries[-1]
                if self.size > most:
                    return False
                if len(entries) < PAGE:
                    return True

    def _put(self, key: bytes, embedding: bytes) -> None:
        import numpy as np

        from memory.search.vectors import unit

        place = self.places.get(key)
        if place is None:
            place = self.places[key] = len(self.keys)
            self.keys.append(key)
            if place == len(self.blocks) * BLOCK:
                self.blocks.append(np.zeros((BLOCK, self._dimension), dtype=np.float32))
        self.gone.discard(key)
        self.blocks[place // BLOCK][place % BLOCK] = unit(embedding)

    async def scores(self, wanted: Any) -> Any:
        """The rough cosine of every row; other tasks run in between."""
        import numpy as np

        from memory.search.vectors import products

        total = len(self.keys)
        found = np.empty(total, dtype=np.float32)
        for number, block in enumerate(self.blocks):
            start = number * BLOCK
            if start >= total:
                break
            end = min(total, start + BLOCK)
            found[start:end] = products(block[: end - start], wanted)
            await asyncio.sleep(0)
        return found


class VectorCache:
    """The vectors of the tags used last, within a bound of bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tags: dict[bytes, TagVectors] = {}
        self._too_large: set[bytes] = set()

    async def of(self, store: RedisStore, tag: bytes, number: bytes, dimension: int) -> TagVectors | None:
        """The vectors of a tag as they are now; None when they are too many to be held."""
        if tag in self._too_large:
            return None
        held = self._tags.pop(tag, None)
        if held is None or held.number != number or len(held.gone) > 1_000 + len(held.keys) // 4:
            held = TagVectors(number, dimension)
        self._tags[tag] = held  # the last used is the last
        if not await held.refresh(store, tag, self._most):
            self._tags.pop(tag, None)
            self._too_large.add(tag)
            return None
        while sum(one.size for one in self._tags.values()) > self._most and len(self._tags) > 1:
            del self._tags[next(iter(self._tags))]
        return held
