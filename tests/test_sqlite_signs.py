"""Signs of the vectors in memory: whatever is among the nearest is among what they leave, or they leave the answer to others."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory import ManualClock, MemoryItem
from memory.backends.sqlite import SqliteStore, signs
from memory.backends.sqlite.codes import closest, inverse_lengths
from memory.backends.sqlite.entries import TooLongError
from memory.backends.sqlite.nearest import nearest_soon
from memory.backends.sqlite.signs import Signs
from memory.clock import from_micros
from memory.ops import Nearest

COUNT = 4_000
RNG = np.random.default_rng(3)


def clusters(count: int = COUNT, dimension: int = 96, of: int = 80) -> Any:
    centres = RNG.standard_normal((of, dimension))
    near = 0.6 * RNG.standard_normal((count, dimension))
    return (centres[RNG.integers(0, of, count)] + near).astype(np.float32)


def with_outliers() -> Any:
    rows = clusters()
    rows[:, :4] *= 10
    return rows


def of_three_numbers() -> Any:
    """What a rotation of sums and differences would leave many zeros of."""
    rows = np.zeros((COUNT, 128), dtype=np.float32)
    for row in rows:
        row[RNG.integers(0, 16, 3)] = RNG.choice([-1, 1], 3)
    return rows


def of_low_rank() -> Any:
    return (RNG.standard_normal((COUNT, 5)) @ RNG.standard_normal((5, 384))).astype(np.float32)


def with_much_in_common() -> Any:
    return clusters() + 2 * RNG.standard_normal(96).astype(np.float32)


def without_clusters() -> Any:
    return RNG.standard_normal((COUNT, 24)).astype(np.float32)


@pytest.mark.parametrize(
    ("made", "helped"),
    [
        (clusters, {1: 80, 10: 80}),
        (with_outliers, {1: 80, 10: 40}),
        (of_three_numbers, {1: 80, 10: 0}),
        (of_low_rank, {1: 80, 10: 80}),
        (with_much_in_common, {1: 0, 10: 0}),
        (without_clusters, {1: 0, 10: 0}),
    ],
)
@pytest.mark.parametrize("limit", [1, 10])
def test_all_of_the_nearest_are_left(
    monkeypatch: pytest.MonkeyPatch, made: Callable[[], Any], helped: dict[int, int], limit: int
) -> None:
    monkeypatch.setattr(signs, "BLIND", 0)
    rows = made()
    scale = inverse_lengths(rows)
    units = (rows * scale[:, None]).astype(np.float64)
    found = Signs(rows, scale)
    used = 0
    for number in range(100):
        wanted = rows[RNG.integers(0, COUNT)].astype(np.float64)
        if number % 2:
            wanted += 0.3 * np.linalg.norm(wanted) / len(wanted) ** 0.5 * RNG.standard_normal(len(wanted))
        wanted /= np.linalg.norm(wanted)
        cosines = units @ wanted
        near = found.near(COUNT, wanted.astype(np.float32), limit, lambda some, all=cosines: all[some])
        if near is not None:
            used += 1
            nearest = np.flatnonzero(cosines > np.sort(cosines)[-limit] - 1e-6)
            assert np.isin(nearest, near).all()
            assert len(near) <= COUNT / signs.PART
    assert used >= helped[limit], "which of them are hardly nearer than the others signs cannot tell"


def test_signs_that_tell_nothing_are_not_asked_again_at_once_by_those_that_want_as_much() -> None:
    rows = clusters(of=400)
    scale, asked = inverse_lengths(rows), []
    found, unit = Signs(rows, scale), rows[0] * scale[0]

    def near(limit: int) -> Any:
        def cosines(some: Any) -> Any:
            asked.append(limit)
            return (rows[some] * scale[some, None]) @ unit

        return found.near(COUNT, unit, limit, cosines)

    assert near(200) is None
    assert near(200) is None
    assert near(4) is not None
    assert asked == [200, 4]
    for _ in range(signs.BLIND):
        near(200)
    assert asked == [200, 4, 200]


async def test_a_store_answers_as_if_all_were_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signs, "WORTH", 500)
    told: Counter[bool] = Counter()
    near = Signs.near

    def counted(self: Signs, *args: Any) -> Any:
        found = near(self, *args)
        told[found is not None] += 1
        return found

    monkeypatch.setattr(Signs, "near", counted)
    rows = clusters(1_500, 384, of=8)
    words = ("oak", "elm", "ash")
    clock = ManualClock()

    def item(place: int, vector: Any) -> MemoryItem:
        ends = from_micros(clock()) + timedelta(days=1) if place % 5 else None
        return MemoryItem(id=f"{place:04}", content=words[place % 3], embedding=vector, expires_at=ends)

    async with SqliteStore(tmp_path / "memory.db", clock=clock, sweep_interval=None) as store:
        await store.put_many([item(*pair) for pair in enumerate(rows[:1_000])])

        async def check() -> None:
            told.clear()
            for number in range(40):
                asked: dict[str, Any] = {"vector": rows[number * 37] + rows[number] / 4, "limit": 7}
                if number % 4 == 3:
                    asked |= {"query": words[number % 3], "limit": 25}
                found = await store.search(**asked)
                assert found.hits == (await store.search(**asked, exact=True)).hits

        await check()
        assert told[True] > 20
        # Records that are new, others that have moved into another cluster, and some that are gone.
        await store.put_many([item(*pair) for pair in enumerate(rows[1_000:], 1_000)])
        await store.put_many([item(place, rows[-place] * 3) for place in range(1, 60)])
        await store.delete_many([f"{place:04}" for place in range(30, 1_400) if place % 7 > 3])
        await check()
        assert told[True] > 20
        clock.advance(2 * 86_400)
        await check()
        assert told[True] > 20
        # A length that float32 cannot tell.
        await store.put(item(2_000, rows[5] * np.float32(1e-25)))
        await check()
        assert told[True] == 0


def test_the_closest_of_many_that_are_equally_close() -> None:
    for count in (5_000, 40_000):
        assert closest(np.full(count, 7, dtype=np.uint16), 100).tolist() == list(range(100))
        found = np.full(count, 7, dtype=np.uint16)
        found[-50:] = 3
        assert set(closest(found, 60).tolist()) == {*range(10), *range(count - 50, count)}


@pytest.mark.parametrize("exact", [20_000, 50])
async def test_the_loop_never_copies_all_that_is_held(tmp_path: Path, exact: int) -> None:
    """What has no room for another is made larger in the reader's thread: 20,000 vectors took 73 ms on the loop."""
    rows = clusters(1_000, 16, of=10)
    op = Nearest(vector=rows[0].tobytes(), embedder=None, limit=3, now=0)
    async with SqliteStore(tmp_path / "memory.db") as store:
        store._vectors.exact = exact
        await store.put_many([MemoryItem(id=f"{i}", content="x", embedding=row) for i, row in enumerate(rows[:100])])
        await store.search(vector=rows[0])
        assert store._direct is not None
        soon = partial(nearest_soon, store._direct, op, store._current_fields(), store._vectors, store._notice)
        store._give_up = math.inf
        taken = 0
        for place in range(100, 1_000, 20):
            more = [MemoryItem(id=f"{place + i}", content="x", embedding=rows[place + i]) for i in range(20)]
            await store.put_many(more)
            index: Any = store._vectors.known
            if index.has_room(20):
                assert len(soon()) >= 3
                taken += 1
            else:
                with pytest.raises(TooLongError):
                    soon()
                break
        assert taken > 5
        found = await store.search(vector=rows[place + 19], limit=1)
        assert found.hits[0].item.id == str(place + 19)
