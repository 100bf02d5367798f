"""faiss under filters that let too many through to be listed: records are held to them before their vectors are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_faiss_index import clustered, fill, found, index_of, merged, opened

from memory import MemoryItem
from memory.backends.faiss import lists, picking
from memory.backends.sqlite import nearest, survivors

COUNT = 6_000
FILTERS: dict[str, Any] = {
    "a third": {"metadata.m": 1},
    "a tenth": {"metadata.n": 3},
    "a thirtieth": {"metadata.n": 3, "metadata.m": 1},
    "three": {"content": {"$in": [7, 3_000, 5_998]}},
    "none": {"metadata.n": 77},
}


@pytest.fixture(autouse=True)
def _by_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lists, "LEAST", 500)
    monkeypatch.setattr(picking, "READ_BYTES", 0)
    monkeypatch.setattr(picking, "START", 256)


@pytest.mark.parametrize("ivf", [False, True])
async def test_the_nearest_that_pass_are_found(tmp_path: Path, ivf: bool) -> None:
    async with opened(tmp_path, ivf=ivf) as store:
        await fill(store, clustered(COUNT))
        asked = clustered(10, seed=2)
        await found(store, asked[0])
        for i in range(60):  # in the tail, the nearest of all, two of three of which pass
            await store.put(
                MemoryItem(
                    id=f"t{i}", content=i, metadata={"n": 3 * (i % 3 > 0), "m": 1}, embedding=asked[i % 10] + i / 900
                )
            )
        for name, where in FILTERS.items():
            shares = []
            for vector in asked:
                near = await found(store, vector, 10, where=where)
                true = await found(store, vector, 10, where=where, exact=True)
                assert len(near) == len(true), name
                shares.append(len(set(near) & set(true)) / max(1, len(true)))
                if name in ("a third", "a tenth", "a thirtieth"):
                    assert near[0].startswith("t")
            assert np.mean(shares) >= (0 if name == "none" else 0.99), name
        assert index_of(store).tail.count >= 60
        assert (index_of(store).generation.manifest.lists > 0) == ivf


@pytest.mark.parametrize("in_tail", [0, 4_000])
async def test_what_the_tail_holds_hides_nothing_that_lies_deep(
    in_tail: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picking, "MOST", 300)
    async with opened(tmp_path) as store:
        vectors, indexed = clustered(COUNT), COUNT - in_tail
        await fill(store, vectors[:indexed])
        asked = clustered(5, seed=2)
        await found(store, asked[0])
        await merged(store, asked[0], indexed)
        await fill(store, vectors[indexed:], start=indexed)
        for i in range(20):  # all of them pass, and all are farther than anything else
            await store.put(MemoryItem(id=f"t{i}", content=-1, embedding=-asked[i % 5]))
        where = {"content": {"$in": [-1, *range(0, COUNT, 600)]}}
        for vector in asked:
            assert await found(store, vector, 10, where=where) == await found(
                store, vector, 10, where=where, exact=True
            )
        assert index_of(store).tail.count >= in_tail + 20


async def test_vectors_of_what_does_not_pass_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    read_likely = picking.read_likely

    def counted(db: Any, ords: Any, *rest: Any) -> Any:
        read.append(len(ords))
        return read_likely(db, ords, *rest)

    monkeypatch.setattr(picking, "read_likely", counted)
    async with opened(tmp_path) as store:
        await fill(store, clustered(COUNT))
        await found(store, clustered(1)[0])
        for where, most in (({}, COUNT), ({"metadata.n": 3}, 150)):
            read.clear()
            for vector in clustered(10, seed=2):
                await found(store, vector, 10, where=where)
            assert 100 < sum(read) <= most * 10


async def test_a_query_that_listed_too_much_is_counted_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    scalar = survivors.scalar

    def told(db: Any, text: str, params: Any = ()) -> Any:
        asked.append("count" if "count(*)" in text else "list")
        return scalar(db, text, params)

    monkeypatch.setattr(survivors, "scalar", told)
    monkeypatch.setattr("memory.backends.faiss.index.LEADS", 500)
    monkeypatch.setattr(nearest.VectorCache, "pool", lambda cache, asked, version: None)
    async with opened(tmp_path, index=["metadata.n"]) as store:
        await fill(store, clustered(COUNT))
        ways = ((1, "list"), (1, "count"), (2, "count"), (77, "count list"), (77, "list"), (1, "list"), (1, "count"))
        for number, said in ways:
            asked.clear()
            results = await found(store, clustered(1)[0], 10, where={"metadata.n": number})
            assert (" ".join(asked), len(results)) == (said, 0 if number == 77 else 10)
