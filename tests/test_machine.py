"""Random programs against the model, over every backend. More of them: MEMORY_MACHINE_EXAMPLES=1000."""

from __future__ import annotations

from pathlib import Path

import pytest

from memory.testing.__main__ import maker
from memory.testing.machine import check


@pytest.mark.parametrize("backend", ["in_memory", "sqlite"])
def test_random_programs_agree_with_the_model(backend: str, tmp_path: Path) -> None:
    check(maker(backend), tmp_path)
