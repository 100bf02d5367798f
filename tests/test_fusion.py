"""From several scores to one, by numbers worked out by hand, and what holds for all of them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory.errors import InvalidSetting
from memory.search.fusion import Weights, composite, hybrid, most_marginal, recency

parts = st.floats(0.0, 1.0)
weights = st.builds(
    Weights, text=st.floats(0.1, 9.0), vector=st.floats(0.0, 9.0), relevance=st.floats(0.1, 9.0), recency=st.floats(0.0, 9.0), importance=st.floats(0.0, 9.0),
    half_life=st.floats(1.0, 1e9),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "best", "cosine", "expected"),
    [(4.0, 8.0, 0.6, 0.55), (8.0, 8.0, 1.0, 1.0), (8.0, 8.0, None, 0.5), (0.0, 8.0, 0.5, 0.25), (2.0, 8.0, -1.0, 0.125), (0.0, 0.0, 0.5, 0.25), (0.0, 0.0, None, 0.0)],
)  # fmt: skip
def test_a_hybrid_score_is_the_mean_of_relative_text_and_cosine(
    text: float, best: float, cosine: float | None, expected: float
) -> None:
    assert hybrid(Weights(), text, best, cosine) == pytest.approx(expected, abs=1e-15)


def test_the_halves_of_a_hybrid_score_are_weighed() -> None:
    assert hybrid(Weights(text=3.0, vector=1.0), 4.0, 8.0, 0.2) == pytest.approx((3 * 0.5 + 0.2) / 4)
    assert hybrid(Weights(text=0.0, vector=0.2), 4.0, 8.0, 0.25) == 0.25
    assert hybrid(Weights(text=0.2, vector=0.0), 4.0, 8.0, 0.25) == 0.5


def test_recency_halves_with_every_half_life_and_the_future_counts_as_now() -> None:
    day = 86_400_000_000
    for age, expected in (
        (0, 1.0),
        (day, 0.5),
        (2 * day, 0.25),
        (day // 2, math.sqrt(0.5)),
        (-day, 1.0),
        (10**18, 0.0),
    ):
        assert recency(Weights(), 10 * day, 10 * day + age) == pytest.approx(expected)
    assert recency(Weights(half_life=10.0), 0, 20_000_000) == 0.25


def test_the_composite_is_the_weighted_mean_of_its_parts() -> None:
    assert composite(Weights(), 1.0, 0.5, 0.2) == pytest.approx(0.4 + 0.15 + 0.06)
    assert composite(Weights(relevance=1.0, recency=0.0, importance=1.0), 0.5, 0.9, 1.0) == 0.75


def test_the_most_marginal_trades_relevance_against_repetition() -> None:
    relevance, nearest = np.array([1.0, 0.9, 0.5]), np.array([1.0, 0.2, 0.0])
    everything = np.ones(3, dtype=bool)
    assert most_marginal(relevance, nearest, everything, 1.0) == 0
    assert most_marginal(relevance, nearest, everything, 0.5) == 1  # 0.0, 0.35, 0.25
    assert most_marginal(relevance, nearest, everything, 0.0) == 2
    assert most_marginal(relevance, nearest, np.array([True, False, False]), 0.0) == 0
    assert most_marginal(np.ones(3), np.zeros(3), everything, 0.5) == 0, "of equals the first"


@given(weights, parts, parts, parts)
def test_mixed_scores_lie_from_0_to_1_and_never_fall_when_a_part_rises(
    w: Weights, a: float, b: float, c: float
) -> None:
    low, high = sorted((a, b))
    assert 0.0 <= hybrid(w, a, 1.0, b) <= 1.0 + 1e-12
    assert hybrid(w, low, 1.0, c) <= hybrid(w, high, 1.0, c)
    assert hybrid(w, c, 1.0, low) <= hybrid(w, c, 1.0, high)
    assert 0.0 <= composite(w, a, b, c) <= 1.0 + 1e-12
    assert composite(w, low, c, c) <= composite(w, high, c, c)


@given(st.integers(-(2**60), 2**60), st.integers(-(2**60), 2**60), weights)
def test_recency_is_always_from_0_to_1(created: int, now: int, w: Weights) -> None:
    assert 0.0 <= recency(w, created, now) <= 1.0


@pytest.mark.parametrize(
    "bad",
    [
        {"text": -1}, {"vector": math.nan}, {"recency": math.inf}, {"importance": True}, {"relevance": "1"}, {"half_life": 0}, {"half_life": None},
        {"text": 0, "vector": 0}, {"relevance": 0, "recency": 0.0, "importance": 0},
    ],
)  # fmt: skip
def test_weights_that_mix_nothing_or_are_no_numbers_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(InvalidSetting, match="weights"):
        Weights(**bad)  # type: ignore[arg-type]
