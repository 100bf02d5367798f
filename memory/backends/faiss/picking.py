"""One search: FAISS looks through all codes by their high bits, both bits put the closest in order, vectors decide.

Nothing is fixed but how sure a cut has to be. The nearest of a first look are compared by their vectors; how near they
are says, with the known error of each kind of code, which others can be among the nearest at all, and only those are
read. Where even the codes that were cut off at first may hold one, more are looked through, and so many again next time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import apsw
import faiss
import numpy as np

from memory.backends.faiss.codes import ONE_BIT, TWO_BITS, Query
from memory.backends.sqlite.codes import Ints, inverse_lengths, largest
from memory.backends.sqlite.picking import CodedPicking, Likely, read_likely
from memory.search.vectors import Matrix, products

if TYPE_CHECKING:
    from memory.backends.faiss.index import FaissIndex

START = 2_048
"""Codes that the first search has put in order."""
WIDEST = 8
"""Never more than this part of all codes."""
SURE = (2.2, 2.8, 2.0)
"""Standard deviations between the last result and the cut by differing bits, by products of high bits, and of both: of a
hundred true results one lies beyond each."""
SLACK = np.float32(2e-3)
"""What rounding adds to that: of the scales, and of the query."""
FEW = 5_000
"""Among so few a search is as good as exact: the cuts lie at"""
SURER = (4.0, 4.0, 4.0)
READ_BYTES = 2**21
"""So many bytes of vectors are read without looking at their codes."""
FIRST = (24, 2)
"""Vectors read at the first look: so many, and more for each result wanted."""
STEP = 160
"""Vectors read at each further look, best first: what is found shows that fewer of the others can be among the nearest."""
MOST = 4_096
"""Vectors read for a search."""


class FaissPicking:
    """A search through a generation and its tail."""

    def __init__(self, index: FaissIndex, db: apsw.Connection, unit: Matrix, pool: Ints | None, limit: int) -> None:
        self._index = index
        self._db = db
        self._unit = unit
        self._query = Query(unit, index.generation.centre)
        self._pool: Ints | None = None
        others: Ints | None = None
        if pool is not None:
            self._pool, others = index.split(pool)
        self._count = index.generation.count if self._pool is None else len(self._pool)
        self._sure = SURER if self._count <= FEW else SURE
        self._tail = CodedPicking(index.tail, db, unit, others, limit)
        self._width = 0
        self._asked = np.empty(0, dtype=np.int64)
        """Places of which the vector was asked for,"""
        self._read = read_likely(db, self._asked, len(unit), False)
        """and what there was,"""
        self._scores: Matrix = np.empty(0, dtype=np.float32)
        """how near it is,"""
        self._places = self._asked
        """and where its code lies."""

    def likely(self, wanted: int) -> Likely:
        """Vectors among which the nearest ``wanted`` are."""
        tail = self._tail.likely(wanted)
        if self._count <= max(READ_BYTES // (4 * len(self._unit)), wanted):
            self._take(np.arange(self._count) if self._pool is None else self._pool)
        else:
            self._by_code(wanted)
        _, each = np.unique(np.concatenate([self._read.ords, tail.ords]), return_index=True)
        rows = np.concatenate([self._read.rows, tail.rows])[each]
        ords = np.concatenate([self._read.ords, tail.ords])[each]
        return Likely(ords, rows, tail.whole and len(self._asked) >= self._count)

    def _by_code(self, wanted: int) -> None:
        width = max(START, self._index.width, 4 * wanted)
        while True:
            self._look(min(width, self._count), wanted)
            if self._is_wide_enough(wanted):
                return
            width = 2 * self._width
            if self._pool is None:
                self._index.width = width

    def _look(self, width: int, wanted: int) -> None:
        """Compare the vectors of all that can be among the nearest of so many codes."""
        generation, query = self._index.generation, self._query
        if width != self._width:
            self._width = width
            self._candidates, self._differing = self._closest(width)
            self._high = query.sums(generation.high[self._candidates])
            self._sizes = query.sizes(generation.scale[self._candidates])
            self._rough = query.by_high(self._high, self._sizes)
            self._fine = np.full(len(self._candidates), -np.inf, dtype=np.float32)
        if not len(self._scores) or len(self._scores) < FIRST[0] + FIRST[1] * wanted:
            self._refine(largest(self._rough, 16 * (FIRST[0] + FIRST[1] * wanted)))
            self._take(self._candidates[largest(self._fine, FIRST[0] + FIRST[1] * wanted)])
        least = self._least(wanted) - SLACK
        self._refine(np.flatnonzero(self._rough >= least - np.float32(self._sure[1] * ONE_BIT) * self._sizes))
        reach: Any = self._fine + np.float32(self._sure[2] * TWO_BITS) * self._sizes
        reach[np.isin(self._candidates, self._asked)] = -np.inf
        while len(self._asked) < max(MOST, 2 * wanted):
            can_be = np.flatnonzero(reach >= self._least(wanted) - SLACK)
            if not len(can_be):
                return
            can_be = can_be[largest(reach[can_be], max(STEP, wanted))]
            self._take(self._candidates[can_be])
            reach[can_be] = -np.inf

    def _closest(self, width: int) -> tuple[Ints, Any]:
        """Places of the codes whose high bits differ least, and in how many; all of a pool that is no wider."""
        generation, pool = self._index.generation, self._pool
        if width >= self._count:
            every = np.arange(self._count) if pool is None else pool
            return every, None
        high = generation.high if pool is None else generation.high[pool]
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)  # of this thread: its threads would wait for each other, and hang after a fork
        try:
            bits = self._query.bits.view(np.uint8)
            differing, found = faiss.knn_hamming(bits, high.view(np.uint8), width, variant="mc")
        finally:
            faiss.omp_set_num_threads(before)
        places = found[0] if pool is None else pool[found[0]]
        return places, differing[0]

    def _refine(self, which: Any) -> None:
        """The products by both bits, of candidates of which they are not known yet."""
        which = which[np.isneginf(self._fine[which])]
        if len(which):
            low = self._query.sums(self._index.generation.low[self._candidates[which]])
            self._fine[which] = self._query.by_both(self._high[which], low, self._sizes[which])

    def _take(self, places: Ints) -> None:
        """Read the vectors at these places, where they are not read yet."""
        fresh = np.setdiff1d(places, self._asked)
        if not len(fresh):
            return
        self._asked = np.concatenate([self._asked, fresh])
        ords = self._index.generation.ords[fresh]
        order = np.argsort(ords)
        found = read_likely(self._db, ords, len(self._unit), False)
        self._places = np.concatenate([self._places, fresh[order[np.searchsorted(ords[order], found.ords)]]])
        scores = products(found.rows, self._unit) * inverse_lengths(found.rows)
        self._scores = np.concatenate([self._scores, scores])
        self._read = Likely(
            np.concatenate([self._read.ords, found.ords]), np.concatenate([self._read.rows, found.rows]), False
        )

    def _least(self, wanted: int) -> np.float32:
        """How near the last of so many is, among those that were read."""
        count = len(self._scores)
        if count < wanted:
            return np.float32(-2)
        return np.float32(np.partition(self._scores, count - wanted)[count - wanted])

    def _is_wide_enough(self, wanted: int) -> bool:
        """Whether no result is likely among the codes that were cut off."""
        if self._differing is None or self._width * WIDEST >= self._count:
            return True
        best = self._places[largest(self._scores, wanted)]
        here = np.flatnonzero(np.isin(self._candidates, best))
        if not len(here):
            return True
        mean = float(self._differing[here].mean())
        part = mean / len(self._unit)
        deviation = np.sqrt(len(self._unit) * part * (1 - part))
        return bool(self._differing.max() > mean + self._sure[0] * deviation)
