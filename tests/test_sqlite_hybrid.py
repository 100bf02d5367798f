"""Hybrid searches of the sqlite backend, which mixes both halves before it reads records: the answers are those of a store that
reads them all."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from memory import ManualClock, MemoryItem
from memory.backends.in_memory import InMemoryStore
from memory.backends.sqlite import SqliteStore
from memory.ops import Hybrid, Mixed
from memory.search.fusion import Weights
from memory.store import SearchPage

RECORDS = 1_500
WEIGHTS = Weights(text=1.0, vector=2.0)
WORDS = ("oak", "elm", "ash", "fir", "yew", "box", "bay", "fig")
SHARES = (0.95, 0.8, 0.3, 0.1, 0.05, 0.02, 0.01, 0.003)
START = datetime(2026, 1, 1, tzinfo=UTC)


class Counting(SqliteStore):
    """Counts how often both halves were told at once."""

    name = "sqlite"
    capabilities = SqliteStore.capabilities

    def __init__(self, path: Path, clock: ManualClock, exact: int) -> None:
        super().__init__(path, clock=clock, sweep_interval=None, weights=WEIGHTS)
        self._vectors.exact = exact
        self.told: Counter[bool] = Counter()

    async def _hybrid(self, op: Hybrid) -> Mixed | None:
        mixed = await super()._hybrid(op)
        self.told[mixed is not None] += 1
        if mixed is not None:
            assert len(mixed.candidates) < max(3 * op.best, 40)
        return mixed


def _items(rng: random.Random, *, ties: bool) -> list[MemoryItem]:
    vectors = np.random.default_rng(5)
    some = vectors.standard_normal((400 if ties else 6, 24)).astype(np.float32)
    items = []
    for i in range(RECORDS):
        words = [word for word, share in zip(WORDS, SHARES, strict=True) for _ in range(2) if rng.random() < share]
        vector = some[i % len(some)] + (0 if ties else 0.7) * vectors.standard_normal(24).astype(np.float32)
        items.append(
            MemoryItem(
                id=f"{i:04}", content=" ".join([*words, *["pad"] * rng.randrange(6)]) if i % 9 else {"number": i},
                namespace=("left" if i % 4 else "right", f"n{i % 3}"), user_id=f"user{i % 2}", metadata={"third": i % 3},
                embedding=None if i % 7 == 0 else vector, expires_at=START + timedelta(days=1) if i % 301 == 5 else None,
            )
        )  # fmt: skip
    return items


def _told(page: SearchPage) -> tuple[list[tuple[str, float, dict[str, object]]], bool, bool]:
    return [(hit.item.id, hit.score, hit.components) for hit in page], page.cursor is None, page.complete


@pytest.mark.parametrize("exact", [20_000, 100])
@pytest.mark.parametrize("ties", [False, True])
async def test_both_halves_at_once_are_what_they_are_apart(exact: int, ties: bool, tmp_path: Path) -> None:
    rng = random.Random(3)
    items = _items(rng, ties=ties)
    narrowed: list[dict[str, object]] = [
        {}, {"namespace": ("left", "n1")}, {"under": ("right",)}, {"where": {"metadata.third": 1}}, {"where": {"user_id": "user1"}},
        {"where": {"text": {"$exists": True}}}, {"min_score": 0.4}, {"limit": 3}, {"limit": 30},
    ]  # fmt: skip
    clock = ManualClock(START)
    async with (
        Counting(tmp_path / "m.db", clock, exact) as store,
        InMemoryStore(clock=clock, sweep_interval=None, weights=WEIGHTS) as plain,
    ):
        for each in (store, plain):
            await each.put_many(items)
        for number in range(72):
            if number == 36:
                clock.advance(2 * 86_400)  # what has expired stays where it was
            query = " ".join(rng.sample(WORDS, rng.randrange(1, 5)))
            near = items[rng.randrange(RECORDS)].embedding
            vector = np.ones(24, dtype=np.float32) if near is None or number % 5 == 0 else near
            options = narrowed[number % len(narrowed)]
            found, expected = [await each.search(query, vector=vector, **options) for each in (store, plain)]
            assert _told(found) == _told(expected), (query, options)
            if found.cursor is not None and number % 4 == 0:
                following = [
                    await each.search(query, vector=vector, cursor=page.cursor, **options)
                    for each, page in ((store, found), (plain, expected))
                ]
                assert _told(following[0]) == _told(following[1]), (query, options)
    assert store.told[True] > 10
    assert store.told[False] > 10 or not ties
