"""``faiss`` with an index of its first records: in a short run of a proof it merges with nearly every write.

``SmallFaissStore`` is a target for proofs: ``--store memory.testing.faults.small:SmallFaissStore``. Its vectors are made by
``hashing``, so every record has one. What is small is so for the whole process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import ModuleType
from typing import Any

from memory.backends.faiss import FaissStore, building, cache, generation, lists, picking
from memory.backends.sqlite import spaces, vectorlog

CONSTANTS: tuple[tuple[ModuleType, dict[str, Any]], ...] = (
    (spaces, {"WORTH": 1}),
    (vectorlog, {"DIRECT": 1}),
    (cache, {"MERGE": 2, "LATE": 2, "AGAIN": 0.0, "IDLE": 0.0, "PAUSE": 0.5}),
    (building, {"TELL": 0.0, "COPIED": 3}),
    (generation, {"IN_MEMORY": 0}),
    (lists, {"LEAST": 4, "TOP": 0}),
    # So sure that nothing is cut off: what is found is exact, whatever FAISS is asked first.
    (
        picking,
        {
            "READ_BYTES": 0,
            "START": 16,
            "FIRST": (4, 2),
            "SURE": (1e3,) * 3,
            "SURER": (1e3,) * 3,
            "STEP": 8,
            "WIDEST": 1,
        },
    ),
)


def make_small(setting: Callable[[ModuleType, str, Any], None] = setattr) -> None:
    """Let stores with ``exact=0`` ask FAISS from the first vectors on, and merge what follows often."""
    for module, constants in CONSTANTS:
        for name, value in constants.items():
            setting(module, name, value)


class SmallFaissStore(FaissStore):
    """A faiss store that has an index of a handful of vectors."""

    def __init__(self, path: str | os.PathLike[str] = "memory.db", **options: Any) -> None:
        make_small()
        super().__init__(path, **{"exact": 0, "embedder": "hashing:16", **options})
