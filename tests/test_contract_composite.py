"""The shipped contract over composites: each shape over what needs no server in every run, over servers when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import composites
import pytest
from composites import Faults
from flavours import flavour

from memory.backends.composite import MirroredStore, Route, RoutedStore, TieredStore
from memory.backends.faiss import FaissStore
from memory.store import MemoryStore
from memory.testing.contract import StoreContract, TwinsContract, ViewContract


class Local:
    """A composition of tests/composites.py, of members that do not fail."""

    composition: str

    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        made: MemoryStore = composites.COMPOSITIONS[self.composition](place, Faults(), **options)
        return made


def at(name: str, place: Path, part: str) -> MemoryStore:
    """A store of a flavour for one part of a composition."""
    own = place / part
    own.mkdir(exist_ok=True)
    return flavour(name)(own)


class Served:
    """Compositions on servers, which are started, and their drivers loaded, before a loop runs."""

    flavours: tuple[str, ...]

    @pytest.fixture(autouse=True)
    def started(self) -> None:
        for name in self.flavours:
            flavour(name)


class TestTiered(Local, StoreContract):
    calm = True
    composition = "tiered"


class TestMirrored(Local, StoreContract):
    composition = "mirrored_in_memory"


class TestRoutedByContent(Local, StoreContract):
    composition = "by_content"


@pytest.mark.full
class TestRoutedByNamespace(Local, StoreContract):
    composition = "by_namespace"


@pytest.mark.full
class TestTieredOnFiles(Local, StoreContract):
    composition = "tiered_files"


@pytest.mark.full
class TestMirroredOnFiles(Local, StoreContract):
    composition = "mirrored"


@pytest.mark.full
class TestNested(Local, StoreContract):
    composition = "nested"


@pytest.mark.full
class TestTieredThroughTwins(Local, TwinsContract):
    composition = "tiered"


@pytest.mark.full
class TestMirroredThroughTwins(Local, TwinsContract):
    composition = "mirrored"


@pytest.mark.full
class TestRoutedThroughTwins(Local, TwinsContract):
    composition = "by_content"


@pytest.mark.full
class TestRoutedByNamespaceThroughTwins(Local, TwinsContract):
    composition = "by_namespace"


@pytest.mark.full
class TestTieredOnFilesThroughTwins(Local, TwinsContract):
    composition = "tiered_files"


@pytest.mark.full
class TestNestedThroughTwins(Local, TwinsContract):
    composition = "nested"


@pytest.mark.full
class TestTieredThroughAView(Local, ViewContract):
    composition = "tiered"


@pytest.mark.full
class TestRoutedThroughAView(Local, ViewContract):
    composition = "by_content"


class RedisBeforePostgres(Served):
    flavours = ("redis", "postgres")

    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return TieredStore(at("redis", place, "fast"), at("postgres", place, "truth"), **options)


@pytest.mark.full
class TestRedisBeforePostgres(RedisBeforePostgres, StoreContract):
    pass


@pytest.mark.full
class TestRedisBeforePostgresThroughTwins(RedisBeforePostgres, TwinsContract):
    pass


@pytest.mark.full
class TestRedisBeforeFirestore(Served, StoreContract):
    """The truth keeps no feed."""

    flavours = ("redis", "firestore_v2")

    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return TieredStore(at("redis", place, "fast"), at("firestore_v2", place, "truth"), staleness=0.2, **options)


@pytest.mark.full
class TestPostgresMirroredInFaiss(Served, StoreContract):
    """Records in one, searched in another; its index small and always new."""

    flavours = ("postgres",)

    @pytest.fixture(autouse=True)
    def _small(self, small_index: None) -> None:
        pass

    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        (place / "search").mkdir(exist_ok=True)
        search = FaissStore(place / "search" / "memory.db", synchronous="off", embedder=None, exact=0)
        primary = at("postgres", place, "primary")
        return MirroredStore(primary, {"search": search}, vectors="search", text="search", **options)


@pytest.mark.full
class TestRedisAndPostgresByNamespace(Served, StoreContract):
    flavours = ("redis", "postgres")

    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        routes = {"a": Route(at("redis", place, "a"), under="a"), "rest": Route(at("postgres", place, "rest"))}
        return RoutedStore(routes, **options)


@pytest.mark.full
class TestRedisPostgresAndFirestoreByContent(Served, StoreContract):
    flavours = ("redis", "firestore_v2", "postgres")

    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        routes = {
            "tagged": Route(at("redis", place, "tagged"), tag="x", order=1),
            "odd": Route(at("firestore_v2", place, "odd"), where={"metadata.n": {"$in": [1, 3, 5, 7, 9]}}, order=2),
            "rest": Route(at("postgres", place, "rest")),
        }
        return RoutedStore(routes, journal=at("sqlite", place, "journal"), **options)
