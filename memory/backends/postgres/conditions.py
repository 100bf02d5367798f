"""The conditions that every read shares: live, in scope, past a position, and as much of the filter as SQL can say."""

from __future__ import annotations

from memory.backends.postgres.compiling import MARK, Sql, compile_filter
from memory.filters import Filter
from memory.keys import encode_key, key_range
from memory.ops import Order, Position, Scope

COLUMNS = {
    "created_at": "r.created",
    "updated_at": "r.updated",
    "accessed_at": "r.accessed",
    "importance": "r.importance",
}


def live(now: int) -> Sql:
    """Not deleted and not expired."""
    return Sql(f"r.body IS NOT NULL AND (r.expires IS NULL OR r.expires > {MARK}::int8)", (now,))


def within(scope: Scope) -> list[Sql | None]:
    """In the scope's namespaces, and its owner's."""
    parts: list[Sql | None] = []
    span = key_range(scope)
    if span is not None:
        parts.append(Sql(f"r.key >= {MARK}::bytea AND r.key < {MARK}::bytea", span))
    for column, value in (("user_id", scope.user_id), ("agent_id", scope.agent_id), ("session_id", scope.session_id)):
        if value is not None:
            parts.append(Sql(f"r.{column} = {MARK}::text", (value,)))
    return parts


def visible(scope: Scope, now: int, where: Filter | None) -> tuple[list[Sql | None], bool]:
    """All conditions of a read but its position, and whether they say the whole filter."""
    said = compile_filter(where)
    return [live(now), *within(scope), said.predicate], said.exact


def beyond(order: Order, after: Position | None) -> Sql | None:
    """What comes after the last row of the page before."""
    if after is None:
        return None
    key = encode_key((after.namespace, after.id))
    sign = "<" if order.descending else ">"
    if order.field == "key":
        return Sql(f"r.key {sign} {MARK}::bytea", (key,))
    column = COLUMNS[order.field]
    kind = "float8" if order.field == "importance" else "int8"
    value = after.value
    return Sql(
        f"{column} {sign}= {MARK}::{kind} AND ({column} {sign} {MARK}::{kind} OR r.key > {MARK}::bytea)",
        (value, value, key),
    )


def ordering(order: Order) -> str:
    """The ORDER BY of a page."""
    direction = " DESC" if order.descending else ""
    if order.field == "key":
        return f"r.key{direction}"
    return f"{COLUMNS[order.field]}{direction}, r.key"
