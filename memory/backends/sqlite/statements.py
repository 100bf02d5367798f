"""SQLite's answers as Python types: the driver's own are unions of everything a column can hold."""

from __future__ import annotations

from typing import Any

import apsw

Params = Any


def fetch(db: apsw.Connection, text: str, params: Params = None) -> list[tuple[Any, ...]]:
    """All rows."""
    return db.execute(text, params).fetchall()


def first(db: apsw.Connection, text: str, params: Params = None) -> tuple[Any, ...] | None:
    """The first row, or None."""
    return db.execute(text, params).fetchone()


def scalar(db: apsw.Connection, text: str, params: Params = None) -> Any:
    """The one value of the first row, or None."""
    return db.execute(text, params).get
