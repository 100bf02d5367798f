"""Searching by text: candidates from the backend, scores from memory.search, the same everywhere."""

from __future__ import annotations

import heapq
import math
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from memory.clock import to_micros
from memory.codec import decode
from memory.errors import InvalidItem
from memory.filters import parse, predicate
from memory.model import MemoryItem, check_text, key_order
from memory.ops import Around, Candidate, Match, Matched, Row, Scope
from memory.search.neighbours import BEST, reach, share
from memory.search.text import Scorer, query_terms
from memory.store import cursors
from memory.store.bound import Bound, Namespace
from memory.store.reads import check_limit
from memory.store.types import Hit, SearchPage
from memory.sync import blocking

if TYPE_CHECKING:
    from memory.filters import Filter, Where
    from memory.store.base import MemoryStore

MAX_SEARCH_LIMIT = 200
MAX_NEIGHBOURS = 5
SortKey = tuple[bytes, bytes]


class _Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a page of a search ended: the last hit's score and key, and the size of the pool."""

    score: float
    namespace: tuple[str, ...]
    id: str
    pool: int


class _Found(msgspec.Struct):
    """One scored item on its way to a hit."""

    item: MemoryItem
    counts: tuple[int, ...]
    length: int
    own: float
    score: float

    @property
    def rank(self) -> tuple[float, SortKey]:
        """Best first, ties by key."""
        return (-self.score, key_order(self.item.key))


def _check_cut(value: float | None, name: str, most: float = math.inf) -> float:
    if value is None:
        return -math.inf
    if type(value) not in (int, float) or not 0 <= value <= most:
        raise InvalidItem(f"{name} must be a number from 0{'' if most == math.inf else f' to {most:g}'}", field=name)
    return value


class Searches(Bound):
    """The searching part of a store or view."""

    async def search(
        self,
        query: str,
        *,
        where: Where = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        mode: Literal["auto", "text"] = "auto",
        limit: int = 10,
        cursor: str | None = None,
        min_score: float | None = None,
        min_text: float | None = None,
        neighbours: int = 0,
        explain: bool = False,
    ) -> SearchPage:
        """The live items that answer a query best, best first, ties by key.

        ``min_text`` (0 to 1) drops items that match less than this share of the query's idf, so that "nothing
        relevant" is an empty page; ``min_score`` cuts on the score. ``neighbours=n`` lets an item share in the
        scores of the n items said before and after it in its session (see memory.search.neighbours).
        ``explain`` adds each term's df, idf, tf and contribution. ``limit`` is at most 200; pages end with a pool
        of max(100, 4 * limit). Raises InvalidItem, InvalidFilter, InvalidCursor.
        """
        store = self._enter()
        filter = parse(where)
        check_limit(limit, MAX_SEARCH_LIMIT)
        check_text(query, "query")
        if mode not in ("auto", "text"):
            raise InvalidItem(f'mode must be "auto" or "text", not {mode!r}', field="mode")
        if type(neighbours) is not int or not 0 <= neighbours <= MAX_NEIGHBOURS:
            raise InvalidItem(f"neighbours must be an int from 0 to {MAX_NEIGHBOURS}", field="neighbours")
        least_score, least_text = _check_cut(min_score, "min_score"), _check_cut(min_text, "min_text", 1.0)
        scope = self._narrow(namespace, under)

        def digest() -> str:
            whole = scope or self._scope
            return cursors.question("search", whole, filter, query, mode, neighbours, min_score, min_text)

        place = None if cursor is None else cursors.read(cursor, digest(), _Place)
        pool = max(100, 4 * limit) if place is None else min(max(place.pool, 100), 4 * MAX_SEARCH_LIMIT)
        terms = query_terms(store.analyser, query)
        if scope is None or not terms:
            return SearchPage([])
        wanted = pool + 1 if place is not None or least_text > 0 else limit + 1
        op = Match(terms=terms, limit=BEST if neighbours else wanted, now=store._clock(), scope=scope, where=filter)
        matched: Matched = await store._do_match(op)
        scorer = Scorer(terms, matched.df)
        found = await _score(store, scorer, matched.candidates, op.limit)
        if neighbours:
            found = await _with_neighbours(store, scope, filter, scorer, found, neighbours, op.now)
        complete = len(found) <= pool
        found = [
            hit
            for hit in found[:pool]
            if hit.score >= least_score and (least_text <= 0 or scorer.matched_share(hit.counts) >= least_text)
        ]
        if place is not None:
            start = (-place.score, key_order((place.namespace, place.id)))
            found = [hit for hit in found if hit.rank > start]
        page, more = found[:limit], len(found) > limit
        if store._tracker is not None:
            for hit in page:
                store._tracker.saw(hit.item.key, self._scope)
        following = None
        if more:
            last = page[-1]
            following = cursors.write(digest(), _Place(last.score, last.item.namespace, last.item.id, pool))
        hits = [_hit(scorer, hit, neighbours, explain) for hit in page]
        return SearchPage(hits, following, complete or more)

    search_sync = blocking(search)


