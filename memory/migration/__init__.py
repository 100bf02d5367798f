"""Moving everything between any two backends: planned, resumable, compared in full, and undone if need be.

- ``migrating``: the whole. ``planning``, ``moving``, ``comparing``, ``undoing``: its parts.
- ``deciding``: what is to be done about one item. ``putting``: how it is written, and what the target cannot hold.
- ``journal``, ``state``, ``written``: what a migration remembers. ``records``: when two records are equal.
- ``sources``: where it reads. ``places``: the stores by name. ``report``, ``output``: what it tells.
"""

from __future__ import annotations

from memory.migration.migrating import migrate, migrate_sync
from memory.migration.report import Finding, MigrationReport, Plan, RollbackReport
from memory.migration.undoing import rollback, rollback_sync, target_of

__all__ = [
    "Finding",
    "MigrationReport",
    "Plan",
    "RollbackReport",
    "migrate",
    "migrate_sync",
    "rollback",
    "rollback_sync",
    "target_of",
]
