"""repair where every page can be read: damaged records set aside, everything derived built anew in the file itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apsw
import msgspec

from memory.backends.sqlite.changing import tag_entries
from memory.backends.sqlite.docs import LENGTH_BITS, term_text, with_length
from memory.backends.sqlite.layout import TEXT_INDEX
from memory.backends.sqlite.records import FULL_SQL, field_seal, is_whole, to_row
from memory.backends.sqlite.schema import column_value, declared
from memory.backends.sqlite.statements import blobs, fetch, many
from memory.backends.sqlite.upgrading import common_space
from memory.backends.sqlite.vectorcheck import repair_vectors
from memory.backends.sqlite.verifying import OUT_OF_ORDER, STEP, known_key, rises
from memory.backends.sqlite.workers import Breather
from memory.codec import content_hash, decode
from memory.errors import CorruptData
from memory.keys import encode_key
from memory.model import path_bytes
from memory.search.analysis import Analyser
from memory.store.types import RepairReport


def repair_within(db: apsw.Connection, language: str, now: int) -> RepairReport:
    """Set damaged records aside and build everything derived anew, in one transaction of the writer's thread.

    Raises CorruptData or SQLite's errors, with nothing changed, where pages cannot be read.
    """
    actions: list[str] = []
    db.execute("BEGIN IMMEDIATE")
    try:
        quarantined = _set_aside(db, now)
        if quarantined:
            actions.append(f"set {len(quarantined)} damaged records aside in the table quarantine")
        db.execute("REINDEX")
        actions.append("built the indexes anew")
        rebuild(db, Analyser(language))
        actions.append(
            "built the text index, the tags, the declared fields and the codes of vectors anew from the records"
        )
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("PRAGMA wal_checkpoint(PASSIVE)")
    return RepairReport(actions, quarantined)


def _set_aside(db: apsw.Connection, now: int) -> list[str]:
    names: list[str] = []
    breather = Breather()
    for rows in _batches(db):
        for row in rows:
            breather.breathe()
            why = why_damaged(row)
            if why is None:
                continue
            names.append(name_of(row[1]))
            db.execute("INSERT INTO quarantine VALUES (?, ?, ?, ?)", (row[1], now, why, row[0]))
            db.execute("DELETE FROM items NOT INDEXED WHERE rowid = ?", (row[18],))
    return names


def _batches(db: apsw.Connection) -> Iterator[list[tuple[Any, ...]]]:
    """All records as selected by FULL_SQL, each with its row number and the number of its text, some at a time."""
    after = -(2**63)
    while True:
        rows = fetch(
            db,
            f"SELECT {FULL_SQL}, rowid, doc FROM items NOT INDEXED WHERE rowid > ? ORDER BY rowid LIMIT ?",  # noqa: S608 - our own column names
            (after, STEP),
        )
        if not rows:
            return
        if not rises(after, rows):
            raise CorruptData("the table of records does not end")
        after = rows[-1][18]
        yield rows


def name_of(raw: Any) -> str:
    """A record that could not be saved, by its key."""
    key = known_key(raw)
    return "a record whose key is lost" if key is None else "/".join((*key[0], key[1]))


def why_damaged(row: tuple[Any, ...]) -> str | None:
    """What is wrong with a record as selected by FULL_SQL; None: it is whole."""
    if not is_whole(row[:18]):
        return "checksum"
    try:
        item = decode(to_row(row[:18]))
    except CorruptData:
        return "undecodable"
    return None if encode_key(item.key) == row[1] else "filed under another key"


def rebuild(db: apsw.Connection, analyser: Analyser) -> None:
    """Everything that is derived from the records, which are all whole. Within a write transaction."""
    db.execute("DROP TABLE words; DELETE FROM tags; DELETE FROM pending; DELETE FROM texts; DELETE FROM mixed")
    db.execute(TEXT_INDEX)
    repair_vectors(db, common_space(db)[0])
    db.execute("UPDATE counter SET version = 1 + max(version, coalesce((SELECT max(version) FROM items), 0))")
    db.execute(f"INSERT INTO mixed {OUT_OF_ORDER}")
    fields = declared(db)
    breather = Breather()
    for rows in _batches(db):
        texts: list[tuple[int, str]] = []
        entries: list[bytes] = []
        for row in rows:
            breather.breathe()
            item = decode(to_row(row[:18]))
            counts, length = analyser.counts(item.searchable)
            doc = with_length(row[19] >> LENGTH_BITS, length)
            tags = msgspec.json.encode(item.tags).decode() if item.tags else None
            values = [column_value(item.metadata, parts[1:]) for parts in fields]
            columns = ", fseal = ?" + "".join(f", f{number} = ?" for number in fields.values())
            db.execute(
                f"UPDATE items SET path = ?, doc = ?, length = ?, digest = ?, tags = ?{columns} WHERE rowid = ?",  # noqa: S608 - numbers
                (
                    path_bytes(item.namespace),
                    doc,
                    length,
                    content_hash(item),
                    tags,
                    field_seal(row[1], values),
                    *values,
                    row[18],
                ),
            )
            entries += tag_entries(row[1], tags)
            if counts:
                texts.append((doc, term_text(counts, item.namespace, item.user_id, item.agent_id, item.session_id)))
        if entries:
            db.execute("INSERT OR IGNORE INTO tags SELECT value FROM carray(?)", (blobs(entries),))
        if texts:
            texts.sort()
            many(db, "INSERT INTO texts", [(doc >> LENGTH_BITS, terms) for doc, terms in texts])
            packed = msgspec.json.encode(texts).decode()
            db.execute("INSERT INTO words(rowid, terms) SELECT value ->> 0, value ->> 1 FROM json_each(?)", (packed,))
