"""The contract against backends that are broken on purpose, one for each trap: every one has to be caught."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from memory.backends.in_memory import InMemoryStore
from memory.backends.sqlite import SqliteStore
from memory.testing.contract import Nearness, StoreContract, sentences
from mutants import base, cancelled, embedding, expiring, finding, nearness, on_sqlite, reading, writing  # noqa: F401 - each registers its mutants
from mutants.catalogue import MUTANTS, PATIENCE, Mutant, verdict

pytestmark = pytest.mark.mutants


def in_memory(place: Path, **options: Any) -> InMemoryStore:
    return InMemoryStore(**options)


def on_a_file(place: Path, **options: Any) -> SqliteStore:
    return SqliteStore(place / "memory.db", synchronous="off", **options)


def by_hand(place: Path, **options: Any) -> InMemoryStore:
    return nearness.ByHand(**options)


def test_there_are_at_least_thirty_mutants_each_with_its_own_trap() -> None:
    assert len(MUTANTS) >= 30
    assert len({mutant.trap for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.caught_by for mutant in MUTANTS} <= set(sentences(StoreContract))


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_every_mutant_is_caught(mutant: Mutant, capsys: pytest.CaptureFixture[str]) -> None:
    how = verdict(mutant.make, mutant.caught_by, mutant.patched())
    assert how is not None, f"{mutant.caught_by} does not notice: {mutant.trap}"
    with capsys.disabled():
        print(f"\n  {mutant.trap}: caught by {mutant.caught_by} ({how[:100]})", end="")


class Lingering:
    """What is left of it goes slowly: Python drops whatever is raised meanwhile."""

    def __del__(self) -> None:
        for _ in range(50_000_000):
            pass


class Hangs(InMemoryStore):
    async def _write(self, ops: Any, atomic: bool) -> Any:
        Lingering()
        while True:
            pass


def test_a_stop_that_is_lost_in_a_finalizer_is_followed_by_another() -> None:
    def make(place: Path, **options: Any) -> InMemoryStore:
        return Hangs(**options)

    assert verdict(make, "test_put_succeeds_at_the_expected_version", nullcontext(), 0.2) == "it hangs"


SENTENCES = sorted({(mutant.healthy, mutant.caught_by) for mutant in MUTANTS}, key=str)


@pytest.mark.parametrize(("kind", "sentence"), SENTENCES, ids=[f"{kind.name}-{name}" for kind, name in SENTENCES])
def test_what_a_mutant_was_made_of_passes_the_sentence_that_catches_it(kind: Any, sentence: str) -> None:
    make = on_a_file if kind is SqliteStore else in_memory
    assert verdict(make, sentence, nullcontext(), PATIENCE) is None


def test_the_search_by_hand_that_mutants_change_is_healthy() -> None:
    for sentence in sorted({mutant.caught_by for mutant in MUTANTS if mutant.caught_by in dir(Nearness)}):
        assert verdict(by_hand, sentence, nullcontext(), PATIENCE) is None, sentence


@pytest.mark.full
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_whole_suite_against_every_mutant(mutant: Mutant) -> None:
    caught = [name for name in sentences(StoreContract) if verdict(mutant.make, name, mutant.patched()) is not None]
    print(f"{mutant.trap}: caught by {len(caught)} sentences: {', '.join(caught)}")
    assert mutant.caught_by in caught
