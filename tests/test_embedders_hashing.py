"""The lexical embedder: the same bits everywhere, near where words are shared."""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys

import numpy as np
import pytest

from memory.errors import InvalidSetting
from memory.search.embedders import HashingEmbedder

TEXTS = [
    "Maya is allergic to peanuts",
    "The spare key is with Theo until Friday",
    "Ça coûte 12 €, l'été — Straße ﬁn",
    "学校に行く 👍🏽 ภาษาไทย",
    "x",
    "word " * 3_000 + "".join(random.Random(1).choices("abcdefgh ", k=5_000)),
]


def test_the_same_text_gives_the_same_bits_in_every_process_and_under_every_hash_seed() -> None:
    code = (
        "import sys, json; from memory.search.embedders import HashingEmbedder\n"
        "sys.stdout.write(HashingEmbedder(64).embed(json.load(sys.stdin)).tobytes().hex())"
    )
    here = HashingEmbedder(64).embed(TEXTS).tobytes().hex()
    for seed in ("0", "1", "4242"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            input=json.dumps(TEXTS),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
            timeout=60,
        )
        assert done.stdout == here


def test_the_bits_are_those_of_version_one() -> None:
    """A stored vector must stay comparable: another algorithm needs another name."""
    sums = np.array([1, -3, -1, 2, 1, -3, 0, -1, -1, 1, 0, 3, 0, 0, -1, 3])
    vector = HashingEmbedder(16).embed(["Maya likes tea"])[0]
    assert vector.tobytes() == (sums / math.sqrt(sums @ sums)).astype(np.float32).tobytes()


def test_vectors_are_unit_length_float32_and_zero_without_words() -> None:
    vectors = HashingEmbedder().embed([*TEXTS, "", " \n", "... !?", "___"])
    assert vectors.dtype == np.float32
    assert vectors.shape == (10, 256)
    assert np.linalg.norm(vectors[:6], axis=1) == pytest.approx(np.ones(6), abs=1e-6)
    assert not vectors[6:].any()
    assert HashingEmbedder().embed([]).shape == (0, 256)


def test_shared_words_and_their_forms_are_near_and_case_and_composition_are_ignored() -> None:
    embedder = HashingEmbedder()

    def near(one: str, other: str) -> float:
        first, second = embedder.embed([one, other])
        return float(first @ second)

    fact = "Maya is allergic to peanuts"
    assert near("peanuts maya ALLERGIC to: is?", fact) == pytest.approx(1.0, abs=1e-6)
    assert near("peanut allergies", fact) > 0.15 > abs(near("the train leaves at nine", fact))
    assert near("café", "cafe\u0301") == pytest.approx(1.0, abs=1e-6)
    assert near("学校", "学校に行く") > 0.1


def test_signs_and_buckets_are_spread_evenly() -> None:
    words = [f"w{i}q{i * i}" for i in range(4_000)]
    sums = HashingEmbedder(64).embed([" ".join(words)])[0]
    assert abs(float(sums.mean())) < 0.03
    singles = HashingEmbedder(64).embed(words[:500])
    off = singles @ singles.T
    np.fill_diagonal(off, 0)
    assert abs(float(off.mean())) < 0.05


def test_a_long_text_is_taken_in_steps_that_agree_with_the_whole() -> None:
    embedder = HashingEmbedder()
    words = [f"word{i}" for i in range(2_000)]
    steps = embedder.steps([" ".join(words)])
    pauses = 0
    while True:
        try:
            next(steps)
        except StopIteration as done:
            vector = done.value[0]
            break
        pauses += 1
    assert pauses > 10
    small = sum((embedder._sums({word}) for word in words), np.zeros(256, np.int64))
    assert vector == pytest.approx(small / np.linalg.norm(small), abs=1e-6)


@pytest.mark.parametrize("dimension", [0, 7, 16_385, True, 2.5, "256"])
def test_a_dimension_out_of_range_is_refused(dimension: object) -> None:
    with pytest.raises(InvalidSetting, match="8 to 16,384"):
        HashingEmbedder(dimension)  # type: ignore[arg-type]


def test_the_cache_of_words_is_bounded() -> None:
    embedder = HashingEmbedder(8)
    embedder.embed([" ".join(f"w{i}" for i in range(40_000)), "x" * 1_000])
    assert len(embedder._buckets) <= 16_384
    assert all(len(word) <= 32 for word in embedder._buckets)
