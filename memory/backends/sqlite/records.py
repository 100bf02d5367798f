"""A stored record: its key as bytes, its columns, and the seal that no damaged byte gets past."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from memory.errors import CorruptData
from memory.keys import damaged
from memory.ops import Row, Scope

_pack = msgspec.msgpack.Encoder().encode

COLUMNS = (
    *("key", "version", "created", "updated", "accessed", "count", "expires", "kind", "user", "agent", "session"),
    *("importance", "embedder", "crc", "vcrc", "seal"),
)
"""What is read of a row beside its body and vector, in the order of `seal`'s arguments."""
STAMP_SQL = ", ".join(f"items.{name}" for name in COLUMNS)
ROW_SQL = f"items.body, {STAMP_SQL}"
VECTOR_SQL = "CASE WHEN items.vcrc IS NOT NULL THEN (SELECT v FROM vectors WHERE ord = items.doc >> 10) END"
FULL_SQL = f"{ROW_SQL}, {VECTOR_SQL}"
"""A whole record: body, COLUMNS, vector (None where there is none)."""
BARE_SQL = f"{ROW_SQL}, 0"
"""The same, its vector not asked for."""


def checksum(body: bytes) -> int:
    """CRC-32 of a body or vector."""
    return zlib.crc32(body)


def seal(*columns: Any) -> int:
    """CRC-32 over COLUMNS but the last: what the store says of a record, and what filters and scopes look at.

    A changed byte in any of these columns, in the body or in the vector is found when the row is read.
    """
    return zlib.crc32(_pack(columns))


def field_seal(key: bytes, values: Sequence[Any]) -> int | None:
    """CRC-32 over the columns of the declared fields, which are in no other seal; None where none is declared."""
    return zlib.crc32(_pack((key, *values))) if values else None


def is_whole(found: tuple[Any, ...]) -> bool:
    """Whether a record as selected by FULL_SQL or BARE_SQL is what was written."""
    try:
        to_row(found)
    except CorruptData:
        return False
    return True


def to_row(found: tuple[Any, ...], vector: Any = ...) -> Row:
    """The Row of a record selected by FULL_SQL or BARE_SQL; with ``vector`` in place of that in it. Raises CorruptData."""
    body = found[0]
    if vector is ...:
        vector = found[17]
    try:
        whole = (
            zlib.crc32(body) == found[14]
            and zlib.crc32(_pack(found[1:16])) == found[16]
            and (vector == 0 or (None if vector is None else zlib.crc32(vector)) == found[15])
        )
    except (TypeError, OverflowError, msgspec.MsgspecError):
        whole = False
    if not whole:
        raise damaged(found[1] if isinstance(found[1], bytes) else b"")
    return Row(
        body=body,
        version=found[2],
        created=found[3],
        updated=found[4],
        accessed=found[5],
        count=found[6],
        expires=found[7],
        embedding=vector or None,
        embedder=found[13],
    )


def to_rows_within(
    found: Iterable[tuple[Any, ...]], scope: Scope, vector_of: Callable[[Any], bytes] | None = None
) -> list[Row]:
    """As to_row_within, of each. ``vector_of``: the vector by what stands in its place."""
    if scope.user_id is None and scope.agent_id is None and scope.session_id is None:
        if vector_of is None:
            return [to_row(row) for row in found]
        return [to_row(row, vector_of(row[17])) for row in found]
    return [to_row_within(row, scope, ... if vector_of is None else vector_of(row[17])) for row in found]


def to_row_within(found: tuple[Any, ...], scope: Scope, vector: Any = ...) -> Row:
    """As to_row; also holds the row to the owner scope, which a damaged index may not have."""
    row = to_row(found, vector)
    if not scope.covers_owner(found[9], found[10], found[11]):
        raise CorruptData("an index disagrees with its records. Run 'memory verify', then 'memory repair'")
    return row
