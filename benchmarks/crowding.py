"""A thousand searches at once, while records are loaded and all vectors are made anew by another embedder.

A search by an embedder whose vectors the store no longer holds is refused, and so is a write; so the new embedder
pauses half way until searches and load have ended, and the switch comes after them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from memory import MemoryItem, MemoryStore
from memory.store.base import ENTERING

SEARCHES = 1_000
BATCH = 1_000
MODES: tuple[Literal["text", "vector", "hybrid"], ...] = ("text", "vector", "hybrid")


class DigestEmbedder:
    """Vectors that cost microseconds and mean nothing: a hash of each text."""

    name = "digest"
    dimension = 128
    semantic = False

    def __init__(self, free: int) -> None:
        self._left = free
        self.go_on = asyncio.Event()

    async def embed(self, texts: Sequence[str]) -> Any:
        """Vectors (n, 128). After the first ``free`` texts it waits for ``go_on``."""
        self._left -= len(texts)
        if self._left < 0:
            await self.go_on.wait()
        raw = b"".join(hashlib.shake_128(text.encode()).digest(self.dimension) for text in texts)
        return np.frombuffer(raw, dtype=np.int8).reshape(len(texts), -1).astype(np.float32)


async def crowd(store: MemoryStore, items: Sequence[MemoryItem], asked: Sequence[str], searches: int) -> None:
    """Load the second half of the records into a store that holds the first, reembed, and search, all at once."""
    half = len(items) // 2
    other = DigestEmbedder(half // 2)

    async def search(number: int) -> None:
        await store.search(asked[number % len(asked)], mode=MODES[number % len(MODES)], neighbours=number % 2)

    async def load() -> None:
        for start in range(half, len(items), BATCH):
            await store.put_many(items[start : start + BATCH])

    async with asyncio.TaskGroup() as group:
        reembedding = group.create_task(store.reembed(other))
        async with asyncio.TaskGroup() as both:
            both.create_task(load())
            for number in range(searches):
                both.create_task(search(number))
        other.go_on.set()
    report = reembedding.result()
    if not report.switched or report.embedded < len(items):
        raise RuntimeError(f"the store has not changed its embedder for all records: {report}")


async def waiting(tasks: int) -> None:
    """What the caller's tasks cost at all: so many that only wait until as few are let in together as are of the searches."""
    places = asyncio.Semaphore(ENTERING)

    async def wait() -> None:
        async with places:
            await asyncio.sleep(0)  # else each would leave before the next comes, and none would wait

    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(wait())
