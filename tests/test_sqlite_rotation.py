"""The rotation in which codes are cut: the same for ever, for every vector by itself, and what codes find by it."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory import MemoryItem
from memory.backends.sqlite import SqliteStore, codes, picking
from memory.backends.sqlite.codes import centre_of, fine_products, pack, unit_columns
from memory.backends.sqlite.rotation import rotated, rotated_vector

DIMENSIONS = [*range(1, 71), *range(127, 131), 384, 1_536]


def outliers(count: int, seed: int = 1, dimension: int = 96) -> Any:
    """Clusters, of which four numbers are ten times as large as the others."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((60, dimension))
    found = centres[rng.integers(0, 60, count)] + 0.7 * rng.standard_normal((count, dimension))
    found[:, :4] *= 10
    return found.astype(np.float32)


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_it_is_a_rotation_that_mixes_all_numbers(dimension: int) -> None:
    turned = rotated(np.eye(dimension, dtype=np.float32))
    np.testing.assert_allclose(turned.T @ turned, np.eye(dimension), atol=2e-6)
    if dimension >= 10:
        assert np.abs(turned).max() < 0.8
        assert (np.abs(turned) * dimension**0.5 > 0.01).mean() > 0.7
        assert 2 < (turned**4).mean() * dimension**2 < 4, "3 in a normal distribution"


@pytest.mark.parametrize("dimension", DIMENSIONS)
def test_a_vector_is_turned_to_the_same_bits_whatever_is_turned_with_it(dimension: int) -> None:
    rows = outliers(150, dimension=dimension)
    rows[3] = 0
    rows[4] *= 1e-15
    together = unit_columns(rows)
    packed = pack(rows, centre_of(rows))
    for size in (1, 2, 7, 64):
        for start in range(0, 150, 50):
            part = rows[start : start + size]
            assert unit_columns(part).tobytes() == together[:, start : start + size].tobytes()
            for alone, among in zip(pack(part, centre_of(rows)), packed.at(slice(start, start + size)), strict=True):
                assert alone.tobytes() == among.tobytes()
    one = rows[7] / np.linalg.norm(rows[7])
    before = one.tobytes()
    np.testing.assert_allclose(rotated_vector(one), together[:, 7], atol=1e-6)
    assert one.tobytes() == before, "what is turned is a copy"


def test_it_never_changes() -> None:
    """Codes in files of long ago are compared with those of today."""
    told = hashlib.sha256()
    for dimension in DIMENSIONS:
        column = np.arange(1, dimension + 1, dtype=np.float32)[:, None]
        told.update(rotated(column).astype("<f4").tobytes())
    assert told.hexdigest() == "3b8c272abe691440cc258650f2d4a07f1778c72971b568c91e4d310dd7e68c59"


def test_a_few_large_numbers_are_shared_out() -> None:
    for dimension in (96, 384, 1_000, 1_536):
        units = unit_columns(outliers(500, dimension=dimension))
        assert np.abs(units).max() < 7 / dimension**0.5
        power = (units**2).mean(axis=1) * dimension
        assert 0.05 < power.min() <= power.max() < 4


async def shares(store: SqliteStore, vectors: Any) -> float:
    """The part of the true ten that is found."""
    found = []
    for vector in vectors:
        true = {hit.item.id for hit in await store.search(vector=vector, exact=True)}
        found.append(len(true & {hit.item.id for hit in await store.search(vector=vector)}) / 10)
    return float(np.mean(found))


async def test_codes_find_the_nearest_where_a_few_numbers_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picking, "BITS", (100, 3))  # of 3,000 vectors the share that is picked of 30,000
    rows = outliers(3_000)
    async with SqliteStore(tmp_path / "m.db", synchronous="off") as store:
        store._vectors.exact = -1
        await store.put_many([MemoryItem(id=f"{i}", content=i, embedding=v) for i, v in enumerate(rows)])
        assert await shares(store, outliers(20, seed=2)) >= 0.98

    monkeypatch.setattr(codes, "rotated", lambda columns: columns)
    monkeypatch.setattr("memory.backends.sqlite.rotation.rotated_vector", lambda vector: vector)
    async with SqliteStore(tmp_path / "plain.db", synchronous="off") as plain:
        plain._vectors.exact = -1
        await plain.put_many([MemoryItem(id=f"{i}", content=i, embedding=v) for i, v in enumerate(rows)])
        assert await shares(plain, outliers(20, seed=2)) < 0.95, "without the rotation some are missed"


@pytest.mark.parametrize("dimension", [1, 2, 5, 64])
@pytest.mark.filterwarnings("error")
def test_the_centre_itself_nothing_and_the_smallest_and_largest_have_codes(dimension: int) -> None:
    rows = np.zeros((40, dimension), dtype=np.float32)
    rows[:, -1] = 3
    centre = centre_of(rows)
    rows[1] = 0
    rows[2, -1], rows[3, -1] = 1e-45, 3e38
    packed = pack(rows, centre)
    turned = rotated_vector(rows[0] / 3)
    about = fine_products(packed.fine, packed.step, turned) + centre @ turned
    np.testing.assert_allclose(about[:4], [1, 0, 1, 1], atol=0.2)
