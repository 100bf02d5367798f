"""Sentences about scores that are mixed: hybrid search, composite order, neighbours by vector, diversity."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

from typing import Any

import pytest

from memory.clock import ManualClock, to_micros
from memory.search.fusion import Weights, composite, hybrid, recency
from memory.store import MemoryStore
from memory.testing.contract.nearness import plant, queries, ranked
from memory.testing.contract.searching import collect, reference
from memory.testing.contract.suite import Make, Suite, item, walk


class Mixing(Suite):
    """Hybrid search, the composite order, neighbours by vector, diversity."""

    async def test_hybrid_scores_equal_the_reference(self, make: Make, clock: ManualClock) -> None:
        for weights in (Weights(), Weights(text=0.3, vector=0.7), Weights(text=0.0)):
            store = self.seen(await make(weights=weights).open())
            items = await plant(store, clock) if weights == Weights() else await walk(store)
            items = items or await plant(store, clock)
            for words, query in zip(("marmot", "valley sun", "river absent", "nothing"), queries(4), strict=True):
                texts = reference(items, words)
                near = dict(ranked(items, query))
                pool = {one.id for one, _, _ in texts[:101]} | {name for name, _ in ranked(items, query)[:101]}
                text = {one.id: score for one, score, _ in texts}
                best = max(text.values(), default=0.0)
                expected = sorted((-hybrid(weights, text.get(name, 0.0), best, near.get(name)), name) for name in pool)[
                    :100
                ]
                hits = await collect(store, words, 25, vector=query)
                assert [(-hit.score, hit.item.id) for hit in hits] == expected, (words, weights)
                assert all(hit.components["vector"] == near.get(hit.item.id) for hit in hits)
                assert all(hit.components["text"] == text.get(hit.item.id, 0.0) for hit in hits)

    async def test_a_hybrid_hit_has_both_halves_whichever_list_brought_it(self, store: MemoryStore) -> None:
        """130 texts that match a little better and point away, 130 near vectors: more than either list holds."""
        await store.put(item("best", "marmot " * 20, embedding=[-1.0, 0.0]))
        await store.put_many([item(f"t{i:03}", "marmot grass", embedding=[-1.0, 0.0]) for i in range(130)])
        await store.put_many([item(f"v{i:03}", "marmot grass sun", embedding=[1.0, 0.0]) for i in range(130)])
        hits = await collect(store, "marmot", 50, vector=[1.0, 0.0])
        assert [sum(hit.item.id[0] == kind for hit in hits) for kind in "btv"] == [1, 69, 130]
        assert all(hit.components["text"] > 0 and hit.components["matched"] == 1 for hit in hits)
        assert all(hit.components["vector"] == (1.0 if hit.item.id[0] == "v" else -1.0) for hit in hits)

    async def test_composite_order_mixes_relevance_recency_and_importance(self, make: Make, clock: ManualClock) -> None:
        weights = Weights(relevance=0.5, recency=0.2, importance=0.3, half_life=30.0)
        store = self.seen(await make(weights=weights).open())
        items = await plant(store, clock, 80)
        made = {one.id: one for one in items}
        (query,) = queries(1)
        now = clock()
        asked: tuple[dict[str, Any], ...] = (
            {"query": "marmot sun"},
            {"vector": query},
            {"query": "marmot sun", "vector": query},
        )
        for options in asked:
            plain = await collect(store, options.get("query"), 100, vector=options.get("vector"))
            best = plain[0].score if list(options) == ["query"] else 1.0
            expected = []
            for hit in plain:
                one = made[hit.item.id]
                relevance = max(0.0, hit.score / best)
                fresh = recency(weights, to_micros(one.created_at), now)
                expected.append((-composite(weights, relevance, fresh, one.importance), one.id))
            page = await store.search(**options, order="composite", limit=100)
            assert [(-hit.score, hit.item.id) for hit in page] == sorted(expected), options
            assert all({"relevance", "recency", "importance"} <= set(hit.components) for hit in page)

    async def test_pages_of_the_composite_order_agree_though_time_passes(self, make: Make, clock: ManualClock) -> None:
        store = self.seen(await make(weights=Weights(half_life=20.0)).open())
        await plant(store, clock, 60)
        page = await store.search("marmot", order="composite", limit=100)
        whole, cursor, hits = [hit.item.id for hit in page], None, []
        while True:
            part = await store.search("marmot", order="composite", limit=5, cursor=cursor)
            hits += [hit.item.id for hit in part]
            cursor = part.cursor
            clock.advance(40)
            if cursor is None:
                break
        assert len(whole) > 10
        assert hits == whole

    async def test_neighbours_lend_their_cosine(self, store: MemoryStore, clock: ManualClock) -> None:
        for i, vector in enumerate(([0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [-1.0, 0.0])):
            await store.put(item(f"{i}", "x", session_id="s", embedding=vector))
            clock.advance(1)
        await store.put(item("other", "x", session_id="t", embedding=[0.0, 1.0]))
        page = await store.search(vector=[1.0, 0.0], neighbours=1)
        scores = {hit.item.id: hit.score for hit in page}
        assert scores == pytest.approx(
            {"1": 1 / 1.6, "3": 0.6 / 1.6, "0": 0.3 / 1.6, "2": 0.3 * 1.6 / 1.6, "4": 0.3 * 0.6 / 1.6}
        )

    async def test_diverse_hits_do_not_repeat_each_other(self, store: MemoryStore) -> None:
        for i in range(5):
            await store.put(item(f"same{i}", "x", embedding=[1.0, 0.01 * i, 0.0]))
        await store.put(item("second", "x", embedding=[0.8, 0.6, 0.0]))
        await store.put(item("third", "x", embedding=[0.7, 0.0, 0.7]))
        plain = await store.search(vector=[1.0, 0.0, 0.0], limit=3)
        assert [hit.item.id for hit in plain] == ["same0", "same1", "same2"]
        page = await store.search(vector=[1.0, 0.0, 0.0], limit=3, mmr=0.3)
        assert {hit.item.id for hit in page} == {"same0", "second", "third"}
        assert page.hits[0].item.id == "same0"
        assert page.cursor is None
        same = await store.search(vector=[1.0, 0.0, 0.0], limit=3, mmr=1.0)
        assert [hit.item.id for hit in same] == ["same0", "same1", "same2"]
