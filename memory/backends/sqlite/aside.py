"""Vectors given to records after they are written: in the store's own space, or aside until it switches to another.

``aside`` has the form of ``vectors`` and takes its name in the end, so that no vector is copied; ``asides`` holds the
checksums, which then go into the records. A write to a record drops what lies aside for it (`applying`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import apsw

from memory.backends.sqlite.planning import Record, find_records, to_record
from memory.backends.sqlite.records import FULL_SQL, STAMP_SQL, to_row
from memory.backends.sqlite.spaces import VectorState, read_state
from memory.backends.sqlite.statements import fetch, many, scalar, snapshot
from memory.backends.sqlite.vectorlog import log_changes, renew
from memory.backends.sqlite.workers import Breather
from memory.keys import encode_key
from memory.model import Key
from memory.ops import Attach, Row, Space

STEP = 500


def attach(db: apsw.Connection, state: VectorState, space: Space, ops: Sequence[Attach]) -> int:
    """Give records vectors of a space; returns how many still had their version. Within a write transaction."""
    own = state.space in (None, space)
    records = find_records(db, [encode_key(op.key) for op in ops], {})
    due: dict[int, tuple[Record, bytes]] = {}
    for op in ops:
        record = records.get(encode_key(op.key))
        if record is not None and record.version == op.version and record.order is not None:
            due[record.order] = (record, op.embedding)
    due = dict(sorted(due.items()))  # neighbours in the file are written together
    if own:
        state.space = space
        if due:
            _attach_own(db, state, space, due)
        return len(due)
    if space != state.aside:
        forget_aside(db)
        state.aside = space
    if due:
        many(db, "INSERT OR REPLACE INTO aside", [(order, vector) for order, (_, vector) in due.items()])
        many(db, "INSERT OR REPLACE INTO asides", [(order, zlib.crc32(vector)) for order, (_, vector) in due.items()])
    return len(due)


def _attach_own(db: apsw.Connection, state: VectorState, space: Space, due: dict[int, tuple[Record, bytes]]) -> None:
    many(db, "INSERT OR REPLACE INTO vectors", [(order, vector) for order, (_, vector) in due.items()])
    breather = Breather()
    for record, vector in due.values():
        breather.breathe()
        state.vectors += record.vcrc is None
        record.embedder, record.vcrc = space.embedder, zlib.crc32(vector)
        db.execute(
            "UPDATE items SET embedder = ?, vcrc = ?, seal = ? WHERE key = ?",
            (record.embedder, record.vcrc, record.seal(), record.key),
        )
    log_changes(db, state, [(order, vector) for order, (_, vector) in due.items()], [])


def forget_aside(db: apsw.Connection) -> None:
    """Drop what lies aside."""
    db.execute("DELETE FROM aside; DELETE FROM asides")


def unattached(
    db: apsw.Connection, space: Space, after: Key | None, limit: int, noticed: Callable[[VectorState], None]
) -> list[Row]:
    """Rows in key order, expired ones too, that have no vector in this space, own or aside, in one snapshot. Raises CorruptData."""
    with snapshot(db):
        state = read_state(db)
        noticed(state)
        lacking = "items.vcrc IS NULL"
        if state.space not in (None, space):
            lacking = "NOT EXISTS (SELECT 1 FROM asides WHERE ord = items.doc >> 10)" if space == state.aside else "1"
        found = fetch(
            db,
            f"SELECT {FULL_SQL} FROM items INDEXED BY items_key WHERE key > ? AND {lacking} ORDER BY key LIMIT ?",  # noqa: S608 - templates
            (b"" if after is None else encode_key(after), limit),
        )
    return [to_row(row) for row in found]


def switch(db: apsw.Connection, state: VectorState, space: Space, without: int) -> bool:
    """Let the vectors aside be those of the records, if all records but this many have one. Within a write transaction."""
    held = scalar(db, "SELECT count(*) FROM asides") if space == state.aside else 0
    if scalar(db, "SELECT count(*) FROM items INDEXED BY items_key") - held != without:
        return False
    breather = Breather()
    after = -(2**63)
    while True:
        rows = fetch(
            db,
            f"SELECT {STAMP_SQL}, items.doc >> 10, items.length, items.token, items.digest, items.tags, "  # noqa: S608 - our own column names
            "(SELECT crc FROM asides WHERE ord = items.doc >> 10), items.rowid "
            "FROM items NOT INDEXED WHERE rowid > ? ORDER BY rowid LIMIT ?",
            (after, STEP),
        )
        if not rows:
            break
        after = rows[-1][-1]
        changed = []
        for row in rows:
            breather.breathe()
            record = to_record(row[:-2])
            record.vcrc = row[-2]
            record.embedder = None if record.vcrc is None else space.embedder
            changed.append((row[-1], record.embedder, record.vcrc, record.seal()))
        _reseal(db, changed)
    db.execute("DROP TABLE vectors")
    db.execute("ALTER TABLE aside RENAME TO vectors")
    db.execute("CREATE TABLE aside(ord INTEGER PRIMARY KEY, v BLOB NOT NULL)")
    db.execute("DELETE FROM asides")
    state.space, state.aside = space, None
    renew(db, state)
    return True


def _reseal(db: apsw.Connection, rows: list[tuple[int, str | None, int | None, int]]) -> None:
    start = 0
    for size in (64, 8, 1):
        text = (
            f"WITH v AS (VALUES {','.join(['(?,?,?,?)'] * size)}) UPDATE items SET embedder = v.column2, "  # noqa: S608 - only placeholders
            "vcrc = v.column3, seal = v.column4 FROM v WHERE items.rowid = v.column1"
        )
        while len(rows) - start >= size:
            db.execute(text, [value for row in rows[start : start + size] for value in row])
            start += size
