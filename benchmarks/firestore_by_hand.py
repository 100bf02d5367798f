"""Firestore beside the same work written by hand with Google's AsyncClient, interleaved, on the emulator.

    python -m benchmarks.firestore_by_hand

By hand the same documents are written (V2's fields, ours, the terms, the vector) and read, without checks, scopes or a
condition on writes. The emulator takes most of each time, so what is told is the ratio and the difference in milliseconds.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.base_vector_query import DistanceMeasure
from google.cloud.firestore_v1.vector import Vector

from memory import MemoryItem
from memory.backends.firestore.v2 import FirestoreV2Store
from memory.backends.firestore.v2.documents import unit64
from memory.codec import encode
from memory.search.analysis import Analyser
from memory.testing import services

ROUNDS, CALLS, BULK, DIMENSION = 7, 30, 300, 384
WORDS = [
    "marmot",
    "eagle",
    "river",
    "stone",
    "meadow",
    "snow",
    "alp",
    "grass",
    "cloud",
    "larch",
    "trail",
    "hut",
    "peak",
    "valley",
    "lake",
    "rope",
]


def item(number: int, chance: np.random.Generator) -> MemoryItem:
    """About 200 characters of text, 6 metadata fields, a unit vector."""
    vector = chance.normal(size=DIMENSION)
    return MemoryItem(
        id=f"{number:06}",
        content=" ".join(chance.choice(WORDS, size=32)),
        user_id=f"u{number % 10}",
        metadata={f"f{i}": number % (i + 2) for i in range(6)},
        embedding=(vector / np.linalg.norm(vector)).astype("<f4"),
    )


class ByHand:
    """A careful program without a library, with Google's client."""

    def __init__(self, project: str) -> None:
        self.client = firestore.AsyncClient(project=project, credentials=AnonymousCredentials())
        self.items = self.client.collection("by_hand")
        self.analyser = Analyser()

    def document(self, one: MemoryItem) -> dict[str, Any]:
        counts, length = self.analyser.counts(one.content)
        numbers = [float(number) for number in one.embedding]
        now = time.time_ns() // 1_000
        return {
            "id": one.id, "user_id": one.user_id, "session_id": None, "item_type": one.kind, "metadata": one.metadata,
            "timestamp": firestore.SERVER_TIMESTAMP, "text_content": one.content, "embedding": numbers,
            "memory_vector": Vector(unit64(np.array(numbers)).tolist()),
            "memory": {
                "v": 1, "key": b"default\0\0" + one.id.encode(), "path": b"default", "body": encode(one), "token": os.urandom(16),
                "agent": None, "importance": one.importance, "updated": now, "accessed": now, "count": 0,
                "terms": list(counts), "counts": bytes(min(n, 255) for n in counts.values()), "length": length,
            },
        }  # fmt: skip

    async def get(self, id: str) -> Any:
        return (await self.items.document(id).get(retry=None, timeout=30)).to_dict()

    async def put(self, one: MemoryItem) -> None:
        reference = self.items.document(one.id)
        await reference.get(retry=None, timeout=30)
        await reference.set(self.document(one), retry=None, timeout=30)

    async def bulk(self, items: list[MemoryItem]) -> None:
        references = [self.items.document(one.id) for one in items]
        async for _ in self.client.get_all(references, retry=None, timeout=30):
            pass
        for start in range(0, len(items), 100):
            batch = self.client.batch()
            for one in items[start : start + 100]:
                batch.set(self.items.document(one.id), self.document(one))
            await batch.commit(retry=None, timeout=30)

    async def page(self) -> None:
        query = self.items.where(filter=FieldFilter("user_id", "==", "u3")).order_by("memory.key").limit(21)
        assert [one.to_dict() async for one in query.stream(retry=None, timeout=30)]

    async def near(self, vector: Any) -> None:
        query = self.items.find_nearest(
            "memory_vector", Vector(vector.tolist()), distance_measure=DistanceMeasure.DOT_PRODUCT, limit=10
        )
        assert [one.to_dict() async for one in query.stream(retry=None, timeout=30)]


async def seconds(call: Callable[[int], Awaitable[Any]], times: int) -> float:
    """Of one call, on average."""
    started = time.perf_counter()
    for number in range(times):
        await call(number)
    return (time.perf_counter() - started) / times


async def compare(host: str) -> list[tuple[str, float, float]]:
    """(what, seconds by hand, seconds of the store): medians of interleaved rounds."""
    project, chance = "bench-" + uuid.uuid4().hex[:8], np.random.default_rng(1)
    hand = ByHand(project)
    items = [item(number, chance) for number in range(BULK)]
    async with FirestoreV2Store(project_id=project, emulator=host, sweep_interval=None) as store:
        pairs: list[tuple[str, int, int, Callable[[int], Awaitable[Any]], Callable[[int], Awaitable[Any]]]] = [
            ("bulk, an item", 1, BULK, lambda _: hand.bulk(items), lambda _: store.put_many(items)),
            ("get", CALLS, 1, lambda i: hand.get(items[i].id), lambda i: store.get(items[i].id)),
            ("put", CALLS, 1, lambda i: hand.put(items[i]), lambda i: store.put(items[i])),
            ("page of 20 of one user", 5, 1, lambda _: hand.page(), lambda _: store.list({"user_id": "u3"}, limit=20)),
            (
                "nearest 10", 5, 1, lambda i: hand.near(items[i].embedding),
                lambda i: store.search(vector=items[i].embedding, limit=10),
            ),
        ]  # fmt: skip
        found = []
        for name, calls, parts, by_hand, by_store in pairs:
            both: tuple[list[float], list[float]] = ([], [])
            for _ in range(ROUNDS + 1):
                both[0].append(await seconds(by_hand, calls) / parts)
                both[1].append(await seconds(by_store, calls) / parts)
            found.append((name, statistics.median(both[0][1:]), statistics.median(both[1][1:])))
    return found


def main() -> None:
    with services.firestore() as service:
        os.environ["FIRESTORE_EMULATOR_HOST"] = service.url
        found = asyncio.run(compare(service.url))
    print(f"{'':26}{'by hand':>10}{'store':>10}{'ratio':>8}")
    for name, by_hand, by_store in found:
        print(f"{name:26}{by_hand * 1e3:8.2f}ms{by_store * 1e3:8.2f}ms{by_store / by_hand:8.2f}")


if __name__ == "__main__":
    main()
