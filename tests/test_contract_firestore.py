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
from memory.testing.contract import StoreContract


def project_of(place: Path) -> str:
    """A project of its own for each place: the emulator keeps them apart."""
    return "t" + hashlib.blake2b(str(place).encode(), digest_size=8).hexdigest()


@pytest.fixture(scope="module", autouse=True)
def emulator() -> str:
    """Started before any loop runs, which waiting for it would hold."""
    return str(server("firestore").url)


class TestFirestoreV2(StoreContract):
    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return FirestoreV2Store(project_id=project_of(place), emulator=server("firestore").url, **options)


class TestFirestoreV1(StoreContract):
    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return FirestoreV1Store(project_id=project_of(place), emulator=server("firestore").url, **options)
