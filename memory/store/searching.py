"""Searching, by text, by vector and by both: the question checked, the answer a page of hits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from memory.errors import InvalidItem, InvalidSetting
from memory.filters import parse
from memory.model import check_text, key_order
from memory.search.text import query_terms
from memory.store import cursors
from memory.store.bound import Bound, Namespace
from memory.store.embedding import check_embedder, check_space
from memory.store.ranking import Found, Question, Ranking, SortKey, by_rank, cut
from memory.store.reads import check_limit
from memory.store.types import SearchPage
from memory.sync import blocking
from memory.turns import own_turn
from memory.vectors import check_embedding, vector_bytes

if TYPE_CHECKING:
    from memory.filters import Where
    from memory.store.base import MemoryStore

MAX_SEARCH_LIMIT = 200
MAX_NEIGHBOURS = 5
MODES = ("auto", "text", "vector", "hybrid")
Mode = Literal["auto", "text", "vector", "hybrid"]


class _Place(msgspec.Struct, frozen=True, array_like=True):
    """Where a page of a search ended: the last hit's score and key, the size of the pool, and when it began."""

    score: float
    namespace: tuple[str, ...]
    id: str
    pool: int
    began: int


class Searches(Bound):
    """The searching part of a store or view."""

    async def search(
        self,
        query: str | None = None,
        *,
        vector: Any = None,
        where: Where = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        mode: Mode = "auto",
        limit: int = 10,
        cursor: str | None = None,
        min_score: float | None = None,
        min_text: float | None = None,
        min_vector: float | None = None,
        neighbours: int = 0,
        order: Literal["relevance", "composite"] = "relevance",
        mmr: float | None = None,
        explain: bool = False,
        exact: bool = False,
    ) -> SearchPage:
        """The live items that answer a query best, best first, ties by key. Items come without their embedding.

        ``mode``: "text" finds words, "vector" meaning, "hybrid" mixes both; "auto" is hybrid when the store's embedder
        is semantic and else text, and goes by ``vector`` when that is given. ``vector``: the query as a vector of the
        store's space (1-d, its dimension), in place of one made from ``query``.

        ``min_text`` (0 to 1) drops items that match less than this share of the query's idf, ``min_vector`` (-1 to 1)
        those of a lower cosine or none, so that "nothing relevant" is an empty page; ``min_score`` cuts on the score.
        ``neighbours=n`` lets an item share in the scores of the n items said before and after it in its session (see
        memory.search.neighbours). ``order="composite"`` mixes relevance with recency and importance (see Weights).
        ``mmr`` (0 to 1) picks items that repeat each other less the lower it is (maximal marginal relevance, by the
        cosine of stored vectors); such a search has one page. ``explain`` adds each term's df, idf, tf and
        contribution. ``exact``: compare with every vector, where the backend would approximate.

        ``limit`` is at most 200; pages end with a pool of max(100, 4 * limit). Raises InvalidItem, InvalidFilter,
        InvalidCursor, EmbeddingMismatch, EmbeddingFailed, InvalidSetting (a vector is needed and nobody makes one).
        """
        store = self._enter()
        # A crowd that comes at once is let in a few at a time, so that what each costs does not add up in one turn of the loop. A
        # search that waits holds little for a collection of garbage to walk through: no ranking yet, no closure's cells, and
        # not the coroutine and the method that `async with` keeps.
        gate = store._entrance
        await gate.acquire()
        try:
            await own_turn()
            filter = parse(where)
            check_limit(limit, MAX_SEARCH_LIMIT)
            if query is None and vector is None:
                raise InvalidItem("give a query, a vector or both", field="query")
            if query is not None:
                check_text(query, "query")
            _check_choices(mode, neighbours, order, mmr)
            if mmr is not None and cursor is not None:
                raise InvalidItem("a search with mmr has one page; ask with a higher limit instead", field="cursor")
            for name, value in (("explain", explain), ("exact", exact)):
                if type(value) is not bool:
                    raise InvalidItem(f"{name} must be True or False, not {value!r}", field=name)
            least = _check_cut(min_score, "min_score", 0.0, math.inf)
            least_text = _check_cut(min_text, "min_text", 0.0, 1.0)
            least_vector = _check_cut(min_vector, "min_vector", -1.0, 1.0)
            chosen = _resolve(store, mode, query, vector)
            if chosen == "text" and least_vector != -math.inf:
                raise InvalidItem("min_vector needs a search by vector or hybrid", field="min_vector")
            if chosen == "vector" and least_text != -math.inf:
                raise InvalidItem("min_text needs a search by text or hybrid", field="min_text")
            asked = None
            if vector is not None:
                await store._vectors_ready()
                asked = vector_bytes(check_embedding(vector))
            scope = self._narrow(namespace, under)
            # The vector made of the query, below, is no part of the question.
            asks = (query, asked, chosen, neighbours, min_score, min_text, min_vector, order, exact)
            now = store._clock()
            place = None
            if cursor is not None:
                place = cursors.read(cursor, cursors.question("search", scope or self._scope, filter, *asks), _Place)
                cursors.check_key(store, scope or self._scope, place.namespace, place.id)
                if not math.isfinite(place.score) or not cursors.is_time(place.began):
                    raise cursors.altered()
            pool = max(100, 4 * limit) if place is None else min(max(place.pool, 100), 4 * MAX_SEARCH_LIMIT)
            terms = () if query is None or chosen == "vector" else query_terms(store.analyser, query)
            if scope is None or (chosen == "text" and not terms):
                return SearchPage([])
            if chosen != "text":
                asked = await _embedded(store, query or "") if asked is None else asked
                check_space(store, None, len(asked) // 4)
            # The first page by plain relevance needs no more than itself, and what tells whether another follows.
            plain = (
                place is None and order == "relevance" and mmr is None and least_text <= 0 and least_vector == -math.inf
            )
            question = Question(
                mode=chosen, terms=terms, vector=asked, embedder=None if store.embedding is None else store.embedding.name, scope=scope, where=filter, now=now,
                wanted=limit + 1 if plain and chosen != "hybrid" else pool + 1, page=limit + 1 if plain and not neighbours else None, neighbours=neighbours,
                composite_at=None if order == "relevance" else now if place is None else place.began,
                mmr=mmr, limit=limit, exact=exact,
            )  # fmt: skip
        finally:
            gate.release()
        gate = store._searching  # kept: by the time of its release the store may have been closed and opened again
        await gate.acquire()
        try:
            ranking = Ranking(store, question)
            ranked = await ranking.run()
            complete = len(ranked) + ranking.left_out <= pool
            found = cut(ranked[:pool], ranking, least, least_text, least_vector)
            if place is not None:
                found = _beyond(found, (-place.score, key_order((place.namespace, place.id))))
            page, more = found[:limit], len(found) > limit
            if store._tracker is not None:
                for hit in page:
                    store._tracker.saw(hit.item.key, self._scope)
            following = None
            if more and mmr is None:
                last = page[-1]
                began = now if place is None else place.began
                ended = _Place(last.score, last.item.namespace, last.item.id, pool, began)
                following = cursors.write(cursors.question("search", scope, filter, *asks), ended)
            return SearchPage(ranking.hits(page, explain=explain), following, complete or more)
        finally:
            gate.release()

    search_sync = blocking(search)


def _beyond(found: list[Found], start: tuple[float, SortKey]) -> list[Found]:
    return [hit for hit in found if by_rank(hit) > start]


def _check_choices(mode: str, neighbours: int, order: str, mmr: float | None) -> None:
    if mode not in MODES:
        raise InvalidItem(f"mode must be one of {', '.join(MODES)}, not {mode!r}", field="mode")
    if type(neighbours) is not int or not 0 <= neighbours <= MAX_NEIGHBOURS:
        raise InvalidItem(f"neighbours must be an int from 0 to {MAX_NEIGHBOURS}", field="neighbours")
    if order not in ("relevance", "composite"):
        raise InvalidItem(f'order must be "relevance" or "composite", not {order!r}', field="order")
    if mmr is not None:
        _check_cut(mmr, "mmr", 0.0, 1.0)


def _check_cut(value: float | None, name: str, least: float, most: float) -> float:
    if value is None:
        return -math.inf
    if type(value) not in (int, float) or not least <= value <= most:
        upper = "" if most == math.inf else f" to {most:g}"
        raise InvalidItem(f"{name} must be a number from {least:g}{upper}", field=name)
    return value


def _resolve(store: MemoryStore, mode: Mode, query: str | None, vector: Any) -> Literal["text", "vector", "hybrid"]:
    """What "auto" means here. Raises InvalidItem, InvalidSetting when the mode lacks what it needs."""
    if mode == "auto":
        if vector is not None:
            return "vector" if query is None else "hybrid"
        return "hybrid" if store.embedding is not None and store.embedding.semantic else "text"
    if mode != "vector" and query is None:
        raise InvalidItem(f"a search by {mode} needs a query", field="query")
    if mode == "text" and vector is not None:
        raise InvalidItem("a search by text takes no vector; leave mode out, or say hybrid", field="vector")
    if mode != "text" and vector is None and store.embedding is None:
        raise InvalidSetting(
            f"a search by {mode} needs an embedder: open the store with embedder= (MEMORY_EMBEDDER), or give vector=",
            setting="embedder",
        )
    return mode


async def _embedded(store: MemoryStore, query: str) -> bytes:
    """The query's vector in its stored form. Raises EmbeddingFailed, EmbeddingMismatch, BackendUnavailable."""
    assert store.embedding is not None
    check_embedder(store)
    (made,) = await store.embedding.embed([query])
    return vector_bytes(made) or b""
