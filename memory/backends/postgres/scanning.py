"""Pages of a scan, counts, namespaces and neighbours: the statement, its parameters, and what its answer means."""

from __future__ import annotations

from typing import Any

from memory.backends.postgres.compiling import MARK, Sql, all_of, numbered
from memory.backends.postgres.conditions import beyond, ordering, visible, within
from memory.backends.postgres.records import JOINED, ROW, VECTOR
from memory.keys import encode_key
from memory.model import path_bytes
from memory.ops import Around, Count, Scan, Scope

Statement = tuple[str, tuple[Any, ...]]
"""A template whose parameters are numbered, and their values."""


def selection(vectors: bool) -> tuple[str, str]:
    """What to select of records ``r``, and the tables that have it."""
    return (ROW + VECTOR, "$records r" + JOINED) if vectors else (ROW, "$records r")


def page(op: Scan) -> tuple[Statement, bool]:
    """The statement of a page, and whether its rows all satisfy the filter."""
    parts, exact = visible(op.scope, op.now, op.where)
    condition = all_of([*parts, beyond(op.order, op.after)])
    columns, tables = selection(op.vectors)
    said = Sql(
        f"SELECT {columns} FROM {tables} WHERE {condition.text} ORDER BY {ordering(op.order)} LIMIT {MARK}",  # noqa: S608 - templates; all values bound
        (*condition.params, op.limit),
    )
    return (numbered(said), said.params), exact


def count(op: Count) -> Statement | None:
    """The statement that counts; None where SQL cannot say the whole filter."""
    parts, exact = visible(op.scope, op.now, op.where)
    if not exact:
        return None
    condition = all_of(parts)
    said = Sql(f"SELECT count(*) FROM $records r WHERE {condition.text}", condition.params)  # noqa: S608 - templates
    return numbered(said), said.params


def namespaces(op: Count) -> Statement | None:
    """The statement that finds namespaces, in order; None where SQL cannot say the whole filter."""
    parts, exact = visible(op.scope, op.now, op.where)
    if not exact:
        return None
    condition = all_of(parts)
    said = Sql(
        f"SELECT DISTINCT r.path FROM $records r WHERE {condition.text} ORDER BY r.path",  # noqa: S608 - templates
        condition.params,
    )
    return numbered(said), said.params


def around(op: Around) -> Statement:
    """The statement that finds neighbours: anchor's number, whether before it, how far, then the row."""
    columns, tables = selection(op.vectors)
    owner = all_of(within(Scope((), True, op.scope.user_id, op.scope.agent_id, op.scope.session_id)))
    span = all_of(within(Scope(op.scope.path, op.scope.below)))
    line = (
        "r.path = a.path AND coalesce(r.session_id, '') = a.session AND r.body IS NOT NULL "
        f"AND (r.expires IS NULL OR r.expires > {MARK}::int8) AND {owner.text} AND {span.text}"
    )
    shared = (op.now, *owner.params, *span.params)

    def side(before: bool) -> Sql:
        sign, direction = ("<", " DESC") if before else (">", "")
        return Sql(
            f"SELECT {before}, row_number() OVER (ORDER BY r.created{direction}, r.key{direction}), {columns} "  # noqa: S608 - templates
            f"FROM {tables} WHERE {line} AND (r.created, r.key) {sign} (a.created, a.key) "
            f"ORDER BY r.created{direction}, r.key{direction} LIMIT {MARK}",
            (*shared, op.n),
        )

    first, second = side(True), side(False)
    said = Sql(
        f"SELECT a.n, found.* FROM unnest({MARK}::bytea[], {MARK}::text[], {MARK}::int8[], {MARK}::bytea[]) "  # noqa: S608 - templates
        f"WITH ORDINALITY AS a(path, session, created, key, n) CROSS JOIN LATERAL (({first.text}) UNION ALL ({second.text})) found",
        (
            [path_bytes(key[0]) for key, _, _ in op.anchors],
            [session or "" for _, session, _ in op.anchors],
            [created for _, _, created in op.anchors],
            [encode_key(key) for key, _, _ in op.anchors],
            *first.params,
            *second.params,
        ),
    )
    return numbered(said), said.params
