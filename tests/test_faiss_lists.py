"""faiss with ``ivf``: lists of vectors that are near each other, of which a search looks through some."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_faiss_files import changed, flip, manifest
from test_faiss_index import clustered, fill, found, index_of, merged, opened

from memory import InvalidSetting, MemoryItem
from memory.backends.faiss import lists, picking
from memory.backends.faiss.codes import Query
from memory.backends.faiss.lists import probed, train
from memory.backends.sqlite.rotation import rotated_vector

VECTORS = clustered(3_000)


@pytest.fixture(autouse=True)
def _listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LEAST", 500)
    monkeypatch.setattr(picking, "READ_BYTES", 0)
    monkeypatch.setattr(picking, "START", 256)


async def test_few_lists_hold_nearly_all_of_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    closest = picking.FaissPicking._closest

    def counted(self: Any, width: int) -> Any:
        looked.append(self._count if self._among is None else len(self._among))
        return closest(self, width)

    monkeypatch.setattr(picking.FaissPicking, "_closest", counted)
    async with opened(tmp_path, ivf=True, index=["metadata.n"]) as store:
        await fill(store, clustered(9_000))
        ways: dict[str, dict[str, Any]] = {
            "all": {},
            "many": {"limit": 100},
            "indexed": {"where": {"metadata.n": 3}},
            "unindexed": {"where": {"metadata.m": 1}},
            "few": {"where": {"user_id": "u7"}},
        }
        for name, how in ways.items():
            shares = []
            for vector in clustered(12, seed=2):
                how = {"limit": 10, **how}
                true = await found(store, vector, exact=True, **how)
                looked.clear()
                near = await found(store, vector, **how)
                assert len(near) == len(true)
                shares.append(len(set(true) & set(near)) / len(true))
                if name == "all":
                    assert 0 < max(looked) < 1_000
            assert np.mean(shares) >= (0.99 if "where" in how else 0.98), name
        assert (await store.health()).details["index"]["lists"] == index_of(store).generation.manifest.lists > 40


@pytest.mark.parametrize("ivf", [True, False])
async def test_what_is_large_in_every_vector_hides_nothing(tmp_path: Path, ivf: bool) -> None:
    """Some models have a few such numbers. Codes are seen from the centre, which has them too."""
    rows, asked = clustered(4_000, dimension=96), clustered(20, seed=2, dimension=96)
    rows[:, :3] = asked[:, :3] = [12, -10, 15]
    async with opened(tmp_path, ivf=ivf) as store:
        await fill(store, rows)
        shares = []
        for vector in asked:
            near, true = await found(store, vector, 10), await found(store, vector, 10, exact=True)
            shares.append(len(set(near) & set(true)) / 10)
        assert np.mean(shares) >= 0.98
        assert index_of(store).generation.manifest.lists == (63 if ivf else 0)


async def test_changes_are_seen_and_merged_into_new_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory.backends.faiss.cache.MERGE", 100)
    async with opened(tmp_path, ivf=True) as store:
        await fill(store, VECTORS[:1_000])
        assert await found(store, VECTORS[5]) == ["5"]
        await store.put(MemoryItem(id="5", content="moved", embedding=-VECTORS[5]))
        await store.delete("6")
        await fill(store, VECTORS[1_000:1_600], 1_000)
        for _ in range(2):
            assert await found(store, -VECTORS[5]) == ["5"]
            assert await found(store, VECTORS[6]) != ["6"]
            for i in (1_000, 1_300, 1_599):
                assert await found(store, VECTORS[i]) == [f"{i}"]
            await merged(store, VECTORS[7], 1_400)
        generation = index_of(store).generation
        assert len(np.unique(generation.ords)) == generation.count
        assert generation.manifest.lists == int(np.sqrt(generation.count))


async def test_searches_that_are_always_quick_take_a_new_generation_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory.backends.faiss.cache.MERGE", 100)
    async with opened(tmp_path) as store:
        await fill(store, VECTORS[:1_000])
        assert await found(store, VECTORS[5]) == ["5"]
        monkeypatch.setattr(type(store._nearest_pace), "is_short", lambda pace, crowded=False: True)
        await fill(store, VECTORS[1_000:1_600], 1_000)
        async with asyncio.timeout(15):
            await merged(store, VECTORS[7], 1_400)


async def test_each_code_is_in_the_list_of_its_vector(tmp_path: Path) -> None:
    async with opened(tmp_path, ivf=True) as store:
        await fill(store, VECTORS)
        await found(store, VECTORS[0])
        index = index_of(store)
        generation = index.generation
        unit = rotated_vector(VECTORS[0] / np.linalg.norm(VECTORS[0]))
        about, _ = Query(unit, generation.centre).by_fine(generation.fine)
        nearest, three = index.in_lists(unit, 1), index.in_lists(unit, 3)
        assert nearest is not None
        assert three is not None
        assert int(np.argmax(about)) in nearest.tolist()
        assert about[nearest].mean() > about.mean() + 0.3
        assert len(nearest) < len(three) < generation.count
        assert set(nearest.tolist()) < set(three.tolist())
        assert index.in_lists(unit, len(generation.heads)) is None


async def test_a_store_takes_an_index_with_lists_or_without(tmp_path: Path) -> None:
    async with opened(tmp_path) as plain:
        await fill(plain, VECTORS)
        assert await found(plain, VECTORS[9]) == ["9"]
        assert not index_of(plain).generation.manifest.lists
    async with opened(tmp_path, ivf=True) as listed:
        assert await found(listed, VECTORS[9]) == ["9"]
        number = index_of(listed).generation.manifest.generation
        while index_of(listed).generation.manifest.generation == number:
            assert await found(listed, VECTORS[10]) == ["10"]
        assert index_of(listed).generation.manifest.lists
    async with opened(tmp_path) as plain:
        assert await found(plain, VECTORS[9]) == ["9"]
        assert index_of(plain).generation.manifest.lists


async def test_what_is_doubtful_is_made_anew(tmp_path: Path) -> None:
    async with opened(tmp_path, ivf=True) as store:
        await fill(store, VECTORS[:1_000])
        await found(store, VECTORS[0])
    for facts in ({}, {"lists": 3}, {"format": 3}, {"probes": [0]}):
        before = manifest(tmp_path)
        changed(tmp_path, **facts)
        if not facts:
            flip(tmp_path / f"m.db-faiss-{before['generation']}", -1)
        for _ in range(2):
            async with opened(tmp_path, ivf=True) as store:
                assert await found(store, VECTORS[350]) == ["350"]
        now = manifest(tmp_path)
        assert now["lists"] == 31
        assert before["generation"] < now["generation"] <= before["generation"] + 2


def test_vectors_without_clusters_get_more_probes() -> None:
    rng = np.random.default_rng(3)
    spread = rng.standard_normal((3_000, 64)).astype(np.float32)
    few, many = (
        train(rows / np.linalg.norm(rows, axis=1, keepdims=True), 50) for rows in (rng.permutation(VECTORS), spread)
    )
    assert few.heads.shape == many.heads.shape == (50, 64)
    assert few.probes[0] < 10 < many.probes[0] <= 50
    assert len(few.probes) == 7


async def test_lists_that_do_not_separate_are_not_chosen_among(tmp_path: Path) -> None:
    """Where the nearest lie in a third of the lists they may lie in any, and all codes are looked at."""
    for name, rows in (("clustered", VECTORS), ("spread", np.random.default_rng(3).standard_normal((3_000, 64)))):
        (tmp_path / name).mkdir()
        async with opened(tmp_path / name, ivf=True) as store:
            await fill(store, rows.astype(np.float32))
            await found(store, VECTORS[0])
            index = index_of(store)
            assert len(index.generation.manifest.probes) == 7
            assert (index.probes(10) is None) == (name == "spread")


def test_more_results_are_looked_for_in_more_lists() -> None:
    probes = (1, 2, 3, 9)
    assert [probed(probes, wanted, 1.0) for wanted in (1, 2, 3, 4, 5, 8, 9)] == [1, 2, 3, 3, 9, 9, None]
    assert [probed(probes, wanted, 0.1) for wanted in (1, 10, 11, 80, 81)] == [1, 1, 2, 9, None]


def test_ivf_is_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="ivf"):
        opened(tmp_path, ivf=1)
