"""Broken searches by vector: what is near, how near, and in whose eyes."""

from __future__ import annotations

from typing import Any

import numpy as np

from memory.backends.in_memory import InMemoryStore
from memory.codec import decode
from memory.filters import predicate
from memory.model import path_bytes
from memory.ops import WHOLE, Row
from memory.search import fusion, vectors
from memory.store import cursors, ranking, searching
from mutants.catalogue import Naive, caught, patched, replace

# --- candidates: what a backend brings -----------------------------------------------------------


class ByHand(Naive):
    """Compares the query with every vector, as a first backend would; mutants change one of its steps."""

    async def _nearest(self, op: Any) -> list[Row]:
        if self._space is None:
            return []
        rows = [row for row, _ in await self.chosen(op) if row.embedding is not None]  # in key order
        rows.sort(key=lambda row: -self.nearness(*(np.frombuffer(raw, "<f4") for raw in (op.vector, row.embedding))))
        return rows[: op.limit]

    def nearness(self, query: Any, vector: Any) -> float:
        return float(vectors.cosines(query.tobytes(), vector.reshape(1, -1))[0])


@caught("test_a_few_far_items_that_satisfy_the_filter_are_all_found", "vector search filters after top-k")
class FilterAfterTopK(InMemoryStore):
    async def _nearest(self, op: Any) -> list[Row]:
        rows = await super()._nearest(replace(op, where=None))
        return [row for row in rows if predicate(op.where)(decode(row))]


@caught("test_filter_and_scope_come_before_the_nearest", "vector search takes the scope after top-k")
class ScopeAfterTopK(InMemoryStore):
    async def _nearest(self, op: Any) -> list[Row]:
        return [row for row in await super()._nearest(replace(op, scope=WHOLE)) if op.scope.covers(decode(row))]


@caught("test_filter_and_scope_come_before_the_nearest", "vector search forgets the user")
class ForgetsTheUser(InMemoryStore):
    async def _nearest(self, op: Any) -> list[Row]:
        return await super()._nearest(replace(op, scope=replace(op.scope, user_id=None)))


@caught("test_namespaces_are_exact_or_everything_under", "under= of a vector search is a string prefix")
class PrefixLeak(ByHand):
    def inside(self, op: Any, item: Any) -> bool:
        path = path_bytes(op.scope.path)
        return path_bytes(item.namespace).startswith(path) if op.scope.below else super().inside(op, item)


@caught("test_the_nearest_follow_every_kind_of_write", "expired items are near")
class ExpiredIsNear(InMemoryStore):
    async def _nearest(self, op: Any) -> list[Row]:
        return await super()._nearest(replace(op, now=0))


@caught("test_the_nearest_follow_every_kind_of_write", "deleted items are near")
class DeletedIsNear(InMemoryStore):
    def _place(self, key: Any, record: Any) -> None:
        if record is None and key in self._records:
            self.__dict__.setdefault("_ghosts", []).append(self._records[key].row)
        super()._place(key, record)

    async def _nearest(self, op: Any) -> list[Row]:
        return [*await super()._nearest(op), *self.__dict__.get("_ghosts", [])]


@caught("test_the_nearest_follow_every_kind_of_write", "the vector index misses overwrites")
class StaleVectors(InMemoryStore):
    def _note(self, key: Any, row: Any) -> None:
        if row is None or row.embedding is None or key not in self._vectors.places:
            super()._note(key, row)


@caught("test_the_nearest_follow_every_kind_of_write", "a re-inserted key keeps its old vector")
class ReinsertedKeepsItsOld(InMemoryStore):
    def _note(self, key: Any, row: Any) -> None:
        gone = self.__dict__.setdefault("_gone", set())
        if row is None and key in self._vectors.places:
            gone.add(key)
        elif key not in gone:
            super()._note(key, row)


@caught("test_the_best_few_are_the_best_of_all", "nearest by dot products of unnormalised vectors")
class ByDotProduct(ByHand):
    def nearness(self, query: Any, vector: Any) -> float:
        return float(query @ vector)


