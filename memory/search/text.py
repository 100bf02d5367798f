"""The text score, and the rule that says which items are scored. Nothing is stored for it but terms.

The score of an item for a query is the sum, over the query's distinct terms, of

    idf · tf·2.2 / (tf + 1.2·(0.25 + 0.75·length/32)),    idf = ln(1 + 100/df)

with tf the term's occurrences in the item, length the number of terms of the item (repetitions included), and df
the number of live items in the search's scope and filter that hold the term, capped at 1,000. It is the shape of
BM25 (Robertson and Walker 1994) with k1 = 1.2 and b = 0.75, where constants stand in for statistics of the
collection: a typical length of 32 terms, and an idf that depends on df alone.

Candidates: for each term, the 1,000 newest matches (created_at descending, then key ascending) that are live, in
scope and satisfy the filter; an item that is among these for any term is scored, with all its terms. So df is
also the length of the term's list.

Floats are added rarest term first, ties by term, and each summand is evaluated as written here, left to right:
two engines that hold the same items return the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from memory.search.analysis import Analyser

QUERY_TERM_CAP = 64
"""Distinct terms of a query that count: the first 64. (The rarest would need the df of all of them first.)"""
QUERY_CHARACTERS = 16_384
"""What is read of a query: a query that repeats few words for ever ends too."""
CANDIDATES_PER_TERM = 1_000
DF_CAP = CANDIDATES_PER_TERM

K = TypeVar("K")


def query_terms(analyser: Analyser, query: str) -> tuple[str, ...]:
    """The distinct terms of a query in order of appearance, at most 64; () when it holds no word."""
    distinct: dict[str, None] = {}
    for terms in analyser.iter_terms(query[:QUERY_CHARACTERS]):
        distinct.update(dict.fromkeys(terms))
        if len(distinct) >= QUERY_TERM_CAP:
            break
    return tuple(distinct)[:QUERY_TERM_CAP]


def idf(df: int) -> float:
    """Weight of a term that ``df`` items hold: ln(1 + 100/df), from ln 101 = 4.615 at 1 to ln 1.1 = 0.095 at 1,000.

    A term that no item holds weighs as much as one that a single item holds: it adds nothing to a score, and as
    much as it can to what a query asked for (see `Scorer.matched_share`).
    """
    return math.log(1.0 + 100.0 / min(max(df, 1), DF_CAP))


def upper_bound(weight: float) -> float:
    """No item gets more than this from one term of this idf, however often and in however short a text."""
    return weight * 2.2


class TermScore(NamedTuple):
    """What one query term adds to one item's score."""

    term: str
    df: int
    idf: float
    tf: int
    contribution: float


class Scorer:
    """The score of one query, once the df of its terms is known.

    ``terms`` and ``df`` go together by position, as ``counts`` below does: occurrences of ``terms[i]`` in the item.
    """

    __slots__ = ("_order", "df", "terms", "weights")

    def __init__(self, terms: Sequence[str], df: Sequence[int]) -> None:
        self.terms = tuple(terms)
        self.df = tuple(min(n, DF_CAP) for n in df)
        self.weights = tuple(idf(n) for n in self.df)
        """idf of each term, in the order of ``terms``."""
        ranks = zip(self.df, self.terms, range(len(self.terms)), strict=True)
        self._order = tuple((i, self.weights[i]) for _, _, i in sorted(ranks))

    @property
    def rarest_first(self) -> tuple[int, ...]:
        """Positions in ``terms``, in the order in which scores are added up."""
        return tuple(i for i, _ in self._order)

    def counts(self, occurrences: Mapping[str, int]) -> tuple[int, ...]:
        """Occurrences of each query term, from an item's counts (`Analyser.counts`)."""
        return tuple([occurrences.get(term, 0) for term in self.terms])

    def score(self, counts: Sequence[int], length: int) -> float:
        """Score of an item with these occurrences among ``length`` terms; 0.0 when none matched, no upper limit."""
        norm = 1.2 * (0.25 + 0.75 * length / 32)
        total = 0.0
        for i, weight in self._order:
            tf = counts[i]
            if tf:
                total += weight * tf * 2.2 / (tf + norm)
        return total

    def matched_share(self, counts: Sequence[int]) -> float:
        """Share of the query's idf whose terms the item holds, from 0.0 to 1.0: a relevance that does not depend
        on what else was found. Terms that no item holds count in the whole; 0.0 for a query without terms."""
        matched = whole = 0.0
        for i, weight in self._order:
            whole += weight
            if counts[i]:
                matched += weight
        return matched / whole if whole else 0.0

    def explain(self, counts: Sequence[int], length: int) -> list[TermScore]:
        """What each term adds, rarest first; the sum in this order is the score."""
        norm = 1.2 * (0.25 + 0.75 * length / 32)
        return [
            TermScore(self.terms[i], self.df[i], weight, counts[i], weight * counts[i] * 2.2 / (counts[i] + norm))
            for i, weight in self._order
        ]


class Found(NamedTuple, Generic[K]):
    """One candidate: occurrences of each query term, by position, among ``length`` terms."""

    key: K
    counts: tuple[int, ...]
    length: int


class Matcher(Generic[K]):
    """The candidate rule over items in any order, a few at a time: what fallbacks and tests use.

    `feed` it every item that is live, in scope and satisfies the filter, once, then read `df` and `candidates`.
    Holds at most about 1,250 items for each term.
    """

    _SPARE = 250

    def __init__(self, terms: Sequence[str]) -> None:
        self.terms = tuple(terms)
        self._newest: list[list[tuple[int, Any, int, Found[K]]]] = [[] for _ in self.terms]
        self._fed = 0

    def feed(self, items: Iterable[tuple[K, int, Mapping[str, int], int]]) -> None:
        """Take (key, created_at in microseconds, term -> occurrences, number of terms) of further items.

        Keys are unique and sortable: they decide between items of the same time. To carry more along, make the key
        a pair whose first half is unique and sortable.
        """
        for key, created, occurrences, length in items:
            counts = tuple([occurrences.get(term, 0) for term in self.terms])
            if not any(counts):
                continue
            self._fed += 1  # unique, so that sorting never compares what follows it
            entry = (-created, key, self._fed, Found(key, counts, length))
            for newest, count in zip(self._newest, counts, strict=True):
                if count:
                    newest.append(entry)
                    if len(newest) >= CANDIDATES_PER_TERM + self._SPARE:
                        _keep_newest(newest)

    @property
    def df(self) -> tuple[int, ...]:
        """Items that hold each term, capped at 1,000, in the order of the terms."""
        return tuple(min(len(newest), DF_CAP) for newest in self._newest)

    def candidates(self) -> list[Found[K]]:
        """The items to score, each once, in no particular order."""
        chosen: dict[int, Found[K]] = {}
        for newest in self._newest:
            if len(newest) > CANDIDATES_PER_TERM:
                _keep_newest(newest)
            chosen.update({number: found for _, _, number, found in newest})
        return list(chosen.values())


def _keep_newest(entries: list[tuple[int, Any, int, Found[K]]]) -> None:
    entries.sort()
    del entries[CANDIDATES_PER_TERM:]


def reference_match(
    terms: Sequence[str], items: Iterable[tuple[K, int, Mapping[str, int], int]]
) -> tuple[tuple[int, ...], list[Found[K]]]:
    """(df of each term, candidates) by the rule above, over all items at once. See `Matcher`."""
    matcher: Matcher[K] = Matcher(terms)
    matcher.feed(items)
    return matcher.df, matcher.candidates()
