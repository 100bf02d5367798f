"""Where records lie in what searches by vector keep: their numbers by place, and the places of rows of ``items``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import apsw

from memory.backends.sqlite.statements import fetch, listed, numbers, scalar
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
PAGE = 50_000
"""Rows of ``items`` listed in one step."""
HERE_SQL = "SELECT c.value, items.rowid FROM carray(?) c CROSS JOIN items INDEXED BY items_doc ON items.doc BETWEEN c.value << 10 AND c.value << 10 | 1023"


class TooLongError(Exception):
    """This search has more to do first than the loop may be held for."""


class Rows:
    """The place of each row of ``items`` that has one (``places``; None: as they are listed). Of two of a row the later is found."""

    def __init__(self, rows: Ints, places: Ints | None = None) -> None:
        import numpy as np

        self.np = np
        self._before = int(rows.min()) - 1 if len(rows) else 0
        size = int(rows.max()) - self._before if len(rows) else 0
        self._table: Any = None
        if size <= WIDE * len(rows):
            self._table = np.full(size + 2, -1, dtype=np.int32)  # at either end stands one for all beyond it
            for start in range(0, len(rows), PAGE):  # of two, numpy keeps the later
                part = rows[start : start + PAGE]
                here = np.arange(start, start + len(part)) if places is None else places[start : start + PAGE]
                self._table[part - self._before] = here
        else:
            order = np.argsort(rows, kind="stable")
            self._known, self._at = rows[order], order if places is None else places[order]

    def find(self, rows: Ints) -> Ints:
        """The place of each of these, -1 where there is none."""
        np = self.np
        if self._table is not None:
            near: Ints = self._table.take(rows - self._before, mode="clip").astype(np.int64)
            return near
        held: Ints = np.full(len(rows), -1, dtype=np.int64)
        found = np.searchsorted(self._known, rows, side="right") - 1
        hit = (found >= 0) & (self._known[found] == rows)
        held[hit] = self._at[found[hit]]
        return held


class Entries:
    """Record numbers by place, and the places of records by their row in ``items``.

    Every index of ``items`` ends in the row's number, so what a filter lets through is known without reading a record.
    """

    def __init__(self, room: int) -> None:
        import numpy as np

        self.np = np
        self.count = 0
        self.ords = np.empty(room, dtype=np.int64)
        self._rows: Rows | None = None
        self._schema: Any = None
        self._new: list[int] = []
        self._tail: dict[int, int] = {}

    def has_room(self, more: int) -> bool:
        """Whether so many more fit without all being copied, which takes longer than the loop may be held for."""
        return self.count + more <= len(self.ords)

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
        held = self._locate(db, patient).find(rows)
        if self._tail:
            newer = np.flatnonzero(np.isin(rows, np.fromiter(self._tail, dtype=np.int64)))
            held[newer] = [self._tail[row] for row in rows[newer].tolist()]
        placed: Ints = held[held >= 0]
        placed.sort()  # memory is read quicker along than to and fro
        return placed

    def _locate(self, db: apsw.Connection, patient: bool) -> Rows:
        schema = scalar(db, "PRAGMA schema_version")  # VACUUM numbers rows anew, and changes this
        if self._rows is None or schema != self._schema or len(self._new) > TAIL:
            if not patient:
                raise TooLongError
            self._rows = self._locate_all(db)
            self._schema = schema
        elif self._new:
            if not patient and len(self._new) > INLINE_CHANGES:
                raise TooLongError
            of = {int(self.ords[place]): place for place in self._new}
            for ord, row in fetch(db, HERE_SQL, (numbers(of),)):
                self._tail[row] = of[ord]
            if len(self._tail) > TAIL:
                if not patient:
                    self._rows = None
                    raise TooLongError
                self._rows = self._locate_all(db)
        self._new = []
        return self._rows

    def _locate_all(self, db: apsw.Connection) -> Rows:
        np = self.np
        known, located = self._located(db)
        ords = self.ords[: self.count]
        at = np.searchsorted(known, ords)
        here = at < len(known)
        here[here] = known[at[here]] == ords[here]
        places = np.flatnonzero(here)
        self._tail, self._new = {}, []
        return Rows(located[at[places]], places)

    def _located(self, db: apsw.Connection) -> tuple[Ints, Ints]:
        """The numbers of records, ascending, and the row of each."""
        return located(db)


def located(db: apsw.Connection) -> tuple[Ints, Ints]:
    """The numbers of all records, ascending, and the row of each."""
    import numpy as np

    breather = Breather()
    known, rows = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    after = -(2**63)
    while True:
        docs, here = fetch(
            db,
            "SELECT group_concat(doc), group_concat(rowid) FROM "
            "(SELECT doc, rowid FROM items INDEXED BY items_doc WHERE doc > ? ORDER BY doc LIMIT ?)",
            (after, PAGE),
        )[0]
        found = listed(docs, breather)
        if not len(found) or int(found[-1]) <= after:
            return np.concatenate(known), np.concatenate(rows)
        after = int(found[-1])
        known.append(found >> 10)
        rows.append(listed(here, breather))
