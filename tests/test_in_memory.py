"""What only ``in_memory`` keeps: its index of terms, in step with writes and light for the garbage collector."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterable
from typing import Any

import numpy as np
import pytest

from memory.backends.in_memory import InMemoryStore
from memory.backends.in_memory.terms import SortKey
from memory.backends.in_memory.vectors import VectorIndex
from memory.errors import EmbeddingMismatch
from memory.model import MemoryItem
from memory.testing.heartbeat import assert_calm


def _animals(count: int, **fields: object) -> list[MemoryItem]:
    return [MemoryItem(id=f"{i}", content=f"marmot number{i} of {count}", **fields) for i in range(count)]  # type: ignore[arg-type]


async def test_records_and_terms_are_nothing_that_the_garbage_collector_walks_through() -> None:
    async with InMemoryStore() as store:
        await store.put_many(_animals(10))
        await store.search("marmot")
        gc.collect()
        before = len(gc.get_objects())
        await store.put_many(_animals(2_000))
        await store.search("marmot")
        for _ in range(2):
            gc.collect()  # the second finds keys that the first has found to hold only text
        assert len(gc.get_objects()) - before < 200


async def test_a_term_that_no_record_holds_any_more_is_forgotten() -> None:
    async with InMemoryStore() as store:
        await store.put_many(_animals(20))
        assert len(await store.search("number7")) == 1
        await store.update("7", content="elsewhere")
        assert len(await store.search("number7")) == 0
        assert "number7" not in store._terms.holding
        await store.delete_many([f"{i}" for i in range(20)])
        assert len(await store.search("marmot")) == 0
        assert [store._terms.holding, store._terms.counted, store._terms.numbers] == [{}, {}, {}]


async def test_a_record_that_is_indexed_anew_during_a_search_is_found_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with InMemoryStore() as store:
        await store.put_many(_animals(200))
        await store.search("marmot")

        async def slices(numbers: list[int]) -> AsyncIterator[list[int]]:
            monkeypatch.undo()
            yield numbers[:1]
            await store.put_many(_animals(200, importance=0.9))
            await store._terms.refresh(store._records, store._counts)
            yield numbers[1:]

        monkeypatch.setattr(store, "_slices", slices)
        assert len(await store.search("marmot", limit=200)) == 200


async def test_a_search_among_many_vectors_does_not_hold_the_loop() -> None:
    count = 60_000
    vectors = np.random.default_rng(5).standard_normal((count, 8)).astype(np.float32)
    async with InMemoryStore() as store:
        await store.put_many([MemoryItem(id=f"{i:05}", content="x", embedding=vectors[i]) for i in range(count)])
        wanted = vectors[7]
        assert [hit.item.id for hit in (await store.search(vector=wanted, limit=1)).hits] == ["00007"]
        await assert_calm(lambda: store.search(vector=wanted))


class AsAMember(InMemoryStore):
    """Asked as a composite asks its members: more than one search at once."""

    searches_at_once = 4


async def test_of_searches_by_vector_at_once_one_looks_through_the_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = 0
    best = VectorIndex.best

    async def alone(self: VectorIndex, query: bytes, keys: Iterable[SortKey], limit: int) -> list[SortKey]:
        nonlocal inside
        inside += 1
        assert inside == 1  # another would bring the index up to date, and move vectors
        try:
            return await best(self, query, keys, limit)
        finally:
            inside -= 1

    monkeypatch.setattr(VectorIndex, "best", alone)
    async with AsAMember() as store, asyncio.TaskGroup() as group:
        await store.put(MemoryItem(content="x", embedding=(1.0, 2.0)))
        for _ in range(4):
            group.create_task(store.search(vector=(1.0, 2.0)))


@pytest.mark.parametrize("change", ["vectors", "deletes", "new"])
async def test_a_search_by_vector_ends_while_others_never_stop_writing(change: str) -> None:
    count = 3_000
    vectors = np.random.default_rng(5).standard_normal((count, 4)).astype(np.float32)
    nearest = np.argsort(-(vectors @ vectors[0]) / np.linalg.norm(vectors, axis=1))
    async with InMemoryStore(embedder=None) as store:
        await store.put_many([MemoryItem(id=f"{i}", content="x", embedding=vectors[i]) for i in range(count)])
        going, rank = True, 0

        async def write() -> None:
            nonlocal rank
            while going:
                rank += 1
                if change == "vectors":
                    await store.put(
                        MemoryItem(id=f"{nearest[rank % 3]}", content="x", embedding=vectors[0] + rank / 1e6)
                    )
                elif change == "deletes" and rank < 1_000:
                    await store.delete(f"{nearest[rank]}")
                else:
                    await store.put(MemoryItem(id=f"{count + rank}", content="x", embedding=vectors[rank % count]))
                await asyncio.sleep(0)

        async with asyncio.timeout(30), asyncio.TaskGroup() as writing:
            for _ in range(16):
                writing.create_task(write())
            for _ in range(5):
                found = await store.search(vector=vectors[0], limit=10)
                assert len(found.hits) == 10
                assert change != "vectors" or {hit.item.id for hit in found.hits} >= {f"{i}" for i in nearest[:3]}
            going = False


@pytest.mark.parametrize("when", ["matching", "comparing"])
async def test_a_search_by_vector_that_meets_a_switch_looks_among_the_new_vectors(
    monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    async with InMemoryStore(embedder="hashing:16") as store:
        await store.put_many(_animals(40))
        asked = (await store.get("7")).embedding
        compare, match, switched = VectorIndex.best, InMemoryStore._matching, False

        async def switch(at: str) -> None:
            nonlocal switched
            if at == when and not switched:
                switched = True
                await store.reembed("hashing:8")

        async def best(index: VectorIndex, query: bytes, keys: Iterable[SortKey], limit: int) -> list[SortKey]:
            found = await compare(index, query, keys, limit)
            await switch("comparing")
            return found

        async def matching(store: InMemoryStore, *how: Any) -> AsyncIterator[Any]:
            async for records in match(store, *how):
                yield records
                await switch("matching")

        monkeypatch.setattr(VectorIndex, "best", best)
        monkeypatch.setattr(InMemoryStore, "_matching", matching)
        with pytest.raises(EmbeddingMismatch):
            await store.search(vector=asked, limit=3)
        assert switched
