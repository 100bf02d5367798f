"""The contract: ``MemoryStore``, its views, and what their operations return.

- ``base``: lifecycle and hooks. ``view``: scopes. ``reads``, ``writes``, ``updating``, ``deleting``, ``searching``,
  ``watching``, ``transfer``, ``upkeep``, ``reembedding``: the public operations, once for all backends.
- ``settle``: from a hook's result to a value or one typed error. ``cursors``: opaque positions.
- ``fallbacks``: slower defaults of the optional hooks.
"""

from __future__ import annotations

from memory.search.fusion import Weights
from memory.store.base import MemoryStore
from memory.store.types import (
    Capabilities,
    Change,
    Durability,
    Health,
    Hit,
    ImportReport,
    ItemPage,
    ReembedReport,
    RepairReport,
    SearchPage,
    Stats,
    VerifyReport,
)
from memory.store.view import View

__all__ = [
    "Capabilities",
    "Change",
    "Durability",
    "Health",
    "Hit",
    "ImportReport",
    "ItemPage",
    "MemoryStore",
    "ReembedReport",
    "RepairReport",
    "SearchPage",
    "Stats",
    "VerifyReport",
    "View",
    "Weights",
]
