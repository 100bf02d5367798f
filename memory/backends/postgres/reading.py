"""Point reads: those of one turn of the loop are one statement; each is held to its own scope and time here."""

from __future__ import annotations

from typing import Any

from memory.backends.postgres.records import JOINED, ROW, VECTOR, VECTOR_AS_BYTES, to_row
from memory.ops import Row, Scope

OWNER = ", r.user_id, r.agent_id, r.session_id"


def statement(vectors: bool, *, one: bool) -> str:
    """The template that reads records by key. ``vectors``: there is pgvector's type."""
    columns = ROW + (VECTOR if vectors else VECTOR_AS_BYTES) + OWNER
    wanted = "r.key = $1" if one else "r.key = ANY($1::bytea[])"
    return f"SELECT {columns} FROM $records r{JOINED} WHERE {wanted} AND r.body IS NOT NULL"  # noqa: S608 - our own names


def seen(found: Any, scope: Scope, now: int) -> Row | None:
    """The row of a record if it is live and in scope. Raises CorruptData."""
    if found is None:
        return None
    expires = found[8]
    if expires is not None and expires <= now:
        return None
    if not scope.covers_owner(found[13], found[14], found[15]):
        return None
    return to_row(found, vector=True)
