"""Cosines by themselves: numbers worked out by hand, and what holds for all vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.search.vectors import STEP, at_least, cosines, matrix, slack, unit

numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
shapes = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**31))


def raw(*values: float) -> bytes:
    return np.array(values, dtype="<f4").tobytes()


def cloud(count: int, size: int, seed: int) -> Any:
    """Vectors of a few directions: many are equally near, or nearly so; some are zero."""
    chance = np.random.default_rng(seed)
    centres = chance.normal(size=(3, size))
    rows = centres[chance.integers(0, 3, count)] + chance.normal(size=(count, size)) * chance.choice(
        [0.0, 1e-8, 1e-4, 1.0], (count, 1)
    )
    rows *= chance.choice([0.0, 1e-20, 0.5, 1.0, 1e15], (count, 1))
    return rows.astype("<f4")


def test_cosines_by_hand() -> None:
    rows = matrix([raw(1, 0), raw(3, 4), raw(0, 2), raw(-5, 0), raw(0, 0)], 2)
    assert cosines(raw(2, 0), rows).tolist() == [1.0, 0.6, 0.0, -1.0, 0.0]
    assert cosines(raw(0, 0), rows).tolist() == [0.0] * 5
    assert cosines(raw(2, 0), matrix([], 2)).tolist() == []


def test_lengths_at_the_ends_of_float32_do_not_overflow_or_vanish() -> None:
    rows = matrix([raw(3.4e38, 3.4e38), raw(1e-45, 0), raw(-3.4e38, 0)], 2)
    assert cosines(raw(3.4e38, 0), rows).tolist() == pytest.approx([0.5**0.5, 1.0, -1.0])
    assert unit(raw(3.4e38, 3.4e38)).tolist() == pytest.approx([0.5**0.5] * 2)
    assert unit(raw(0, 0)).tolist() == [0.0, 0.0]


@given(st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=8), st.tuples(numbers, numbers, numbers))
def test_a_cosine_lies_from_minus_1_to_1_and_is_symmetric(rows: list[Any], query: Any) -> None:
    found = cosines(raw(*query), matrix([raw(*row) for row in rows], 3))
    assert ((found >= -1.0) & (found <= 1.0)).all()
    back = [cosines(raw(*row), matrix([raw(*query)], 3))[0] for row in rows]
    assert found.tolist() == back


@given(shapes)
def test_a_cosine_does_not_depend_on_the_other_rows(shape: tuple[int, int, int]) -> None:
    count, size, seed = shape
    rows = cloud(count, size, seed)
    query = np.random.default_rng(seed + 1).normal(size=size).astype("<f4").tobytes()
    together = cosines(query, rows).tolist()
    assert [cosines(query, rows[i : i + 1])[0] for i in range(count)] == together
    assert cosines(query, rows[::-1]).tolist() == together[::-1]
    assert cosines(query, np.asfortranarray(rows)).tolist() == together


def test_nor_on_where_a_step_ends() -> None:
    rows = cloud(2 * STEP + 3, 24, 1)
    query = rows[7].tobytes()
    together = cosines(query, rows)
    assert together.tolist() == [cosines(query, rows[i : i + 1])[0] for i in range(len(rows))]


@given(shapes, st.integers(1, 45))
def test_rough_scores_never_lose_one_of_the_true_best(shape: tuple[int, int, int], limit: int) -> None:
    count, size, seed = shape
    rows = cloud(count, size, seed)
    query = cloud(1, size, seed + 1)[0].tobytes()
    rough = np.array([unit(row.tobytes()) for row in rows]) @ unit(query)
    true = cosines(query, rows)
    assert np.abs(rough - true).max() <= slack(size)
    best = sorted(range(count), key=lambda i: (-true[i], i))[:limit]
    chosen = set(at_least(rough, limit, size).tolist())
    assert set(best) <= chosen
    assert len(chosen) >= min(limit, count)


def test_what_is_no_number_is_the_worst_of_rough_scores() -> None:
    bad = np.float32("nan")
    scores = np.array([bad, 0.5, 0.1, bad, 0.9, -1.0, 0.2], dtype=np.float32)
    assert at_least(scores, 2, 4).tolist() == [1, 4]
    assert at_least(scores, 4, 4).tolist() == [1, 2, 4, 6]
    assert at_least(scores, 6, 4).tolist() == list(range(7))
    assert at_least(np.full(9, bad), 3, 4).tolist() == list(range(9))
    assert at_least(np.array([], dtype=np.float32), 3, 4).tolist() == []
