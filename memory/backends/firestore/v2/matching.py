"""Text candidates by the rule of memory.search.text: for each term its 1,000 newest live matches in scope.

One query for any of the terms reads them all, newest first, each once. Only where that gives 1,000 and more do terms that
have fewer go on, each alone, from where it stopped. So as many documents are read as match.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from memory.backends.firestore import values
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.pacing import singly
from memory.backends.firestore.queries import Condition, Query
from memory.backends.firestore.records import item_of
from memory.backends.firestore.v2 import paths
from memory.backends.firestore.v2.documents import Found, term_value
from memory.backends.firestore.v2.filtering import narrow
from memory.backends.firestore.v2.scanning import live, row, value_at
from memory.filters import predicate
from memory.model import key_order
from memory.ops import Candidate, Match, Matched
from memory.search.text import CANDIDATES_PER_TERM, Scorer

if TYPE_CHECKING:
    from memory.backends.firestore.v2.backend import FirestoreV2Store

TOGETHER = 30
"""Terms that one query may ask for any of."""
NEWEST = ((paths.CREATED, True), (paths.KEY, False))


class Matching:
    """One search by text."""

    def __init__(self, store: FirestoreV2Store, op: Match, meter: Meter) -> None:
        self.store, self.op, self.meter = store, op, meter
        self.narrowed = narrow(op.scope, op.where, by_key=False, arrays=False)
        self.accept = None if self.narrowed.exact else predicate(op.where)
        self.terms = [term_value(term) for term in op.terms]
        self.df = [0] * len(self.terms)
        self.found: dict[str, tuple[Found, tuple[int, ...], int]] = {}
        """Name of a document -> it, occurrences of each term, length."""

    async def run(self) -> Matched:
        """Each term's df, and the best candidates."""
        if not self.narrowed.empty:
            for start in range(0, len(self.terms), TOGETHER):
                await self._any_of(range(start, min(start + TOGETHER, len(self.terms))))
        scorer = Scorer(self.op.terms, self.df)
        scored: list[tuple[float, tuple[bytes, bytes], str]] = []
        async for part in self.store._slices(list(self.found.items())):
            for name, (found, counts, length) in part:
                scored.append((-scorer.score(counts, length), key_order(found.key), name))
        scored.sort()
        candidates: list[Candidate] = []
        async for _, _, name in singly(scored[: self.op.limit]):
            found, counts, length = self.found[name]
            candidates.append(Candidate(row(self.store, found, vectors=self.op.vectors), counts, length))
        return Matched(tuple(self.df), candidates)

    async def _any_of(self, places: range) -> None:
        terms = [self.terms[place] for place in places]
        last, total = await self._walk(_holding(terms), list(places), ())
        if total < CANDIDATES_PER_TERM or last is None:
            return
        after = tuple(value_at(last, path) for path, _ in NEWEST)
        for place in places:
            if self.df[place] < CANDIDATES_PER_TERM:
                await self._walk(_holding([self.terms[place]]), [place], after)

    async def _walk(self, holding: Condition, places: list[int], after: tuple[Any, ...]) -> tuple[Found | None, int]:
        """Take matches, newest first, until the 1,000 of every term or the end; the last taken, and how many."""
        last, total = None, 0
        async for found in self._matches(holding, after):
            last = found
            if await self._take(found, places):
                total += 1
            if total >= CANDIDATES_PER_TERM or all(self.df[place] >= CANDIDATES_PER_TERM for place in places):
                break
        return last, total

    async def _matches(self, holding: Condition, after: tuple[Any, ...]) -> AsyncIterator[Found]:
        query = Query(
            collection=self.store.names.items,
            conditions=(*self.narrowed.conditions, holding),
            orders=NEWEST,
            after=after,
        )
        # More may be read than are taken only where a filter cannot be said, or common words fill a page.
        async for documents in live(self.store, query, self.op.now, 1 << 62, self.meter):
            async for one in singly(documents):
                yield one

    async def _take(self, found: Found, places: list[int]) -> bool:
        """Count a document for the terms it holds that still want some; whether it is a match at all."""
        held = found.terms()
        if held is None:  # a V2 program changed it: its index may be that of another text
            counts, length = await self.store._counts(item_of(found).searchable)
            held = {term_value(term): n for term, n in counts.items()}, length
        occurrences, length = held
        counts_of = tuple(occurrences.get(term, 0) for term in self.terms)
        if not any(counts_of[place] for place in places):
            return False
        if self.accept is not None and not self.accept(item_of(found)):
            return False
        for place in places:
            if counts_of[place] and self.df[place] < CANDIDATES_PER_TERM:
                self.df[place] += 1
                self.found[found.id] = (found, counts_of, length)
        return True


def _holding(terms: list[str]) -> Condition:
    if len(terms) == 1:
        return Condition(paths.TERMS, "contains", values.text(terms[0]))
    return Condition(paths.TERMS, "contains_any", values.texts(terms))
