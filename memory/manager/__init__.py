"""``MemoryManager``, the front door for applications.

- ``front``: the manager. ``messages``: conversations.
"""

from __future__ import annotations

from memory.manager.front import MemoryManager

__all__ = ["MemoryManager"]
