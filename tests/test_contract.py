"""The shipped contract over every backend: plain, through the twins, and through a view."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from memory.backends.faiss import FaissStore
from memory.backends.in_memory import InMemoryStore
from memory.backends.sqlite import SqliteStore
from memory.store import MemoryStore
from memory.testing.contract import StoreContract, TwinsContract, ViewContract

ON_DISK = Path("/var/tmp")


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
    """On a disk, whose waits are real, wherever the other tests have their files."""

    calm = True

    @pytest.fixture
    def place(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(
            prefix="memory-contract-", dir=ON_DISK if ON_DISK.is_dir() else None
        ) as folder:
            place = Path(folder, "place")  # beside which nobody else writes: there is a test that looks
            place.mkdir()
            yield place


class TestSqliteThroughTwins(Sqlite, TwinsContract):
    synchronous = "off"  # waiting for the disk shows nothing more here


class TestSqliteThroughAView(Sqlite, ViewContract):
    synchronous = "off"


class Faiss:
    """Everything small, so that searches by vector ask FAISS, and new generations come all the time."""

    ivf = False

    @pytest.fixture(autouse=True)
    def _small(self, small_index: None) -> None:
        pass

    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        options = {"embedder": None, "exact": 0, "ivf": self.ivf, **options}
        return FaissStore(place / "memory.db", synchronous="off", **options)


class TestFaiss(Faiss, StoreContract):
    calm = True


@pytest.mark.full  # twins and views are the base's: every run has them over sqlite
class TestFaissThroughTwins(Faiss, TwinsContract):
    pass


@pytest.mark.full
class TestFaissThroughAView(Faiss, ViewContract):
    pass


@pytest.mark.full  # what lists change is in test_faiss_lists, and random programs over them are in every run
class TestFaissInLists(Faiss, StoreContract):
    ivf = True
