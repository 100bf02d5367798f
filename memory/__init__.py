"""A memory for AI agents: one asynchronous interface, many real engines, the same answers on all of them.

Names are loaded at first use, so ``import memory`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memory.clock import ManualClock as ManualClock
    from memory.errors import AlreadyExists as AlreadyExists
    from memory.errors import BackendUnavailable as BackendUnavailable
    from memory.errors import BatchError as BatchError
    from memory.errors import Closed as Closed
    from memory.errors import CorruptData as CorruptData
    from memory.errors import DeadlineExceeded as DeadlineExceeded
    from memory.errors import EmbeddingFailed as EmbeddingFailed
    from memory.errors import EmbeddingMismatch as EmbeddingMismatch
    from memory.errors import InvalidCursor as InvalidCursor
    from memory.errors import InvalidFilter as InvalidFilter
    from memory.errors import InvalidItem as InvalidItem
    from memory.errors import InvalidSetting as InvalidSetting
    from memory.errors import MemoryStoreError as MemoryStoreError
    from memory.errors import NotFound as NotFound
    from memory.errors import Overloaded as Overloaded
    from memory.errors import ResumeExpired as ResumeExpired
    from memory.errors import StorageFull as StorageFull
    from memory.errors import UnknownOutcome as UnknownOutcome
    from memory.errors import UnsupportedOperation as UnsupportedOperation
    from memory.errors import VersionConflict as VersionConflict
    from memory.errors import WrongLoop as WrongLoop
    from memory.filters import F as F
    from memory.manager import MemoryManager as MemoryManager
    from memory.model import MemoryItem as MemoryItem
    from memory.registry import create_store as create_store
    from memory.settings import Settings as Settings
    from memory.store import Capabilities as Capabilities
    from memory.store import Change as Change
    from memory.store import Hit as Hit
    from memory.store import ItemPage as ItemPage
    from memory.store import MemoryStore as MemoryStore
    from memory.store import SearchPage as SearchPage
    from memory.store import View as View

__version__ = "0.1.0"

_ERRORS = [
    "AlreadyExists",
    "BackendUnavailable",
    "BatchError",
    "Closed",
    "CorruptData",
    "DeadlineExceeded",
    "EmbeddingFailed",
    "EmbeddingMismatch",
    "InvalidCursor",
    "InvalidFilter",
    "InvalidItem",
    "InvalidSetting",
    "MemoryStoreError",
    "NotFound",
    "Overloaded",
    "ResumeExpired",
    "StorageFull",
    "UnknownOutcome",
    "UnsupportedOperation",
    "VersionConflict",
    "WrongLoop",
]
_HOMES = {
    **dict.fromkeys(_ERRORS, "memory.errors"),
    **dict.fromkeys(("Capabilities", "Change", "Hit", "ItemPage", "MemoryStore", "SearchPage", "View"), "memory.store"),
    "F": "memory.filters",
    "ManualClock": "memory.clock",
    "MemoryItem": "memory.model",
    "MemoryManager": "memory.manager",
    "Settings": "memory.settings",
    "create_store": "memory.registry",
}
__all__ = sorted([*_HOMES, "__version__"])  # noqa: PLE0605  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'memory' has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
