"""What becomes of one write in V2's collection."""

from __future__ import annotations

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
from memory.backends.firestore.v2.documents import Found, document_of
from memory.errors import CorruptData
from memory.keys import encode_key
from memory.ops import Put, Remove, Result, Space, Touch
from memory.ops import Write as Op


def decide(
    op: Op,
    found: Found | None,
    tombstone: Document | None,
    space: Space | None,
    name: str,
    tombstone_name: str,
    *,
    expires_natively: bool,
) -> Result | Change:
    """The rules of ``MemoryStore._write``, dedup apart. Raises CorruptData for a document of another key or format.

    ``name`` and ``tombstone_name``: the full names of the key's documents.
    """
    if found is not None and found.part("key") not in (b"", encode_key(op.key)):
        raise CorruptData(
            f"the document {found.id!r} holds another item than {op.key!r}. Run 'memory verify'", document=found.id
        )
    result = settled(op, found, tombstone)
    if result is not None:
        return result
    if type(op) is Put:
        return _put(op, found, space, name, expires_natively=expires_natively)
    assert found is not None
    if type(op) is Touch:
        return touched(op, found, name, nulls=False, expires_natively=expires_natively)
    assert type(op) is Remove
    return removed(op, found, name, tombstone_name, expires_natively=expires_natively)


def _put(op: Put, found: Found | None, space: Space | None, name: str, *, expires_natively: bool) -> Result | Change:
    fitting = space_for(op, space)
    if isinstance(fitting, Result):
        return fitting
    embedder, makes = fitting
    stamp = stamp_for(op, live_for(op, found))
    document = document_of(op, name, stamp, embedder, expires_natively=expires_natively)
    write = expecting(Write(update=document), None if found is None else found.version)
    after = Found(name.rpartition("/")[2], document.fields, 0)
    return Change([write], put_row(op, stamp, embedder), after, makes)
