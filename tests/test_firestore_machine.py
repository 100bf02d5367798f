"""Random programs against the model, the same sequences as on in_memory, and the twins, over Firestore's emulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from servers import server

from memory.backends.firestore.v1 import FirestoreV1Store
from memory.store import MemoryStore
from memory.testing import differential
from memory.testing.contract import TwinsContract
from memory.testing.machine import check
from memory.testing.making import MakeAt, maker, name_of


def at(place: Path, **options: Any) -> MemoryStore:
    make = maker("firestore_v2", project_id="machine", emulator=server("firestore").url)
    return make(place, **options)


def at_v1(place: Path, **options: Any) -> MemoryStore:
    return FirestoreV1Store(project_id=name_of(place), emulator=server("firestore").url, **options)


def test_the_same_sequence_gives_the_same_as_in_memory(tmp_path: Path) -> None:
    tally = differential.check({"in_memory": maker("in_memory"), "firestore_v2": at}, tmp_path, steps=400)
    assert sum(tally.values()) >= 400


def test_random_programs_agree_with_the_model(tmp_path: Path) -> None:
    check(at, tmp_path, examples=4, steps=30)


def test_random_programs_of_one_namespace_agree_with_the_model_on_v1(tmp_path: Path) -> None:
    check(at_v1, tmp_path, examples=3, steps=20)


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("make", [at, at_v1], ids=["v2", "v1"])
def test_five_hundred_random_programs_agree_with_the_model(make: MakeAt, tmp_path: Path) -> None:
    check(make, tmp_path, examples=500)


@pytest.mark.full
class TestFirestoreThroughTwins(TwinsContract):
    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return at(place, **options)


@pytest.mark.full
class TestFirestoreV1ThroughTwins(TwinsContract):
    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return at_v1(place, **options)
