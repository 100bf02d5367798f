"""One search: FAISS looks through all codes by one bit a number, fine codes cut down what is left, vectors decide.

Nothing is fixed but how sure a cut has to be. The nearest of a first look are compared by their vectors; how near they
are says, with the known error of each kind of code, which others can be among the nearest at all, and only those are
read. Where even the codes that were cut off at first may hold one, more are looked through, and about so many next time.
Where the places lie in lists, FAISS gets those of the lists that are nearest, and more of them when more is wanted.
Where a filter lets only some records through, their vectors are read only after it was asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import apsw
import numpy as np

from memory.backends.faiss.codes import ONE_BIT, Query
from memory.backends.faiss.scan import Scan
from memory.backends.sqlite.codes import Ints, largest, rough_cosines
from memory.backends.sqlite.picking import CodedPicking, Likely, Passing, read_likely
from memory.backends.sqlite.rotation import rotated_vector
from memory.search.vectors import Matrix

if TYPE_CHECKING:
    from memory.backends.faiss.index import FaissIndex

START = 1_024
"""Codes that the first search has put in order."""
WIDER = 4
"""At least so many times as many as are wanted."""
WIDEST = 8
"""Never more than this part of all codes;"""
HELD = 65_536
"""where a filter decides, up to so many of the nearer half are not too many either. Those that an index leads to are few."""
SURE = (1.6, 2.2, 2.0)
"""Standard deviations between the last result and the cut by FAISS, by products of bits, and by fine codes: of a
hundred true results one lies beyond each."""
POOLED = (2.2, 2.2, 2.0)
"""Where an index leads to more: one of two hundred is missed."""
SLACK = np.float32(2e-3)
"""What rounding adds to that: of the scales, and of the query."""
FEW = 5_000
"""Among so few a search is as good as exact: the cuts lie at"""
SURER = (4.0, 4.0, 4.0)
READ_BYTES = 2**17
"""So many bytes of vectors are read without looking at their codes: 85 of 384 numbers, at some 7 µs each."""
FIRST = (20, 2)
"""Vectors read at the first look: so many, and more for each result wanted. With fewer what they say is too little, and further looks are made."""
THROUGH = 5
"""So many times as many are held to a filter first, of which is known only that it lets more through than an index should lead to."""
NARROWER = 3
"""So many times as many are put in order before that."""
STEP = 32
"""Vectors read at each further look, best first: what is found shows that fewer of the others can be among the nearest."""
MOST = 4_096
"""Vectors read for a search, or records held to its filter."""
Which = np.ndarray[Any, np.dtype[np.bool_]]


class FaissPicking:
    """A search through a generation and its tail. ``passing``: which of some records a filter lets through; None: all."""

    def __init__(
        self,
        index: FaissIndex,
        db: apsw.Connection,
        unit: Matrix,
        pool: Ints | None,
        limit: int,
        passing: Passing | None,
    ) -> None:
        self._index = index
        self._db = db
        self._unit = unit
        self._turned = rotated_vector(unit)
        self._query = Query(self._turned, index.generation.centre)
        self._passing = passing
        self._held = self._passed = 0
        """So many records were held to the filter, of which so many passed."""
        self._pool: Ints | None = None
        others: Ints | None = None
        if pool is not None:
            self._pool, others = index.split(pool)
        self._count = index.generation.count if self._pool is None else len(self._pool)
        self._widest = max(self._count // WIDEST, 0 if passing is None else min(self._count // 2, HELD))
        self._among = self._pool
        """Places to look through; None: all,"""
        self._scan: Scan | None = None
        """and their codes."""
        self._probes: int | None = None
        self._sure = SURER if self._count <= FEW else SURE if self._pool is None else POOLED
        self._tail = CodedPicking(index.tail, db, self._turned, others, limit)
        self._width = 0
        self._asked = np.empty(0, dtype=np.int64)
        """Places of which the record was asked for,"""
        self._read = read_likely(db, self._asked, len(unit), False)
        """the vectors that were read,"""
        self._scores: Matrix = np.empty(0, dtype=np.float32)
        """how near they are,"""
        self._places = self._asked
        """and where their codes lie."""

    def likely(self, wanted: int) -> Likely:
        """Vectors among which the nearest ``wanted`` are that pass."""
        tail = self._of_tail(wanted)
        if self._count <= max(READ_BYTES // (4 * len(self._unit)), wanted):
            self._take(np.setdiff1d(np.arange(self._count) if self._pool is None else self._pool, self._asked))
        else:
            self._by_code(wanted)
            if self._passing is not None and len(self._scores) < wanted and len(self._asked) < self._count:
                # Given up: what lies deeper may be nearer than what the tail has, so that is not to make up the number.
                return Likely(self._read.ords, self._read.rows, False)
        _, each = np.unique(np.concatenate([self._read.ords, tail.ords]), return_index=True)
        rows = np.concatenate([self._read.rows, tail.rows])[each]
        ords = np.concatenate([self._read.ords, tail.ords])[each]
        return Likely(ords, rows, tail.whole and len(self._asked) >= self._count)

    def _of_tail(self, wanted: int) -> Likely:
        found = self._tail.likely(wanted)
        if self._passing is None:
            return found
        among = wanted
        while True:
            here = np.isin(found.ords, self._passing(found.ords))
            scores = rough_cosines(found.rows, self._unit)
            # Only of the nearest so many it is known that none was left out.
            if found.whole or (here.sum() >= wanted and (scores > kth_largest(scores[here], wanted)).sum() < among):
                return Likely(found.ords[here], found.rows[here], found.whole)
            among *= 4
            found = self._tail.likely(among)

    def _by_code(self, wanted: int) -> None:
        among = self._among_nearest(wanted)
        while True:
            self._look_among(among, wanted)
            needed = self._among_nearest(wanted)
            if needed <= among or (WIDER * needed <= self._width and self._index.probes(needed) == self._probes):
                return
            among = needed

    def _among_nearest(self, wanted: int) -> int:
        """The nearest ``wanted`` that pass are among so many nearest, as far as is known by now."""
        if self._passing is None:
            return wanted
        if not self._held:
            return THROUGH * wanted
        return min(max(MOST, wanted), -(-wanted * self._held // max(1, self._passed)))

    def _look_among(self, among: int, wanted: int) -> None:
        if self._pool is None and (probes := self._index.probes(among)) != self._probes:
            self._probes, self._width = probes, 0
            self._among, self._scan = self._index.in_lists(self._turned, probes), None
        widths, like = self._index.widths, among.bit_length()
        width = max(START, widths.get(like, 0), WIDER * among)
        self._look(width, wanted)
        while not self._is_wide_enough(wanted):
            width = 2 * self._width
            self._look(width, wanted)
        if self._pool is None:
            widths[like] = width * 15 // 16  # most others need less, and the next that needs as much looks again

    def _look(self, width: int, wanted: int) -> None:
        """Compare the vectors of all that can be among the nearest of so many codes."""
        width = min(width, self._count if self._among is None else len(self._among))
        if width != self._width:
            self._begin(width)
        first = FIRST[0] + FIRST[1] * wanted
        first *= 1 if self._passing is None else THROUGH
        most = max(MOST, 2 * wanted)
        while len(self._scores) < wanted and len(self._asked) < most and not self._taken.all():
            self._refine(largest(self._rough, NARROWER * first))
            self._take_candidates(largest(self._fine, first))
            first *= 4
        _, one, more = (np.float32(sure) for sure in self._sure)
        self._refine(np.flatnonzero(self._rough + one * ONE_BIT * self._sizes >= self._least(wanted)))
        reach: Any = self._fine + more * self._off
        reach[self._taken] = -np.inf
        while len(self._asked) < most:
            can_be = np.flatnonzero(reach >= self._least(wanted))
            if not len(can_be):
                return
            can_be = can_be[largest(reach[can_be], max(STEP, wanted))]
            self._take_candidates(can_be)
            reach[can_be] = -np.inf

    # --- candidates, and what is known of them -------------------------------------------------

    def _begin(self, width: int) -> None:
        self._width = width
        self._candidates, self._sums = self._closest(width)
        self._taken: Which = np.isin(self._candidates, self._asked) if len(self._asked) else np.zeros(width, dtype=bool)
        self._sizes = self._query.sizes(self._index.generation.scale[self._candidates])
        self._rough = self._query.by_bits(self._sums, self._sizes)
        self._fine = np.full(width, -np.inf, dtype=np.float32)
        self._off = np.zeros(width, dtype=np.float32)

    def _closest(self, width: int) -> tuple[Ints, Matrix]:
        """Places of the codes that FAISS finds nearest, and what it says of them."""
        if self._scan is None:
            generation, among = self._index.generation, self._among
            self._scan = generation.scan if among is None else Scan(generation.bits[among])
        places, sums = self._scan.nearest(self._query, width)
        return places if self._among is None else self._among[places], sums

    def _refine(self, which: Ints) -> None:
        """The products by fine codes, of candidates of which they are not known yet."""
        which = which[np.isneginf(self._fine[which])]
        if len(which):
            fine = self._index.generation.fine_at(self._candidates[which])
            self._fine[which], self._off[which] = self._query.by_fine(fine)

    # --- vectors -------------------------------------------------------------------------------

    def _take_candidates(self, which: Ints) -> None:
        which = which[~self._taken[which]]
        self._taken[which] = True
        if len(which):
            self._take(self._candidates[which])

    def _take(self, places: Ints) -> None:
        """Read the vectors at these places, of records that pass."""
        self._asked = np.concatenate([self._asked, places])
        ords = self._index.generation.ords_at(places)
        if self._passing is not None:
            here = np.isin(ords, self._passing(ords))
            self._held, self._passed = self._held + len(ords), self._passed + int(here.sum())
            ords, places = ords[here], places[here]
        order = np.argsort(ords)
        found = read_likely(self._db, ords, len(self._unit), False)
        own: Ints = order[np.searchsorted(ords, found.ords, sorter=order)]
        self._places = np.concatenate([self._places, places[own]])
        scores = rough_cosines(found.rows, self._unit)
        self._scores = np.concatenate([self._scores, scores])
        self._read = Likely(
            np.concatenate([self._read.ords, found.ords]), np.concatenate([self._read.rows, found.rows]), False
        )

    def _least(self, wanted: int) -> np.float32:
        """What a code has to say for its vector to be as near as the last of so many that were read."""
        if len(self._scores) < wanted:
            return np.float32(-2)
        return kth_largest(self._scores, wanted) - SLACK

    def _is_wide_enough(self, wanted: int) -> bool:
        """Whether no result is likely among the codes that were cut off."""
        every = self._width >= (self._count if self._among is None else len(self._among))
        if every or (self._pool is None and self._width >= self._widest):
            return True
        if len(self._scores) < wanted:
            return len(self._asked) >= MOST
        # Of results that are near each other and others that are not, those that are not.
        best = self._places[np.argsort(-self._scores)[wanted // 2 : wanted]]
        here = np.flatnonzero(np.isin(self._candidates, best))
        return not len(here) or bool(self._sums.min() < self._sums[here].mean() - self._sure[0] * ONE_BIT)


def kth_largest(scores: Matrix, k: int) -> np.float32:
    """The k-th largest of at least so many."""
    return np.float32(np.partition(scores, len(scores) - k)[len(scores) - k])
