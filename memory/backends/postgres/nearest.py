"""Vector candidates: exact while few records pass, else out of an HNSW index; without pgvector always exact, computed here.

Whatever finds them, scores of float32 unit vectors pick with a proven margin, and the library's cosines decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory.backends.postgres.compiling import MARK, Sql, all_of, numbered
from memory.backends.postgres.conditions import visible
from memory.backends.postgres.records import ROW
from memory.backends.postgres.scanning import Statement
from memory.ops import Nearest

if TYPE_CHECKING:
    from memory.ops import Space

FEW = 5_000
"""Up to so many records that pass the filter, all are compared."""
INDEXED_FROM = 10_000
"""So many vectors get an index."""
EF_SEARCH = 120
"""Entries of the index that a search keeps in view."""
SPARE = 16
_SPACE = f"s.dimension = {MARK}::int4 AND ({MARK}::text IS NULL OR s.embedder = {MARK}::text)"


def admitted(op: Nearest) -> Sql:
    """That the store's space, in the snapshot that is read, admits the query."""
    return Sql(_SPACE, (len(op.vector) // 4, op.embedder, op.embedder))


def by_scan(op: Nearest, wanted: bytes, limit: int, among: list[bytes] | None) -> tuple[Statement, bool]:
    """The nearest of all that pass: row, vector, negative product; and whether SQL says the whole filter.

    ``among``: the keys of those that pass, where they are known. The server takes a third of all records to lie in any range,
    and reads every vector rather than look up so many.
    """
    parts, exact = visible(op.scope, op.now, op.where)
    known = None if among is None else Sql(f"x.key = ANY({MARK}::bytea[])", (among,))
    condition = all_of([*parts, admitted(op), known])
    said = Sql(
        f"SELECT {ROW}, x.raw, s.embedder, x.v $near {MARK} AS far FROM $state s "  # noqa: S608 - templates; all values bound
        "JOIN $vectors x ON x.space = s.space JOIN $records r ON r.key = x.key "
        f"WHERE {condition.text} ORDER BY far, r.key LIMIT {MARK}",
        (wanted, *condition.params, limit),
    )
    return (numbered(said), said.params), exact


def by_index(op: Nearest, wanted: bytes, limit: int, space: Space, number: int) -> tuple[Statement, bool]:
    """The same through the HNSW index of a space, nearest first."""
    parts, exact = visible(op.scope, op.now, op.where)
    condition = all_of([*parts, admitted(op)])
    typed = f"x.v::$vector({space.dimension:d})"
    said = Sql(
        f"SELECT {ROW}, x.raw, s.embedder, x.v $near {MARK} AS far FROM $state s CROSS JOIN $vectors x "  # noqa: S608 - templates; all values bound
        f"JOIN $records r ON r.key = x.key WHERE x.space = {number:d} AND s.space = {number:d} AND {condition.text} "
        f"ORDER BY {typed} $near {MARK}::$vector({space.dimension:d}) LIMIT {MARK}",
        (wanted, *condition.params, wanted, limit),
    )
    return (numbered(said), said.params), exact


def survivors(op: Nearest) -> Statement:
    """The keys of those that pass, one array; NULL where they are more than FEW."""
    condition = all_of(visible(op.scope, op.now, op.where)[0])
    said = Sql(
        f"SELECT CASE WHEN count(*) <= {FEW} THEN coalesce(array_agg(few.key), '{{}}') END "  # noqa: S608 - templates
        f"FROM (SELECT r.key FROM $records r WHERE {condition.text} LIMIT {FEW + 1}) few",
        condition.params,
    )
    return numbered(said), said.params


def everything(op: Nearest) -> tuple[Statement, bool]:
    """Key and vector of all that pass, for scores to be computed here."""
    parts, exact = visible(op.scope, op.now, op.where)
    condition = all_of([*parts, admitted(op)])
    said = Sql(
        "SELECT r.key, x.raw FROM $state s JOIN $vectors x ON x.space = s.space JOIN $records r ON r.key = x.key "  # noqa: S608 - templates
        f"WHERE {condition.text}",
        condition.params,
    )
    return (numbered(said), said.params), exact


def decided(far: list[Any], limit: int, margin: float) -> bool:
    """Whether so many of the nearest by rough score hold the best ``limit``: the last is out of reach of the limit-th."""
    return len(far) > limit and far[-1] > far[limit - 1] + margin
