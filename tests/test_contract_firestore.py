"""The shipped contract over Firestore's emulator."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from servers import server

from memory.backends.firestore.v1 import FirestoreV1Store
from memory.backends.firestore.v2 import FirestoreV2Store
from memory.store import MemoryStore
from memory.testing.contract import StoreContract, TwinsContract


def project_of(place: Path) -> str:
    """A project of its own for each place: the emulator keeps them apart."""
    return "t" + hashlib.blake2b(str(place).encode(), digest_size=8).hexdigest()


@pytest.fixture(scope="module", autouse=True)
def emulator() -> str:
    """Started before any loop runs, which waiting for it would hold."""
    return str(server("firestore").url)


class V2:
    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return FirestoreV2Store(project_id=project_of(place), emulator=server("firestore").url, **options)


class TestFirestoreV2(V2, StoreContract):
    pass


@pytest.mark.full  # twins are the base's: every run has them over Postgres
class TestFirestoreV2ThroughTwins(V2, TwinsContract):
    pass


class TestFirestoreV1(StoreContract):
    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return FirestoreV1Store(project_id=project_of(place), emulator=server("firestore").url, **options)
