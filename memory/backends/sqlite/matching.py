"""Text candidates: the exact best by the score of `memory.search.text`, out of the FTS5 index and nothing else.

Each term's newest documents come from the index as doc numbers, which hold the text's length; repetitions are tokens
of their own (see `docs`). Scores are computed over arrays. A term with more documents than the rule looks at is not
read beyond its newest 1,000; whether it also occurs in a candidate of another term is asked only of those candidates
that it could still lift among the best (the idea of MaxScore: Turtle and Flood 1995), few because such a term weighs
next to nothing. Records are read last, for the best alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import apsw

from memory.backends.sqlite.applying import numbers
from memory.backends.sqlite.compiling import NEVER, Sql, compile_filter
from memory.backends.sqlite.docs import (
    BUCKET_SHIFT,
    LONG,
    PLAIN_TF,
    TF_BITS,
    bit_token,
    owner_tokens,
    repeat_token,
    scope_token,
)
from memory.backends.sqlite.reading import LIVE
from memory.backends.sqlite.records import BARE_SQL, key_range, to_row
from memory.errors import CorruptData
from memory.model import path_bytes
from memory.ops import Candidate, Match, Matched, Scope
from memory.search.text import CANDIDATES_PER_TERM, Scorer, upper_bound

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.int64]]

MANY_EXPIRED = 2_000
SINGLE_LOOKUPS = 48
"""Up to so many candidates are asked for a common term one by one (10 µs each); else its list is read once."""
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


def match(db: apsw.Connection, op: Match, fields: Mapping[tuple[str, ...], int]) -> Matched | None:
    """Candidates and df, in one snapshot; None when SQL cannot say the whole filter. Raises CorruptData."""
    translated = compile_filter(op.where, fields)
    if translated.predicate is NEVER:
        return Matched((0,) * len(op.terms), [])
    if not translated.exact:
        return None
    db.execute("BEGIN")
    try:
        return _Search(db, op, translated.predicate).run()
    finally:
        if db.in_transaction:
            db.execute("COMMIT")


class _Search:
    """One match, within one read transaction."""

    def __init__(self, db: apsw.Connection, op: Match, predicate: Sql | None) -> None:
        import numpy

        self.np = numpy
        self.db = db
        self.op = op
        self.scope = " AND ".join(f'"{token}"' for token in _scope_tokens(op.scope))
        self.predicate = predicate
        self.pending = self._waiting()
        self.excluded = self._expired()
        self.has_unordered = (db.execute("SELECT min(doc) FROM items").get or 0) < 0

    def run(self) -> Matched:
        np, op = self.np, self.op
        newest = [self._newest(term) for term in op.terms]
        df = tuple(min(len(docs), CANDIDATES_PER_TERM) for docs, _ in newest)
        scorer = Scorer(op.terms, df)
        docs = np.unique(np.concatenate([docs for docs, _ in newest]))
        if not len(docs):
            return Matched(df, [])
        counts = np.zeros((len(op.terms), len(docs)), dtype=np.int64)
        for i, term in enumerate(op.terms):
            found = newest[i][0]
            if len(found):
                counts[i, np.searchsorted(docs, found)] = 1
                self._repeats(term, found, docs, counts[i])
        lengths = self._lengths(docs)
        capped = [i for i in scorer.rarest_first if newest[i][1]]
        keep = self._best(scorer, counts, lengths, capped, docs, newest)
        return Matched(df, self._candidates(docs[keep], counts[:, keep], lengths[keep]))

    # --- lists of documents --------------------------------------------------------------------

    def _asked(self, token: str) -> str:
        return f'"{token}" AND {self.scope}' if self.scope else f'"{token}"'

    def _list(self, token: str, low: int = _LOWEST, high: int = _HIGHEST, limit: int = -1) -> Array:
        """Documents in scope with a token within [low, high], the newest ``limit`` of them, ascending."""
        found = self.db.execute(
            "SELECT group_concat(rowid) FROM (SELECT rowid FROM words WHERE words MATCH ? AND rowid BETWEEN ? AND ? "
            "ORDER BY rowid DESC LIMIT ?)",
            (self._asked(token), low, high, limit),
        ).get
        listed = [] if found is None else [self._parsed(found)]
        waiting = [doc for doc, words in self.pending.items() if token in words and low <= doc <= high]
        if waiting:
            listed.append(self.np.array(waiting, dtype=self.np.int64))
        if not listed:
            return self.np.empty(0, dtype=self.np.int64)
        docs = self.np.sort(listed[0] if len(listed) == 1 else self.np.concatenate(listed))
        if self.excluded is not None and len(self.excluded):
            docs = docs[~self.np.isin(docs, self.excluded, assume_unique=True)]
        return docs if limit < 0 else docs[-limit:]

    def _parsed(self, text: str) -> Array:
        return self.np.fromstring(text, dtype=self.np.int64, sep=",")

    def _newest(self, term: str) -> tuple[Array, bool]:
        """A term's newest 1,000 matches by (created descending, key), ascending by number; whether there are more."""
        if self.predicate is not None or self.excluded is None:
            return self._newest_filtered(term)
        room = CANDIDATES_PER_TERM + 1 + len(self.excluded)
        return self._cut(self._list(term, limit=room), term)

    def _cut(self, docs: Array, term: str | None) -> tuple[Array, bool]:
        """The newest 1,000 of a term's documents, of which the newest and one more are given."""
        if len(docs) <= CANDIDATES_PER_TERM:
            return docs, False
        np = self.np
        last = docs[-CANDIDATES_PER_TERM]
        bucket = last >> BUCKET_SHIFT
        unordered = docs[docs < 0] if term is None or not self.has_unordered else self._list(term, high=-1)
        if not len(unordered) and docs[-CANDIDATES_PER_TERM - 1] >> BUCKET_SHIFT != bucket:
            return docs[-CANDIDATES_PER_TERM:], True
        # The cut goes through one bucket, whose order only the records know.
        low, high = int(bucket) << BUCKET_SHIFT, ((int(bucket) + 1) << BUCKET_SHIFT) - 1
        inside = docs[(docs >= low) & (docs <= high)] if term is None else self._list(term, low, high)
        above = docs[docs > high]
        undecided = np.unique(np.concatenate([unordered, inside]))
        if len(unordered):
            undecided, above = np.unique(np.concatenate([undecided, above])), above[:0]
        ranked = self.db.execute(
            "SELECT items.doc FROM carray(?) c CROSS JOIN items INDEXED BY items_doc ON items.doc = c.value "
            "ORDER BY items.created DESC, items.key LIMIT ?",
            (numbers(undecided.tolist()), CANDIDATES_PER_TERM - len(above)),
        ).fetchall()
        chosen = np.array([doc for (doc,) in ranked], dtype=np.int64)
        return np.sort(np.concatenate([chosen, above])), True

    def _newest_filtered(self, term: str) -> tuple[Array, bool]:
        """The same under a filter: newest first, a step at a time, until there are enough that satisfy it."""
        np = self.np
        kept: list[Array] = []
        total, high, step = 0, _HIGHEST, 2 * CANDIDATES_PER_TERM
        while True:
            docs = self._list(term, high=high, limit=step)
            if len(docs):
                passed = self._satisfying(docs)
                kept.append(passed)
                total += len(passed)
            if len(docs) < step:
                break
            high = int(docs[0]) - 1
            if total > CANDIDATES_PER_TERM:
                # Go on to the end of the bucket that the cut goes through, and take what has no order.
                bucket = int(docs[0]) >> BUCKET_SHIFT
                rest = self._list(term, low=bucket << BUCKET_SHIFT, high=high)
                unordered = self._list(term, high=min(-1, high))
                kept += [self._satisfying(part) for part in (rest, unordered) if len(part)]
                break
            step *= 2
        if not kept:
            return np.empty(0, dtype=np.int64), False
        return self._cut(np.unique(np.concatenate(kept)), None)

    def _satisfying(self, docs: Array) -> Array:
        condition, params = LIVE, (self.op.now,)
        if self.predicate is not None:
            condition, params = f"{LIVE} AND {self.predicate.text}", (self.op.now, *self.predicate.params)
        found = self.db.execute(
            "SELECT group_concat(items.doc) FROM carray(?) c "  # noqa: S608 - templates
            f"CROSS JOIN items INDEXED BY items_doc ON items.doc = c.value WHERE {condition}",
            (numbers(docs.tolist()), *params),
        ).get
        return self.np.empty(0, dtype=self.np.int64) if found is None else self.np.sort(self._parsed(found))

    def _waiting(self) -> dict[int, frozenset[str]]:
        """Texts that are not in the index yet: doc -> its tokens. Few."""
        tokens = _scope_tokens(self.op.scope)
        waiting = {}
        for doc, text in self.db.execute("SELECT doc, terms FROM pending").fetchall():
            words = frozenset(text.split(" "))
            if words.issuperset(tokens):
                waiting[doc] = words
        return waiting

    def _expired(self) -> Array | None:
        """Documents of expired records that nobody has swept yet; None when they are many."""
        found = self.db.execute(
            "SELECT doc FROM items INDEXED BY items_expires WHERE expires <= ? LIMIT ?", (self.op.now, MANY_EXPIRED)
        ).fetchall()
        if len(found) == MANY_EXPIRED:
            return None
        return self.np.array([doc for (doc,) in found], dtype=self.np.int64)

    # --- counts and scores ---------------------------------------------------------------------

    def _repeats(self, term: str, found: Array, docs: Array, counts: Array) -> None:
        """Raise the counts of documents that hold a term more than once."""
        low, high = int(found[0]), int(found[-1])
        for n in range(2, PLAIN_TF + 1):
            again = self._list(repeat_token(term, n), low, high)
            if not len(again):
                return
            self._add(docs, counts, again, 1)
        for bit in range(TF_BITS):
            again = self._list(bit_token(term, bit), low, high)
            if len(again):
                self._add(docs, counts, again, 1 << bit)

    def _add(self, docs: Array, counts: Array, again: Array, amount: int) -> None:
        place = self.np.searchsorted(docs, again)
        place[place == len(docs)] = 0
        place = place[docs[place] == again]
        counts[place[counts[place] > 0]] += amount

    def _lengths(self, docs: Array) -> Array:
        lengths = docs & LONG
        if (lengths == LONG).any():
            long = docs[lengths == LONG]
            known = dict(
                self.db.execute(
                    "SELECT items.doc, items.length FROM carray(?) c CROSS JOIN items INDEXED BY items_doc "
                    "ON items.doc = c.value",
                    (numbers(long.tolist()),),
                ).fetchall()
            )
            lengths[lengths == LONG] = [known.get(doc, LONG) for doc in long.tolist()]
        return lengths

    def _scores(self, scorer: Scorer, counts: Array, lengths: Array) -> Any:
        """Scorer.score over arrays: the same operations in the same order, so the same bits."""
        np = self.np
        norm = 1.2 * (0.25 + 0.75 * lengths / 32)
        total = np.zeros(len(lengths))
        for i in scorer.rarest_first:
            tf = counts[i]
            total += np.where(tf > 0, scorer.weights[i] * tf * 2.2 / (tf + norm), 0.0)
        return total

    def _best(
        self,
        scorer: Scorer,
        counts: Array,
        lengths: Array,
        capped: list[int],
        docs: Array,
        newest: list[tuple[Array, bool]],
    ) -> Array:
        """Places of the candidates that can be among the best, with their counts completed."""
        np, limit = self.np, self.op.limit
        scores = self._scores(scorer, counts, lengths)
        everything = np.arange(len(docs))
        if not capped:
            return everything if len(docs) <= limit else np.flatnonzero(scores >= _kth(np, scores, limit))
        bound = scores.copy()
        for i in capped:
            bound += np.where(counts[i] == 0, upper_bound(scorer.weights[i]), 0.0)
        keep = everything
        if len(docs) > limit:
            # 1e-9: a bound is a sum in another order.
            keep = np.flatnonzero(bound + 1e-9 >= _kth(np, scores, limit))
        for i in capped:
            self._complete(self.op.terms[i], keep, docs, counts[i])
        if len(keep) > limit:
            scores = self._scores(scorer, counts[:, keep], lengths[keep])
            keep = keep[scores >= _kth(np, scores, limit)]
        return keep

    def _complete(self, term: str, keep: Array, docs: Array, counts: Array) -> None:
        """How often a common term occurs in candidates that are not among its newest."""
        np = self.np
        open_places = keep[counts[keep] == 0]
        if not len(open_places):
            return
        asked = docs[open_places]
        if len(asked) <= SINGLE_LOOKUPS:
            spans = [(int(doc), int(doc)) for doc in asked]
        else:
            spans = [(int(asked[0]), int(asked[-1]))]
        open_counts = np.zeros(len(asked), dtype=np.int64)
        for low, high in spans:
            found = self._list(term, low, high)
            place = np.searchsorted(asked, found)
            place[place == len(asked)] = 0
            place = place[asked[place] == found]
            if len(place):
                open_counts[place] = 1
                self._repeats(term, asked[place], asked, open_counts)
        counts[open_places] = open_counts

    def _candidates(self, docs: Array, counts: Array, lengths: Array) -> list[Candidate]:
        rows = {
            row[18]: row
            for row in self.db.execute(
                f"SELECT {BARE_SQL}, items.doc FROM carray(?) c CROSS JOIN items INDEXED BY items_doc "  # noqa: S608 - templates
                "ON items.doc = c.value",
                (numbers(docs.tolist()),),
            ).fetchall()
        }
        candidates = []
        span = key_range(self.op.scope)
        for i, doc in enumerate(docs.tolist()):
            found = rows.get(doc)
            if found is None or (span is not None and not span[0] <= found[1] < span[1]):
                raise CorruptData("the text index disagrees with its records. Run 'memory repair'")
            if not self.op.scope.covers_owner(found[9], found[10], found[11]):
                raise CorruptData("the text index disagrees with its records. Run 'memory repair'")
            candidates.append(Candidate(to_row(found[:18]), tuple(counts[:, i].tolist()), int(lengths[i])))
        return candidates


def _kth(np: Any, scores: Any, k: int) -> Any:
    """The k-th highest score; ties with it are kept, for keys to decide."""
    return np.partition(scores, len(scores) - k)[len(scores) - k]


def _scope_tokens(scope: Scope) -> list[str]:
    tokens = []
    if scope.path:
        tokens.append(scope_token("n" if scope.below else "e", path_bytes(scope.path)))
    return tokens + owner_tokens(scope.user_id, scope.agent_id, scope.session_id)
