"""Writes: what is asked, when it is refused, how it ended."""

from __future__ import annotations

import enum

import msgspec

from memory.model import INT_MAX, Key, MemoryItem
from memory.ops.rows import WHOLE, Owner, Row, Scope

ANY = -1
"""Expectation of a write: whatever is there."""

ABSENT = 0
"""Expectation of a write: no live item under this key. A number above 0 expects that very version."""


class Kept(msgspec.Struct, frozen=True, gc=False):
    """The stamp that a privileged write keeps."""

    updated: int
    accessed: int
    count: int


class Put(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Write one item.

    The stamp to store: with ``keep`` (import, restore, migration) created and all of ``keep`` as given; else on a
    live key created, accessed and count of the stored row stay and updated is ``now``; else (absent key) created
    is ``created`` or ``now``, updated and accessed are ``now``, count is 0. Expiry is always ``expires``.
    """

    key: Key
    item: MemoryItem
    """Checked; for projections (indexes). Its content, metadata and source must not be kept by reference."""
    body: bytes
    token: bytes
    """16 bytes, one for each item and call; kept with the record."""
    now: int
    scope: Scope = WHOLE
    expect: int = ANY
    created: int | None = None
    """Creation time asked for; None = now."""
    expires: int | None = None
    keep: Kept | None = None
    digest: bytes = bytes(16)
    """16 bytes, stored always: the content hash (codec.content_hash), or zeros for what is nobody's twin."""
    dedup: bool = False
    """Return a live item with the same digest instead of writing."""
    terms: dict[str, int] | None = None
    """Term -> occurrences, for backends that declare ``indexes_terms``; else None."""
    length: int = 0
    """Number of terms in the text, repetitions included."""
    embedding: bytes | None = None
    embedder: str | None = None
    """Who made the vector (None: the store's space says); without a vector: who owes one."""
    floor: int | None = None
    """Set on a repeat of a write whose outcome is unknown: see ``MemoryStore._write``."""


class Remove(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Delete one item. Leaves a tombstone (key, version, token) for at least a day."""

    key: Key
    token: bytes
    now: int
    scope: Scope = WHOLE
    expect: int = ANY
    floor: int | None = None
    expired: bool = False
    """Sweep: remove the row only if it has the expected version, though it is expired."""


class Touch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Change expiry or access statistics without touching the body: a new version, ``updated`` stays."""

    key: Key
    token: bytes
    now: int
    scope: Scope = WHOLE
    expect: int = ANY
    set_expiry: bool = False
    expires: int | None = None
    """New expiry when ``set_expiry``; None = for ever."""
    accesses: int = 0
    """Added to the access count (see ``counted``); above 0 also sets ``accessed = now``."""
    floor: int | None = None


Write = Put | Remove | Touch


def counted(count: int, accesses: int) -> int:
    """An access count after so many more: it stays at the largest that a record can hold."""
    return min(count + accesses, INT_MAX)


class Attach(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Give the row of a key a vector, if it still has this version. Its times stay, and its version may: a vector is
    derived from the text."""

    key: Key
    version: int
    embedding: bytes


class Status(enum.Enum):
    """How one write ended."""

    DONE = "done"
    """Applied. ``row`` holds the stamp now in force, for a Remove the tombstone's version; its body may be b""."""
    DUPLICATE = "duplicate"
    """Dedup found a live item: ``row`` is that item, whole. Nothing was written."""
    EXISTS = "exists"
    """The key is taken: expectation ABSENT and live, or (any Put) live outside the scope."""
    MISSING = "missing"
    """Remove, Touch, or a Put that expects a version: no live item here (for Remove and Touch: none in scope)."""
    CONFLICT = "conflict"
    """Live within the scope at another version: ``row.version`` is the actual one (row may hold just the stamp)."""
    UNKNOWN = "unknown"
    """It may or may not be applied (lost connection, failed commit, or an undecidable repeat)."""
    FAILED = "failed"
    """Certainly not applied, because of ``error``."""
    SKIPPED = "skipped"
    """Not applied, because another item of an atomic batch could not be."""


class Result(msgspec.Struct, gc=False):
    """The outcome of one write, in the order of the batch."""

    status: Status
    row: Row | None = None
    error: Exception | None = None


def refusal(op: Write, version: int = 0, owner: Owner = (None, None, None)) -> Status | None:
    """Why a write is not applied to the live record of its key, which has this version and owner; None where it is.

    Version 0: there is no such record.
    """
    if not version:
        return Status.MISSING if op.expect > 0 or type(op) is not Put else None
    if not op.scope.covers_owner(*owner):
        return Status.EXISTS if type(op) is Put else Status.MISSING
    if op.expect == ABSENT:
        return Status.EXISTS
    return None if op.expect in (ANY, version) else Status.CONFLICT
