"""Writing a plan: the same few statements however many records a group holds."""

from __future__ import annotations

import apsw

from memory.backends.sqlite.changing import VectorChanges, change, insert_tags, tag_entries
from memory.backends.sqlite.docs import LENGTH_BITS
from memory.backends.sqlite.indexing import index_texts, unindex
from memory.backends.sqlite.numbering import doc_of, number_records
from memory.backends.sqlite.planning import Plan, Record
from memory.backends.sqlite.spaces import save_state
from memory.backends.sqlite.statements import blobs, many, numbers
from memory.backends.sqlite.vectorlog import log_changes
from memory.backends.sqlite.workers import Breather
from memory.ops import Put

_ITEM_COLUMNS = (
    "key, path, doc, version, created, updated, accessed, count, expires, kind, user, agent, session, importance, "
    "embedder, length, digest, token, tags, crc, vcrc, seal, fseal, body"
)


def apply_plan(db: apsw.Connection, plan: Plan) -> None:
    """Write the plan's net effect. Within the write transaction."""
    if not plan.after:
        return
    gone: list[Record] = []
    new: list[Record] = []
    changed: list[tuple[Record, Record]] = []
    touched: list[Record] = []
    for key, after in plan.after.items():
        before = plan.before.get(key)
        if after is not None and after.put is None:
            touched.append(after)
        elif after is not None and before is not None and after.order is not None:
            changed.append((before, after))
        else:
            if before is not None:
                gone.append(before)
            if after is not None:
                new.append(after)
    number_records(db, new)  # before anything is removed: numbers are never given twice
    vectors = VectorChanges()
    if gone:
        _remove(db, gone, vectors)
    if new:
        _insert(db, plan, new, vectors)
    if changed:
        change(db, plan, changed, vectors)
    if plan.vectors.aside is not None:
        # Made of a text that is another now.
        written = [r.order for r in [*gone, *(before for before, _ in changed)] if r.order is not None]
        for table in ("aside", "asides") if written else ():
            db.execute(f"DELETE FROM {table} WHERE ord IN (SELECT value FROM carray(?))", (numbers(written),))  # noqa: S608 - our own names
    if touched:
        _touch(db, touched)
    if plan.buried:
        graves = [(key, version, token, at) for key, (version, token, at) in plan.buried.items()]
        many(db, "INSERT OR REPLACE INTO graves", graves)
    if plan.events:
        many(db, "INSERT OR FAIL INTO feed", plan.events)
    db.execute("UPDATE counter SET version = ?", (plan.version,))
    if vectors or plan.vectors.space != plan.space:
        plan.vectors.vectors += vectors.more
        log_changes(db, plan.vectors, vectors.fresh, vectors.gone)
        save_state(db, plan.vectors)


def _remove(db: apsw.Connection, gone: list[Record], changes: VectorChanges) -> None:
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
        changes.remove(vectors)
    docs = [doc_of(record) for record in gone if record.length]
    if docs:
        orders = numbers(doc >> LENGTH_BITS for doc in docs)
        db.execute("DELETE FROM texts WHERE ord IN (SELECT value FROM carray(?))", (orders,))
        unindex(db, docs)


def _insert(db: apsw.Connection, plan: Plan, new: list[Record], changes: VectorChanges) -> None:
    if len(new) > 1:
        new.sort(key=lambda record: record.key)  # neighbours in the file are written together
    columns = _ITEM_COLUMNS + "".join(f", f{number}" for number in plan.fields.values())
    rows, texts = [], []
    entries: list[bytes] = []
    vectors: list[tuple[int, bytes]] = []
    breather = Breather()
    for r in new:
        breather.breathe()
        one = r.put
        assert one is not None
        assert type(one.op) is Put
        doc = doc_of(r)
        rows.append(
            (
                *(r.key, one.path, doc, r.version, r.created, r.updated, r.accessed, r.count, r.expires),
                *(r.kind, r.user, r.agent, r.session, r.importance, r.embedder, r.length, r.digest, r.token, r.tags),
                *(r.crc, r.vcrc, r.seal(), one.fseal, one.op.body),
                *one.columns,
            )
        )
        if one.text is not None:
            texts.append((doc, one.text))
        if one.entries:
            entries += one.entries
        if one.op.embedding is not None and r.order is not None:
            vectors.append((r.order, one.op.embedding))
    many(db, f"INSERT OR FAIL INTO items({columns})", rows)
    if entries:
        insert_tags(db, entries)
    if vectors:
        many(db, "INSERT OR FAIL INTO vectors", vectors)
        changes.add(vectors)
    if texts:
        many(db, "INSERT OR FAIL INTO texts", [(doc >> LENGTH_BITS, text) for doc, text in texts])
        index_texts(db, texts)
    if plan.has_graves:
        db.execute("DELETE FROM graves WHERE key IN (SELECT value FROM carray(?))", (blobs(r.key for r in new),))


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
