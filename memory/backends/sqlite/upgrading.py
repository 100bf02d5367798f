"""From an older layout to the one of today.

1 to 2: the vectors get a space, a log and room for those of another embedder. 2 to 3: codes are cut of vectors in a
rotation (`memory.backends.sqlite.rotation`). The old ones are dropped and every vector is named by moves, so new ones are made as
they are after many small writes: by the writer's thread once the store is open, a piece at a time.
"""

from __future__ import annotations

from typing import Any

import apsw

from memory.backends.sqlite.layout import SCHEMA_VERSION, VECTOR_TABLES
from memory.backends.sqlite.records import COLUMNS, STAMP_SQL, seal
from memory.backends.sqlite.spaces import read_state, save_state
from memory.backends.sqlite.statements import fetch
from memory.backends.sqlite.vectorlog import renew
from memory.ops import Space
from memory.telemetry import get_logger

_log = get_logger("sqlite")
_PLACE = {name: place for place, name in enumerate(COLUMNS)}


def upgrade(db: apsw.Connection, path: str) -> None:
    """In one transaction; another process may have been faster. Blocking."""
    db.execute("BEGIN IMMEDIATE")
    try:
        version = db.pragma("user_version")
        if version < SCHEMA_VERSION:
            if version == 1:
                db.execute(VECTOR_TABLES)
            state = read_state(db)
            if version == 1:
                state.space, others = common_space(db)
                if others:
                    _take_off(db, state.space)
                    _log.warning("vectors of another space taken off, to be made anew", path=path, records=others)
            renew(db, state)
            save_state(db, state)
            db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            _log.info("upgraded", path=path, layout=SCHEMA_VERSION)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def common_space(db: apsw.Connection) -> tuple[Space | None, int]:
    """The space that most vectors lie in, and how many lie elsewhere."""
    found = fetch(
        db,
        "SELECT items.embedder, length(v) / 4, count(*) FROM items CROSS JOIN vectors ON ord = items.doc >> 10 "
        "WHERE items.vcrc IS NOT NULL AND length(v) > 0 GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2",
    )
    if not found:
        return None, 0
    return Space(*found[0][:2]), sum(count for _, _, count in found[1:])


def _take_off(db: apsw.Connection, space: Space | None) -> None:
    """Records with a vector that does not lie in the space lose it, and owe one of its embedder."""
    assert space is not None
    rows = fetch(
        db,
        f"SELECT {STAMP_SQL}, items.doc >> 10 FROM items CROSS JOIN vectors ON ord = items.doc >> 10 "  # noqa: S608 - our own column names
        "WHERE items.vcrc IS NOT NULL AND (items.embedder IS NOT ? OR length(v) <> ?)",
        (space.embedder, 4 * space.dimension),
    )
    for row in rows:
        columns: list[Any] = list(row[: len(COLUMNS) - 1])
        if seal(*columns) != row[_PLACE["seal"]]:
            continue  # damaged: stays as it is, for verify to find
        columns[_PLACE["embedder"]] = space.embedder if space.embedder is not None else row[_PLACE["embedder"]]
        columns[_PLACE["vcrc"]] = None
        db.execute(
            "UPDATE items SET embedder = ?, vcrc = NULL, seal = ? WHERE key = ?",
            (columns[_PLACE["embedder"]], seal(*columns), row[0]),
        )
        db.execute("DELETE FROM vectors WHERE ord = ?", (row[-1],))
