"""Writing a plan: the same few statements however many records a group holds."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec

from memory.backends.sqlite.docs import BUCKET_SHIFT, LENGTH_BITS, SEQUENCE_BITS, bucket_of, term_text, with_length
from memory.backends.sqlite.planning import Plan, Record, projections
from memory.backends.sqlite.statements import fetch, scalar
from memory.backends.sqlite.workers import Breather
from memory.model import path_bytes

DIRECT = 64
"""With this many new texts in a group they go to the text index at once; fewer wait in ``pending``."""
PENDING = 256
"""So many waiting texts are moved to the index together. One text alone costs FTS5 100 µs, in a batch 5."""
_MAX_SQL = 15_000  # apsw keeps no statement of more than 16 KiB for the next time

_ITEM_COLUMNS = (
    "key, path, doc, version, created, updated, accessed, count, expires, kind, user, agent, session, importance, "
    "embedder, length, digest, token, tags, crc, vcrc, seal, body"
)
_ITEM_WIDTH = 23
_statements: dict[tuple[str, int, int], str] = {}


def many(db: apsw.Connection, head: str, rows: Sequence[Sequence[Any]], tail: str = "") -> None:
    """``head VALUES (...), (...) tail`` over all rows, in chunks whose statements are few and stay prepared."""
    width, start = len(rows[0]), 0
    most = min(256, _MAX_SQL // (2 * width + 2))
    for size in (most, 32, 4, 1):
        while len(rows) - start >= size:
            statement = _statements.get((head, width, size))
            if statement is None:
                row = "(" + ",".join("?" * width) + ")"
                statement = _statements[head, width, size] = f"{head} VALUES {','.join([row] * size)}{tail}"
            db.execute(statement, [value for row in rows[start : start + size] for value in row])
            start += size


def blobs(values: Iterable[bytes]) -> Any:
    """Bytes as one bound array."""
    return apsw.carray(tuple(values))


def numbers(values: Iterable[int]) -> Any:
    """Ints as one bound array."""
    return apsw.carray(array("q", values))


def apply_plan(db: apsw.Connection, plan: Plan) -> None:
    """Write the plan's net effect. Within the write transaction."""
    if not plan.after:
        return
    gone: list[Record] = []
    new: list[Record] = []
    touched: list[Record] = []
    for key, after in plan.after.items():
        before = plan.before.get(key)
        if after is not None and after.body is None:
            touched.append(after)
            continue
        if before is not None:
            gone.append(before)
        if after is not None:
            new.append(after)
    _number(db, new)  # before anything is removed: a replaced record keeps its number
    if gone:
        _remove(db, gone)
    if new:
        _insert(db, plan, new)
    if touched:
        _touch(db, touched)
    if plan.buried:
        many(
            db,
            "INSERT OR REPLACE INTO graves",
            [(key, version, token, at) for key, (version, token, at) in plan.buried.items()],
        )
    if plan.events:
        many(db, "INSERT OR FAIL INTO feed", plan.events)
    db.execute("UPDATE counter SET version = ?", (plan.version,))


def tag_entries(key: bytes, tags: str | None) -> list[bytes]:
    """The entries of a record in the table of tags."""
    if tags is None:
        return []
    return [b"%b\0%b" % (tag.encode(), key) for tag in msgspec.json.decode(tags, type=list[str])]


def _remove(db: apsw.Connection, gone: list[Record]) -> None:
    if len(gone) == 1:
        db.execute("DELETE FROM items WHERE key = ?", (gone[0].key,))
    else:
        db.execute("DELETE FROM items WHERE key IN (SELECT value FROM carray(?))", (blobs(r.key for r in gone),))
    entries = [entry for record in gone for entry in tag_entries(record.key, record.tags)]
    if entries:
        db.execute("DELETE FROM tags WHERE entry IN (SELECT value FROM carray(?))", (blobs(entries),))
    vectors = [record.order for record in gone if record.vcrc is not None and record.order is not None]
    if vectors:
        db.execute("DELETE FROM vectors WHERE ord IN (SELECT value FROM carray(?))", (numbers(vectors),))
    docs = [with_length(r.order, r.length) for r in gone if r.length and r.order is not None]
    if docs:
        db.execute(
            "DELETE FROM texts WHERE ord IN (SELECT value FROM carray(?))",
            (numbers(doc >> LENGTH_BITS for doc in docs),),
        )
        waiting = fetch(
            db, "DELETE FROM pending WHERE doc IN (SELECT value FROM carray(?)) RETURNING doc", (numbers(docs),)
        )
        indexed = set(docs).difference(doc for (doc,) in waiting)
        if indexed:
            db.execute("DELETE FROM words WHERE rowid IN (SELECT value FROM carray(?))", (numbers(indexed),))


