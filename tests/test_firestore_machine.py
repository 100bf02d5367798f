"""Random programs against the model, the same sequences as on in_memory, and the twins, over Firestore's emulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from servers import server

from memory.store import MemoryStore
from memory.testing import differential
from memory.testing.contract import TwinsContract
from memory.testing.machine import check
from memory.testing.making import maker


def at(place: Path, **options: Any) -> MemoryStore:
    make = maker("firestore_v2", project_id="machine", emulator=server("firestore").url)
    return make(place, **options)


def test_the_same_sequence_gives_the_same_as_in_memory(tmp_path: Path) -> None:
    tally = differential.check({"in_memory": maker("in_memory"), "firestore_v2": at}, tmp_path, steps=400)
    assert sum(tally.values()) >= 400


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
