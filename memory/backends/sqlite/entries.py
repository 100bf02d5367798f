"""Where records lie in what searches by vector keep: their numbers by place, and the places of rows of ``items``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import apsw

from memory.backends.sqlite.statements import fetch, listed, numbers
from memory.backends.sqlite.workers import Breather

if TYPE_CHECKING:
    from memory.backends.sqlite.codes import Ints

FEW = 5_000
"""An index that leads to so few records is always used,"""
SHARE = 8
"""and one that leads to less than this part of all vectors."""
INLINE_CHANGES = 64
"""So many changed vectors are read on the loop; more are a worker's."""
TAIL = 1_024
"""So many records located since, and the table of all is sorted anew."""
WIDE = 16
"""Rows that lie this close (one in so many is known) have a table of their places; else they are searched for."""
_HERE = "SELECT c.value, items.rowid FROM carray(?) c CROSS JOIN items INDEXED BY items_doc ON items.doc BETWEEN c.value << 10 AND c.value << 10 | 1023"


class TooLongError(Exception):
    """This search has more to do first than the loop may be held for."""


class Entries:
    """Record numbers by place, and the places of records by their row in ``items``.

    Every index of ``items`` ends in the row's number, so what a filter lets through is known without reading a record.
    """

    def __init__(self, room: int) -> None:
        import numpy as np

        self.np = np
        self.count = 0
        self.ords = np.empty(room, dtype=np.int64)
        self._rows: Ints | None = None
        self._schema: Any = None
        self._new: list[int] = []
        self._base: tuple[Ints, Ints] = (np.empty(0, np.int64), np.empty(0, np.int64))
        self._table: Any = None
        self._tail: dict[int, int] = {}

    def _grow(self, more: int) -> int:
        """Room for so many more; the capacity from now on."""
        np = self.np
        if self.count + more > len(self.ords):
            wider = np.empty(max(self.count + more, len(self.ords) * 5 // 4) + 256, dtype=np.int64)
            wider[: self.count] = self.ords[: self.count]
            self.ords = wider
        return len(self.ords)

    def _moved(self, places: Any) -> None:
        if self._rows is not None:
            self._new += places

    def numbered(self, places: Ints) -> Ints:
        """The numbers of the records at these places."""
        found: Ints = self.ords[places]
        return found

    def most(self, vectors: int) -> int:
        """So many survivors of a filter, of so many vectors, are worth being looked up."""
        return max(FEW, vectors // SHARE)

    def places(self, db: apsw.Connection, rows: Ints, *, patient: bool) -> Ints:
        """The places of the records in these rows of ``items`` that have one."""
        np = self.np
        self._locate(db, patient)
        known, at = self._base
        held = np.full(len(rows), -1, dtype=np.int64)
        if self._table is not None:
            hit = (rows >= known[0]) & (rows <= known[-1])
            held[hit] = self._table[rows[hit] - known[0]]
        elif len(known):
            found = np.searchsorted(known, rows, side="right") - 1
            hit = (found >= 0) & (known[found] == rows)
            held[hit] = at[found[hit]]
        if self._tail:
            newer = np.flatnonzero(np.isin(rows, np.fromiter(self._tail, dtype=np.int64)))
            held[newer] = [self._tail[row] for row in rows[newer].tolist()]
        placed: Ints = held[held >= 0]
        return placed

    def _locate(self, db: apsw.Connection, patient: bool) -> None:
        schema = db.pragma("schema_version")  # VACUUM numbers rows anew, and changes this
        if self._rows is None or schema != self._schema or len(self._new) > TAIL:
            if not patient:
                raise TooLongError
            self._locate_all(db)
            self._schema = schema
        elif self._new:
            if not patient and len(self._new) > INLINE_CHANGES:
                raise TooLongError
            of = {int(self.ords[place]): place for place in self._new}
            for ord, row in fetch(db, _HERE, (numbers(of),)):
                self._tail[row] = of[ord]
            if len(self._tail) > TAIL:
                if not patient:
                    self._rows = None
                    raise TooLongError
                self._locate_all(db)
        self._new = []

    def _locate_all(self, db: apsw.Connection) -> None:
        np = self.np
        docs, rows = fetch(
            db,
            "SELECT group_concat(doc), group_concat(rowid) FROM (SELECT doc, rowid FROM items INDEXED BY items_doc ORDER BY doc)",
        )[0]
        breather = Breather()
        known, located = listed(docs, breather) >> 10, listed(rows, breather)
        ords = self.ords[: self.count]
        at = np.searchsorted(known, ords)
        here = at < len(known)
        here[here] = known[at[here]] == ords[here]
        places = np.flatnonzero(here)
        of = located[at[places]]
        order = np.argsort(of, kind="stable")  # of two entries of one record the later comes last, and is found
        known, at = self._base = (of[order], places[order])
        self._table = None
        if len(known) and known[-1] - known[0] < WIDE * len(known):
            self._table = np.full(known[-1] - known[0] + 1, -1, dtype=np.int32)
            self._table[known - known[0]] = at
        self._rows = of
        self._tail, self._new = {}, []
