"""What can be read of a damaged file, into a new one: record by record past the pages that cannot, and which those held."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apsw

from memory.backends.sqlite.docs import BUCKET_SHIFT, LENGTH_BITS, bucket_of
from memory.backends.sqlite.faults import ENGINE_ERRORS
from memory.backends.sqlite.layout import APPLICATION_ID, SCHEMA_VERSION, TABLES, TEXT_INDEX, VECTOR_TABLES
from memory.backends.sqlite.records import COLUMNS, ROW_SQL, checksum, is_whole, seal
from memory.backends.sqlite.repairing import name_of, why_damaged
from memory.backends.sqlite.schema import connect
from memory.backends.sqlite.statements import fetch, first, scalar
from memory.backends.sqlite.verifying import known_key
from memory.backends.sqlite.workers import Breather

FULL_INDEXES = ("items_key", "items_kind", "items_created")
"""Each names every record: what of it the table has lost."""
MOST_SKIPPED = 200_000
"""Row numbers tried one by one behind a page that cannot be read: a few seconds."""
_PLACE = {name: place + 1 for place, name in enumerate(COLUMNS)}
_VECTOR = 17
OTHERS = {
    "feed": "the change feed could be read only in part: it begins anew, and who reads it is told",
    "graves": "of what was deleted last, some is forgotten: a delete that is tried again finds nothing",
    "quarantine": "what earlier repairs had set aside could be read only in part",
    "aside": "vectors kept aside for another embedder could be read only in part: 'memory reembed' makes them anew",
    "asides": "",
}
"""Tables that are not derived from the records -> what it means when one cannot be read whole."""


def new_file(path: str, page_size: int, fields: dict[tuple[str, ...], int]) -> apsw.Connection:
    """An empty store without the rows that every store has. If it is lost nothing is: it waits for no disk."""
    fresh = connect(path, busy_timeout=0, create=True, cache_kib=16_384)
    try:
        fetch(fresh, f"PRAGMA page_size = {page_size}; PRAGMA journal_mode = off; PRAGMA synchronous = off")
        fetch(fresh, TABLES + VECTOR_TABLES)
        fetch(fresh, TEXT_INDEX)
        for number in sorted(fields.values()):
            fresh.execute(f"ALTER TABLE items ADD COLUMN f{number}")
            fresh.execute(f"CREATE INDEX items_f{number} ON items(f{number}, key) WHERE f{number} IS NOT NULL")
        fetch(fresh, f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}")
    except BaseException:
        fresh.close(True)
        raise
    return fresh


class Salvage:
    """Takes everything that can be read from ``db``, in a read transaction, to ``fresh``, in a write transaction."""

    def __init__(self, db: apsw.Connection, fresh: apsw.Connection, broken: set[str], now: int) -> None:
        self._db, self._fresh, self._now = db, fresh, now
        self._broken = broken
        self._whole = "items" not in broken
        self._cut = False
        self._breather = Breather()
        self.saved = 0
        self.lost: list[str] = []
        """By name, the records that could not be saved."""
        self.owed: list[str] = []
        self.bare: list[str] = []
        """Saved, but not their vectors: those that an embedder had made, and those that were given."""
        self.notes: list[str] = []

    def run(self) -> None:
        """Raises SQLite's errors when what the file says of itself cannot be read."""
        for table in ("meta", "counter", "fields"):
            for row in fetch(self._db, f"SELECT * FROM {table}"):  # noqa: S608 - our own names
                self._insert(table, row)
        named, all_named = self._named()
        for row in self._records(max(named, default=0) if all_named else None):
            self._breather.breathe()
            self._take(row)
        self._name_the_lost(named, all_named)
        for table, note in OTHERS.items():
            if not self._copy(table):
                if table == "feed":
                    self._fresh.execute("DELETE FROM feed")
                self.notes += [note] if note else []

    def feed_begins_anew(self) -> bool:
        """Whether events are lost, so that who reads them has to be told."""
        return OTHERS["feed"] in self.notes

    # --- records -------------------------------------------------------------------------------

    def _named(self) -> tuple[dict[int, bytes], bool]:
        """Row number -> key as an index names the records, and whether it names all. Of several that are damaged, both."""
        named: dict[int, bytes] = {}
        for index in FULL_INDEXES:
            found: dict[int, bytes] = {}
            sound = index not in self._broken
            for number, key in self._readable(f"SELECT rowid, key FROM items INDEXED BY {index}"):  # noqa: S608
                self._breather.breathe()
                if isinstance(number, int) and known_key(key) is not None:
                    found.setdefault(number, key)
                else:
                    sound = False
            if sound and not self._cut:
                return found, True
            named = {**found, **named}
        return named, False

    def _records(self, last: int | None) -> Iterator[tuple[Any, ...]]:
        """Every row that can be read; ``last`` is the highest row number there is, if that is known."""
        after, failures = -(2**63), 0
        rows = f"SELECT {ROW_SQL}, rowid, doc, token FROM items NOT INDEXED WHERE rowid > ? ORDER BY rowid"  # noqa: S608
        while True:
            circle = False
            for row in self._readable(rows, (after,)):
                circle = not isinstance(row[_VECTOR], int) or row[_VECTOR] <= after
                if circle:  # as a walk through a damaged table may go
                    break
                after, failures = row[_VECTOR], 0
                yield row
            if not circle and not self._cut:
                return
            self._whole = False
            self._breather.breathe()
            after, failures = max(after, 0) + 1, failures + 1
            if failures > MOST_SKIPPED or (last is not None and after > last):
                return

    def _readable(self, text: str, params: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """The rows of a query as far as they can be read; ``_cut`` says whether an error ended them."""
        self._cut = False
        try:
            yield from self._db.execute(text, params)
        except ENGINE_ERRORS as error:
            _reraise_if_told_to_stop(error)
            self._cut = True

    def _take(self, row: tuple[Any, ...]) -> None:
        columns = [*row[:_VECTOR], self._vector(row[_PLACE["vcrc"]], row[18])]
        if columns[_VECTOR] is None and row[_PLACE["vcrc"]] is not None and is_whole((*row[:_VECTOR], 0)):
            # All but the vector is whole, which the record says from now on.
            columns[_PLACE["vcrc"]] = None
            columns[_PLACE["seal"]] = seal(*columns[1 : _PLACE["seal"]])
            (self.bare if row[_PLACE["embedder"]] is None else self.owed).append(name_of(row[1]))
        why = why_damaged(tuple(columns))
        if why is not None:
            self.lost.append(name_of(row[1]))
            self._insert("quarantine", (row[1], self._now, why, row[0]))
            return
        known = scalar(self._fresh, "SELECT version FROM items WHERE key = ?", (row[1],))
        if known is not None and known >= row[_PLACE["version"]]:
            return
        if known is not None:
            self._fresh.execute("DELETE FROM items WHERE key = ?", (row[1],))
        doc = self._numbered(row[18], row[_PLACE["created"]])
        # What is derived from the body follows when all are there.
        self._fresh.execute(
            f"INSERT INTO items(body, {', '.join(COLUMNS)}, doc, token, path, length, digest) "  # noqa: S608 - our own column names
            f"VALUES ({', '.join('?' * 19)}, x'', 0, x'')",
            (*columns[:_VECTOR], doc, row[19] if isinstance(row[19], bytes) else b""),
        )
        if columns[_VECTOR] is not None:
            self._fresh.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?)", (doc >> LENGTH_BITS, columns[_VECTOR]))
        self.saved += known is None

    def _vector(self, crc: Any, doc: Any) -> Any:
        if crc is None or not isinstance(doc, int):
            return None
        try:
            found = scalar(self._db, "SELECT v FROM vectors WHERE ord = ?", (doc >> LENGTH_BITS,))
        except ENGINE_ERRORS as error:
            _reraise_if_told_to_stop(error)
            return None
        return found if isinstance(found, bytes) and checksum(found) == crc else None

    def _numbered(self, doc: Any, created: int) -> int:
        """The record's number for the text index; one without order when it is lost or another's."""
        if isinstance(doc, int) and (doc < 0 or doc >> BUCKET_SHIFT == bucket_of(created)):
            order = doc >> LENGTH_BITS
            taken = "SELECT 1 FROM items WHERE doc BETWEEN ? << 10 AND ? << 10 | 1023"
            if first(self._fresh, taken, (order, order)) is None:
                return doc
        least = scalar(self._fresh, "SELECT min(doc) FROM items") or 0
        return (min(0, least >> LENGTH_BITS) - 1) << LENGTH_BITS

    def _name_the_lost(self, named: dict[int, bytes], all_named: bool) -> None:
        if self._whole:
            return
        told = set(self.lost)
        for key in dict.fromkeys(named.values()):
            self._breather.breathe()
            if scalar(self._fresh, "SELECT 1 FROM items WHERE key = ?", (key,)) is None and name_of(key) not in told:
                self.lost.append(name_of(key))
        if not all_named:
            self.lost.append("records whose keys are lost, if there were more")

    # --- the rest ------------------------------------------------------------------------------

    def _insert(self, table: str, row: tuple[Any, ...]) -> None:
        self._fresh.execute(f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608

    def _copy(self, table: str) -> bool:
        """The rows of a table that can be read; whether those were all."""
        complete = table not in self._broken
        for row in self._readable(f"SELECT * FROM {table}"):  # noqa: S608 - our own names
            self._breather.breathe()
            before = self._fresh.total_changes()
            self._insert(table, row)
            complete = complete and self._fresh.total_changes() > before
        return complete and not self._cut


def _reraise_if_told_to_stop(error: BaseException) -> None:
    """Of errors at reading a page: those that say nothing about it."""
    if isinstance(error, apsw.InterruptError | apsw.BusyError | apsw.NoMemError):
        raise error
