"""The shipped contract over composites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memory.backends.composite import MirroredStore, TieredStore
from memory.backends.in_memory import InMemoryStore
from memory.backends.sqlite import SqliteStore
from memory.store import MemoryStore
from memory.testing.contract import StoreContract


def file(place: Path, name: str) -> SqliteStore:
    """A file of this name."""
    return SqliteStore(place / f"{name}.db", synchronous="off")


class TestTiered(StoreContract):
    calm = True

    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return TieredStore(InMemoryStore(), file(place, "truth"), **options)


class TestMirrored(StoreContract):
    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return MirroredStore(file(place, "primary"), {"copy": InMemoryStore()}, **options)


class TestMirroredAndSearched(StoreContract):
    """Records in one, vectors and texts searched in another."""

    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return MirroredStore(
            file(place, "primary"), {"index": file(place, "index")}, vectors="index", text="index", **options
        )
