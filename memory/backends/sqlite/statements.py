"""SQLite's answers as Python types: the driver's own are unions of everything a column can hold."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import apsw

from memory.backends.sqlite.workers import Breather

if TYPE_CHECKING:
    import numpy as np

    Ints = np.ndarray[Any, np.dtype[np.int64]]

Params = Any
PIECE = 40_000
"""Characters of a list of ints that are read in one step."""
_MAX_SQL = 15_000  # apsw keeps no statement of more than 16 KiB for the next time
_statements: dict[tuple[str, int, int], str] = {}


def fetch(db: apsw.Connection, text: str, params: Params = None) -> list[tuple[Any, ...]]:
    """All rows."""
    return db.execute(text, params).fetchall()


def first(db: apsw.Connection, text: str, params: Params = None) -> tuple[Any, ...] | None:
    """The first row, or None."""
    return db.execute(text, params).fetchone()


def scalar(db: apsw.Connection, text: str, params: Params = None) -> Any:
    """The one value of the first row, or None."""
    return db.execute(text, params).get


def many(db: apsw.Connection, head: str, rows: Sequence[Sequence[Any]], tail: str = "") -> None:
    """``head VALUES (...), (...) tail`` over all rows, in chunks whose statements are few and stay prepared."""
    width, start = len(rows[0]), 0
    most = min(256, _MAX_SQL // (2 * width + 2))
    for size in (most, 32, 4, 1):
        while len(rows) - start >= size:
            statement = _statements.get((head, width, size))
            if statement is None:
                row = "(" + ",".join("?" * width) + ")"
                statement = _statements[head, width, size] = f"{head} VALUES {','.join([row] * size)}{tail}"
            db.execute(statement, [value for row in rows[start : start + size] for value in row])
            start += size


def listed(text: str | None, breather: Breather) -> Ints:
    """The ints of a ``group_concat``, a piece at a time: a hundred thousand at once would keep the GIL for 10 ms."""
    import numpy as np

    parts: list[Ints] = []
    start = 0
    while text is not None and start < len(text):
        end = text.find(",", start + PIECE)
        part = text[start : end if end >= 0 else len(text)]
        parts.append(np.fromstring(part, dtype=np.int64, sep=","))
        start += len(part) + 1
        breather.breathe()
    return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype=np.int64), *parts])


@contextlib.contextmanager
def snapshot(db: apsw.Connection) -> Iterator[None]:
    """Several reads of one moment."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        if db.in_transaction:
            db.execute("COMMIT")


def blobs(values: Iterable[bytes]) -> Any:
    """Bytes as one bound array."""
    return apsw.carray(tuple(values))


def numbers(values: Iterable[int] | Ints) -> Any:
    """Ints as one bound array; those of numpy as they lie, there is at least one."""
    return apsw.carray(values if hasattr(values, "dtype") else array("q", values))
