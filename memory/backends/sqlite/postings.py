"""A term's documents within one search: in scope, live, and satisfying the filter."""

from __future__ import annotations

from collections.abc import Container
from typing import TYPE_CHECKING, Any, NamedTuple

import apsw

from memory.backends.sqlite.compiling import Sql
from memory.backends.sqlite.docs import (
    BUCKET_SHIFT,
    LONG,
    PLAIN_TF,
    TF_BITS,
    bit_token,
    owner_tokens,
    repeat_token,
    scope_token,
    tokens_of,
)
from memory.backends.sqlite.reading import LIVE, all_of
from memory.backends.sqlite.statements import fetch, first, numbers, scalar
from memory.errors import CorruptData
from memory.model import path_bytes
from memory.ops import Match, Scope
from memory.search.text import CANDIDATES_PER_TERM

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.int64]]

DISAGREES = "the text index disagrees with its records. Run 'memory repair'"
MANY_EXPIRED = 2_000
MOST_COUNTS = 10_000
MOST_LISTS = 512
MOST_FILTERS = 16
MOST_JUDGED = 20_000
"""A filter is remembered with up to so many documents that were held to it."""
COUNTED = 3_000
"""A term is counted up to so many above what makes it common: for so many writes it need not be counted again."""
FEW = 256
"""A list that is likely to be whole when it is asked for no more than this."""
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1


class Judged(NamedTuple):
    """Documents that were held to a condition, and those of them that satisfy it, ascending."""

    all: Array
    passed: Array


class Memo:
    """What earlier searches learnt of the index: lists and what passed a filter, for as long as nothing is written, and
    which terms are common.

    The loop and the reader's thread search at the same time, in snapshots of different versions. So what is of one version is
    replaced whole, together with its number, and never emptied: who has taken it keeps what belongs to it.

    A term that ``n`` documents held at one version of the store is held by at least ``n - w`` of them after ``w``
    further writes, since a write takes at most one away: as long as that is enough, it is common, for certain.
    """

    def __init__(self) -> None:
        self._counts: dict[str, tuple[int, int]] = {}
        self._lists: tuple[int, dict[tuple[str, int, int, int], Array]] = (-1, {})
        self._waiting: tuple[int, dict[int, Container[str]]] = (-1, {})
        self._judged: tuple[int, dict[Sql, Judged]] = (-1, {})

    def is_common(self, asked: str, version: int, room: int) -> bool:
        """Whether more than ``room`` documents hold what is asked for, as far as is known."""
        known = self._counts.get(asked)
        return known is not None and known[0] <= version and known[1] - (version - known[0]) > room

    def last_count(self, asked: str) -> int | None:
        """What was counted last, for a list that was not short."""
        known = self._counts.get(asked)
        return None if known is None else known[1]

    def count(self, asked: str, version: int, count: int) -> None:
        """So many documents hold what is asked for, at this version."""
        if len(self._counts) >= MOST_COUNTS:
            self._counts.clear()
        self._counts[asked] = (version, count)

    def waiting(self, version: int) -> dict[int, Container[str]] | None:
        """The texts that wait for the index, at this version."""
        known, waiting = self._waiting
        return waiting if known == version else None

    def wait(self, version: int, waiting: dict[int, Container[str]]) -> None:
        """Keep the texts that wait for the index."""
        self._waiting = version, waiting

    def judged(self, version: int, condition: Sql) -> Judged | None:
        """What was held to a condition, at this version."""
        known, judged = self._judged
        return judged.get(condition) if known == version else None

    def judge(self, version: int, condition: Sql, judged: Judged) -> None:
        """Keep what was held to a condition."""
        known, filters = self._judged
        if known != version or len(filters) >= MOST_FILTERS:
            filters = {}
            self._judged = version, filters
        if len(judged.all) <= MOST_JUDGED:
            filters[condition] = judged

    def get(self, version: int, question: tuple[str, int, int, int]) -> Array | None:
        """A list of this version."""
        known, lists = self._lists
        return lists.get(question) if known == version else None

    def put(self, version: int, question: tuple[str, int, int, int], docs: Array) -> None:
        """Keep a list; those of another version are of no use any more."""
        known, lists = self._lists
        if known != version or len(lists) >= MOST_LISTS:
            lists = {}
            self._lists = version, lists
        if len(docs) <= 2 * CANDIDATES_PER_TERM:
            lists[question] = docs


