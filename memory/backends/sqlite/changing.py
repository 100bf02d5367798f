"""Overwriting records in place: only the columns that differ are named, so only their index entries are rewritten.

Deleting and inserting instead would rewrite all of them, and the vectors' freed pages would be searched for room:
three to ten times the cost, growing with every pass.
"""

from __future__ import annotations

from typing import Any

import apsw
import msgspec

from memory.backends.sqlite.docs import LENGTH_BITS
from memory.backends.sqlite.indexing import index_texts, unindex
from memory.backends.sqlite.numbering import doc_of
from memory.backends.sqlite.planning import Plan, Record
from memory.backends.sqlite.statements import blobs, fetch, many, numbers
from memory.backends.sqlite.workers import Breather
from memory.ops import Put

FEW_TAGS = 8
"""So many entries are bound one by one: to bind an array costs as much as the entries of one record."""
TOGETHER = 8
"""With so many records whose same columns differ, one statement changes them all."""
_COMPARED = (
    *("accessed", "count", "expires", "kind", "user", "agent", "session", "importance", "embedder", "vcrc"),
    *("digest", "tags"),
)
_ALWAYS = ("version", "updated", "token", "crc", "seal", "body")


def tag_entries(key: bytes, tags: str | None) -> list[bytes]:
    """The entries of a record in the table of tags."""
    if tags is None:
        return []
    return [b"%b\0%b" % (tag.encode(), key) for tag in msgspec.json.decode(tags, type=list[str])]


class VectorChanges:
    """Whose vectors a group of writes changes."""

    def __init__(self) -> None:
        self.fresh: list[tuple[int, bytes]] = []
        self.gone: list[int] = []
        self.more = 0
        """How many more records have one."""

    def __bool__(self) -> bool:
        return bool(self.fresh or self.gone)

    def add(self, vectors: list[tuple[int, bytes]]) -> None:
        """Records that had none."""
        self.fresh += vectors
        self.more += len(vectors)

    def remove(self, orders: list[int]) -> None:
        """Records whose vector is gone."""
        self.gone += orders
        self.more -= len(orders)


def insert_tags(db: apsw.Connection, entries: list[bytes]) -> None:
    """Entries into the table of tags."""
    if len(entries) <= FEW_TAGS:
        many(db, "INSERT OR IGNORE INTO tags", [(entry,) for entry in entries])
    else:
        db.execute("INSERT OR IGNORE INTO tags SELECT value FROM carray(?)", (blobs(entries),))


def change(db: apsw.Connection, plan: Plan, pairs: list[tuple[Record, Record]], vectors: VectorChanges) -> None:
    """Records that keep their number: what was found, and what shall be there."""
    by_columns: dict[tuple[str, ...], list[tuple[Any, ...]]] = {}
    breather = Breather()
    names = [f"f{number}" for number in plan.fields.values()]
    for before, after in pairs:
        breather.breathe()
        columns, row = _differences(before, after, names)
        by_columns.setdefault(columns, []).append(row)
    for columns, rows in by_columns.items():
        _update(db, columns, rows)
    _change_tags(db, pairs)
    _change_vectors(db, pairs, vectors)
    _change_texts(db, pairs)


def _differences(before: Record, after: Record, names: list[str]) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    one = after.put
    assert one is not None
    assert type(one.op) is Put
    columns: list[str] = list(_ALWAYS)
    values: list[Any] = [after.version, after.updated, after.token, after.crc, after.seal(), one.op.body]
    for name in _COMPARED:
        value = getattr(after, name)
        if value != getattr(before, name):
            columns.append(name)
            values.append(value)
    if after.length != before.length:
        columns += ["length", "doc"]
        values += [after.length, doc_of(after)]
    for name, old, value in zip(names, before.columns, one.columns, strict=True):
        if old != value or type(old) is not type(value):
            columns.append(name)
            values.append(value)
    if columns[-1].startswith("f"):
        columns.append("fseal")
        values.append(one.fseal)
    return tuple(columns), (*values, after.key)


