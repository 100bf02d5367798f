"""The same search on in_memory and sqlite: the same items, scores to the last bit, explanations and pages, by text, by
vector and by both.

Random data that is hard on an index: common terms far beyond the cap of 1,000, equal times, expired items that nobody
has swept, overwritten and deleted texts, one second of creation times.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from memory import ManualClock, MemoryItem, MemoryStore, NotFound
from memory.backends.in_memory import InMemoryStore
from memory.backends.sqlite import SqliteStore
from memory.clock import from_micros

WORDS = [f"w{i}" for i in range(300)]
ZIPF = [1 / (i + 1) for i in range(300)]
DIMENSION = 24
FILTERS: list[dict[str, Any]] = [
    {"importance": {"$gte": 0.5}},
    {"metadata.n": {"$ne": 1}},
    {"metadata.n": {"$gt": 1}},
    {"user_id": "u1"},
    {"$or": [{"session_id": None}, {"metadata.n": "x"}]},
    {"content": {"$startswith": "w1"}},
]


def random_vector(rng: random.Random) -> list[float]:
    """Near one of a few directions, or exactly there, or nowhere: near ties, ties and zeros."""
    centre, spread = random.Random(rng.randrange(20)), rng.choice([0.0, 0.0, 1e-7, 0.01, 0.5])
    length = rng.choice([0.0, 1.0, 1.0, 1.0, 3.0, 1e-3])
    return [length * (centre.gauss(0, 1) + spread * rng.gauss(0, 1)) for _ in range(DIMENSION)]


def random_item(rng: random.Random, now: int) -> MemoryItem:
    item = MemoryItem(
        id=f"i{rng.randrange(10**6)}",
        namespace=(f"n{rng.randrange(5)}", *(["sub"] if rng.random() < 0.3 else [])),
        content=" ".join(rng.choices(WORDS, ZIPF, k=rng.choice([3, 10, 40, 200]))),
        user_id=rng.choice([None, "u1", "u2"]),
        session_id=rng.choice([None, "s1", "s2"]),
        importance=rng.choice([0.1, 0.5, 0.9]),
        metadata={"n": rng.choice([1, 2.0, "x", None, True])},
        created_at=from_micros(now + rng.randrange(-3_000, 3_000)),
    )
    if rng.random() < 0.8:
        item = msgspec.structs.replace(item, embedding=random_vector(rng))
    if rng.random() < 0.2:
        return msgspec.structs.replace(item, expires_at=from_micros(now + rng.randrange(1, 200) * 1_000_000))
    return item


def random_search(rng: random.Random) -> tuple[str | None, dict[str, Any]]:
    query = " ".join(rng.choices(WORDS, None if rng.random() < 0.5 else ZIPF, k=rng.randrange(1, 7)))
    asked: dict[str, Any] = {"limit": rng.choice([1, 5, 10, 50]), "explain": True}
    if rng.random() < 0.5:
        asked |= rng.choice([{"namespace": ("n1",)}, {"under": ("n2",)}])
    if rng.random() < 0.4:
        asked["where"] = rng.choice(FILTERS)
    if rng.random() < 0.3:
        asked["neighbours"] = rng.choice([1, 2])
    if rng.random() < 0.2:
        asked["order"] = "composite"
    if rng.random() < 0.1:
        asked["mmr"] = rng.choice([0.0, 0.3, 0.7])
    how = rng.choice(["text", "vector", "hybrid"])
    if how != "vector" and rng.random() < 0.3:
        asked["min_text"] = rng.choice([0.3, 0.7])
    if how != "text":
        asked |= {"vector": random_vector(rng), "exact": rng.random() < 0.5}
        if rng.random() < 0.3:
            asked["min_vector"] = rng.choice([-1.0, 0.0, 0.4])
    return None if how == "vector" else query, asked


async def fill(stores: tuple[MemoryStore, ...], rng: random.Random, clock: ManualClock, count: int) -> None:
    items = [random_item(rng, clock()) for _ in range(count)]
    gone, changed = rng.sample(items, count // 20), rng.sample(items, count // 20)
    texts = [" ".join(rng.choices(WORDS, ZIPF, k=8)) for _ in changed]
    vectors = [random_vector(rng) if rng.random() < 0.7 else None for _ in changed]
    for store in stores:
        for start in range(0, count, 700):
            await store.put_many(items[start : start + 700])
        await store.put_many([msgspec.structs.replace(item, content="w0 w7 late") for item in gone[:5]])
        for item in gone:
            await store.delete(item.id, namespace=item.namespace)
        for item, text, vector in zip(changed, texts, vectors, strict=True):
            try:
                await store.update(item.id, namespace=item.namespace, content=text, embedding=vector)
            except NotFound:
                pass


@pytest.mark.parametrize("seed", [1, 2])
async def test_both_engines_find_the_same_with_the_same_scores(seed: int, tmp_path: Path) -> None:
    rng, clock = random.Random(seed), ManualClock()
    memory = InMemoryStore(clock=clock)
    sqlite = SqliteStore(tmp_path / "memory.db", clock=clock, synchronous="off")
    async with memory, sqlite:
        await fill((memory, sqlite), rng, clock, 3_000)
        clock.advance(100)
        for _ in range(80):
            query, asked = random_search(rng)
            views = (memory, sqlite)
            if rng.random() < 0.3:
                views = tuple(store.scoped(user_id="u1") for store in (memory, sqlite))
            cursors: list[str | None] = [None, None]
            for _ in range(3):
                pages = [
                    await view.search(query, cursor=cursor, **asked)
                    for view, cursor in zip(views, cursors, strict=True)
                ]
                found = [[(hit.item, hit.score, hit.components) for hit in page] for page in pages]
                stripped = [[(item.key, item.content, score, parts) for item, score, parts in hits] for hits in found]
                assert stripped[0] == stripped[1], (query, asked)
                assert pages[0].complete == pages[1].complete
                cursors = [page.cursor for page in pages]
                assert (cursors[0] is None) == (cursors[1] is None)
                if cursors[0] is None:
                    break
        assert (await sqlite.verify()).ok
