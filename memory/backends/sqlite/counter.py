"""What a group of writes asks of the file first, in one question: the row of ``counter``, and what waits or lies buried."""

from __future__ import annotations

import apsw
import msgspec

from memory.backends.sqlite.spaces import STATE_SQL, VectorState, vector_state
from memory.backends.sqlite.statements import first
from memory.errors import CorruptData


class Counter(msgspec.Struct, frozen=True):
    """What every group of writes asks of the file first."""

    layout: int
    version: int
    feed: int | None
    pending: int
    """Texts that wait for the index."""
    graves: bool
    """Whether there are tombstones."""
    vectors: VectorState


def read_counter(db: apsw.Connection) -> Counter:
    """Within the write transaction."""
    found = first(
        db,
        "SELECT layout, version, feed, (SELECT count(*) FROM pending), EXISTS (SELECT 1 FROM graves), "  # noqa: S608 - our own column names
        f"{STATE_SQL} FROM counter",
    )
    if found is None:
        raise CorruptData("the file has lost its counter. Restore a backup")
    layout, version, feed, pending, graves = found[:5]
    return Counter(layout, version, feed, pending, bool(graves), vector_state(found[5:]))
