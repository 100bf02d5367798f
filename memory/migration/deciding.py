"""What is to be done about one item, given what both sides hold and what this migration wrote before. A pure function."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from memory.migration.records import Vectors, fingerprint
from memory.migration.written import Written

if TYPE_CHECKING:
    from memory.migration.report import OnConflict
    from memory.ops import Row


class Do(enum.Enum):
    """What is to be done."""

    NOTHING = "nothing"
    """The source has none, and what the target holds is not ours."""
    SAME = "unchanged"
    CREATE = "create"
    UPDATE = "update"
    """What this migration wrote, and nobody else since, has changed at the source."""
    REPLACE = "replace"
    """Somebody else's, and to be replaced all the same."""
    REMOVE = "remove"
    """What this migration wrote, and nobody else since, is gone at the source."""
    KEEP = "keep"
    """Somebody else's, and later."""
    CONFLICT = "conflict"


class Decision(NamedTuple):
    """What to do, and of a conflict why."""

    do: Do
    why: str = ""


DIFFERS = "the target holds another item under this key"
CHANGED = "changed in the target since it was moved"
DELETED = "deleted in the target since it was moved"
UNLIKE = "unlike the source's, though neither was written since it was moved"
STILL = "gone at the source and taken back, yet still in the target"
LEFT = "gone at the source, and changed in the target since it was moved"


def decide(
    wanted: Row | None,
    held: Row | None,
    written: Written | None,
    policy: OnConflict,
    vectors: Vectors,
    *,
    comparing: bool = False,
) -> Decision:
    """``wanted``: the source's item as the target should hold it; its version is the source's. ``held``: the target's.

    ``written``: the last write of this migration. ``comparing``: all is moved; only what the source did since is followed, and
    whatever else differs is a conflict.
    """
    ours = written is not None and held is not None and written.version == held.version
    if wanted is None:
        if held is None or written is None:
            return Decision(Do.NOTHING)
        if written.removed:
            return Decision(Do.CONFLICT, STILL) if held.version == -written.version else Decision(Do.NOTHING)
        return Decision(Do.REMOVE) if ours else Decision(Do.CONFLICT, LEFT)
    if held is None:
        if written is None or written.removed:
            return Decision(Do.CREATE)
        if comparing or policy in ("refuse", "skip"):
            return Decision(Do.CONFLICT, DELETED)
        return Decision(Do.CREATE)
    if fingerprint(wanted, vectors) == fingerprint(held, vectors):
        return Decision(Do.SAME)
    if ours and written is not None and written.source != wanted.version:
        return Decision(Do.UPDATE)
    why = DIFFERS if written is None else UNLIKE if ours else CHANGED
    if policy == "newer" and not ours and held.updated >= wanted.updated:
        return Decision(Do.KEEP)
    if comparing or policy in ("refuse", "skip"):
        return Decision(Do.CONFLICT, why)
    return Decision(Do.REPLACE)