def _update(db: apsw.Connection, columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
    if len(rows) < TOGETHER:
        named = ", ".join(f"{name} = ?" for name in columns)
        for row in rows:
            db.execute(f"UPDATE items SET {named} WHERE key = ?", row)  # noqa: S608 - our own column names
        return
    named = ", ".join(f"{name} = v.column{i + 1}" for i, name in enumerate(columns))
    one = "(" + ",".join("?" * (len(columns) + 1)) + ")"
    for size in (64, TOGETHER, 1):
        text = (
            f"WITH v AS (VALUES {','.join([one] * size)}) UPDATE items SET {named} FROM v "  # noqa: S608 - our own column names
            f"WHERE items.key = v.column{len(columns) + 1}"
        )
        while len(rows) >= size:
            part, rows = rows[:size], rows[size:]
            db.execute(text, [value for row in part for value in row])


def _change_tags(db: apsw.Connection, pairs: list[tuple[Record, Record]]) -> None:
    pairs = [(before, after) for before, after in pairs if before.tags != after.tags]
    old = [entry for before, _ in pairs for entry in tag_entries(before.key, before.tags)]
    new = [entry for _, after in pairs if after.put is not None for entry in after.put.entries]
    if old:
        db.execute("DELETE FROM tags WHERE entry IN (SELECT value FROM carray(?))", (blobs(old),))
    if new:
        insert_tags(db, new)


def _change_vectors(db: apsw.Connection, pairs: list[tuple[Record, Record]], changes: VectorChanges) -> None:
    gone: list[int] = []
    new: list[tuple[int, bytes]] = []
    for before, after in pairs:
        order, put = after.order, after.put
        if order is None or put is None or type(put.op) is not Put:
            continue
        embedding = put.op.embedding
        if embedding is None:
            if before.vcrc is not None:
                gone.append(order)
        elif before.vcrc is None:
            new.append((order, embedding))
        elif before.vcrc == after.vcrc:
            # Very likely the same, and then no page of the log is written for it.
            db.execute("UPDATE vectors SET v = ?1 WHERE ord = ?2 AND v <> ?1", (embedding, order))
            if db.changes():
                changes.fresh.append((order, embedding))
        else:
            # Of the same size it is overwritten where it lies.
            db.execute("UPDATE vectors SET v = ? WHERE ord = ?", (embedding, order))
            changes.fresh.append((order, embedding))
    if gone:
        db.execute("DELETE FROM vectors WHERE ord IN (SELECT value FROM carray(?))", (numbers(gone),))
        changes.remove(gone)
    if new:
        many(db, "INSERT OR REPLACE INTO vectors", new)
        changes.add(new)


def _change_texts(db: apsw.Connection, pairs: list[tuple[Record, Record]]) -> None:
    known: dict[int, str] = {}
    orders = [before.order for before, _ in pairs if before.length and before.order is not None]
    if orders:
        known = dict(
            fetch(db, "SELECT ord, terms FROM texts WHERE ord IN (SELECT value FROM carray(?))", (numbers(orders),))
        )
    out: list[int] = []
    into: list[tuple[int, str]] = []
    for before, after in pairs:
        assert after.put is not None
        old = known.get(before.order) if before.order is not None else None
        if old == after.put.text and before.length == after.length:
            continue
        if before.length:
            out.append(doc_of(before))
        if after.put.text is not None:
            into.append((doc_of(after), after.put.text))
    if out:
        db.execute(
            "DELETE FROM texts WHERE ord IN (SELECT value FROM carray(?))", (numbers(d >> LENGTH_BITS for d in out),)
        )
        unindex(db, out)
    if into:
        many(db, "INSERT OR REPLACE INTO texts", [(doc >> LENGTH_BITS, text) for doc, text in into])
        index_texts(db, into)
