"""What becomes of one write in V1's collections."""

from __future__ import annotations

from collections.abc import Callable

from memory.backends.firestore.connection import Write, expecting
from memory.backends.firestore.deciding import (
    Change,
    live_for,
    put_row,
    removed,
    settled,
    space_for,
    stamp_for,
    touched,
)
from memory.backends.firestore.document import Document
from memory.backends.firestore.v1.documents import Found, document_of
from memory.backends.firestore.v1.natives import collection_of
from memory.errors import AlreadyExists
from memory.ops import Put, Remove, Result, Space, Status, Touch
from memory.ops import Write as Op

Named = Callable[[str, str], str]
"""The full name of a document, from its collection and its name."""


def decide(
    op: Op, found: Found | None, tombstone: Document | None, space: Space | None, named: Named, tombstones: str
) -> Result | Change:
    """The rules of ``MemoryStore._write``, dedup apart. Raises CorruptData for a document of a newer format."""
    result = settled(op, found, tombstone)
    if result is not None:
        return result
    if type(op) is Put:
        return _put(op, found, space, named)
    assert found is not None
    name = named(found.collection, found.id)
    if type(op) is Touch:
        return touched(op, found, name, nulls=True, expires_natively=False)
    assert type(op) is Remove
    change = removed(op, found, name, named(tombstones, found.id), expires_natively=False)
    change.after = found.rival
    return change


def _put(op: Put, found: Found | None, space: Space | None, named: Named) -> Result | Change:
    fitting = space_for(op, space)
    if isinstance(fitting, Result):
        return fitting
    embedder, makes = fitting
    id, collection = op.key[1], collection_of(op.item)
    live = live_for(op, found)
    stamp = stamp_for(op, live)
    document = document_of(op, named(collection, id), stamp, embedder, live if isinstance(live, Found) else None, space)
    after = Found(id, document.fields, 0, collection)
    change = Change([], put_row(op, stamp, embedder), after, makes)
    if found is None or found.collection == collection:
        change.writes = [expecting(Write(update=document), None if found is None else found.version)]
        after.rival = None if found is None else found.rival
        return change
    if found.rival is not None:
        error = AlreadyExists(
            f"{id!r} is the name of a document in both {found.collection} and {collection}, so the item cannot move from one "
            "to the other; see 'memory verify'",
            key=op.key,
        )
        return Result(Status.FAILED, error=error)
    # Whose it is decides where it lies: it moves, in one commit.
    gone = expecting(Write(delete=named(found.collection, id)), found.version)
    change.writes = [expecting(Write(update=document), None), gone]
    return change
