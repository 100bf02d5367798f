"""Random programs against the model, and the twins, over Firestore's emulator."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from servers import server

from memory.backends.firestore_v2 import FirestoreV2Store
from memory.store import MemoryStore
from memory.testing.contract import TwinsContract
from memory.testing.machine import check


def at(place: Path, **options: Any) -> MemoryStore:
    project = "m" + hashlib.blake2b(str(place).encode(), digest_size=8).hexdigest()
    return FirestoreV2Store(project_id=project, emulator=server("firestore").url, **options)


def test_random_programs_agree_with_the_model(tmp_path: Path) -> None:
    check(at, tmp_path, examples=4, steps=30)


@pytest.mark.full
@pytest.mark.timeout(3_600)
def test_five_hundred_random_programs_agree_with_the_model(tmp_path: Path) -> None:
    check(at, tmp_path, examples=500)


@pytest.mark.full
class TestFirestoreThroughTwins(TwinsContract):
    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return at(place, **options)