class Postings:
    """Lists of doc numbers, ascending. Within one read transaction. Raises CorruptData."""

    def __init__(self, db: apsw.Connection, op: Match, predicate: Sql | None, memo: Memo) -> None:
        import numpy as np

        self.memo = memo
        self.version, waiting = first(db, "SELECT version, (SELECT count(*) FROM pending) FROM counter") or (0, 0)
        # Texts that waited go to the index without a new version, so the version alone does not tell what the lists hold.
        self.state: int = self.version << 32 | waiting

        self.np = np
        self.db = db
        self.op = op
        self.tokens = scope_tokens(op.scope)
        self.scope = "".join(f' AND "{token}"' for token in self.tokens)
        self.pending = self._waiting()
        self.expired = self._expired()
        self.gone = 0 if self.expired is None else len(self.expired)
        self.filtered = predicate is not None or self.expired is None
        # Where the expired are known no list holds them, and the answer is the same at any time.
        live = Sql(LIVE, (op.now,)) if self.expired is None else None
        self.condition = all_of([live, predicate]) if self.filtered else Sql("")
        self.nothing = np.empty(0, dtype=np.int64)
        self._unordered: Array | None = None
        self._newest: dict[str, Array] = {}
        self._judged = memo.judged(self.state, self.condition) or Judged(self.nothing, self.nothing)

    # --- from the index ------------------------------------------------------------------------

    def _indexed(self, asked: str, low: int, high: int, limit: int) -> Array:
        question = (asked, low, high, limit)
        docs = self.memo.get(self.state, question)
        if docs is None:
            found = scalar(
                self.db,
                "SELECT group_concat(rowid) FROM (SELECT rowid FROM words WHERE words MATCH ? "
                "AND rowid BETWEEN ? AND ? ORDER BY rowid DESC LIMIT ?)",
                question,
            )
            docs = self.nothing if found is None else self._parsed(found)[::-1]
            self.memo.put(self.state, question, docs)
        return docs

    def _parsed(self, text: Any) -> Array:
        parsed: Array = self.np.fromstring(text, dtype=self.np.int64, sep=",")
        return parsed

    def holding(self, token: str, low: int = _LOWEST, high: int = _HIGHEST, limit: int = -1) -> Array:
        """Documents in scope with a token within [low, high], the newest ``limit`` of them; without the expired
        where these are known."""
        docs = self._indexed(f'"{token}"{self.scope}', low, high, limit)
        if len(docs) == limit:
            low = int(docs.min())  # what waits below belongs after what the index still has
        waiting = [doc for doc, words in self.pending.items() if token in words and low <= doc <= high]
        if waiting:
            docs = self.np.sort(self.np.concatenate([docs, self.np.array(waiting, dtype=self.np.int64)]))
        if self.expired is not None and len(self.expired):
            docs = docs[~among(docs, self.expired)]
        return docs if limit < 0 else docs[-limit:]

    def _waiting(self) -> dict[int, Container[str]]:
        """Texts that are not in the index yet: doc -> its tokens. Few."""
        waiting = self.memo.waiting(self.state)
        if waiting is None:
            found = fetch(self.db, "SELECT doc, terms FROM pending CROSS JOIN texts ON ord = doc >> 10")
            if any(type(text) is not str for _, text in found):
                raise CorruptData(DISAGREES)
            waiting = {int(doc): tokens_of(text) for doc, text in found}
            self.memo.wait(self.state, waiting)
        if not self.tokens:
            return waiting
        return {doc: words for doc, words in waiting.items() if all(token in words for token in self.tokens)}

    def _expired(self) -> Array | None:
        """Documents of expired records that nobody has swept yet; None when they are many."""
        found = fetch(
            self.db,
            "SELECT doc FROM items INDEXED BY items_expires WHERE expires <= ? LIMIT ?",
            (self.op.now, MANY_EXPIRED),
        )
        if len(found) == MANY_EXPIRED:
            return None
        return self.np.sort(self.np.array([doc for (doc,) in found], dtype=self.np.int64))

    # --- a term's list -------------------------------------------------------------------------

    def all_if_few(self, term: str) -> Array | None:
        """All matches of a term; None when they are more than 1,000."""
        if self.filtered:
            docs, more = self._walk(term)
            if more:
                self._newest[term] = docs
            return None if more else docs
        asked = f'"{term}"{self.scope}'
        room = CANDIDATES_PER_TERM + self.gone
        if self.memo.is_common(asked, self.version, room):
            return None
        if (known := self.memo.last_count(asked)) is None:
            docs = self.holding(term, limit=FEW)
            if len(docs) < FEW - self.gone:
                return docs
        elif known <= room:
            docs = self.holding(term, limit=room + 1)
            if len(docs) <= CANDIDATES_PER_TERM:
                return docs
        # Counting a list is four times as fast as getting it.
        count = scalar(
            self.db, "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)", (asked, COUNTED + room)
        )
        self.memo.count(asked, self.version, count)
        if count > room:
            return None
        docs = self.holding(term)
        return docs if len(docs) <= CANDIDATES_PER_TERM else None

    def newest(self, term: str) -> Array:
        """Of a term with more than 1,000 matches the newest 1,000, by creation (ties by key)."""
        if term in self._newest:
            return self._newest[term]
        docs = self.holding(term, limit=CANDIDATES_PER_TERM + 1 + self.gone)
        return self._cut(docs, term)

    def _cut(self, docs: Array, term: str | None) -> Array:
        """The newest 1,000 of documents that are a term's newest (``term`` None: all that pass the filter) and more."""
        np = self.np
        bucket = int(docs[-CANDIDATES_PER_TERM]) >> BUCKET_SHIFT
        unordered = docs[docs < 0] if term is None or not self._has_unordered() else self.holding(term, high=-1)
        if not len(unordered) and (
            int(docs[-CANDIDATES_PER_TERM - 1]) >> BUCKET_SHIFT != bucket
            or scalar(self.db, "SELECT 1 FROM mixed WHERE bucket = ?", (bucket,)) is None
        ):
            return docs[-CANDIDATES_PER_TERM:]
        # The cut goes through a bucket whose order only the records know.
        low, high = bucket << BUCKET_SHIFT, ((bucket + 1) << BUCKET_SHIFT) - 1
        inside = docs[(docs >= low) & (docs <= high)] if term is None else self.holding(term, low, high)
        above = docs[docs > high]
        undecided = np.unique(np.concatenate([unordered, inside]))
        if len(unordered):
            undecided, above = np.unique(np.concatenate([undecided, above])), self.nothing
        ranked = fetch(
            self.db,
            "SELECT items.doc FROM carray(?) c CROSS JOIN items INDEXED BY items_doc ON items.doc = c.value "
            "ORDER BY items.created DESC, items.key LIMIT ?",
            (numbers(undecided), CANDIDATES_PER_TERM - len(above)),
        )
        chosen: Array = np.sort(np.concatenate([np.array([doc for (doc,) in ranked], dtype=np.int64), above]))
        return chosen

    def _has_unordered(self) -> bool:
        return int(scalar(self.db, "SELECT min(doc) FROM items") or 0) < 0

    def _walk(self, term: str) -> tuple[Array, bool]:
        """A term's newest matches under a filter, a step at a time, and whether there are more than 1,000."""
        np = self.np
        kept: list[Array] = []
        total, high, step = 0, _HIGHEST, 2 * CANDIDATES_PER_TERM
        gone = 0 if self.expired is None else len(self.expired)
        while True:
            # As many more as can be expired, so that a list shorter than the step is the last one.
            docs = self.holding(term, high=high, limit=step + gone)
            if len(docs):
                passed = self._satisfying(docs)
                kept.append(passed)
                total += len(passed)
            if len(docs) < step:
                break
            high = int(docs[0]) - 1
            if total > CANDIDATES_PER_TERM:
                # On to the end of the bucket that the cut goes through, and what has no order.
                low = int(docs[0]) >> BUCKET_SHIFT << BUCKET_SHIFT
                rest = self.holding(term, low, high), self.holding(term, high=min(-1, high, low - 1))
                kept += [self._satisfying(part) for part in rest if len(part)]
                break
            step *= 2
        found = np.unique(np.concatenate(kept)) if kept else self.nothing
        return (self._cut(found, None), True) if len(found) > CANDIDATES_PER_TERM else (found, False)

    def _satisfying(self, docs: Array) -> Array:
        """Those of some documents that pass the filter. Each is read once: the lists of common terms share most of theirs."""
        judged = self._judged
        fresh = docs[~among(docs, judged.all)]
        if len(fresh):
            found = scalar(
                self.db,
                "SELECT group_concat(items.doc) FROM carray(?) c "  # noqa: S608 - templates
                f"CROSS JOIN items INDEXED BY items_doc ON items.doc = c.value WHERE {self.condition.text}",
                (numbers(fresh), *self.condition.params),
            )
            passed = self.nothing if found is None else self._parsed(found)
            sort, joined = self.np.sort, self.np.concatenate
            self._judged = judged = Judged(sort(joined([judged.all, fresh])), sort(joined([judged.passed, passed])))
            self.memo.judge(self.state, self.condition, judged)
        passing: Array = docs[among(docs, judged.passed)]
        return passing

    def within(self, term: str, docs: Array) -> Array:
        """Those of some documents that hold a term."""
        held = self.holding(term, int(docs[0]), int(docs[-1]))
        inside: Array = held[among(held, docs)]
        return inside

    # --- counts and lengths --------------------------------------------------------------------

    def repeated(self, terms: list[str], low: int, high: int) -> Array:
        """Documents that hold any of the terms more than once: one question for all, as there are few."""
        tokens = [repeat_token(term, 2) for term in terms]
        either = " OR ".join(f'"{token}"' for token in tokens)
        docs = self._indexed(f"({either}){self.scope}", low, high, -1)
        waiting = [doc for doc, words in self.pending.items() if any(token in words for token in tokens)]
        return self.np.union1d(docs, self.np.array(waiting, dtype=self.np.int64)) if waiting else docs

    def texts(self, docs: Array) -> dict[int, str]:
        """The tokens of documents, padded for `occurrences`."""
        if not len(docs):
            return {}
        found = fetch(
            self.db,
            "SELECT c.value, terms FROM carray(?) c CROSS JOIN texts ON ord = c.value >> 10",
            (numbers(docs),),
        )
        return {doc: f" {terms} " for doc, terms in found}

    def repeats(self, term: str, found: Array, docs: Array, counts: Array) -> None:
        """Raise the counts of documents (of which ``found`` hold the term) that hold it more than once."""
        low, high = int(found[0]), int(found[-1])
        for n in range(2, PLAIN_TF + 1):
            again = self.holding(repeat_token(term, n), low, high)
            if not len(again):
                return
            self._add(docs, counts, again, 1)
        for bit in range(TF_BITS):
            again = self.holding(bit_token(term, bit), low, high)
            if len(again):
                self._add(docs, counts, again, 1 << bit)

    def _add(self, docs: Array, counts: Array, again: Array, amount: int) -> None:
        place = self.np.searchsorted(docs, again)
        place[place == len(docs)] = 0
        place = place[docs[place] == again]
        counts[place[counts[place] > 0]] += amount

    def lengths(self, docs: Array) -> Array:
        """Number of terms of each document's text."""
        lengths = docs & LONG
        if (lengths == LONG).any():
            long = docs[lengths == LONG].tolist()
            known: dict[Any, Any] = dict(
                fetch(
                    self.db,
                    "SELECT items.doc, items.length FROM carray(?) c CROSS JOIN items INDEXED BY items_doc "
                    "ON items.doc = c.value",
                    (numbers(long),),
                )
            )
            lengths[lengths == LONG] = [known.get(doc, LONG) for doc in long]
        return lengths


def among(docs: Array, known: Array) -> Any:
    """Which of some documents are among others, which are in ascending order."""
    places = known.searchsorted(docs)
    places[places == len(known)] = 0
    return known[places] == docs if len(known) else places != 0


def scope_tokens(scope: Scope) -> list[str]:
    """The tokens that every document of the scope has."""
    tokens = []
    if scope.path:
        tokens.append(scope_token("n" if scope.below else "e", path_bytes(scope.path)))
    return tokens + owner_tokens(scope.user_id, scope.agent_id, scope.session_id)