@caught("test_the_best_few_are_the_best_of_all", "nearest by Euclidean distance")
class ByDistance(ByHand):
    def nearness(self, query: Any, vector: Any) -> float:
        return -float(np.linalg.norm(query - vector))


@caught("test_the_best_few_are_the_best_of_all", "the farthest come first")
class FarthestFirst(ByHand):
    def nearness(self, query: Any, vector: Any) -> float:
        return -super().nearness(query, vector)


@caught("test_the_best_few_are_the_best_of_all", "the sign of a vector is forgotten: opposites are near")
class SignForgotten(ByHand):
    def nearness(self, query: Any, vector: Any) -> float:
        return abs(super().nearness(query, vector))


@caught("test_the_best_few_are_the_best_of_all", "1-bit codes without rescoring, though exact=True")
class ApproximateThoughExact(ByHand):
    def nearness(self, query: Any, vector: Any) -> float:
        return -float(((query > 0) != (vector > 0)).sum())


@caught("test_equally_near_items_go_by_key_also_where_a_page_ends", "equally near items in order of insertion")
class TiesByInsertion(ByHand):
    async def chosen(self, op: Any) -> Any:
        return sorted(await super().chosen(op), key=lambda pair: pair[0].version)


@caught("test_items_without_a_vector_are_not_found_and_zeros_score_zero", "zero vectors are dropped")
class ZerosDropped(ByHand):
    async def chosen(self, op: Any) -> Any:
        return [pair for pair in await super().chosen(op) if any(pair[0].embedding or b"")]


@caught("test_items_without_a_vector_are_not_found_and_zeros_score_zero", "items without a vector score 0")
class MissingScoreZero(InMemoryStore):
    async def _nearest(self, op: Any) -> list[Row]:
        lacking = [row for row, _ in await Naive.chosen(self, op) if row.embedding is None]  # type: ignore[arg-type]
        return [*await super()._nearest(op), *lacking]

    inside, accepts = Naive.inside, Naive.accepts  # type: ignore[assignment]


@caught("test_pages_by_vector_are_those_of_one_long_page", "one candidate too few: no cursor")
class OneTooFew(InMemoryStore):
    async def _nearest(self, op: Any) -> list[Row]:
        return await ByHand._nearest(self, replace(op, limit=op.limit - 1))  # type: ignore[arg-type]

    chosen, inside, accepts, nearness = Naive.chosen, Naive.inside, Naive.accepts, ByHand.nearness  # type: ignore[assignment]


# --- scores --------------------------------------------------------------------------------------

_cosines = vectors.cosines


def floats(query: bytes, rows: Any) -> tuple[Any, Any]:
    return np.frombuffer(query, "<f4").astype(np.float64), np.asarray(rows, dtype=np.float64)


def dot(query: bytes, rows: Any) -> Any:
    wanted, held = floats(query, rows)
    return held @ wanted


def closeness(query: bytes, rows: Any) -> Any:
    wanted, held = floats(query, rows)
    return 1 / (1 + np.linalg.norm(held - wanted, axis=1))


def single_precision(query: bytes, rows: Any) -> Any:
    units = np.array([vectors.unit(row.tobytes()) for row in rows], dtype=np.float32)
    return (units @ vectors.unit(query)).astype(np.float64)


def not_a_number(query: bytes, rows: Any) -> Any:
    wanted, held = floats(query, rows)
    with np.errstate(all="ignore"):
        return (held @ wanted) / (np.linalg.norm(held, axis=1) * np.linalg.norm(wanted))


