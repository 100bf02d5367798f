"""Random programs against the model on every flavour of Postgres, the same ones each time."""

from __future__ import annotations

from pathlib import Path

import pytest
from flavours import flavour

from memory.testing.machine import check

FLAVOURS = ["postgres", "postgres_plain", "pgbouncer"]
EXAMPLES = 12
"""Programs in every run: what is the base's, and not the statements', 50 programs over the embedded stores try (test_machine)."""


@pytest.mark.timeout(900)  # a failure is made shorter for up to five minutes
@pytest.mark.parametrize("name", FLAVOURS)
def test_random_programs_agree_with_the_model(name: str, tmp_path: Path) -> None:
    check(flavour(name), tmp_path, examples=EXAMPLES)


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("name", FLAVOURS)
def test_five_hundred_random_programs_agree_with_the_model(name: str, tmp_path: Path) -> None:
    check(flavour(name), tmp_path, examples=500)
