"""Sentences about vector search: cosine, filters before the best, one space."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from memory.clock import ManualClock
from memory.errors import AlreadyExists, EmbeddingMismatch, InvalidCursor, InvalidItem, InvalidSetting, VersionConflict
from memory.model import MemoryItem, key_order
from memory.search.vectors import cosines, matrix
from memory.store import MemoryStore
from memory.testing.contract.searching import WORDS, collect
from memory.testing.contract.suite import Make, Suite, Tap, home, ids, item, needs, walk
from memory.vectors import vector_bytes

SIZE = 12


def ranked(items: Iterable[MemoryItem], query: Any) -> list[tuple[str, float]]:
    """(id, cosine) by memory.search.vectors alone, best first, ties by key."""
    held = [one for one in items if one.embedding is not None]
    if not held:
        return []
    raw = vector_bytes(np.asarray(query, dtype=np.float32)) or b""
    scores = cosines(raw, matrix([vector_bytes(one.embedding) or b"" for one in held], len(raw) // 4)).tolist()
    order = sorted(zip(scores, held, strict=True), key=lambda pair: (-pair[0], key_order(pair[1].key)))
    return [(one.id, score) for score, one in order]


def found(page: Iterable[Any]) -> list[tuple[str, float]]:
    """Hits in the shape of ``ranked``."""
    return [(hit.item.id, hit.score) for hit in page]


async def plant(store: MemoryStore, clock: ManualClock, count: int = 120) -> list[MemoryItem]:
    """Items with vectors of a few directions, some equal, some zero, some missing, and words beside them."""
    chance = np.random.default_rng(5)
    centres = chance.normal(size=(6, SIZE))
    for i in range(count):
        vector: Any = centres[i % 6] + chance.normal(size=SIZE) * 0.6
        if i % 17 == 3:
            vector = None
        elif i % 19 == 4:
            vector = np.zeros(SIZE)
        elif i % 23 == 5:
            vector = centres[0] * (i + 1)  # of one direction, so that cosines tie
        words = chance.choice(WORDS, size=int(chance.integers(1, 12)))
        await store.put(
            item(
                f"{i:03}", " ".join(words), embedding=vector, user_id=("ann", "bob")[i % 2], session_id=f"s{i % 3}",
                metadata={"n": i % 4}, importance=(i % 5) / 4,
            )
        )  # fmt: skip
        clock.advance(1)
    return await walk(store)


def queries(count: int = 6) -> list[Any]:
    """Directions to ask for."""
    chance = np.random.default_rng(8)
    return [chance.normal(size=SIZE).astype(np.float32) for _ in range(count)]


class Nearness(Suite):
    """Search by vector."""

    async def test_cosines_equal_the_reference_to_the_bit(self, store: MemoryStore, clock: ManualClock) -> None:
        items = await plant(store, clock)
        for query in queries():
            for exact in (False, True):
                page = await store.search(vector=query, limit=200, exact=exact)
                assert found(page) == ranked(items, query)
            assert found(await store.search(vector=query.tolist(), limit=7)) == ranked(items, query)[:7]
            assert all(hit.components == {"vector": hit.score} for hit in page)

    async def test_filter_and_scope_come_before_the_nearest(self, store: Any, clock: ManualClock) -> None:
        items = await plant(store, clock)
        for query in queries(3):
            for options, kept in (
                ({"where": {"metadata.n": 2}}, [one for one in items if one.metadata["n"] == 2]),
                (
                    {"where": {"metadata.n": {"$gte": 2}, "importance": {"$lt": 0.5}}},
                    [one for one in items if one.metadata["n"] >= 2 and one.importance < 0.5],
                ),
                ({"where": {"user_id": "nobody"}}, []),
                ({"where": {"content": {"$startswith": "m"}}}, [one for one in items if one.content[0] == "m"]),
            ):
                hits = await store.search(vector=query, limit=5, **options)
                assert found(hits) == ranked(kept, query)[:5], options
            view = store.scoped(user_id="ann", session_id="s1")
            kept = [one for one in items if (one.user_id, one.session_id) == ("ann", "s1")]
            for limit in (3, 200):
                assert found(await view.search(vector=query, limit=limit)) == ranked(kept, query)[:limit]

    async def test_a_few_far_items_that_satisfy_the_filter_are_all_found(self, store: MemoryStore) -> None:
        near, far = np.eye(SIZE)[0], np.eye(SIZE)[1]
        await store.put_many([item(f"n{i:03}", "near", embedding=near) for i in range(300)])
        await store.put_many([item(f"f{i}", "far", embedding=-near + far, tags=("rare",)) for i in range(10)])
        page = await store.search(vector=near, where={"tags": {"$contains": "rare"}}, limit=10)
        assert [hit.item.id for hit in page] == [f"f{i}" for i in range(10)]

    async def test_namespaces_are_exact_or_everything_under(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        vector = np.eye(SIZE)[0]
        for i, path in enumerate((("foo",), ("foobar",), ("foo", "bar"), ("f%",), ("foo.bar",))):
            await store.put(item(f"{i}", "x", namespace=path, embedding=vector))
        assert [hit.item.id for hit in await store.search(vector=vector, namespace=("foo",))] == ["0"]
        assert [hit.item.id for hit in await store.search(vector=vector, under=("foo",))] == ["0", "2"]
        assert [hit.item.id for hit in await store.search(vector=vector, under=("f%",))] == ["3"]

    async def test_the_nearest_follow_every_kind_of_write(self, store: MemoryStore, clock: ManualClock) -> None:
        await plant(store, clock, 60)
        (query,) = queries(1)
        await store.search(vector=query)
        await store.delete_many([f"{i:03}" for i in range(0, 60, 7)])
        await store.put(item("000", "back again", embedding=query))
        await store.put(item("001", "now without"))
        await store.update("002", embedding=-query)
        await store.update("004", metadata={"n": 9})
        await store.touch("005")
        await store.put(item("006", "gone soon", embedding=query), ttl=1)
        await store.put_many([item(f"new{i}", "new", embedding=query + i) for i in range(40)])
        clock.advance(1)
        items = await walk(store)
        for near in (query, -query, *queries(3)):
            for limit in (1, 5, 200):
                assert found(await store.search(vector=near, limit=limit)) == ranked(items, near)[:limit]

    async def test_what_is_no_change_of_the_text_leaves_the_vector(self, store: MemoryStore) -> None:
        vector = np.array([0.0, 2.0], dtype=np.float32)
        await store.put(item("a", "x", embedding=vector))
        await store.touch("a", ttl=500)
        await store.update("a", metadata={"n": 1}, importance=0.9, tags=("t",))
        await store.touch("a")
        kept = await store.get("a")
        assert kept is not None
        assert kept.embedding.tolist() == [0.0, 2.0]
        assert found(await store.search(vector=vector)) == [("a", 1.0)]

    async def test_the_best_few_are_the_best_of_all(self, store: MemoryStore, clock: ManualClock) -> None:
        items = await plant(store, clock)
        for query in queries():
            for limit in (1, 5, 30):
                for exact in (False, True):
                    page = await store.search(vector=query, limit=limit, exact=exact)
                    assert found(page) == ranked(items, query)[:limit], (limit, exact)

    async def test_the_best_few_are_the_best_of_all_however_long_vectors_are(
        self, store: MemoryStore, clock: ManualClock
    ) -> None:
        """Squares of float32 numbers beyond 1e19 are too large for it, and those below 1e-23 too small."""
        chance = np.random.default_rng(11)
        sizes = (1.0, 3e38, 1e19, 1e-30, 1e-44, 1e30, 1e-22)
        rows = chance.normal(size=(140, SIZE))
        rows /= np.abs(rows).max(axis=1, keepdims=True)
        ones, half = np.ones(SIZE), np.arange(SIZE) < SIZE // 2
        await store.put_many([item(f"{i:03}", embedding=row * sizes[i % 7]) for i, row in enumerate(rows)])
        await store.put_many([item(f"half{i:02}", embedding=half * 3.4e38) for i in range(20)])
        await store.put_many([item("ones", embedding=ones), item("zeros", embedding=0 * ones)])
        await store.put(item("both", embedding=np.where(half, 3.4e38, -1e-45)))
        items = await walk(store)
        for query in (ones, ones * 3.4e38, half * 1e-30, *(query * size for query in queries(3) for size in (1, 1e36))):
            for limit in (1, 5, 30):
                for exact in (False, True):
                    page = await store.search(vector=query, limit=limit, exact=exact)
                    assert found(page) == ranked(items, query)[:limit], (limit, exact)

    async def test_equally_near_items_go_by_key_also_where_a_page_ends(self, store: MemoryStore) -> None:
        names = [f"{i:02}" for i in range(20)]
        for name in reversed(names):
            path = home(store, "n", "ab"[int(name) % 2])
            await store.put(item(name, "x", embedding=[int(name) + 1.0, 0.0], namespace=path))
        even, odd = (names[::2], names[1::2]) if home(store, "n") == ("n",) else (names, [])
        for limit in (1, 3, 10, 19):
            page = await store.search(vector=[2.0, 0.0], limit=limit)
            assert [hit.item.id for hit in page] == [*even, *odd][:limit]
        assert [hit.item.id for hit in await collect(store, None, 3, vector=[2.0, 0.0])] == [*even, *odd]

    async def test_a_cursor_by_vector_is_bound_to_its_question(self, store: Any) -> None:
        await store.put_many([item(f"{i}", "marmot", embedding=[1.0, i / 9]) for i in range(9)])
        asked: dict[str, Any] = {"vector": [1.0, 0.0], "limit": 2}
        cursor = (await store.search(**asked)).cursor
        for change in (
            {"vector": [0.0, 1.0]}, {"vector": [2.0, 0.0]}, {"query": "marmot"}, {"vector": None, "query": "marmot"}, {"min_vector": 0.1},
            {"neighbours": 1}, {"order": "composite"}, {"exact": True}, {"where": {"kind": "note"}},
        ):  # fmt: skip
            with pytest.raises(InvalidCursor):
                await store.search(**{**asked, **change}, cursor=cursor)
        assert len(await store.search(**asked, cursor=cursor)) == 2

    async def test_items_without_a_vector_are_not_found_and_zeros_score_zero(self, store: MemoryStore) -> None:
        await store.put(item("none", "x"))
        await store.put(item("zero", "x", embedding=[0.0, 0.0]))
        await store.put(item("against", "x", embedding=[-1.0, 0.0]))
        page = await store.search(vector=[1.0, 0.0])
        assert found(page) == [("zero", 0.0), ("against", -1.0)]
        assert found(await store.search(vector=[0.0, 0.0])) == [("against", 0.0), ("zero", 0.0)]

    async def test_what_changes_hands_during_a_search_is_not_shown(self, store: Any) -> None:
        """A search may pause; what it returns is still inside its view and its filter."""
        await store.put_many([item(f"{i:03}", "marmot", user_id="ann", embedding=[1.0, i / 9]) for i in range(200)])
        view, where = store.scoped(user_id="ann"), {"metadata.gone": None}

        async def change(pauses: int) -> None:
            for _ in range(pauses):
                await asyncio.sleep(0)
            await store.delete("000")
            await store.put(item("000", "marmot of bob", user_id="bob", embedding=[1.0, 0.0]))
            await store.update("001", metadata={"gone": True})

        for asked in ({"query": "marmot"}, {"vector": [1.0, 0.0]}, {"query": "marmot", "vector": [1.0, 0.0]}):
            for pauses in range(0, 20, 2):
                await store.put(item("001", "marmot", user_id="ann", embedding=[1.0, 0.1]))
                await store.delete("000")
                await store.put(item("000", "marmot", user_id="ann", embedding=[1.0, 0.0]))
                async with asyncio.TaskGroup() as group:
                    group.create_task(change(pauses))
                    search = group.create_task(view.search(**asked, where=where, limit=5))
                shown = [hit.item for hit in search.result()]
                assert [one.id for one in shown if one.user_id != "ann" or "gone" in one.metadata] == [], pauses

    async def test_pages_by_vector_are_those_of_one_long_page(self, store: MemoryStore, clock: ManualClock) -> None:
        items = await plant(store, clock, 90)
        (query,) = queries(1)
        hits = await collect(store, None, 7, vector=query)
        assert found(hits) == ranked(items, query)

    async def test_pages_end_with_the_pool_and_say_so(self, store: MemoryStore) -> None:
        await store.put_many([item(f"{i:03}", "x", embedding=[1.0, i / 1_000]) for i in range(130)])
        hits, cursor = 0, None
        while True:
            page = await store.search(vector=[1.0, 0.0], limit=20, cursor=cursor)
            hits += len(page)
            cursor = page.cursor
            if cursor is None:
                break
        assert (hits, page.complete) == (100, False)

    async def test_min_vector_cuts_what_is_not_near(self, store: MemoryStore) -> None:
        for i, vector in enumerate(([1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.0])):
            await store.put(item(f"{i}", "x", embedding=vector))
        await store.put(item("none", "x"))
        for least, expected in ((0.5, ["0", "1"]), (0.0, ["0", "1", "2"]), (-1.0, ["0", "1", "2", "3"]), (1, ["0"])):
            assert [hit.item.id for hit in await store.search(vector=[1.0, 0.0], min_vector=least)] == expected
        hits = await store.search("x", vector=[1.0, 0.0], min_vector=0.5)
        assert [hit.item.id for hit in hits] == ["0", "1"]

    async def test_hits_come_without_their_vector(self, store: MemoryStore) -> None:
        await store.put(item("a", "marmot", embedding=[1.0, 0.0]))
        for page in (await store.search("marmot"), await store.search(vector=[1.0, 0.0])):
            (hit,) = page.hits
            assert hit.item.embedding is None
        kept = await store.get("a")
        assert kept is not None
        assert kept.embedding is not None

    async def test_bad_vector_searches_are_refused_before_any_io(self, make: Make) -> None:
        tap = Tap()
        store: Any = await make(layers=(tap,)).open()
        await store.put(item("a", "x", embedding=[1.0, 0.0]))
        tap.calls.clear()
        refused: tuple[dict[str, Any], ...] = (
            {}, {"query": None}, {"vector": []}, {"vector": "text"}, {"vector": [math.nan, 1.0]}, {"vector": [[1.0, 2.0]]},
            {"vector": [1.0, math.inf]}, {"query": "x", "mode": "meaning"}, {"query": "x", "order": "newest"},
            {"vector": [1.0, 0.0], "min_vector": 2}, {"query": "x", "min_vector": 0.5, "mode": "text"},
            {"vector": [1.0, 0.0], "min_text": 0.5}, {"vector": [1.0, 0.0], "mode": "text"}, {"query": "x", "mmr": 2},
            {"vector": [1.0, 0.0], "mode": "hybrid"}, {"query": "x", "mmr": True}, {"query": "x", "mmr": 0.5, "cursor": "x"},
        )  # fmt: skip
        for options in refused:
            with pytest.raises(InvalidItem):
                await store.search(**options)
        for mode in ("vector", "hybrid"):
            with pytest.raises(InvalidSetting, match="embedder"):
                await store.search("x", mode=mode)
        with pytest.raises(EmbeddingMismatch):
            await store.search(vector=[1.0, 0.0, 0.0])
        assert tap.calls == []

    async def test_the_first_vector_decides_the_dimension(self, store: MemoryStore) -> None:
        assert found(await store.search(vector=[1.0, 2.0, 3.0])) == []
        await store.put(item("a", "x", embedding=[1.0, 2.0]))
        for write in (
            lambda: store.put(item("b", "x", embedding=[1.0])),
            lambda: store.put_many([item("b", "x"), item("c", "x", embedding=[1.0, 2.0, 3.0])]),
            lambda: store.update("a", embedding=[1.0, 2.0, 3.0]),
        ):
            with pytest.raises(EmbeddingMismatch):
                await write()
        assert await ids(store) == ["a"]
        kept = await store.get("a")
        assert kept is not None
        assert kept.embedding.tolist() == [1.0, 2.0]

    async def test_a_vector_that_was_not_stored_decides_nothing(self, store: MemoryStore) -> None:
        taken = await store.put(item("a", "x"))
        refused = item("a", "y", embedding=[1.0, 2.0])
        with pytest.raises(AlreadyExists):
            await store.add(refused)
        with pytest.raises(VersionConflict):
            await store.put(refused, if_version=taken.version + 1)
        await store.put(item("b", "x", embedding=[1.0, 2.0, 3.0]))
        assert await ids(store) == ["a", "b"]

    async def test_vectors_of_one_batch_have_one_dimension(self, store: MemoryStore) -> None:
        bad = [
            item("a", "x", embedding=[1.0, 2.0]),
            item("b", "x", embedding=[1.0]),
            item("c", "x", embedding=[3.0, 4.0]),
        ]
        with pytest.raises(EmbeddingMismatch):
            await store.put_many(bad)
        assert await ids(store) == []
