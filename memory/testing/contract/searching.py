"""Sentences about text search: what matches, scores, pages, neighbours."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest

from memory.clock import ManualClock, to_micros
from memory.errors import InvalidItem
from memory.model import MemoryItem, key_order
from memory.search.analysis import Analyser
from memory.search.text import Scorer, query_terms, reference_match
from memory.store import MemoryStore
from memory.testing.contract.suite import Make, Suite, item, needs, walk

WORDS = [
    "marmot",
    "whistle",
    "alpine",
    "meadow",
    "burrow",
    "winter",
    "sleep",
    "grass",
    "stone",
    "river",
    "eagle",
    "fox",
    "snow",
    "sun",
    "valley",
]


def reference(items: Iterable[MemoryItem], query: str) -> list[tuple[MemoryItem, float, float]]:
    """(item, score, matched share) by memory.search.text alone, best first, ties by key."""
    analyser = Analyser()
    terms = query_terms(analyser, query)
    known = {key_order(one.key): one for one in items}
    fed = [(key, to_micros(one.created_at), *analyser.counts(one.searchable)) for key, one in known.items()]
    df, found = reference_match(terms, fed)
    scorer = Scorer(terms, df)
    scored = [(known[f.key], scorer.score(f.counts, f.length), scorer.matched_share(f.counts)) for f in found]
    return sorted(scored, key=lambda entry: (-entry[1], key_order(entry[0].key)))


def shown(page: Iterable[Any]) -> list[tuple[MemoryItem, float, float]]:
    """Hits in the shape of ``reference``."""
    return [(hit.item, hit.score, hit.components["matched"]) for hit in page]


async def plant(store: MemoryStore, clock: ManualClock, count: int = 80) -> list[MemoryItem]:
    """Items of a few common and rare words, of many lengths."""
    chance = random.Random(7)
    for i in range(count):
        words = chance.choices(WORDS, weights=range(len(WORDS), 0, -1), k=chance.randrange(1, 40))
        user, session = chance.choice(["ann", "bob"]), chance.choice(["s1", "s2"])
        await store.put(item(f"{i:03}", " ".join(words), user_id=user, session_id=session, metadata={"n": i % 4}))
        clock.advance(1)
    return await walk(store)


async def collect(store: MemoryStore, query: str | None, limit: int, **options: Any) -> list[Any]:
    """All hits of a search, page by page."""
    hits: list[Any] = []
    cursor = None
    while True:
        page = await store.search(query, limit=limit, cursor=cursor, **options)
        hits += page.hits
        if page.cursor is None:
            return hits
        assert len(page) == limit
        cursor = page.cursor


class Searching(Suite):
    """Search by text."""

    async def test_scores_equal_the_reference_to_the_bit(self, store: MemoryStore, clock: ManualClock) -> None:
        items = await plant(store, clock)
        for query in (
            "marmot",
            "valley sun",
            "the marmot whistles at an eagle",
            "river river river stone",
            "absent fox",
        ):
            expected = reference(items, query)
            assert shown(await store.search(query, limit=200)) == expected, query

    async def test_scores_follow_every_kind_of_write(self, store: MemoryStore, clock: ManualClock) -> None:
        await plant(store, clock, 40)
        await store.search("marmot whistle")
        await store.delete_many([f"{i:03}" for i in range(0, 40, 3)])
        await store.update("001", content="marmot marmot marmot")
        await store.put(item("002", "nothing of the kind"))
        await store.put(item("new", "whistle once"))
        await store.touch("004")
        await store.put(item("005", "a short whistle"), ttl=1)
        clock.advance(1)
        items = await walk(store)
        assert shown(await store.search("marmot whistle", limit=200)) == reference(items, "marmot whistle")

    async def test_df_counts_only_what_matches_scope_and_filter(self, store: Any, clock: ManualClock) -> None:
        items = await plant(store, clock)
        for options, kept in (
            ({"where": {"metadata.n": 1}}, [one for one in items if one.metadata["n"] == 1]),
            ({"where": {"metadata.n": {"$ne": 2}, "user_id": "ann"}}, [
                one for one in items if one.metadata["n"] != 2 and one.user_id == "ann"
            ]),
            ({"namespace": ("other",)}, []),
        ):  # fmt: skip
            expected = reference(kept, "marmot valley")
            assert shown(await store.search("marmot valley", limit=200, **options)) == expected
        for pins in ({"user_id": "ann"}, {"user_id": "bob", "session_id": "s1"}):
            kept = [one for one in items if all(getattr(one, name) == value for name, value in pins.items())]
            view = store.scoped(**pins)
            assert shown(await view.search("marmot valley", limit=200)) == reference(kept, "marmot valley")

    async def test_search_keeps_to_namespace_and_under(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        for path in (("a",), ("a", "b"), ("ab",)):
            await store.put(item("|".join(path), "marmot", namespace=path))
        assert [hit.item.id for hit in await store.search("marmot", namespace=("a",))] == ["a"]
        assert [hit.item.id for hit in await store.search("marmot", under=("a",))] == ["a", "a|b"]
        assert [hit.item.id for hit in await store.search("marmot")] == ["a", "a|b", "ab"]

    async def test_explain_adds_up_to_the_score(self, store: MemoryStore, clock: ManualClock) -> None:
        await plant(store, clock)
        page = await store.search("marmot whistle valley sun", explain=True, limit=50)
        assert page.hits
        for hit in page:
            total = 0.0
            for part in hit.components["terms"]:
                total += part["contribution"]
                assert (part["tf"] > 0) == (part["contribution"] > 0)
            assert total == hit.score == hit.components["text"]
            assert {part["term"] for part in hit.components["terms"]} == set(
                query_terms(Analyser(), "marmot whistle valley sun")
            )

    async def test_pages_of_a_search_are_one_big_page(self, store: MemoryStore, clock: ManualClock) -> None:
        await plant(store, clock)
        whole = (await store.search("marmot whistle alpine", limit=100)).hits
        assert len(whole) > 30
        for limit in (1, 7, 10):
            assert await collect(store, "marmot whistle alpine", limit) == whole

    async def test_ties_go_by_key(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        await store.put_many(
            [item(id, "marmot", namespace=ns) for id in ("c", "a", "B", "é") for ns in (("z",), ("m", "n"), ("m",))]
        )
        keys = [hit.item.key for hit in await collect(store, "marmot", 5)]
        assert keys == sorted(keys, key=key_order)
        assert len(keys) == 12
        assert [hit.item.key for hit in await store.search("marmot", limit=3)] == keys[:3]

    async def test_a_search_cursor_is_bound_to_its_question(self, store: Any, clock: ManualClock) -> None:
        from memory.errors import InvalidCursor

        await plant(store, clock, 30)
        cursor = (await store.search("marmot whistle", limit=2)).cursor
        assert cursor is not None
        for query, options in (
            ("marmot", {}), ("marmot whistle", {"where": {"kind": "note"}}), ("marmot whistle", {"under": ("x",)}),
            ("marmot whistle", {"neighbours": 1}), ("marmot whistle", {"min_text": 0.5}),
        ):  # fmt: skip
            with pytest.raises(InvalidCursor):
                await store.search(query, limit=2, cursor=cursor, **options)
        with pytest.raises(InvalidCursor):
            await store.scoped(user_id="ann").search("marmot whistle", limit=2, cursor=cursor)
        with pytest.raises(InvalidCursor):
            await store.list(cursor=cursor)

    async def test_the_pool_ends_and_says_so(self, store: MemoryStore) -> None:
        await store.put_many([item(f"{i:03}", "marmot " + "grass " * (i % 30)) for i in range(130)])
        hits, cursor, complete = [], None, True
        while True:
            page = await store.search("marmot", limit=10, cursor=cursor)
            hits += page.hits
            complete = page.complete
            if page.cursor is None:
                break
            cursor = page.cursor
        assert (len(hits), complete) == (100, False)
        assert shown(hits) == reference(await walk(store), "marmot")[:100]
        big = await store.search("marmot", limit=200)
        assert (len(big), big.complete, big.cursor) == (130, True, None)

    async def test_min_text_drops_what_matches_too_little_of_the_query(self, store: MemoryStore) -> None:
        await store.put_many([item("both", "marmot whistle"), item("one", "marmot"), item("more", "marmot grass")])
        page = await store.search("marmot whistle zebra", explain=True)
        shares = {hit.item.id: hit.components["matched"] for hit in page}
        assert 1 > shares["both"] > shares["one"] == shares["more"] > 0
        for least in (0.0, 0.2, shares["one"], shares["both"], 1.0):
            hits = await store.search("marmot whistle zebra", min_text=least)
            assert {hit.item.id for hit in hits} == {id for id, share in shares.items() if share >= least}, least
        assert (await store.search("zebra unicorn", min_text=0.1)).hits == []

    async def test_min_score_cuts_on_the_score(self, store: MemoryStore, clock: ManualClock) -> None:
        await plant(store, clock, 40)
        whole = (await store.search("marmot whistle", limit=100)).hits
        cut = whole[len(whole) // 2].score
        kept = await collect(store, "marmot whistle", 3, min_score=cut)
        assert kept == [hit for hit in whole if hit.score >= cut]

    async def test_the_filter_comes_before_the_best_hits_are_chosen(self, store: MemoryStore) -> None:
        await store.put_many([item(f"{i:03}", "marmot " * 3, metadata={"rare": False}) for i in range(300)])
        await store.put_many([item(f"x{i}", "marmot " + "grass " * 50, metadata={"rare": True}) for i in range(3)])
        hits = await store.search("marmot", where={"metadata.rare": True}, limit=3)
        assert [hit.item.id for hit in hits] == ["x0", "x1", "x2"]
        assert shown(hits) == reference([hit.item for hit in hits], "marmot")

    async def test_only_the_thousand_newest_matches_of_a_term_are_candidates(
        self, store: MemoryStore, clock: ManualClock
    ) -> None:
        await store.put(item("oldest", "marmot"))
        clock.advance(1)
        await store.put(item("rescued", "marmot unicorn"))
        clock.advance(1)
        await store.put_many([item(f"{i:04}", "marmot grass") for i in range(1_010)])
        page = await store.search("marmot", limit=200, explain=True)
        assert page.hits[0].components["terms"][0]["df"] == 1_000
        ids = [hit.item.id for hit in page]
        assert "oldest" not in ids
        assert ids == [f"{i:04}" for i in range(200)]
        (first, *_) = await store.search("marmot unicorn")
        assert first.item.id == "rescued"
        assert [
            part["df"] for part in (await store.search("marmot unicorn", explain=True)).hits[0].components["terms"]
        ] == [1, 1_000]

    async def test_what_is_searched_is_the_text_else_the_string_leaves_of_the_content(self, store: MemoryStore) -> None:
        await store.put_many(
            [
                item("text", "marmot", text="eagle"),
                item("string", "marmot"),
                item("leaves", {"k": ["marmot", {"marmot2": 5}], "n": 7}),
                item("keys", {"marmot": 1}),
                item("empty", "marmot", text=""),
                item("null", None),
                item("metadata", "x", metadata={"m": "marmot"}, tags=("marmot",)),
            ]
        )
        assert [hit.item.id for hit in await store.search("marmot")] == ["leaves", "string"]
        assert [hit.item.id for hit in await store.search("eagle")] == ["text"]

    async def test_words_match_as_the_analyser_says(self, store: MemoryStore) -> None:
        texts = [
            "Marmots WHISTLED",
            "résumé",
            "connect_timeout",
            "naïve café",
            "東京都に行く",
            "😀 yes",
            "don't",
            "ﬁne",
            "A-B c.d/e",
        ]
        await store.put_many([item(str(i), text) for i, text in enumerate(texts)])
        analyser = Analyser()
        for query in (
            "marmot",
            "whistling",
            "RÉSUMÉ",
            "re\u0301sume\u0301",
            "timeout",
            "cafe",
            "東京",
            "😀",
            "don’t",
            "fine",
            "b",
            "e",
            "do",
        ):
            wanted = set(analyser.terms(query))
            expected = {str(i) for i, text in enumerate(texts) if wanted & set(analyser.terms(text))}
            assert {hit.item.id for hit in await store.search(query)} == expected, query

    async def test_a_query_is_words_and_nothing_else(self, store: MemoryStore) -> None:
        await store.put_many([item("a", "marmot OR whistle"), item("b", "whistle near"), item("c", "content text")])
        for query in (
            '"marmot',
            "marmot*",
            "(marmot",
            "content:marmot",
            "marmot^2",
            "-marmot",
            "marmot AND",
            "'marmot'--",
            "^marmot",
            "{marmot}",
        ):
            found = {hit.item.id for hit in await store.search(query)}
            assert "a" in found, query
        assert {hit.item.id for hit in await store.search("NOT whistle")} == {"a", "b"}
        for empty in ("", "   ", "!!!", "*", '"', "\0", "--"):
            page = await store.search(empty)
            assert (page.hits, page.cursor) == ([], None), empty

    async def test_a_long_query_counts_its_first_64_terms(self, store: MemoryStore) -> None:
        await store.put_many([item(str(i), f"word{i}") for i in range(80)])
        hits = await store.search(" ".join(f"word{i}" for i in range(80)), limit=100)
        assert {hit.item.id for hit in hits} == {str(i) for i in range(64)}

    async def test_senseless_arguments_are_refused(self, store: Any) -> None:
        for bad in (
            {"query": 5}, {"query": None}, {"query": b"x"}, {"limit": 0}, {"limit": 201}, {"limit": "5"}, {"limit": True},
            {"mode": "exact"}, {"neighbours": -1}, {"neighbours": 6}, {"neighbours": True}, {"min_text": 1.1}, {"min_text": -0.1},
            {"min_score": "x"}, {"min_score": -1}, {"min_text": float("nan")}, {"namespace": ("a",), "under": ("b",)},
        ):  # fmt: skip
            with pytest.raises(InvalidItem):
                await store.search(**{"query": "marmot", **bad})

    async def test_another_language_stems_its_own_way(self, make: Make) -> None:
        store = await make(language="german").open()
        await store.put(item("a", "Die Häuser der Kinder"))
        assert [hit.item.id for hit in await store.search("haus kind")] == ["a"]
