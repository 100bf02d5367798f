"""``sqlite``: the default backend, one file through apsw (which brings its own SQLite)."""

from __future__ import annotations

from memory.backends.sqlite.backend import SqliteStore

__all__ = ["SqliteStore"]
