"""Point reads: those of one turn of the loop are one statement; each is held to its own scope and time here."""

from __future__ import annotations

from typing import Any

from memory.backends.postgres.records import JOINED, ROW, VECTOR, to_row
from memory.ops import Row, Scope

OWNER = ", r.user_id, r.agent_id, r.session_id"


_READ = f"SELECT {ROW}{VECTOR}{OWNER} FROM $records r{JOINED} WHERE r.body IS NOT NULL AND r.key = "  # noqa: S608 - our own names
ONE = _READ + "$1"
MANY = _READ + "ANY($1::bytea[])"


def seen(found: Any, scope: Scope, now: int) -> Row | None:
    """The row of a record if it is live and in scope. Raises CorruptData."""
    if found is None:
        return None
    expires = found[8]
    if expires is not None and expires <= now:
        return None
    if not scope.covers_owner(found[12], found[13], found[14]):
        return None
    return to_row(found, vector=True)