async def _score(store: MemoryStore, scorer: Scorer, candidates: list[Candidate], limit: int) -> list[_Found]:
    """The best ``limit`` candidates, best first. Decodes only those that can be among them."""
    scored = [(scorer.score(c.counts, c.length), c) for c in candidates]
    if len(scored) > limit:
        # Every candidate that ties with the last place is decoded too: ties are decided by key.
        least = heapq.nlargest(limit, (score for score, _ in scored))[-1]
        scored = [pair for pair in scored if pair[0] >= least]
    if any(candidate.row.embedding is not None for _, candidate in scored):
        await store._vectors_ready()
    found: list[_Found] = []
    async for batch in store._slices(scored):
        found += [_Found(decode(c.row), c.counts, c.length, score, score) for score, c in batch]
    found.sort(key=lambda hit: hit.rank)
    return found[:limit]


async def _with_neighbours(
    store: MemoryStore,
    scope: Scope,
    where: Filter | None,
    scorer: Scorer,
    best: list[_Found],
    n: int,
    now: int,
) -> list[_Found]:
    """The best and their neighbours with shared scores; those outside the filter lend theirs and are dropped."""
    known = {hit.rank[1]: hit for hit in best}
    anchors = tuple((hit.item.key, hit.item.session_id, to_micros(hit.item.created_at)) for hit in best)
    sides = await store._do_around(Around(anchors=anchors, n=reach(n), now=now, scope=scope))

    async def keys_of(rows: list[Row]) -> list[SortKey]:
        keys = []
        async for batch in store._slices(rows):
            for row in batch:
                item = decode(row)
                key = key_order(item.key)
                keys.append(key)
                if key not in known:
                    occurrences, length = await store._counts(item.searchable)
                    counts = scorer.counts(occurrences)
                    known[key] = _Found(item, counts, length, scorer.score(counts, length), 0.0)
        return keys

    windows = [
        (hit.rank[1], await keys_of(before), await keys_of(after))
        for hit, (before, after) in zip(best, sides, strict=True)
    ]
    shared = share({key: hit.own for key, hit in known.items()}, windows, n)
    accept = None if where is None else predicate(where)
    found = []
    for key, score in shared.items():
        hit = known[key]
        if score > 0 and (accept is None or accept(hit.item)):
            found.append(_Found(hit.item, hit.counts, hit.length, hit.own, score))
    found.sort(key=lambda hit: hit.rank)
    return found


def _hit(scorer: Scorer, found: _Found, neighbours: int, explain: bool) -> Hit:
    components: dict[str, Any] = {"text": found.own, "matched": scorer.matched_share(found.counts)}
    if neighbours:
        components["neighbours"] = found.score - found.own / (1 + 0.6 * neighbours)
    if explain:
        components["terms"] = [part._asdict() for part in scorer.explain(found.counts, found.length)]
    return Hit(found.item, found.score, components)
