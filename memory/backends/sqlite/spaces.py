"""The space of a file's vectors, and where their log stands: what ``counter`` says of them, read within a transaction."""

from __future__ import annotations

from typing import Any

import apsw
import msgspec

from memory.backends.sqlite.faults import taken_out
from memory.backends.sqlite.records import FULL_SQL, is_whole
from memory.backends.sqlite.statements import fetch, first
from memory.errors import CorruptData
from memory.ops import Space

WORTH = 512
"""So many waiting moves become a chunk of codes."""
STALE = 8_192
"""So many stale codes, beside a quarter of all, and the chunks are written anew."""
_ASKED = 8
"""Records that are asked who made their vectors: the first that is whole decides."""
STATE_SQL = "version, vectors, seq, waiting, coded, era, embedder, dimension, next_embedder, next_dimension"


class VectorState(msgspec.Struct):
    """What ``counter`` says of the vectors. Changed by a write transaction, and saved in it."""

    version: int = 0
    """Of the store; changes with every write of a record."""

    vectors: int = 0
    """Records that have one."""
    seq: int = 0
    """Number of the last entry of the log of changed vectors."""
    waiting: int = 0
    """Changes in ``moves``, which have no codes yet."""
    coded: int = 0
    """Codes in ``codes``, with those that a later change has made stale."""
    era: int = 0
    """Changes when the log is written anew: what was learnt from it before is of no use then."""
    space: Space | None = None
    aside: Space | None = None
    """The space of the vectors kept aside."""


def space_of(state: VectorState) -> Space | None:
    """The space of the vectors, None before the first. Raises CorruptData where there are vectors and no space."""
    if state.space is None and state.vectors:
        raise CorruptData("the space of the vectors is lost. Run 'memory verify', then 'memory repair'")
    return state.space


def is_stale(state: VectorState) -> bool:
    """Whether so many codes are stale that they should be written anew."""
    return state.coded > state.vectors + state.vectors // 4 + STALE


def is_worth_packing(state: VectorState) -> bool:
    """Whether so many moves wait that they should become codes."""
    return state.waiting >= WORTH


def vector_state(row: tuple[Any, ...]) -> VectorState:
    """The state from the columns of STATE_SQL. Raises CorruptData."""
    if set(map(type, row[:6])) != {int}:
        raise CorruptData("the file's counter is damaged. Restore a backup")
    version, vectors, seq, waiting, coded, era, embedder, dimension, next_embedder, next_dimension = row
    return VectorState(
        version, vectors, seq, waiting, coded, era, _space(embedder, dimension), _space(next_embedder, next_dimension)
    )


def _space(embedder: str | None, dimension: int | None) -> Space | None:
    return None if dimension is None else Space(embedder, dimension)


def read_state(db: apsw.Connection) -> VectorState:
    """The state as it is now."""
    row = first(db, f"SELECT {STATE_SQL} FROM counter")  # noqa: S608 - our own column names
    return VectorState() if row is None else vector_state(row)


def check_named_embedder(db: apsw.Connection, state: VectorState, embedder: str) -> None:
    """Raises CorruptData where the file names another embedder than this one, and its records do not. Within a read transaction.

    What ``counter`` holds has no checksum, records have: a changed byte of the name must not pass for vectors of another embedder.
    """
    if state.space is None or state.space.embedder == embedder:
        return
    sample = fetch(
        db,
        f"SELECT {FULL_SQL} FROM vectors CROSS JOIN items ON items.doc BETWEEN vectors.ord << 10 AND vectors.ord << 10 | 1023 "  # noqa: S608 - our own column names
        "ORDER BY vectors.ord LIMIT ?",
        (_ASKED,),
    )
    for record in sample:
        if is_whole(record):
            if record[13] != state.space.embedder:
                raise CorruptData(
                    f"{db.filename} and its records do not name the same embedder. {taken_out(db.filename)}",
                    path=db.filename,
                )
            return


def save_state(db: apsw.Connection, state: VectorState) -> None:
    """Write the state. Within a write transaction."""
    space, aside = state.space, state.aside
    db.execute(
        "UPDATE counter SET vectors = ?, seq = ?, waiting = ?, coded = ?, era = ?, embedder = ?, dimension = ?, "
        "next_embedder = ?, next_dimension = ?",
        (
            *(state.vectors, state.seq, state.waiting, state.coded, state.era),
            *((None, None) if space is None else (space.embedder, space.dimension)),
            *((None, None) if aside is None else (aside.embedder, aside.dimension)),
        ),
    )
