"""What `capabilities.memory` left behind, read as items: its keys in Redis, its table in Postgres, its folder of vectors.

- ``entries``: an entry as an item. ``redis``, ``postgres``, ``folder``: where entries lie.
- ``source``: any of these as the source of a migration. ``importing``: moving it, and comparing.
"""

from __future__ import annotations

from memory.migration.capabilities.importing import import_capabilities, import_capabilities_sync

__all__ = ["import_capabilities", "import_capabilities_sync"]
