"""What an answer has to be, by hand: records that are what was written, typed, scored in float64, and a cursor.

The least code that does it, in one place and in the order of the file's columns: no scopes, no expectations, no other
embedder, nothing that another question would need. So it is a floor of what is promised, beside the one of `by_hand`, which
promises nothing. Nothing of the store's is called here, nor are its types used; checksums are those of the file's layout.
"""

from __future__ import annotations

import math
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any
from zlib import crc32

import msgspec
import numpy as np
import numpy.typing as npt

_pack = msgspec.msgpack.Encoder().encode
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FLOAT = np.dtype("<f4")
_OPERATORS = ("$gte", "$lt")
COLUMNS = ", ".join(
    f"items.{name}"
    for name in (
        *("body", "key", "version", "created", "updated", "accessed", "count", "expires", "kind", "user", "agent"),
        *("session", "importance", "embedder", "crc", "vcrc", "seal"),
    )
)
"""A record but for its vector, which `records` takes behind it."""
VECTOR = "(SELECT v FROM vectors WHERE ord = items.doc >> 10)"


class Record(msgspec.Struct, kw_only=True):
    """A record as a program would have it: what was said, and what the store says of it. Its fields are a MemoryItem's, told
    once more: a floor that used the store's own type would change with it."""

    v: int
    id: str
    namespace: tuple[str, ...]
    kind: str
    content: Any
    text: str | None = None
    metadata: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    user_id: str | None = None
    agent_id: str | None = None
    session_id: str | None = None
    importance: float
    source: dict[str, Any] = {}
    created_at: datetime = _EPOCH
    updated_at: datetime = _EPOCH
    accessed_at: datetime = _EPOCH
    version: int = 0
    access_count: int = 0
    embedding: Any = None
    """float32; None in what a search finds, as in the store's hits."""


_decode = msgspec.json.Decoder(Record).decode


def check_filter(where: dict[str, Any]) -> None:
    """Raises ValueError for anything but fields that equal a text, or lie between finite numbers."""
    for name, wanted in where.items():
        if type(name) is not str:
            raise ValueError("a field is a str")
        if type(wanted) is dict:
            for operator, value in wanted.items():
                if operator not in _OPERATORS or type(value) not in (int, float) or not math.isfinite(value):
                    raise ValueError(f"not an operator and a number: {operator}, {value!r}")
        elif type(wanted) is not str or not wanted.isascii():
            raise ValueError("not a text")


def check_vector(vector: Any, dimension: int) -> bytes:
    """Its bytes. Raises ValueError for anything but finite float32 numbers."""
    if type(vector) is not np.ndarray or vector.dtype != np.float32 or vector.shape != (dimension,):
        raise ValueError("not a vector")
    if not math.isfinite(np.vdot(vector, vector)):
        raise ValueError("not finite")
    return vector.tobytes()


def records(rows: Iterable[Sequence[Any]], *, vectors: bool) -> list[Record]:
    """Records selected as COLUMNS, VECTOR and perhaps the seal of the declared fields and these. Raises ValueError for a changed byte."""
    found = []
    for row in rows:
        body, created = row[0], row[3]
        if crc32(body) != row[14] or crc32(row[17]) != row[15] or crc32(_pack(row[1:16])) != row[16]:
            raise ValueError("damaged")
        if len(row) > 18 and crc32(_pack((row[1], *row[19:]))) != row[18]:
            raise ValueError("damaged")
        record = _decode(body)
        record.version, record.access_count = row[2], row[6]
        record.created_at = moment = _EPOCH + timedelta(microseconds=created)
        record.updated_at = moment if row[4] == created else _EPOCH + timedelta(microseconds=row[4])
        record.accessed_at = moment if row[5] == created else _EPOCH + timedelta(microseconds=row[5])
        if vectors:
            record.embedding = np.frombuffer(row[17], dtype=_FLOAT)
        found.append(record)
    return found


class Wanted:
    """A vector to search by: its bytes, in float64, its length, and as a unit vector."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw
        self.numbers = np.frombuffer(raw, dtype=_FLOAT).astype(np.float64)
        self.length = math.sqrt(np.add.reduce(self.numbers * self.numbers))
        self.unit: npt.NDArray[np.float32] = (self.numbers / self.length).astype(np.float32)

    def cosines(self, vectors: list[bytes]) -> list[float]:
        """The cosine of each, in float64."""
        near = np.frombuffer(b"".join(vectors), dtype=_FLOAT).reshape(len(vectors), -1).astype(np.float64)
        found = np.add.reduce(near * self.numbers, axis=1)
        found /= np.sqrt(np.add.reduce(near * near, axis=1)) * self.length
        cosines: list[float] = found.tolist()
        return cosines


def nearest(scores: npt.NDArray[np.float32], count: int, dimension: int) -> npt.NDArray[np.int64]:
    """Places of the scores that may be among the ``count`` best, for all that float32 products of unit vectors tell."""
    if len(scores) <= count:
        return np.arange(len(scores))
    best = scores.copy()
    best.partition(len(best) - count)
    return (scores >= best[len(best) - count] - 2 * (dimension + 8) * 2.0**-23).nonzero()[0]


def cursor(asked: tuple[Any, ...], place: tuple[Any, ...]) -> str:
    """Where a page ended, bound to its question."""
    return urlsafe_b64encode(blake2b(_pack(asked), digest_size=9).digest() + _pack(place)).decode()