TO_THE_BIT = "test_cosines_equal_the_reference_to_the_bit"
ZEROS = "test_items_without_a_vector_are_not_found_and_zeros_score_zero"
patched(TO_THE_BIT, "scores are dot products", (vectors, "cosines", dot))
patched(TO_THE_BIT, "scores are distances turned round", (vectors, "cosines", closeness))
patched(TO_THE_BIT, "scores of single precision", (vectors, "cosines", single_precision))
patched(
    TO_THE_BIT,
    "scores are distances: lower is better",
    (vectors, "cosines", lambda query, rows: 1 - _cosines(query, rows)),
)
patched(TO_THE_BIT, "scores from 0 to 1", (vectors, "cosines", lambda query, rows: (1 + _cosines(query, rows)) / 2))
patched(ZEROS, "a zero vector scores NaN", (vectors, "cosines", not_a_number))
patched(ZEROS, "opposites score 0", (vectors, "cosines", lambda query, rows: np.maximum(0.0, _cosines(query, rows))))


# --- ranking, pages ------------------------------------------------------------------------------


def keeps_the_unknown(found: Any, ranked: Any, least: float, least_text: float, least_vector: float) -> Any:
    return [hit for hit in found if hit.score >= least and (hit.cosine is None or hit.cosine >= least_vector)]


patched(
    "test_min_vector_cuts_what_is_not_near",
    "min_vector keeps items without a vector",
    (searching, "cut", keeps_the_unknown),
)


async def nothing(self: Any, *_: Any) -> None:
    return None


HYBRID = "test_hybrid_scores_equal_the_reference"
patched(HYBRID, "hybrid knows no cosine of what text found", (ranking.Ranking, "_complete", nothing))
patched(
    "test_a_hybrid_hit_has_both_halves_whichever_list_brought_it",
    "hybrid knows no text score of what the vector found",
    (ranking.Ranking, "_read_text", nothing),
)
patched(
    HYBRID,
    "hybrid adds raw text scores",
    (
        fusion,
        "hybrid",
        lambda weights, text, best, cosine: (
            (weights.text * text + weights.vector * max(0.0, cosine or 0.0)) / (weights.text + weights.vector)
        ),
    ),
)
patched(
    HYBRID,
    "hybrid subtracts opposites",
    (
        fusion,
        "hybrid",
        lambda weights, text, best, cosine: (
            (weights.text * (text / best if best else 0.0) + weights.vector * (cosine or 0.0))
            / (weights.text + weights.vector)
        ),
    ),
)
patched(
    HYBRID,
    "hybrid ignores its weights",
    (
        fusion,
        "hybrid",
        lambda weights, text, best, cosine: ((text / best if best else 0.0) + max(0.0, cosine or 0.0)) / 2,
    ),
)

_question, _share, _composite_recency = cursors.question, ranking.share, fusion.recency
patched(
    "test_a_cursor_by_vector_is_bound_to_its_question",
    "a cursor answers for any vector",
    (cursors, "question", lambda kind, scope, where, query, *told: _question(kind, scope, where, *told[1:])),
)
patched(
    "test_neighbours_lend_their_cosine",
    "neighbours lend nothing",
    (ranking, "share", lambda own, windows, n: _share(own, windows, 0)),
)
patched(
    "test_composite_order_mixes_relevance_recency_and_importance",
    "recency forgets its half-life",
    (fusion, "recency", lambda weights, created, now: _composite_recency(fusion.Weights(), created, now)),
)
patched(
    "test_pages_of_the_composite_order_agree_though_time_passes",
    "recency counts from each page anew",
    (
        ranking.Ranking,
        "_compose",
        lambda self, hit, at, best, compose=ranking.Ranking._compose: compose(self, hit, self._asked.now, best),
    ),
)
patched(
    "test_diverse_hits_do_not_repeat_each_other",
    "mmr picks by relevance alone",
    (fusion, "most_marginal", lambda relevance, nearest, left, share: int(left.argmax())),
)


def with_its_vector(row: Any, found: Any = ranking._found) -> Any:
    hit = found(row)
    hit.item = decode(row)
    return hit


patched("test_hits_come_without_their_vector", "hits carry their vectors", (ranking, "_found", with_its_vector))
patched(
    "test_bad_vector_searches_are_refused_before_any_io",
    "the dimension of a query is checked by the engine",
    (searching, "check_space", lambda store, embedder, dimension: None),
)
