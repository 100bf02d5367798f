"""What is stored, and what of it an operation may see."""

from __future__ import annotations

import msgspec

from memory.model import Key, MemoryItem

Owner = tuple[str | None, str | None, str | None]
"""(user_id, agent_id, session_id)."""


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


class Space(msgspec.Struct, frozen=True):
    """Where the vectors of a store lie: who makes them (None: callers, nobody knows how) and how many numbers each has.

    A store has one space at a time. The first vector decides it, in the write that stores it; ``reembed`` changes it.
    """

    embedder: str | None
    dimension: int

    def admits(self, embedder: str | None, dimension: int) -> bool:
        """Whether a vector belongs here. A caller that names no embedder means whichever the store has."""
        return dimension == self.dimension and embedder in (None, self.embedder)


class Problem(msgspec.Struct, frozen=True):
    """One finding of verify: what is wrong and where, never content."""

    what: str
    key: Key | None = None
    detail: str = ""
