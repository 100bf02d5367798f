"""Searches by text among thousands in the sqlite backend: where terms are common, the answers are those of a store without an index."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from memory import MemoryItem
from memory.backends.in_memory import InMemoryStore
from memory.backends.sqlite import SqliteStore, matching

SHARES = {"oak": 0.9, "elm": 0.6, "ash": 0.38, "fir": 0.34, "yew": 0.06, "box": 0.004}
"""How many of the texts hold each word; the first four are in more than a thousand."""
RECORDS = 3_200


def _texts() -> list[MemoryItem]:
    rng = random.Random(7)
    began = datetime(2024, 1, 1, tzinfo=UTC)
    items = []
    for i in range(RECORDS):
        words = [word for word, share in SHARES.items() for _ in range(rng.randrange(1, 4)) if rng.random() < share]
        # Most seconds apart, some at one moment, some before the years that have an order.
        created = began + timedelta(seconds=i if i % 3 == 0 else i // 200 * 200)
        if i % 400 == 0:
            created = datetime(1999, 1, 1, tzinfo=UTC)
        text = " ".join([*words, *["pad"] * rng.randrange(6)])
        items.append(MemoryItem(id=f"{i:04}", content=text, created_at=created, metadata={"half": i % 2}))
    rng.shuffle(items)
    return items


@pytest.mark.parametrize("few", [0, 30, matching.FEW_TEXTS])
async def test_common_terms_count_in_every_candidate(few: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "FEW_TEXTS", few)
    rng = random.Random(few)
    async with SqliteStore(tmp_path / "m.db") as indexed, InMemoryStore() as plain:
        for store in (indexed, plain):
            await store.put_many(_texts())
        for number in range(40):
            query = " ".join(rng.sample(sorted(SHARES), rng.randrange(2, 6)))
            where = {"metadata.half": 1} if number % 2 else None
            found, expected = [
                [(hit.item.id, hit.score) for hit in await store.search(query, where=where, limit=100)]
                for store in (indexed, plain)
            ]
            assert found == expected, query
