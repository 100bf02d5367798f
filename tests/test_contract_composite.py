"""The shipped contract over composites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from memory.backends.composite import MirroredStore, Route, RoutedStore, TieredStore
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


class TestRoutedByNamespace(StoreContract):
    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        routes = {
            "a": Route(file(place, "a"), under="a"),
            "default": Route(file(place, "default"), namespace="default"),
        }
        return RoutedStore(routes | {"rest": Route(file(place, "rest"))}, **options)


class TestRoutedByContent(StoreContract):
    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        routes = {
            "tagged": Route(file(place, "tagged"), tag="x", order=1),
            "odd": Route(
                InMemoryStore() if options.get("odd") else file(place, "odd"),
                where={"metadata.n": {"$in": [1, 3, 5, 7, 9]}},
                order=2,
            ),
            "large": Route(file(place, "large"), larger_than=300, order=3),
            "rest": Route(file(place, "rest")),
        }
        return RoutedStore(routes, journal=file(place, "journal"), **options)
