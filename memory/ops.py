"""Operations as values: what the base hands to a backend's hooks, and the plain results it gets back.

All times are integer microseconds since the epoch. ``now`` travels with every operation: an item whose
``expires <= now`` is absent to every hook.
"""

from __future__ import annotations

import enum
from typing import Literal

import msgspec

from memory.filters import Filter
from memory.model import INT_MAX, Key, MemoryItem

ANY = -1
"""Expectation of a write: whatever is there."""
ABSENT = 0
"""Expectation of a write: no live item under this key. A number above 0 expects that very version."""


class Scope(msgspec.Struct, frozen=True):
    """What an operation may see and touch. Every hook enforces it.

    ``path`` is a namespace; with ``below`` it covers everything under it as well, so ``Scope()`` is the
    whole store. A user, agent or session that is not None must be equal on the item.
    """

    path: tuple[str, ...] = ()
    below: bool = True
    user_id: str | None = None
    agent_id: str | None = None
    session_id: str | None = None

    def covers_namespace(self, namespace: tuple[str, ...]) -> bool:
        """Whether items of this namespace may lie inside."""
        if self.below:
            return namespace[: len(self.path)] == self.path
        return namespace == self.path

    def covers_owner(self, user_id: str | None, agent_id: str | None, session_id: str | None) -> bool:
        """Whether an item of this user, agent and session lies inside."""
        return (
            (self.user_id is None or self.user_id == user_id)
            and (self.agent_id is None or self.agent_id == agent_id)
            and (self.session_id is None or self.session_id == session_id)
        )

    def covers(self, item: MemoryItem) -> bool:
        """Whether the item lies inside."""
        return self.covers_namespace(item.namespace) and self.covers_owner(item.user_id, item.agent_id, item.session_id)


WHOLE = Scope()
"""Everything in the store."""


class Row(msgspec.Struct, kw_only=True, gc=False):
    """One stored record: body (canonical bytes, verbatim), stamp, and vector (float32 bytes, little-endian)."""

    body: bytes
    version: int
    created: int
    updated: int
    accessed: int
    count: int = 0
    expires: int | None = None
    embedding: bytes | None = None
    embedder: str | None = None


# --- writes ------------------------------------------------------------------------------------


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


def counted(count: int, accesses: int) -> int:
    """An access count after so many more: it stays at the largest that a record can hold."""
    return min(count + accesses, INT_MAX)


Write = Put | Remove | Touch


class Space(msgspec.Struct, frozen=True):
    """Where the vectors of a store lie: who makes them (None: callers, nobody knows how) and how many numbers each has.

    A store has one space at a time. The first vector decides it, in the write that stores it; ``reembed`` changes it.
    """

    embedder: str | None
    dimension: int

    def admits(self, embedder: str | None, dimension: int) -> bool:
        """Whether a vector belongs here. A caller that names no embedder means whichever the store has."""
        return dimension == self.dimension and embedder in (None, self.embedder)


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


# --- reads -------------------------------------------------------------------------------------

OrderField = Literal["key", "created_at", "updated_at", "accessed_at", "importance"]


class Order(msgspec.Struct, frozen=True):
    """By key (namespace, then id, UTF-8 bytes), or by a field with ties by key, always ascending by key."""

    field: OrderField = "key"
    descending: bool = False


class Position(msgspec.Struct, frozen=True, array_like=True):
    """The last row of a page: its key and the value of the order's field (micros, or float importance)."""

    namespace: tuple[str, ...]
    id: str
    value: int | float | None = None


class Read(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Point reads. Result: one Row or None for each key, in order."""

    keys: tuple[Key, ...]
    now: int
    scope: Scope = WHOLE
    fresh: bool = False
    """What is read decides a write: where the store is down, nothing stands in for it."""


class Scan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One page of live rows in scope, in order, after a position."""

    now: int
    scope: Scope = WHOLE
    where: Filter | None = None
    order: Order = Order()
    after: Position | None = None
    limit: int = 100
    vectors: bool = True
    """False: the caller does not need embeddings."""
    fresh: bool = False
    """As in ``Read``."""


class Page(msgspec.Struct, gc=False):
    """Result of a scan: at most ``limit`` rows, each in scope and live.

    ``exact``: every row satisfies the filter; else the base evaluates it again. ``more``: rows may follow.
    A page shorter than the limit is allowed only with ``more`` False.
    """

    rows: list[Row]
    exact: bool
    more: bool


class Count(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Count live rows in scope that satisfy the filter. Result: int, or None where only a scan can tell."""

    now: int
    scope: Scope = WHOLE
    where: Filter | None = None


class Match(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Text candidates: see memory.search.text for the rule that makes the answer the same everywhere."""

    terms: tuple[str, ...]
    """Distinct terms of the query."""
    limit: int
    """The caller needs the best ``limit`` by the text score (ties by key); more may be returned."""
    now: int
    scope: Scope = WHOLE
    where: Filter | None = None
    vectors: bool = False
    """The caller needs the candidates' embeddings."""


class Candidate(msgspec.Struct, gc=False):
    """One live row in scope that satisfies the filter and holds at least one query term."""

    row: Row
    counts: tuple[int, ...]
    """Occurrences of each query term, in the order of ``Match.terms``."""
    length: int
    """Number of terms in the row's text, repetitions included."""


class Matched(msgspec.Struct, gc=False):
    """Result of a match: live matches of each term (capped at 1,000), and candidates."""

    df: tuple[int, ...]
    candidates: list[Candidate]


class Nearest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Vector candidates. Result: rows with their embeddings, in any order, at least the best ``limit`` by cosine
    (memory.search.vectors; ties by key) of those that are live, in scope, satisfy the filter and have a vector.

    Without ``exact`` a backend that declares a ``recall`` below 1 may miss some. Raises EmbeddingMismatch when the
    store's space, in the snapshot that is read, does not admit the query.
    """

    vector: bytes
    """float32, little-endian, as embeddings are stored."""
    embedder: str | None
    """Who made the query's vector; None: the store's space says."""
    limit: int
    now: int
    scope: Scope = WHOLE
    where: Filter | None = None
    exact: bool = False


class Around(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The ``n`` live rows in scope before and after each anchor in its namespace and session, by (created, id).

    Result: for each anchor (before, after), both nearest first.
    """

    anchors: tuple[tuple[Key, str | None, int], ...]
    """(key, session_id, created) of each anchor."""
    n: int
    now: int
    scope: Scope = WHOLE
    vectors: bool = False
    """The caller needs the rows' embeddings."""


class FeedRead(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Events after a sequence number (None: none, just tell where the feed stands)."""

    after: int | None
    limit: int
    now: int


Owner = tuple[str | None, str | None, str | None]
"""(user_id, agent_id, session_id)."""


class Event(msgspec.Struct, gc=False):
    """One committed change. ``removed``: deleted or swept. ``was``: owner before, None when the key was absent."""

    seq: int
    key: Key
    version: int
    at: int
    removed: bool
    owner: Owner | None
    was: Owner | None


class Events(msgspec.Struct, gc=False):
    """Result of a feed read: events in order; ``head`` is the newest sequence number; ``oldest`` is the lowest
    sequence number from which nothing is missing (reading after a number below ``oldest - 1`` has expired)."""

    events: list[Event]
    head: int
    oldest: int


class Problem(msgspec.Struct, frozen=True):
    """One finding of verify: what is wrong and where, never content."""

    what: str
    key: Key | None = None
    detail: str = ""
