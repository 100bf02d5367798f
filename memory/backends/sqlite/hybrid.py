"""Hybrid candidates: the best by text and the nearest in one snapshot, mixed before a record is read.

Both lists are numbers of documents. The half that either lacks is told by the records' stored terms and vectors; then each has
a mix, about, and only records that may be among the best are read. What a result is worth is told by its record.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw

from memory.backends.sqlite.compiling import NEVER, Fields, compile_filter
from memory.backends.sqlite.docs import LENGTH_BITS, occurrences
from memory.backends.sqlite.matching import SLACK, Texts, kth
from memory.backends.sqlite.nearest import Vectors, VectorSnapshot
from memory.backends.sqlite.postings import Memo, among
from memory.backends.sqlite.spaces import VectorState
from memory.backends.sqlite.vectorcache import VectorCache
from memory.backends.sqlite.vectorlog import stored_vectors
from memory.ops import Candidate, Hybrid, Mixed, Row

if TYPE_CHECKING:
    import numpy as np

    from memory.search.vectors import Floats, Matrix

    Array = np.ndarray[Any, np.dtype[np.int64]]


WIDER = 4
"""Where of the nearest some do not pass, so many times as many are looked at."""


class UnclearError(Exception):
    """Which are the nearest takes their records to tell: the two halves are to be asked for one after the other."""


class Near(NamedTuple):
    """Documents by their vectors: numbers (n), ascending, and about their cosines (n), float32."""

    docs: Array
    cosines: Matrix


def hybrid(
    db: apsw.Connection,
    op: Hybrid,
    fields: Fields,
    memo: Memo,
    cache: VectorCache,
    noticed: Callable[[VectorState], None],
    patient: bool = True,
) -> Mixed:
    """The mix of one snapshot. Raises UnclearError, EmbeddingMismatch, CorruptData, and TooLongError unless patient."""
    filtered = compile_filter(op.match.where, fields)
    if filtered.predicate is NEVER:
        return Mixed((0,) * len(op.match.terms), 0.0, 0, [])
    if not filtered.exact:
        raise UnclearError
    with VectorSnapshot(db, op.nearest, cache, noticed, patient) as state:
        near = _nearest(_Listed(db, op.nearest, fields, cache, state, patient)) if state.vectors else _nothing()
        return _mixed(db, op, Texts(db, op.match, filtered.predicate, memo, fields), near)


hybrid_soon = partial(hybrid, patient=False)


class _Listed(Vectors):
    """The nearest ``limit`` without their records, where that tells them."""

    unread = True
    near: Near | None = None

    def _at_once(
        self, ords: Any, scores: Any, cosines: Callable[[Any], Floats], *, whole: bool = True
    ) -> list[Row] | None:
        from memory.search.vectors import at_least

        np, limit, all_there = self.np, self.op.limit, whole and self.stored is not None
        for count in (limit, WIDER * limit) if all_there else (limit,):
            best = at_least(scores, count, self.dimension)
            rough = np.nan_to_num(scores[best], nan=-2.0)  # that of a damaged vector, which its record will tell
            docs = self._docs(ords[best])
            passing = _places(ords[best], docs >> LENGTH_BITS)
            sure = int((rough[passing] >= kth(np, rough, count)).sum())  # nearer than all that was not looked at
            if sure >= min(limit, len(best)) or (all_there and len(best) == len(scores)):
                chosen = self._best(rough[passing], partial(_of, cosines, best[passing]))
                chosen = chosen[np.argsort(docs[chosen])]
                self.near = Near(docs[chosen], rough[passing[chosen]])
                return []
        return None

    def _best(self, rough: Matrix, cosines: Callable[[Any], Floats]) -> Any:
        """Places of the best ``limit``. Raises UnclearError."""
        from memory.search.vectors import slack

        np, limit = self.np, self.op.limit
        if len(rough) <= limit:
            return np.arange(len(rough))
        last, margin = kth(np, rough, limit), 2 * slack(self.dimension)
        sure = np.flatnonzero(rough > last + margin)
        # Of those that rough scores do not tell from the last, the best by their cosines.
        close, left = np.flatnonzero(np.abs(rough - last) <= margin), limit - len(sure)
        exact = cosines(close)
        order = np.argsort(-exact)
        if left < len(order) and exact[order[left - 1]] == exact[order[left]]:
            raise UnclearError  # their keys decide
        return np.concatenate([sure, close[order[:left]]])

    def _ranked(self, ords: Any, scores: Any, cosines: Callable[[Any], Floats]) -> list[Row]:
        raise UnclearError


def _nearest(search: _Listed) -> Near:
    if search.accept is not None:
        raise UnclearError
    search.run()
    return search.near or _nothing()


def _nothing() -> Near:
    import numpy as np

    return Near(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.float32))


def _mixed(db: apsw.Connection, op: Hybrid, texts: Texts, near: Near) -> Mixed:
    import numpy as np

    from memory.search.vectors import slack

    best = texts.best()
    others = near.docs[~among(near.docs, best.docs)]
    docs = np.concatenate([best.docs, others])
    counts = np.concatenate([best.counts, _counts(texts, others)], axis=1)
    half = np.concatenate([best.scores, texts.scores(best.scorer, counts[:, len(best.docs) :], others)])
    best_text = float(best.scores.max(initial=0.0))
    if best_text > 0:
        half /= best_text
    text, vector = op.weights
    mix = (text * half + vector * np.maximum(0.0, _cosines(db, op.nearest.vector, docs, near))) / (text + vector)
    # Higher by both errors together none can be than it seems.
    likely = np.flatnonzero(mix >= kth(np, mix, op.best) - 2 * slack(len(op.nearest.vector) // 4) - SLACK)
    candidates = texts.candidates(docs[likely], counts[:, likely])
    for place in np.flatnonzero(likely >= len(best.docs)).tolist():
        candidates[place] = Candidate(candidates[place].row, (), 0)
    return Mixed(best.df, best_text, len(docs), candidates)


def _counts(texts: Texts, docs: Array) -> Array:
    """How often documents hold each term, by their stored terms: (terms, n)."""
    import numpy as np

    stored = texts.lists.texts(docs)
    words = [stored.get(doc, "") for doc in docs.tolist()]
    terms = texts.op.terms
    found = [occurrences(term, each) for term in terms for each in words]
    return np.array(found, dtype=np.int64).reshape(len(terms), len(words))


def _cosines(db: apsw.Connection, vector: bytes, docs: Array, near: Near) -> Matrix:
    """About the cosines of documents, float32; 0 without a vector."""
    import numpy as np

    from memory.backends.sqlite.codes import rough_cosines
    from memory.search.vectors import unit

    found = np.zeros(len(docs), dtype=np.float32)
    known = among(docs, near.docs)
    found[known] = near.cosines[near.docs.searchsorted(docs[known])]
    unknown = np.flatnonzero(~known)
    if len(unknown):
        ords, wanted = docs[unknown] >> LENGTH_BITS, unit(vector)
        for held, rows in stored_vectors(db, np.sort(ords).tolist(), len(wanted)):
            found[unknown[_places(ords, held)]] = rough_cosines(rows, wanted)
    return found


def _of(cosines: Callable[[Any], Floats], at: Any, places: Any) -> Floats:
    return cosines(at[places])


def _places(among: Array, wanted: Array) -> Array:
    """Where the wanted numbers, all of which are there, lie among others."""
    import numpy as np

    order = np.argsort(among)
    places: Array = order[np.searchsorted(among, wanted, sorter=order)]
    return places
