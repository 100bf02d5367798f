"""Text candidates: the exact best by the score of `memory.search.text`, out of the FTS5 index and little else.

The index gives each term's documents as doc numbers, which hold the text's length; repetitions are tokens of their own
(see `docs`). Scores are computed over arrays. A term with more documents than the rule looks at (1,000) weighs next
to nothing, so where the other terms already yield enough results that such terms cannot overtake (the idea of MaxScore:
Turtle and Flood 1995), their lists are not read at all; how often they occur in the candidates that are left is told by
their newest 1,000 or read from the candidates' stored terms. The results' counts are checked against their stored terms,
their records against seal and scope.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw

from memory.backends.sqlite.compiling import NEVER, Fields, Sql
from memory.backends.sqlite.docs import BUCKET_SHIFT, occurrences
from memory.backends.sqlite.postings import DISAGREES, Memo, Postings, among
from memory.backends.sqlite.reading import filter_columns, held_to_seal
from memory.backends.sqlite.records import BARE_SQL, FULL_SQL, to_row_within
from memory.backends.sqlite.statements import fetch, numbers
from memory.errors import CorruptData
from memory.keys import key_range
from memory.ops import Candidate, Match, Matched
from memory.search.text import CANDIDATES_PER_TERM, Scorer, upper_bound

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.int64]]

SLACK = 1e-9
"""A bound is a sum in another order than the score it bounds."""
SCORED = 4_096
"""Documents scored in one step: with 64 terms that is 2 MB of numbers."""
FEW_TEXTS = 500
"""In so many candidates a term is looked for in their texts (2 µs each); for more its list is read."""


class Best(NamedTuple):
    """Documents by their text: df of each term, and of n documents, ascending, numbers (n), counts (terms, n), scores (n)."""

    df: tuple[int, ...]
    scorer: Scorer
    docs: Array
    counts: Array
    scores: Any


def match(db: apsw.Connection, op: Match, predicate: Sql | None, memo: Memo, fields: Fields) -> Matched:
    """Candidates and df, in one snapshot; ``predicate`` is the whole filter. Raises CorruptData."""
    if predicate is NEVER:
        return Matched((0,) * len(op.terms), [])
    db.execute("BEGIN")
    try:
        return Texts(db, op, predicate, memo, fields).run()
    finally:
        if db.in_transaction:
            db.execute("COMMIT")


class Texts:
    """One search by text, within one read transaction."""

    def __init__(self, db: apsw.Connection, op: Match, predicate: Sql | None, memo: Memo, fields: Fields) -> None:
        import numpy as np

        self.np = np
        self.db = db
        self.op = op
        self.behind = filter_columns(op.where, fields)
        self.lists = Postings(db, op, predicate, memo)

    def run(self) -> Matched:
        """The best ``limit`` with their records."""
        best = self.best()
        return Matched(best.df, self.candidates(best.docs, best.counts))

    def best(self) -> Best:
        """The best ``limit``."""
        np, op, lists = self.np, self.op, self.lists
        found = [lists.all_if_few(term) for term in op.terms]
        df = tuple(CANDIDATES_PER_TERM if docs is None else len(docs) for docs in found)
        scorer = Scorer(op.terms, df)
        capped = [i for i, docs in enumerate(found) if docs is None]
        room = sum(upper_bound(scorer.weights[i]) for i in capped) + SLACK
        docs, counts = self._counted(found, scorer, room)
        if capped:
            scores = self.scores(scorer, counts, docs)
            if len(docs) >= op.limit and (least := kth(np, scores, op.limit)) > room:
                keep = np.flatnonzero(scores + room >= least)
            else:
                found = [lists.newest(op.terms[i]) if docs is None else docs for i, docs in enumerate(found)]
                docs, counts = self._counted(found, scorer, room)
                scores = self.scores(scorer, counts, docs)
                bound = scores + sum(
                    np.where(counts[i] == 0, upper_bound(scorer.weights[i]) + SLACK, 0.0) for i in capped
                )
                keep = np.flatnonzero(bound >= kth(np, scores, op.limit))
            docs, counts = docs[keep], counts[:, keep]
            self._complete(capped, found, docs, counts)
        scores = self.scores(scorer, counts, docs)
        keep = np.flatnonzero(scores >= kth(np, scores, op.limit))
        if len(keep) > op.limit:
            keep = self._first_by_key(docs, scores, keep)
        return Best(df, scorer, docs[keep], counts[:, keep], scores[keep])

    def _first_by_key(self, docs: Array, scores: Any, keep: Array) -> Any:
        """The best ``limit`` places, of those that tie with the last the first by key."""
        found = fetch(
            self.db,
            "SELECT c.value, items.key FROM carray(?) c CROSS JOIN items INDEXED BY items_doc ON items.doc = c.value",
            (numbers(docs[keep]),),
        )
        keys = dict(found)
        ranked = sorted(
            (-score, keys.get(doc, b""), place)
            for score, doc, place in zip(scores[keep].tolist(), docs[keep].tolist(), keep.tolist(), strict=True)
        )
        return self.np.sort(self.np.array([place for _, _, place in ranked[: self.op.limit]]))

    def _counted(self, found: list[Any], scorer: Scorer, room: float) -> tuple[Array, Array]:
        """The union of lists, and how often each document holds each term with a list: exactly, where the document can
        be among the best (``room``: what other terms may add to a score), else at least."""
        np = self.np
        listed = [docs for docs in found if docs is not None]
        docs = self._union(listed)
        counts = np.zeros((len(found), len(docs)), dtype=np.int64)
        if not len(docs):
            return docs, counts
        held = [i for i, listing in enumerate(found) if listing is not None and len(listing)]
        for i in held:
            counts[i, np.searchsorted(docs, found[i])] = 1
        terms = self.op.terms
        again = self._repeated(found, held, docs)
        if len(again):
            places = np.searchsorted(docs, again[among(again, docs)])
            again = docs[places[self._reaching(scorer, counts, docs, places, room)]]
        if len(again) <= FEW_TEXTS:
            texts = self.lists.texts(again)
            for place, doc in zip(np.searchsorted(docs, again).tolist(), again.tolist(), strict=True):
                words = texts.get(doc, "")
                for i in held:
                    if counts[i, place]:
                        counts[i, place] = max(1, occurrences(terms[i], words))
        else:
            for i in held:
                self.lists.repeats(terms[i], found[i], docs, counts[i])
        return docs, counts

    def _repeated(self, found: list[Any], held: list[int], docs: Array) -> Array:
        """Documents that hold any of these terms more than once. Terms whose lists reach about as far back are one question: one over
        all that lies before a common term's list would be answered with most of the store."""
        last = int(docs[-1])
        reaching: dict[int, list[int]] = {}
        for i in held:
            part = (last - int(docs[0])) // max(1, last - int(found[i][0]))
            reaching.setdefault(part.bit_length() // 2, []).append(i)
        return self._union(
            [
                self.lists.repeated([self.op.terms[i] for i in together], min(int(found[i][0]) for i in together), last)
                for together in reaching.values()
            ]
        )

    def _reaching(self, scorer: Scorer, counts: Array, docs: Array, places: Array, room: float) -> Any:
        """Which of some documents would be among the best if they held their terms as often as can be."""
        if len(docs) <= self.op.limit:
            return slice(None)
        weights = self.np.array([upper_bound(weight) for weight in scorer.weights])
        most = weights @ (counts[:, places] > 0)
        return most + room >= kth(self.np, self.scores(scorer, counts, docs), self.op.limit)

    def _union(self, listed: list[Any]) -> Array:
        np = self.np
        listed = [docs for docs in listed if len(docs)]
        if len(listed) <= 1:
            only: Array = listed[0] if listed else np.empty(0, dtype=np.int64)
            return only
        merged = np.sort(np.concatenate(listed))  # np.unique hashes first, at twice the cost
        docs: Array = merged[np.concatenate(([True], merged[1:] != merged[:-1]))]
        return docs

    def scores(self, scorer: Scorer, counts: Array, docs: Array) -> Any:
        """Scorer.score over arrays: the same operations in the same order, so the same bits."""
        norm = 1.2 * (0.25 + 0.75 * self.lists.lengths(docs) / 32)
        weights = self.np.array(scorer.weights)[:, None]
        total = self.np.zeros(len(docs))
        for start in range(0, len(docs), SCORED):
            part = slice(start, start + SCORED)
            tf = counts[:, part]
            each = weights * tf * 2.2 / (tf + norm[part])
            for i in scorer.rarest_first:
                total[part] += each[i]
        return total

    def _complete(self, capped: list[int], found: list[Any], docs: Array, counts: Array) -> None:
        """How often the common terms occur in candidates, where their lists do not tell."""
        np, terms = self.np, self.op.terms
        unknown = counts[capped] == 0
        for row, i in enumerate(capped):
            if found[i] is not None:
                unknown[row] &= ~_told(found[i], docs)
        places = np.flatnonzero(unknown.any(axis=0))
        # The oldest are far between, and of a list all would be read that lies between them.
        few, others = places[:FEW_TEXTS], places[FEW_TEXTS:]
        texts = self.lists.texts(docs[few])
        for place, doc in zip(few.tolist(), docs[few].tolist(), strict=True):
            words = texts.get(doc, "")
            for i in capped:
                counts[i, place] = occurrences(terms[i], words)
        for row, i in enumerate(capped):
            asked = docs[others[unknown[row, others]]]
            if len(asked):
                held = self.lists.within(terms[i], asked)
                counts[i, np.searchsorted(docs, held)] = 1
                if len(held):
                    mine = np.zeros(len(held), dtype=np.int64)
                    mine[:] = 1
                    self.lists.repeats(terms[i], held, held, mine)
                    counts[i, np.searchsorted(docs, held)] = mine

    def candidates(self, docs: Array, counts: Array) -> list[Candidate]:
        """The records of documents that hold each term so often, held to scope, seal and stored terms. Raises CorruptData."""
        if not len(docs):
            return []
        found = fetch(
            self.db,
            f"SELECT {FULL_SQL if self.op.vectors else BARE_SQL}, items.doc, (SELECT terms FROM texts WHERE ord = items.doc >> 10){self.behind} FROM carray(?) c "  # noqa: S608 - our own column names
            "CROSS JOIN items INDEXED BY items_doc ON items.doc = c.value",
            (numbers(docs),),
        )
        if not held_to_seal(found, at=20):
            raise CorruptData(DISAGREES)
        rows = {row[18]: row for row in found}
        lengths = self.lists.lengths(docs).tolist()
        span = key_range(self.op.scope)
        candidates = []
        for i, doc in enumerate(docs.tolist()):
            row = rows.get(doc)
            words = f" {row[19]} " if row is not None else ""
            held = tuple(counts[:, i].tolist())
            if (
                row is None
                or (span is not None and not span[0] <= row[1] < span[1])
                or held != tuple([occurrences(term, words) for term in self.op.terms])
            ):
                raise CorruptData(DISAGREES)
            candidates.append(Candidate(to_row_within(row, self.op.scope), held, lengths[i]))
        return candidates


def _told(newest: Array, docs: Array) -> Any:
    """Of which documents a common term's newest 1,000 tell whether they hold it: of those that are younger than the oldest of these
    with an order, by a bucket at least."""
    ordered = newest[newest >= 0]
    return docs >> BUCKET_SHIFT > (int(ordered[0]) >> BUCKET_SHIFT if len(ordered) else math.inf)


def kth(np: Any, scores: Any, k: int) -> Any:
    """The k-th highest score, or the lowest of fewer; ties with it are kept, for keys to decide."""
    if len(scores) <= k:
        return scores.min() if len(scores) else 0.0
    return np.partition(scores, len(scores) - k)[len(scores) - k]
