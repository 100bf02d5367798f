"""The shipped contract over every backend: plain, through the twins, and through a view."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memory.backends.in_memory import InMemoryStore
from memory.backends.sqlite import SqliteStore
from memory.store import MemoryStore
from memory.testing.contract import StoreContract, TwinsContract, ViewContract


class InMemory:
    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return InMemoryStore(**options)


class Sqlite:
    synchronous = "full"

    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return SqliteStore(place / "memory.db", synchronous=self.synchronous, **options)


class TestInMemory(InMemory, StoreContract):
    calm = True


class TestInMemoryThroughTwins(InMemory, TwinsContract):
    pass


class TestInMemoryThroughAView(InMemory, ViewContract):
    pass


class TestSqlite(Sqlite, StoreContract):
    calm = True


class TestSqliteThroughTwins(Sqlite, TwinsContract):
    synchronous = "off"  # waiting for the disk shows nothing more here


class TestSqliteThroughAView(Sqlite, ViewContract):
    synchronous = "off"
