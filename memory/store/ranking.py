"""What a search ranks: candidates of each kind from the backend, scores from memory.search, the same everywhere."""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from memory.codec import decode
from memory.filters import predicate
from memory.model import MemoryItem, key_order
from memory.ops import Around, Hybrid, Match, Matched, Mixed, Nearest, Row, Scope
from memory.search import fusion
from memory.search.analysis import SLICE
from memory.search.neighbours import BEST, reach, share
from memory.search.text import Scorer
from memory.store.slicing import SLICE_TEXTS, decoded, pieces, row_bytes
from memory.store.types import Hit
from memory.turns import is_due, pause

if TYPE_CHECKING:
    from memory.filters import Filter
    from memory.store.base import MemoryStore

SortKey = tuple[bytes, bytes]
_NO_WORDS = Scorer((), ())


class Question(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A checked search: what is asked, of whom, and how the answer is put in order."""

    mode: Literal["text", "vector", "hybrid"]
    terms: tuple[str, ...]
    vector: bytes | None
    embedder: str | None
    """Who made the query's vector; None: its caller."""
    scope: Scope
    where: Filter | None
    now: int
    wanted: int
    """How many of the best are needed."""
    page: int | None
    """Of these only so many need their scores: those of a first page, and one. None: all."""
    neighbours: int
    composite_at: int | None
    """The moment to which recency refers, when the order is composite."""
    mmr: float | None
    limit: int
    exact: bool


class Found(msgspec.Struct, gc=False):
    """One item on its way to a hit."""

    item: MemoryItem
    embedding: bytes | None
    created: int
    key: SortKey
    counts: tuple[int, ...] = ()
    length: int = 0
    text: float = 0.0
    cosine: float | None = None
    own: float = 0.0
    """Relevance by itself."""
    lent: float = 0.0
    """What its neighbours add."""
    score: float = 0.0
    parts: dict[str, float] = {}
    """Of the composite order."""


class Ranking:
    """The answer to one question, made by `run`: the pool, best first."""

    def __init__(self, store: MemoryStore, question: Question) -> None:
        self._store = store
        self._asked = question
        self._scorer = _NO_WORDS
        self._wanted: frozenset[str] = frozenset()
        self._best_text = 0.0
        self.left_out = 0
        """So many more there are that cannot be among the best."""

    async def run(self) -> list[Found]:
        """At most ``question.wanted`` items, or, with neighbours, the best 50 and those around them."""
        asked = self._asked
        wanted = BEST if asked.neighbours else asked.wanted
        listed = asked.wanted if asked.mode == "hybrid" else wanted
        known: dict[SortKey, Found] = {}
        if asked.mode != "hybrid" or not await self._by_both(known, listed):
            if asked.mode != "vector" and asked.terms:
                await self._by_text(known, listed)
            if asked.mode != "text":
                await self._by_vector(known, listed)
        if asked.mode == "hybrid":
            await self._complete(list(known.values()))
        if asked.mode == "vector":
            for hit in known.values():
                hit.own = hit.score = hit.cosine or 0.0
        else:
            for hit in known.values():
                self._weigh(hit)
        found = sorted(known.values(), key=by_rank)[:wanted]
        if asked.neighbours:
            found = await self._with_neighbours(found)
        if asked.composite_at is not None:
            best = found[0].score if found else 0.0
            for hit in found:
                self._compose(hit, asked.composite_at, best)
            found.sort(key=by_rank)
        return found if asked.mmr is None else await self._diverse(found[: asked.wanted], asked.mmr)

    def _match(self, limit: int) -> Match:
        asked = self._asked
        return Match(
            terms=asked.terms, limit=limit, now=asked.now, scope=asked.scope, where=asked.where, vectors=self._vectors
        )

    def _nearest(self, limit: int) -> Nearest:
        asked = self._asked
        assert asked.vector is not None
        return Nearest(
            vector=asked.vector, embedder=asked.embedder, limit=limit, now=asked.now, scope=asked.scope,
            where=asked.where, exact=asked.exact,
        )  # fmt: skip

    # --- candidates ----------------------------------------------------------------------------

    async def _by_text(self, known: dict[SortKey, Found], wanted: int) -> None:
        """The best by text. Decodes only those that can be among them."""
        asked = self._asked
        matched: Matched = await self._store._do_match(self._match(wanted))
        self._scorer = scorer = Scorer(asked.terms, matched.df)
        self._wanted = frozenset(asked.terms)
        scored = [(scorer.score(c.counts, c.length), c) for c in matched.candidates]
        self._best_text = max((score for score, _ in scored), default=0.0)
        if len(scored) > wanted:
            # Every candidate that ties with the last place is decoded too: ties are decided by key.
            least = heapq.nlargest(wanted, (score for score, _ in scored))[-1]
            scored = [pair for pair in scored if pair[0] >= least]
        found: list[Found] = []
        async for batch in self._store._slices(scored, weigh=lambda pair: len(pair[1].row.body)):
            for score, candidate in batch:
                hit = _found(candidate.row)
                hit.counts, hit.length, hit.text, hit.score = candidate.counts, candidate.length, score, score
                found.append(hit)
        found.sort(key=by_rank)
        known.update({hit.key: hit for hit in found[:wanted]})

    async def _by_vector(self, known: dict[SortKey, Found], wanted: int) -> None:
        """The nearest by cosine, beside what is known already."""
        asked = self._asked
        assert asked.vector is not None
        await self._store._vectors_ready()
        rows: list[Row] = await self._store._do_nearest(self._nearest(wanted))
        items = await decoded(rows, vector=False)
        found = [
            Found(item, row.embedding, row.created, key_order((item.namespace, item.id)))
            for row, item in zip(rows, items, strict=True)
        ]
        await self._measure(found)
        if len(found) > wanted:
            for hit in found:
                hit.score = hit.cosine or 0.0
            found.sort(key=by_rank)
        for hit in found[:wanted]:
            there = known.setdefault(hit.key, hit)
            there.cosine, there.embedding = hit.cosine, hit.embedding

    async def _by_both(self, known: dict[SortKey, Found], wanted: int) -> bool:
        """Those that may be among the best, where the store can tell; whether it could."""
        asked, weights = self._asked, self._store.weights
        if asked.page is None or not asked.terms or asked.exact:
            return False
        op = Hybrid(
            match=self._match(wanted),
            nearest=self._nearest(wanted),
            weights=(weights.text, weights.vector),
            best=asked.page,
        )
        await self._store._vectors_ready()
        mixed: Mixed | None = await self._store._do_hybrid(op)
        if mixed is None:
            return False
        self._scorer = scorer = Scorer(asked.terms, mixed.df)
        self._wanted = frozenset(asked.terms)
        self._best_text, self.left_out = mixed.best_text, mixed.found - len(mixed.candidates)
        async for batch in self._store._slices(mixed.candidates, weigh=lambda candidate: len(candidate.row.body)):
            for candidate in batch:
                hit = _found(candidate.row)
                known[hit.key] = hit
                if candidate.counts:
                    hit.counts, hit.length = candidate.counts, candidate.length
                    hit.text = scorer.score(hit.counts, hit.length)
        return True

    async def _complete(self, found: list[Found]) -> None:
        """The half of a hybrid score that the list which brought an item does not tell."""
        await self._measure([hit for hit in found if hit.cosine is None])
        async for batch in self._store._slices([hit for hit in found if not hit.counts], SLICE_TEXTS):
            for hit in batch:
                await self._read_text(hit)

    async def _read_text(self, hit: Found) -> None:
        text = hit.item.searchable
        if len(text) <= SLICE:  # only the query's terms are counted: a third cheaper
            terms, wanted = self._store.analyser.terms(text), self._scorer.terms
            absent = self._wanted.isdisjoint(terms)
            hit.counts = (0,) * len(wanted) if absent else tuple([terms.count(term) for term in wanted])
            hit.length = len(terms)
        else:
            occurrences, hit.length = await self._store._counts(text)
            hit.counts = self._scorer.counts(occurrences)
        hit.text = self._scorer.score(hit.counts, hit.length)

    async def _measure(self, found: list[Found]) -> None:
        """The cosine of each that has a vector."""
        from memory.search.vectors import cosines, matrix

        assert self._asked.vector is not None
        size = len(self._asked.vector)
        held = [hit for hit in found if hit.embedding is not None and len(hit.embedding) == size]
        for part in pieces(held):
            if is_due():
                await pause()
            raws = [hit.embedding or b"" for hit in part]
            for hit, cosine in zip(part, cosines(self._asked.vector, matrix(raws, size // 4)).tolist(), strict=True):
                hit.cosine = cosine

    # --- order ---------------------------------------------------------------------------------

    @property
    def _vectors(self) -> bool:
        """Whether rows have to bring their vectors."""
        return self._asked.mode != "text" or self._asked.mmr is not None

    def _weigh(self, hit: Found) -> None:
        mode = self._asked.mode
        if mode == "text":
            hit.own = hit.text
        elif mode == "vector":
            hit.own = hit.cosine or 0.0
        else:
            hit.own = fusion.hybrid(self._store.weights, hit.text, self._best_text, hit.cosine)
        hit.score = hit.own

    async def _with_neighbours(self, best: list[Found]) -> list[Found]:
        """The best and their neighbours with shared scores; those outside the filter lend theirs and are dropped."""
        asked = self._asked
        known = {hit.key: hit for hit in best}
        anchors = tuple((hit.item.key, hit.item.session_id, hit.created) for hit in best)
        op = Around(anchors=anchors, n=reach(asked.neighbours), now=asked.now, scope=asked.scope, vectors=self._vectors)
        sides: list[tuple[list[Row], list[Row]]] = await self._store._do_around(op)
        if self._vectors:
            await self._store._vectors_ready()

        keys: list[SortKey] = []
        fresh: list[Found] = []
        around = [row for both in sides for side in both for row in side]
        async for batch in self._store._slices(around, SLICE_TEXTS, row_bytes):
            for row in batch:
                hit = _found(row)
                keys.append(hit.key)
                if hit.key not in known:
                    known[hit.key] = hit
                    fresh.append(hit)
                    if asked.mode != "vector":
                        await self._read_text(hit)
        if asked.mode != "text":
            await self._measure(fresh)
        for hit in fresh:
            self._weigh(hit)
        if is_due():
            await pause()
        taken = iter(keys)
        windows = [
            (hit.key, list(islice(taken, len(before))), list(islice(taken, len(after))))
            for hit, (before, after) in zip(best, sides, strict=True)
        ]
        own = {key: max(0.0, hit.own) for key, hit in known.items()}
        shared = share(own, windows, asked.neighbours)
        if is_due():
            await pause()
        accept = None if asked.where is None else predicate(asked.where)
        found = []
        for key, score in shared.items():
            hit = known[key]
            if score > 0 and (accept is None or accept(hit.item)):
                hit.score = score
                hit.lent = score - own[key] / (1 + 0.6 * asked.neighbours)
                found.append(hit)
        found.sort(key=by_rank)
        return found

    def _compose(self, hit: Found, at: int, best: float) -> None:
        weights = self._store.weights
        relevance = max(0.0, hit.score / best if self._asked.mode == "text" or self._asked.neighbours else hit.score)
        hit.parts = {
            "relevance": relevance if best > 0 else 0.0,
            "recency": fusion.recency(weights, hit.created, at),
            "importance": hit.item.importance,
        }
        hit.score = fusion.composite(weights, **hit.parts)

    async def _diverse(self, found: list[Found], share: float) -> list[Found]:
        """The ``limit`` picks of maximal marginal relevance; how alike two items are is asked only of what is picked."""
        if not found:
            return []
        await self._store._vectors_ready()
        import numpy as np

        from memory.search.vectors import cosines, matrix

        best = max(hit.score for hit in found)
        relevance = np.array([max(0.0, hit.score / best) if best > 0 else 0.0 for hit in found])
        held = [i for i, hit in enumerate(found) if hit.embedding is not None]
        raws = [found[i].embedding or b"" for i in held]
        rows = matrix(raws, len(raws[0]) // 4) if raws else None
        nearest, left = np.zeros(len(found)), np.ones(len(found), dtype=bool)
        picked: list[Found] = []
        while len(picked) < min(len(found), self._asked.limit):
            place = fusion.most_marginal(relevance, nearest, left, share)
            left[place] = False
            picked.append(found[place])
            raw = found[place].embedding
            if raw is not None and rows is not None:
                nearest[held] = np.maximum(nearest[held], cosines(raw, rows))
            await asyncio.sleep(0)
        return picked

    # --- what the caller gets ------------------------------------------------------------------

    def matched(self, hit: Found) -> float:
        """The share of the query's idf that an item matched."""
        return self._scorer.matched_share(hit.counts) if hit.counts else 0.0

    def hits(self, found: Sequence[Found], *, explain: bool) -> list[Hit]:
        """The items with their scores and how these came about."""
        return [self._hit(each, explain) for each in found]

    def _hit(self, found: Found, explain: bool) -> Hit:
        components: dict[str, Any] = {}
        if self._asked.mode != "vector":
            components |= {"text": found.text, "matched": self.matched(found)}
        if self._asked.mode != "text":
            components["vector"] = found.cosine
        if self._asked.neighbours:
            components["neighbours"] = found.lent
        components |= found.parts
        if explain and self._asked.mode != "vector":
            terms = self._scorer.explain(found.counts, found.length) if found.counts else []
            components["terms"] = [part._asdict() for part in terms]
        return Hit(found.item, found.score, components)


def by_rank(hit: Found) -> tuple[float, SortKey]:
    """Best first, ties by key."""
    return (-hit.score, hit.key)


def _found(row: Row) -> Found:
    """A row as it comes, its vector kept apart: hits are handed out without."""
    item = decode(row, vector=False)
    return Found(item, row.embedding, row.created, key_order(item.key))


def cut(found: list[Found], ranking: Ranking, least: float, least_text: float, least_vector: float) -> list[Found]:
    """Those that reach a score, a share of the query's words, and a cosine; -inf asks for nothing."""
    return [
        hit
        for hit in found
        if hit.score >= least
        and (least_text <= 0 or ranking.matched(hit) >= least_text)
        and (least_vector == -math.inf or (hit.cosine is not None and hit.cosine >= least_vector))
    ]
