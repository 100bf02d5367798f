"""Random programs against the model on every flavour of Postgres. More of them: MEMORY_MACHINE_EXAMPLES=500."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from flavours import flavour

from memory.testing.machine import check

ASKED = int(os.environ.get("MEMORY_MACHINE_EXAMPLES", "0")) or None


@pytest.mark.parametrize(("name", "examples"), [("postgres", 50), ("postgres_plain", 6), ("pgbouncer", 6)])
def test_random_programs_agree_with_the_model(name: str, examples: int, tmp_path: Path) -> None:
    check(flavour(name), tmp_path, examples=ASKED or examples)
