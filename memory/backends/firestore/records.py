"""A document that holds an item: native fields, which older programs read and change, and ours in the map ``memory``.

The canonical body is kept verbatim in ``memory.body``. A hash of the native fields says whether another program changed them
after us; then they win over the body, field by field.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container
from typing import ClassVar

import msgspec

from memory.backends.firestore import values
from memory.backends.firestore.document import Document
from memory.backends.firestore.values import Fields
from memory.codec import decode, encode
from memory.errors import CorruptData, InvalidItem
from memory.model import Key, MemoryItem
from memory.ops import Owner, Row, Scope

FORMAT = 1
OURS = "memory"
"""The field of a document that is ours."""
TIMESTAMP, EXPIRATION, EMBEDDING = "timestamp", "expiration", "embedding"
PERSONA = "persona_active"
DAY = 86_400_000_000
LAST_MOMENT = 253_402_300_799_999_999
"""The last microsecond of the year 9999, where Firestore's timestamps end."""


class Stamp(msgspec.Struct, kw_only=True, gc=False):
    """What the store says of a record."""

    created: int
    updated: int
    accessed: int
    count: int
    expires: int | None


class Record(Document, gc=False):
    """A document as it was read, or as it was just written. Each layout says what its native fields mean."""

    always_native: ClassVar[frozenset[str]] = frozenset((OURS, TIMESTAMP, EXPIRATION, EMBEDDING))
    """Fields that are always read natively, so no hash has to tell whether they were changed."""
    ours: Fields | None = None
    """Our fields; None in a document that only older programs wrote."""
    _changed: bool | None = None

    def __post_init__(self) -> None:
        self.ours = values.get_map(self.fields, OURS)

    @property
    def key(self) -> Key:
        """(namespace, id). Raises CorruptData."""
        raise NotImplementedError

    @property
    def owner(self) -> Owner:
        """(user, agent, session)."""
        raise NotImplementedError

    def native_item(self) -> MemoryItem:
        """The item that the native fields alone stand for. Raises InvalidItem."""
        raise NotImplementedError

    def overlaid(self, item: MemoryItem) -> MemoryItem:
        """The item with those native fields that differ from what we wrote for it. Raises InvalidItem."""
        raise NotImplementedError

    def part(self, name: str) -> bytes:
        """One of our fields of bytes; empty when it is not there."""
        ours = self.ours
        return b"" if ours is None else values.get_bytes(ours, name) or b""

    def live(self, now: int) -> bool:
        """Whether it has not expired."""
        expires = values.get_moment(self.fields, EXPIRATION)
        return expires is None or expires > now

    def stamp(self) -> Stamp:
        """Times and counts. What older programs have no field for is, in their documents, as if written once."""
        created = values.get_moment(self.fields, TIMESTAMP) or 0
        ours = self.ours
        known = {} if ours is None else {n: values.get_integer(ours, n) for n in ("updated", "accessed", "count")}
        updated, accessed = known.get("updated"), known.get("accessed")
        return Stamp(
            created=created,
            updated=created if updated is None else updated,
            accessed=created if accessed is None else accessed,
            count=known.get("count") or 0,
            expires=values.get_moment(self.fields, EXPIRATION),
        )

    @property
    def changed(self) -> bool:
        """Whether another program wrote or changed it after us."""
        if self._changed is None:
            self._changed = self.part("native") != native_hash(self.fields, self.always_native)
        return self._changed


def native_hash(fields: Fields, apart: Container[str]) -> bytes:
    """16 bytes that change when an older program changes what is not always read natively."""
    state = hashlib.blake2b(digest_size=16)
    for name in sorted(fields):
        if name not in apart:
            state.update(name.encode() + b"\0" + fields[name].SerializeToString(deterministic=True) + b"\0")
    return state.digest()


def row_of(found: Record, embedder: str | None, dimension: int | None, *, vectors: bool = True) -> Row:
    """The row of a document; native fields that another program changed win. Raises CorruptData.

    ``embedder`` and ``dimension`` are the store's space; an embedding of another dimension is none of its own.
    """
    stamp = found.stamp()
    ours = found.ours
    body = found.part("body")
    if not body or found.changed:
        body = _reconciled(found, body)
    embedding = None
    if vectors and EMBEDDING in found.fields:
        embedding = values.floats(found.fields[EMBEDDING])
        if embedding is not None and len(embedding) // 4 != dimension:
            embedding = None
    return Row(
        body=body,
        version=found.version,
        created=stamp.created,
        updated=stamp.updated,
        accessed=stamp.accessed,
        count=stamp.count,
        expires=stamp.expires,
        embedding=embedding,
        embedder=embedder if embedding is not None else None if ours is None else values.get_text(ours, "embedder"),
    )


def _reconciled(found: Record, body: bytes) -> bytes:
    """The body that the native fields say, in a document that only older programs wrote or that they changed."""
    try:
        if not body:
            return encode(found.native_item())
        stamp = found.stamp()
        item = decode(Row(body=body, version=1, created=stamp.created, updated=stamp.updated, accessed=stamp.accessed))
        return encode(found.overlaid(item))
    except InvalidItem as error:
        raise CorruptData(
            f"the document {found.id!r}, written by another program, is no item: {error}", document=found.id
        ) from None


def item_of(found: Record) -> MemoryItem:
    """The item of a document without its vector. Raises CorruptData."""
    return decode(row_of(found, None, None, vectors=False), vector=False)


def shallow_row(stamp: Stamp, version: int) -> Row:
    """A row that holds just the stamp."""
    return Row(
        body=b"",
        version=version,
        created=stamp.created,
        updated=stamp.updated,
        accessed=stamp.accessed,
        count=stamp.count,
        expires=stamp.expires,
    )


def covers(scope: Scope, found: Record) -> bool:
    """Whether a document's item lies inside. Raises CorruptData."""
    return scope.covers_namespace(found.key[0]) and scope.covers_owner(*found.owner)
