"""faiss: what its codes find, that changes are seen at once and merged behind them, that several stores share an index."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from pathlib import Path
from typing import Any

import apsw
import faiss
import numpy as np
import pytest

from memory import InvalidSetting, MemoryItem
from memory.backends.faiss import FaissStore, cache, picking
from memory.backends.faiss.codes import ONE_BIT, Query, from_fine
from memory.backends.faiss.index import FaissIndex
from memory.backends.faiss.scan import Scan
from memory.backends.sqlite import SqliteStore
from memory.backends.sqlite.codes import centre_of, pack
from memory.backends.sqlite.rotation import rotated_vector
from memory.testing.embedder import WordEmbedder


def clustered(count: int, seed: int = 1, dimension: int = 64) -> Any:
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((60, dimension))
    found = centres[rng.integers(0, 60, count)] + 0.7 * rng.standard_normal((count, dimension))
    return found.astype(np.float32)


def opened(path: Path, **options: Any) -> FaissStore:
    return FaissStore(path / "m.db", **{"synchronous": "off", "embedder": None, "exact": 200, **options})


async def fill(store: SqliteStore, vectors: Any, start: int = 0) -> None:
    for first in range(0, len(vectors), 2_000):
        part = enumerate(vectors[first : first + 2_000], start + first)
        await store.put_many(
            [
                MemoryItem(id=f"{i}", content=i, metadata={"n": i % 10, "m": i % 3}, user_id=f"u{i % 300}", embedding=v)
                for i, v in part
            ]
        )


async def found(store: SqliteStore, vector: Any, limit: int = 1, **how: Any) -> list[str]:
    return [hit.item.id for hit in await store.search(vector=vector, limit=limit, **how)]


def index_of(store: FaissStore) -> FaissIndex:
    index = store._vectors._index
    assert isinstance(index, FaissIndex)
    return index


async def merged(store: FaissStore, vector: Any, count: int) -> None:
    """Searches until so many vectors are in the generation."""
    async with asyncio.timeout(30):
        while index_of(store).generation.count < count:
            await asyncio.sleep(0.01)
            await found(store, vector)


async def test_faiss_finds_nearly_all_of_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picking, "READ_BYTES", 0)
    monkeypatch.setattr(picking, "START", 256)
    asked: list[int] = []
    look = Scan.nearest

    def counted(scan: Scan, query: Query, count: int) -> Any:
        asked.append(scan.count)
        return look(scan, query, count)

    monkeypatch.setattr(Scan, "nearest", counted)
    async with opened(tmp_path, index=["metadata.n"]) as store:
        await fill(store, clustered(12_000))
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
                near = await found(store, vector, **how)
                assert len(near) == len(true)
                shares.append(len(set(true) & set(near)) / len(true))
            assert np.mean(shares) >= (0.98 if name in ("all", "many") else 0.99), name
        assert index_of(store).generation.count > 6_000
        assert max(asked) > 6_000


async def test_faiss_finds_them_too_where_a_few_numbers_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picking, "READ_BYTES", 0)
    monkeypatch.setattr(picking, "START", 256)
    vectors, asked = clustered(6_000, dimension=96), clustered(20, seed=2, dimension=96)
    vectors[:, :4] *= 10
    asked[:, :4] *= 10

    async def share(path: Path) -> float:
        shares = []
        async with opened(path) as store:
            await fill(store, vectors)
            for vector in asked:
                near, true = await found(store, vector, 10), await found(store, vector, 10, exact=True)
                shares.append(len(set(near) & set(true)) / 10)
            assert index_of(store).generation.count == 6_000
        return float(np.mean(shares))

    assert await share(tmp_path) >= 0.98
    (tmp_path / "plain").mkdir()
    monkeypatch.setattr("memory.backends.sqlite.codes.rotated", lambda columns: columns)
    monkeypatch.setattr(picking, "rotated_vector", lambda vector: vector)
    assert await share(tmp_path / "plain") < 0.9, "without a rotation many are missed"


async def test_changes_are_seen_by_the_next_search_and_merged_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "MERGE", 100)
    monkeypatch.setattr(cache, "AGAIN", 0.0)
    vectors = clustered(1_600)
    async with opened(tmp_path) as store, opened(tmp_path) as other:
        await fill(store, vectors[:1_000])
        assert await found(store, vectors[5]) == await found(other, vectors[5]) == ["5"]
        first = index_of(store).generation.manifest.generation
        await store.put(MemoryItem(id="5", content="moved", embedding=-vectors[5]))
        await store.delete("6")
        for reader in (store, other):
            assert await found(reader, -vectors[5]) == ["5"]
            assert await found(reader, vectors[5]) != ["5"]
            assert await found(reader, vectors[6]) != ["6"]
        await fill(store, vectors[1_000:], 1_000)
        for reader in (store, other):
            for i in (1_000, 1_300, 1_599):
                assert await found(reader, vectors[i]) == [f"{i}"]
        for reader in (store, other):
            await merged(reader, vectors[7], 1_400)
        for reader in (store, other):
            assert await found(reader, -vectors[5]) == ["5"]
            assert await found(reader, vectors[6]) != ["6"]
            assert await found(reader, vectors[1_599]) == ["1599"]
            generation = index_of(reader).generation
            assert generation.manifest.generation > first
            assert len(np.unique(generation.ords)) == generation.count
        assert (
            len([name for name in os.listdir(tmp_path) if name.startswith("m.db-faiss-") and name[-1].isdigit()]) == 1
        )


async def test_an_index_is_loaded_and_not_made_anew_when_the_store_opens(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vectors = clustered(700)
    async with opened(tmp_path) as store:
        await fill(store, vectors)
        assert await found(store, vectors[9]) == ["9"]
        await store.put(MemoryItem(id="late", content="late", embedding=-vectors[0]))
    caplog.clear()
    caplog.set_level("INFO")
    async with opened(tmp_path) as store:
        assert await found(store, vectors[9]) == ["9"]
        assert await found(store, -vectors[0]) == ["late"]
        assert index_of(store).count == 701
    assert "built" not in caplog.text


async def test_either_store_opens_the_file(tmp_path: Path) -> None:
    vectors = clustered(800)
    async with SqliteStore(tmp_path / "m.db", synchronous="off") as plain:
        await fill(plain, vectors[:600])
    async with opened(tmp_path) as store:
        assert await found(store, vectors[3]) == ["3"]
    async with SqliteStore(tmp_path / "m.db", synchronous="off") as plain:
        await fill(plain, vectors[600:], 600)
        await plain.delete("3")
        await plain.put(MemoryItem(id="4", content="moved", embedding=-vectors[3]))
    async with opened(tmp_path) as store:
        assert await found(store, vectors[3]) != ["3"]
        assert await found(store, -vectors[3]) == ["4"]
        assert await found(store, vectors[799]) == ["799"]
        assert (await store.verify()).ok


async def test_codes_written_anew_and_another_embedder_make_a_new_index(tmp_path: Path) -> None:
    words = WordEmbedder("words", 32)
    async with opened(tmp_path, embedder=words) as store:
        await store.put_many([MemoryItem(id=f"{i}", content=f"word{i} marmot{i % 7}") for i in range(500)])
        assert [h.item.id for h in await store.search("word17 marmot3", mode="vector", limit=1)] == ["17"]
        era = index_of(store).generation.manifest.era
        await store.repair()
        assert [h.item.id for h in await store.search("word17 marmot3", mode="vector", limit=1)] == ["17"]
    async with opened(tmp_path, embedder=WordEmbedder("others", 48)) as store:
        await store.reembed()
        assert [h.item.id for h in await store.search("word17 marmot3", mode="vector", limit=1)] == ["17"]
        index = store._vectors._index
        if isinstance(index, FaissIndex):
            assert index.generation.manifest.dimension == 48
            assert index.generation.manifest.era > era


async def test_filters_hold_after_another_program_has_rewritten_the_file(tmp_path: Path) -> None:
    vectors = clustered(900)
    async with opened(tmp_path, index=["metadata.n"]) as store:
        await fill(store, vectors)
        for i in range(0, 900, 3):
            await store.delete(f"{i}")

        async def right() -> None:
            for i in (1, 400, 898):
                assert await found(store, vectors[i], where={"metadata.n": i % 10}) == [f"{i}"]

        await right()
        db = apsw.Connection(str(tmp_path / "m.db"))
        db.execute("VACUUM")
        db.close()
        await right()
        await store.put(MemoryItem(id="1", content="again", metadata={"n": 5}, embedding=vectors[1]))
        assert await found(store, vectors[1], where={"metadata.n": 5}) == ["1"]


async def test_a_threshold_leaves_out_what_is_less_near(tmp_path: Path) -> None:
    async with opened(tmp_path, similarity_threshold=0.5) as store:
        for name, vector in {"same": [1.0, 0.0], "near": [1.0, 1.0], "far": [0.0, 1.0], "other": [-1.0, 0.0]}.items():
            await store.put(MemoryItem(id=name, content=name, embedding=vector))
        await store.put(MemoryItem(id="without", content="without"))
        assert await found(store, [1.0, 0.0], limit=9) == ["same", "near"]
        assert await found(store, [1.0, 0.0], limit=9, exact=True) == ["same", "near"]
        both = await store.search("far", vector=[1.0, 0.0])
        assert {hit.item.id for hit in both} == {"same", "near", "far"}  # what words find stays
    for wrong in (2, "x", float("nan"), True):
        with pytest.raises(InvalidSetting, match="similarity_threshold"):
            opened(tmp_path, similarity_threshold=wrong)
    with pytest.raises(InvalidSetting, match="exact"):
        opened(tmp_path, exact=-1)


async def test_the_threads_of_the_programs_own_faiss_are_left_as_they_are(tmp_path: Path) -> None:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        vectors = clustered(700)
        async with opened(tmp_path) as store:
            await fill(store, vectors)
            for i in range(40):
                assert await found(store, vectors[i]) == [f"{i}"]
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


def _search_in_a_child(path: Path, vector: Any) -> None:
    async def search() -> None:
        async with opened(path) as store:
            assert await found(store, vector) == ["11"]
            index_of(store)

    asyncio.run(search())
    os._exit(7)


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_a_child_of_a_process_that_has_searched_searches_too(tmp_path: Path) -> None:
    vectors = clustered(700)
    async with opened(tmp_path) as store:
        await fill(store, vectors)
        assert await found(store, vectors[11]) == ["11"]
        child = multiprocessing.get_context("fork").Process(target=_search_in_a_child, args=(tmp_path, vectors[11]))
        child.start()
        await asyncio.to_thread(child.join, 60)
        assert child.exitcode == 7


async def test_a_search_waits_for_the_process_that_makes_the_index_and_does_without_it_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = clustered(700)
    monkeypatch.setattr(cache, "WAIT", 0.1)
    async with opened(tmp_path) as store:
        await fill(store, vectors)
        with store._vectors._alone() as alone:
            assert alone
            assert await found(store, vectors[3]) == ["3"]
            assert not isinstance(store._vectors._index, FaissIndex)
    async with opened(tmp_path) as store:
        assert await found(store, vectors[3]) == ["3"]
        index_of(store)


def test_products_are_as_far_off_as_is_said() -> None:
    for dimension in (64, 100, 384):
        rows = clustered(2_000, dimension=dimension)
        rows[3] = 0
        centre = centre_of(rows)
        codes = from_fine(pack(rows, centre), centre)
        units = rows / np.maximum(np.linalg.norm(rows, axis=1), 1e-9)[:, None]
        for near in (units[0], units[700]):
            query = Query(rotated_vector(near), centre)
            places, sums = Scan(codes.bits).nearest(query, len(rows))
            sizes = query.sizes(codes.scale[places])
            fine, off = query.by_fine(codes.fine[places])
            true = (units @ near)[places]
            for about, part in ((query.by_bits(sums, sizes), ONE_BIT * sizes), (fine, off)):
                beyond = np.abs(about - true) > 3 * part + 0.005
                assert beyond.mean() < 0.01, dimension
            assert sorted(places.tolist()) == list(range(len(rows)))
            signs = np.unpackbits(codes.bits.view(np.uint8), axis=1, count=dimension, bitorder="little") * 2.0 - 1
            assert np.abs(sums - signs[places] @ query.numbers[0, :dimension]).max() < 0.05


@pytest.mark.parametrize("count", [1, 31, 32, 33, 70, 200])
def test_a_scan_finds_the_largest_sums_and_leaves_none_out(count: int) -> None:
    rows = clustered(count, dimension=100)
    centre = centre_of(rows)
    codes = from_fine(pack(rows, centre), centre)
    signs = np.unpackbits(codes.bits.view(np.uint8), axis=1, count=100, bitorder="little") * 2.0 - 1
    scan = Scan(codes.bits)
    asked = [rotated_vector(rows[0]), np.zeros(100, np.float32), -signs[0].astype(np.float32)]
    for unit in asked:  # the last leads away from the first as far as can be
        query, true = Query(unit, centre), signs @ unit
        for wanted in {1, count // 2 + 1, count}:
            places, sums = scan.nearest(query, wanted)
            assert len(set(places.tolist())) == wanted
            off = np.abs(unit).sum() / 100
            assert np.abs(sums - true[places]).max() <= off
            assert sums.min() >= np.sort(true)[count - wanted] - off