def _insert(db: apsw.Connection, plan: Plan, new: list[Record]) -> None:
    if len(new) > 1:
        new.sort(key=lambda record: record.key)  # neighbours in the file are written together
    columns = _ITEM_COLUMNS + "".join(f", f{number}" for number in plan.fields.values())
    rows, texts, entries, vectors = [], [], [], []
    breather = Breather()
    for r in new:
        breather.breathe()
        op = r.put
        assert op is not None and r.order is not None
        doc = with_length(r.order, r.length)
        rows.append(
            (
                *(r.key, path_bytes(op.key[0]), doc, r.version, r.created, r.updated, r.accessed, r.count, r.expires),
                *(r.kind, r.user, r.agent, r.session, r.importance, r.embedder, r.length, r.digest, r.token, r.tags),
                *(r.crc, r.vcrc, r.seal(), r.body),
                *projections(r, plan.fields),
            )
        )
        if op.terms:
            texts.append((doc, term_text(op.terms, op.key[0], r.user, r.agent, r.session)))
        entries += tag_entries(r.key, r.tags)
        if op.embedding is not None:
            vectors.append((r.order, op.embedding))
    many(db, f"INSERT OR FAIL INTO items({columns})", rows)
    if entries:
        db.execute("INSERT OR IGNORE INTO tags SELECT value FROM carray(?)", (blobs(entries),))
    if vectors:
        many(db, "INSERT OR FAIL INTO vectors", vectors)
    if texts:
        _index(db, texts)
    if scalar(db, "SELECT 1 FROM graves LIMIT 1") is not None:
        db.execute("DELETE FROM graves WHERE key IN (SELECT value FROM carray(?))", (blobs(r.key for r in new),))


def _index(db: apsw.Connection, texts: list[tuple[int, str]]) -> None:
    """``texts``: doc number and what the text index gets for it."""
    many(db, "INSERT OR FAIL INTO texts", [(doc >> LENGTH_BITS, terms) for doc, terms in texts])
    if len(texts) >= DIRECT:
        # One statement: FTS5 writes out what it has gathered at the end of each.
        texts.sort()
        packed = msgspec.json.encode(texts).decode()
        db.execute("INSERT INTO words(rowid, terms) SELECT value ->> 0, value ->> 1 FROM json_each(?)", (packed,))
        return
    many(db, "INSERT OR FAIL INTO pending", [(doc,) for doc, _ in texts])
    if scalar(db, "SELECT count(*) FROM pending") >= PENDING:
        flush_pending(db)


def flush_pending(db: apsw.Connection) -> None:
    """Move waiting texts into the text index. Within a write transaction."""
    db.execute(
        "INSERT INTO words(rowid, terms) SELECT doc, terms FROM pending CROSS JOIN texts ON ord = doc >> 10 ORDER BY doc; "
        "DELETE FROM pending"
    )


def _number(db: apsw.Connection, new: list[Record]) -> None:
    """Give each record that has none the next free numbers of its bucket, in the order of the candidate rule."""
    buckets: dict[int, list[Record]] = {}
    for record in new:
        if record.order is None:
            buckets.setdefault(bucket_of(record.created), []).append(record)
    if not buckets:
        return
    last_of_each = fetch(
        db,
        "SELECT c.value, last.doc, last.created, last.key FROM carray(?1) c LEFT JOIN items last INDEXED BY items_doc "
        "ON last.doc = (SELECT max(doc) FROM items WHERE doc >= c.value << ?2 AND doc < (c.value + 1) << ?2)",
        (numbers(buckets), BUCKET_SHIFT),
    )
    mixed: list[int] = []
    spilled = None
    for bucket, doc, created, key in last_of_each:
        records = buckets[bucket]
        records.sort(key=lambda record: record.key, reverse=True)
        records.sort(key=lambda record: record.created)
        if doc is not None and (
            created > records[0].created or (created == records[0].created and key < records[0].key)
        ):
            mixed.append(bucket)
        following = (bucket << SEQUENCE_BITS) if doc is None else (doc >> LENGTH_BITS) + 1
        end = (bucket + 1) << SEQUENCE_BITS
        for record in records:
            if following < end:
                record.order = following
                following += 1
                continue
            if spilled is None:
                spilled = min(0, (scalar(db, "SELECT min(doc) FROM items") or 0) >> LENGTH_BITS)
            spilled -= 1
            record.order = spilled
    if mixed:
        db.execute("INSERT OR IGNORE INTO mixed SELECT value FROM carray(?)", (numbers(mixed),))


def _touch(db: apsw.Connection, touched: list[Record]) -> None:
    rows = [(r.key, r.version, r.accessed, r.count, r.expires, r.token, r.seal()) for r in touched]
    if len(rows) == 1:
        row = rows[0]
        db.execute(
            "UPDATE items SET version = ?, accessed = ?, count = ?, expires = ?, token = ?, seal = ? WHERE key = ?",
            (*row[1:], row[0]),
        )
        return
    for start in range(0, len(rows), 128):
        part = rows[start : start + 128]
        values = ",".join(["(?,?,?,?,?,?,?)"] * len(part))
        db.execute(
            f"WITH v AS (VALUES {values}) UPDATE items SET version = v.column2, accessed = v.column3, "  # noqa: S608 - only placeholders
            "count = v.column4, expires = v.column5, token = v.column6, seal = v.column7 "
            "FROM v WHERE items.key = v.column1",
            [value for row in part for value in row],
        )
