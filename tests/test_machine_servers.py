"""Random programs against the model, on every flavour of a server. More of them: MEMORY_MACHINE_EXAMPLES=500."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from flavours import flavour

from memory.testing.machine import check

ASKED = int(os.environ.get("MEMORY_MACHINE_EXAMPLES", "0")) or None
EXAMPLES = {
    "redis": 50,
    "redis_stack": 6,
    "redis_cluster": 6,
    "postgres": 50,
    "postgres_plain": 6,
    "pgbouncer": 6,
}
"""How many in every run: most on one flavour of each server. Firestore's are in test_firestore_machine."""


@pytest.mark.timeout(3_600 if ASKED else 300)
@pytest.mark.parametrize("name", EXAMPLES)
def test_random_programs_agree_with_the_model(name: str, tmp_path: Path) -> None:
    check(flavour(name), tmp_path, examples=ASKED or EXAMPLES[name])
