"""``MemoryManager``, the front door for applications.

- ``front``: the manager, put together from ``lifecycle`` (settings, open, close), ``singles`` (add, get, update, delete),
  ``finding`` (search, context), ``conversations`` (messages, history) and ``seeds`` (the names of earlier managers).
- ``choosing``: which store that is. ``messages``, ``context``, ``originals``, ``keywords``: what the others are made of.
"""

from __future__ import annotations

from memory.manager.context import Context
from memory.manager.front import MemoryManager

__all__ = ["Context", "MemoryManager"]
