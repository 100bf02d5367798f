"""Sentences about ``neighbours=n``: what is found by what was said around it."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

from typing import Any

import pytest

from memory.clock import ManualClock, to_micros
from memory.model import MemoryItem, key_order
from memory.search.analysis import Analyser
from memory.search.neighbours import best, share
from memory.search.text import Scorer, query_terms, reference_match
from memory.store import MemoryStore
from memory.testing.contract.searching import collect, plant, reference
from memory.testing.contract.suite import Suite, item, needs


class Neighbouring(Suite):
    """``neighbours=n``."""

    async def test_scores_with_neighbours_equal_the_reference(self, store: MemoryStore, clock: ManualClock) -> None:
        items = await plant(store, clock, 60)
        for where, query, n in (
            (None, "valley", 1),
            (None, "marmot sun", 2),
            ({"metadata.n": 1}, "river fox", 2),
            (None, "eagle", 5),
        ):
            kept = items if where is None else [one for one in items if one.metadata["n"] == 1]
            analyser = Analyser()
            terms = query_terms(analyser, query)
            df, _ = reference_match(
                terms, [(one.id, to_micros(one.created_at), *analyser.counts(one.searchable)) for one in kept]
            )
            scorer = Scorer(terms, df)

            def own_score(one: MemoryItem, scorer: Scorer = scorer, analyser: Analyser = analyser) -> float:
                occurrences, length = analyser.counts(one.searchable)
                return scorer.score(scorer.counts(occurrences), length)

            own = {key_order(one.key): own_score(one) for one in items}
            chosen = best({key_order(one.key): score for one, score, _ in reference(kept, query)})
            lines: dict[Any, list[MemoryItem]] = {}
            for one in sorted(items, key=lambda one: (one.created_at, one.id.encode())):
                lines.setdefault((one.namespace, one.session_id), []).append(one)
            windows = []
            by_key = {key_order(one.key): one for one in items}
            for key in chosen:
                line = [key_order(one.key) for one in lines[by_key[key].namespace, by_key[key].session_id]]
                at = line.index(key)
                windows.append((key, line[max(0, at - 2 * n) : at][::-1], line[at + 1 : at + 1 + 2 * n]))
            shared = share(own, windows, n)
            allowed = {key_order(one.key) for one in kept}
            expected = sorted(((-score, key) for key, score in shared.items() if score > 0 and key in allowed))
            hits = (await store.search(query, where=where, neighbours=n, limit=200)).hits
            assert [(-hit.score, key_order(hit.item.key)) for hit in hits] == expected, (query, n)

    async def test_neighbours_stay_within_their_session_and_namespace(
        self, store: MemoryStore, clock: ManualClock
    ) -> None:
        needs(store, "namespaces")
        for id, session, namespace, text in (
            ("1", "s", ("a",), "before"), ("2", "t", ("a",), "other session"), ("3", "s", ("b",), "other namespace"),
            ("4", "s", ("a",), "marmot"), ("5", None, ("a",), "no session"), ("6", "s", ("a", "x"), "below"), ("7", "s", ("a",), "after"),
        ):  # fmt: skip
            await store.put(item(id, text, session_id=session, namespace=namespace))
            clock.advance(1)
        assert {hit.item.id for hit in await store.search("marmot", neighbours=1)} == {"1", "4", "7"}

    async def test_items_without_a_session_are_neighbours_of_each_other(
        self, store: MemoryStore, clock: ManualClock
    ) -> None:
        for id, text in (("1", "far"), ("2", "before"), ("3", "marmot"), ("4", "after"), ("5", "far")):
            await store.put(item(id, text))
            clock.advance(1)
        hits = {hit.item.id: hit.score for hit in await store.search("marmot", neighbours=1)}
        assert set(hits) == {"2", "3", "4"}
        assert hits["2"] == hits["4"] < hits["3"]

    async def test_neighbours_are_ordered_by_creation_then_id(self, store: MemoryStore, clock: ManualClock) -> None:
        await store.put_many([item(id, "marmot" if id == "m" else "grass", session_id="s") for id in "zmka"])
        clock.advance(1)
        await store.update("a", metadata={"changed": True})
        assert {hit.item.id for hit in await store.search("marmot", neighbours=1)} == {"k", "m", "z"}

    async def test_hits_satisfy_the_filter_though_others_lend_their_score(
        self, store: MemoryStore, clock: ManualClock
    ) -> None:
        for id, text, ok in (("1", "marmot", True), ("2", "marmot marmot", False), ("3", "grass", True)):
            await store.put(item(id, text, session_id="s", metadata={"ok": ok}))
            clock.advance(1)
        hits = {
            hit.item.id: hit.score for hit in await store.search("marmot", where={"metadata.ok": True}, neighbours=1)
        }
        alone = (await store.search("marmot", where={"metadata.ok": True})).hits[0].score
        assert set(hits) == {"1"}, "3 is no neighbour of 1: an item outside the filter lies between"
        assert hits["1"] > alone / 1.6

    async def test_pages_with_neighbours_are_one_big_page(self, store: MemoryStore, clock: ManualClock) -> None:
        await plant(store, clock, 60)
        whole = (await store.search("valley sun", neighbours=1, limit=100)).hits
        assert len(whole) > 12
        assert await collect(store, "valley sun", 5, neighbours=1) == whole

    async def test_components_tell_own_score_and_what_neighbours_added(
        self, store: MemoryStore, clock: ManualClock
    ) -> None:
        for id, text in (("1", "marmot"), ("2", "grass")):
            await store.put(item(id, text, session_id="s"))
            clock.advance(1)
        first, second = (await store.search("marmot", neighbours=1)).hits
        assert first.components["text"] > 0
        assert first.components["neighbours"] == pytest.approx(0)
        assert second.components["text"] == second.components["matched"] == 0
        assert second.components["neighbours"] == pytest.approx(second.score)
