"""What every group of writes asks of the file first, in one question."""

from __future__ import annotations

import apsw
import msgspec

from memory.backends.sqlite.spaces import STATE_SQL, VectorState, vector_state
from memory.backends.sqlite.statements import first
from memory.errors import CorruptData


class State(msgspec.Struct, frozen=True):
    """Where a file stands."""

    layout: int
    version: int
    feed: int | None
    pending: int
    """Texts that wait for the index."""
    graves: int
    """Whether there are tombstones."""
    vectors: VectorState


def read_state(db: apsw.Connection) -> State:
    """Within the write transaction. Raises CorruptData."""
    found = first(
        db,
        "SELECT layout, version, feed, (SELECT count(*) FROM pending), EXISTS (SELECT 1 FROM graves), "  # noqa: S608 - our own column names
        f"{STATE_SQL} FROM counter",
    )
    if found is None:
        raise CorruptData("the file has lost its counter. Restore a backup")
    layout, version, feed, pending, graves = found[:5]
    return State(layout, version, feed, pending, graves, vector_state(found[5:]))
