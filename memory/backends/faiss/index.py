"""What a search asks: a generation, and beside it the tail, what has changed since.

Places of the generation come first, those of the tail behind them. The tail is small and has SQLite's own codes.
"""

from __future__ import annotations

from typing import Any

import apsw
import numpy as np

from memory.backends.faiss.generation import Generation
from memory.backends.faiss.lists import probed, sampled
from memory.backends.faiss.picking import FaissPicking
from memory.backends.sqlite.codes import Codes, Ints, largest
from memory.backends.sqlite.entries import FEW, HERE_SQL, SHARE, Rows, TooLongError, located
from memory.backends.sqlite.picking import Passing
from memory.backends.sqlite.statements import fetch, numbers
from memory.backends.sqlite.vectorcache import Coded
from memory.search.vectors import Matrix, products

LEADS = 16_384
"""An index that leads to more records is not used: looking up so many costs as much as a search through all codes."""

APART = 8
"""Lists that do not hold the nearest in this part of them do not separate: a search through more of them takes as long as one
through all codes, and misses what lies farther."""


class Tail(Coded):
    """Codes of what has changed since a generation; its records are looked up one by one."""

    def _located(self, db: apsw.Connection) -> tuple[Ints, Ints]:
        ords = np.unique(self.ords[: self.count]).tolist()
        here = fetch(db, HERE_SQL, (numbers(ords),)) if ords else []
        found = np.array(here, dtype=np.int64).reshape(-1, 2)
        return found[:, 0], found[:, 1]


class FaissIndex:
    """A generation and its tail. ``ivf``: a search looks through some lists of the generation, if it has any."""

    def __init__(self, generation: Generation, ivf: bool) -> None:
        self.generation = generation
        self._ivf = ivf
        self.centre: Matrix | None = generation.centre
        self.tail = Tail(len(generation.centre), 256, generation.centre)
        self.widths: dict[int, int] = {}
        """So many codes were put in order lately, by how many results were wanted (the bits of their number)."""
        self._rows: Rows | None = None
        self._schema: Any = None

    @property
    def count(self) -> int:
        """All places."""
        return self.generation.count + self.tail.count

    def has_room(self, more: int) -> bool:
        """Whether so many more fit without all of the tail being copied."""
        return self.tail.has_room(more)

    def append(self, ords: Any, codes: Codes) -> None:
        """Codes of records."""
        self.tail.append(ords, codes)

    def pack(self, ords: Ints, rows: Matrix) -> None:
        """The codes of these vectors."""
        self.tail.pack(ords, rows)

    def numbered(self, places: Ints) -> Ints:
        """The numbers of the records at these places."""
        own, others = self.split(places)
        return np.concatenate([self.generation.ords[own], self.tail.numbered(others)])

    def split(self, places: Ints) -> tuple[Ints, Ints]:
        """Places of the generation, and those of the tail, each counted from 0."""
        count = self.generation.count
        return places[places < count], places[places >= count] - count

    def most(self, vectors: int) -> int:
        """So many survivors of a filter, of so many vectors, are worth being looked up."""
        return min(max(FEW, vectors // SHARE), LEADS)

    def places(self, db: apsw.Connection, rows: Ints, *, patient: bool) -> Ints:
        """The places of the records in these rows of ``items`` that have one. Raises TooLongError unless patient."""
        own = self._own(db, patient).find(rows)
        others = self.tail.places(db, rows, patient=patient)
        return np.concatenate([own[own >= 0], others + self.generation.count])

    def _own(self, db: apsw.Connection, patient: bool) -> Rows:
        schema = db.pragma("schema_version")  # VACUUM numbers rows anew, and changes this
        if self._rows is None or schema != self._schema:
            if not patient:
                raise TooLongError
            generation = self.generation
            generation.give_back()
            if schema == generation.manifest.schema:
                self._rows = Rows(generation.rows)
            else:
                known, rows = located(db)
                at = np.minimum(np.searchsorted(known, generation.ords), max(0, len(known) - 1))
                here = np.flatnonzero(known[at] == generation.ords) if len(known) else at[:0]
                self._rows = Rows(rows[at[here]], here)
            self._schema = schema
            generation.give_back()
        return self._rows

    def probes(self, wanted: int) -> int | None:
        """In so many lists are the nearest ``wanted``; None: all are looked through."""
        manifest = self.generation.manifest
        if not self._ivf or not manifest.lists:
            return None
        found = probed(manifest.probes, wanted, sampled(manifest.count))
        return None if found is None or found * APART > manifest.lists else found

    def in_lists(self, unit: Matrix, probes: int | None) -> Ints | None:
        """The places in so many lists, those nearest to a unit vector; None: all."""
        heads, starts = self.generation.heads, self.generation.starts
        if probes is None or probes >= len(heads):
            return None
        chosen = np.sort(largest(products(heads, unit), probes))
        ends = np.append(starts[1:], self.generation.count)
        ranges = zip(starts[chosen].tolist(), ends[chosen].tolist(), strict=True)
        return np.concatenate([np.arange(start, end) for start, end in ranges])

    def search(
        self, db: apsw.Connection, unit: Matrix, pool: Ints | None, limit: int, passing: Passing | None
    ) -> FaissPicking:
        """A search for ``limit`` vectors near a unit vector, among those at the places of ``pool`` or all."""
        return FaissPicking(self, db, unit, pool, limit, passing)
