"""Sentences about get, list, stream, count, namespaces: which items, in which namespaces."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import math
from typing import Any

import pytest

from memory.errors import InvalidItem
from memory.store import MemoryStore
from memory.testing.contract.suite import Suite, ids, item, needs, walk

TREE = [("a",), ("a", "b"), ("a", "b", "c"), ("ab",), ("a.b",), ("a/b",), ("A",), ("b",)]


async def plant(store: MemoryStore) -> None:
    """One item in each namespace of the tree, its id the namespace."""
    await store.put_many([item("|".join(path), namespace=path) for path in TREE])


class Reading(Suite):
    """Get, list, stream, count, namespaces."""

    async def test_an_empty_store_is_empty_to_every_question(self, store: MemoryStore) -> None:
        assert await store.get("a") is None
        assert await store.get_many(["a", "b"]) == [None, None]
        assert await store.get_many([]) == []
        assert not await store.exists("a")
        assert (await store.list()).items == []
        assert [batch async for batch in store.stream()] == []
        assert await store.count() == 0
        assert await store.namespaces() == []
        assert (await store.search("anything")).hits == []
        assert not await store.touch("a")

    async def test_get_many_answers_in_order_with_none_for_the_absent(self, store: MemoryStore) -> None:
        await store.put_many([item("a"), item("b")])
        found = await store.get_many(["b", "x", "a", "b"])
        assert [one and one.id for one in found] == ["b", None, "a", "b"]

    async def test_get_many_reads_more_than_a_thousand(self, store: MemoryStore) -> None:
        await store.put_many([item(str(i), i) for i in range(1_100)])
        found = await store.get_many([str(i) for i in range(1_200)])
        assert [one.content if one else None for one in found] == [*range(1_100), *[None] * 100]

    async def test_exists_says_whether_a_live_item_is_there(self, store: MemoryStore) -> None:
        await store.put(item())
        assert await store.exists("a")
        assert not await store.exists("a", namespace=("other",))
        assert not await store.exists("A")

    async def test_point_reads_default_to_the_default_namespace(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        await store.put(item(namespace=("other",)))
        assert await store.get("a") is None
        assert await store.get_many(["a"]) == [None]
        assert not await store.exists("a")
        assert await store.get("a", namespace=("other",)) is not None

    async def test_lists_cover_the_whole_store_by_default(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        await plant(store)
        assert len(await ids(store)) == await store.count() == len(TREE)

    async def test_namespace_is_exact(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        await plant(store)
        for path in TREE:
            assert await ids(store, namespace=path) == ["|".join(path)]
            assert await store.count(namespace=path) == 1
        assert await ids(store, namespace=("none",)) == []
        assert await store.count(namespace=("a", "b", "c", "d")) == 0

    async def test_under_means_it_and_everything_below_at_segment_boundaries(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        await plant(store)
        assert await ids(store, under=("a",)) == ["a", "a|b", "a|b|c"]
        assert await ids(store, under=("a", "b")) == ["a|b", "a|b|c"]
        assert await store.count(under=("a",)) == 3
        assert [[one.id for one in batch] async for batch in store.stream(under=("a", "b"))] == [["a|b", "a|b|c"]]
        assert await store.namespaces(under=("a", "b")) == [("a", "b"), ("a", "b", "c")]
        assert await ids(store, under=()) == await ids(store)

    async def test_namespace_and_under_together_are_refused(self, store: MemoryStore) -> None:
        with pytest.raises(InvalidItem):
            await store.list(namespace=("a",), under=("a",))
        with pytest.raises(InvalidItem):
            await store.count(namespace=("a",), under=("a",))

    async def test_namespaces_come_in_key_order_without_the_empty_ones(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        await plant(store)
        await store.delete("b", namespace=("b",))
        expected = sorted((path for path in TREE if path != ("b",)), key=lambda path: "\0".join(path).encode())
        assert await store.namespaces() == expected

    async def test_stream_gives_every_item_once_in_key_order_in_full_batches(self, store: MemoryStore) -> None:
        await store.put_many([item(f"{i:03}", metadata={"n": i}) for i in range(50)])
        batches = [[one.id for one in batch] async for batch in store.stream(batch_size=7)]
        assert [len(batch) for batch in batches] == [7] * 7 + [1]
        assert [id for batch in batches for id in batch] == await ids(store)
        odd = [one.id async for batch in store.stream({"metadata.n": {"$gte": 45}}, batch_size=2) for one in batch]
        assert odd == ["045", "046", "047", "048", "049"]

    async def test_a_stream_that_ends_with_a_full_batch_has_no_empty_one(self, store: MemoryStore) -> None:
        await store.put_many([item(str(i)) for i in range(6)])
        assert [len(batch) async for batch in store.stream(batch_size=3)] == [3, 3]

    async def test_a_stream_lets_its_consumer_write(self, store: MemoryStore) -> None:
        await store.put_many([item(f"{i:02}") for i in range(20)])
        async for batch in store.stream(batch_size=3):
            for one in batch:
                await store.update(one.id, metadata={"seen": True})
        assert await store.count({"metadata.seen": True}) == 20

    async def test_a_stream_left_early_leaves_the_store_usable(self, store: Any) -> None:
        await store.put_many([item(str(i)) for i in range(9)])
        stream = store.stream(batch_size=2)
        await anext(stream)
        await stream.aclose()
        await store.put(item("after"))
        assert await store.count() == 10

    async def test_count_agrees_with_list_for_every_filter(self, store: MemoryStore) -> None:
        await store.put_many([item(str(i), metadata={"n": i % 7, "s": "x" * (i % 3)}) for i in range(60)])
        for where in (
            None,
            {"metadata.n": 3},
            {"metadata.n": {"$ne": 3}},
            {"metadata.s": {"$startswith": "x"}},
            {"$not": {"metadata.s": ""}},
            {"metadata.none": None},
            {"id": {"$lt": "3"}},
        ):
            assert await store.count(where) == len(await ids(store, where)), where

    async def test_floats_ints_and_booleans_keep_their_types(self, store: MemoryStore) -> None:
        values = [
            1e18,
            -0.0,
            0.1,
            5e-324,
            1.7976931348623157e308,
            1.0,
            1,
            True,
            False,
            None,
            2**63 - 1,
            -(2**63),
            2**53 + 1,
        ]
        await store.put(item(content=values, metadata={"v": values}))
        found = await store.get("a")
        assert found is not None
        for back in (found.content, found.metadata["v"]):
            assert [(type(one), one) for one in back] == [(type(one), one) for one in values]
            assert math.copysign(1, back[1]) == -1.0

    async def test_page_sizes_do_not_change_what_is_listed(self, store: MemoryStore) -> None:
        await store.put_many([item(f"{i:02}", metadata={"n": i % 5}) for i in range(40)])
        whole = await walk(store, {"metadata.n": {"$ne": 2}}, limit=1000)
        assert len(whole) == 32
        for limit in (1, 2, 7, 31, 32, 33):
            assert await walk(store, {"metadata.n": {"$ne": 2}}, limit=limit) == whole
