"""Documents into the text index, and out of it."""

from __future__ import annotations

import apsw
import msgspec

from memory.backends.sqlite.statements import fetch, many, numbers

DIRECT = 32
"""With this many new texts in a group they go to the text index at once; fewer wait in ``pending``."""
PENDING = 64
"""So many waiting texts are moved to the index together, by the writer. One text alone costs FTS5 100 µs, in a batch 5;
each that waits costs a search 2 µs."""


def unindex(db: apsw.Connection, docs: list[int]) -> None:
    """Take documents out of the text index, or off the list of those that wait for it."""
    waiting = fetch(
        db, "DELETE FROM pending WHERE doc IN (SELECT value FROM carray(?)) RETURNING doc", (numbers(docs),)
    )
    indexed = set(docs).difference(doc for (doc,) in waiting)
    if indexed:
        db.execute("DELETE FROM words WHERE rowid IN (SELECT value FROM carray(?))", (numbers(indexed),))


def index_texts(db: apsw.Connection, texts: list[tuple[int, str]]) -> None:
    """Put documents into the text index, or on the list of those that wait for it."""
    if len(texts) >= DIRECT:
        # One statement: FTS5 writes out what it has gathered at the end of each.
        texts.sort()
        packed = msgspec.json.encode(texts).decode()
        db.execute("INSERT INTO words(rowid, terms) SELECT value ->> 0, value ->> 1 FROM json_each(?)", (packed,))
        return
    many(db, "INSERT OR FAIL INTO pending", [(doc,) for doc, _ in texts])


def flush_pending(db: apsw.Connection) -> None:
    """Move waiting texts into the text index. Within a write transaction."""
    db.execute(
        "INSERT INTO words(rowid, terms) SELECT doc, terms FROM pending CROSS JOIN texts ON ord = doc >> 10 ORDER BY doc; "
        "DELETE FROM pending"
    )
