"""Random programs against the model, over composites. More of them: MEMORY_MACHINE_EXAMPLES=1000."""

from __future__ import annotations

from pathlib import Path

import pytest
import test_contract_composite as contract
from composites import COMPOSITIONS, Faults

from memory.testing.machine import check

EVERY_RUN = ("tiered", "mirrored_in_memory", "by_content")


def _check(name: str, place: Path, examples: int) -> None:
    check(lambda at, **options: COMPOSITIONS[name](at, Faults(), **options), place, examples=examples)


@pytest.mark.parametrize("name", EVERY_RUN)
def test_random_programs_agree_with_the_model_on_a_composite(name: str, tmp_path: Path) -> None:
    _check(name, tmp_path, 6)


@pytest.mark.full
@pytest.mark.parametrize("name", COMPOSITIONS)
def test_forty_random_programs_agree_with_the_model_on_a_composite(name: str, tmp_path: Path) -> None:
    _check(name, tmp_path, 40)


@pytest.mark.full
@pytest.mark.parametrize("suite", ["TestRedisBeforePostgres", "TestRedisPostgresAndFirestoreByContent"])
def test_random_programs_agree_with_the_model_on_a_composite_of_servers(suite: str, tmp_path: Path) -> None:
    check(lambda at, **options: getattr(contract, suite)().make_store(at, **options), tmp_path, examples=15)
