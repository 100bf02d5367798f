"""Which store a proof runs against: any class that is called with the path of its file."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from memory.errors import InvalidSetting
from memory.store import MemoryStore

DEFAULT = "memory.backends.sqlite:SqliteStore"
Factory = Callable[..., MemoryStore]


def load(target: str) -> Factory:
    """The class named ``module:Class``. Raises InvalidSetting."""
    module, _, name = target.partition(":")
    try:
        found: Any = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidSetting(
            f"there is no store {target!r} ({error}); name one as module:Class", setting="store"
        ) from None
    if not (isinstance(found, type) and issubclass(found, MemoryStore)):
        raise InvalidSetting(f"{target!r} is not a MemoryStore", setting="store")
    return found
