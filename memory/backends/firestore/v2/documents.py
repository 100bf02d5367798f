"""A stored document: V2's own fields, and beside them, in the map ``memory``, ours.

What V2 has a field for (user_id, session_id, item_type, timestamp, text_content, metadata, embedding, expiration) lies there,
and V2 programs read and change it there. The canonical body is kept verbatim in ``memory.body``. A hash of the native
fields says whether a V2 program changed them after us; then they win over the body, field by field.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from memory.backends.firestore import values
from memory.backends.firestore.document import Document
from memory.backends.firestore.v2.legacy import OURS, PERSONA, VECTOR, legacy_item, native_metadata, overlaid
from memory.backends.firestore.values import Fields
from memory.codec import decode, encode
from memory.errors import CorruptData, InvalidItem
from memory.keys import decode_key, encode_key
from memory.model import Key, MemoryItem, path_bytes
from memory.ops import Owner, Put, Row, Scope

FORMAT = 1
DAY = 86_400_000_000
LONGEST_TERM = 400
"""Bytes of a term that is indexed as it is; Firestore compares only the first 1,500 of an index entry."""
_STAMPS = frozenset((OURS, VECTOR, "timestamp", "expiration", "embedding"))
"""Fields that are always read natively, so no hash has to tell whether they were changed."""
_pack = msgspec.msgpack.encode
_unpack = msgspec.msgpack.Decoder(list[int]).decode


class Stamp(msgspec.Struct, kw_only=True, gc=False):
    """What the store says of a record."""

    created: int
    updated: int
    accessed: int
    count: int
    expires: int | None


class Found(Document, gc=False):
    """A document as it was read, or as it was just written."""

    ours: Fields | None = None
    """Our fields; None in a document that only V2 programs wrote."""
    _changed: bool | None = None

    def __post_init__(self) -> None:
        self.ours = values.get_map(self.fields, OURS)

    def part(self, name: str) -> bytes:
        """One of our fields of bytes; empty when it is not there."""
        ours = self.ours
        return b"" if ours is None else values.get_bytes(ours, name) or b""

    def live(self, now: int) -> bool:
        """Whether it has not expired."""
        expires = values.get_moment(self.fields, "expiration")
        return expires is None or expires > now

    @property
    def owner(self) -> Owner:
        """(user, agent, session)."""
        ours = self.ours
        agent = None if ours is None else values.get_text(ours, "agent")
        return (_name(self.fields, "user_id"), agent, _name(self.fields, "session_id"))

    @property
    def key(self) -> Key:
        """(namespace, id). Raises CorruptData."""
        raw = self.part("key")
        return decode_key(raw) if raw else (("default",), self.id)

    def stamp(self) -> Stamp:
        """Times and counts. What V2 has no field for is, in its documents, as if written once."""
        created = values.get_moment(self.fields, "timestamp") or 0
        ours = self.ours
        known = {} if ours is None else {n: values.get_integer(ours, n) for n in ("updated", "accessed", "count")}
        updated, accessed = known.get("updated"), known.get("accessed")
        return Stamp(
            created=created,
            updated=created if updated is None else updated,
            accessed=created if accessed is None else accessed,
            count=known.get("count") or 0,
            expires=values.get_moment(self.fields, "expiration"),
        )

    def terms(self) -> tuple[dict[str, int], int] | None:
        """Indexed term -> occurrences, and the length of the text; None where they are not those of the text."""
        ours = self.ours
        if ours is None or self.changed:
            return None
        terms, counts = values.get_texts(ours, "terms"), values.get_bytes(ours, "counts")
        return dict(zip(terms, _unpack(counts or b"\x90"), strict=False)), values.get_integer(ours, "length") or 0

    @property
    def changed(self) -> bool:
        """Whether a V2 program wrote or changed it after us."""
        if self._changed is None:
            self._changed = self.part("native") != native_hash(self.fields)
        return self._changed


def _name(fields: Fields, name: str) -> str | None:
    return values.get_text(fields, name) or None


# --- from an item to a document ----------------------------------------------------------------


def document_of(op: Put, name: str, stamp: Stamp, embedder: str | None, *, expires_natively: bool) -> Any:
    """The whole document of an item. ``name`` is the full name of the document."""
    item = op.item
    made = values.Document(name=name)
    fields = made.fields
    fill_native(fields, item, stamp)
    if op.embedding is not None:
        fill_vector(fields, op.embedding)
    fill_ours(fields, item, op.body, op.token, op.digest, stamp, embedder, expires_natively=expires_natively)
    fill_terms(fields, op.terms or {}, op.length)
    return made


def fill_native(fields: Fields, item: MemoryItem, stamp: Stamp) -> None:
    """The fields that V2 programs read, but for the embedding."""
    fields["id"].string_value = item.id
    fields["user_id"].CopyFrom(values.optional_text(item.user_id))
    fields["session_id"].CopyFrom(values.optional_text(item.session_id))
    fields["item_type"].string_value = item.kind
    fields["timestamp"].CopyFrom(values.moment(stamp.created))
    text = item.searchable
    if text:
        fields["text_content"].string_value = text
    fields["metadata"].CopyFrom(native_metadata(item.metadata, text))
    legacy = item.metadata.get("legacy")
    persona = legacy.get(PERSONA) if type(legacy) is dict else None
    if type(persona) is str:
        fields[PERSONA].string_value = persona
    if stamp.expires is not None:
        fields["expiration"].CopyFrom(values.moment(stamp.expires))


def fill_vector(fields: Fields, embedding: bytes) -> None:
    """The embedding as V2 has it, and divided by its length as a vector that Firestore searches: with a unit vector the
    product is the cosine, and a vector of zeros gets 0 as everywhere."""
    import numpy as np

    numbers = np.frombuffer(embedding, dtype="<f4").astype(np.float64)
    fields["embedding"].CopyFrom(values.doubles(numbers))
    fields[VECTOR].CopyFrom(values.vector(unit64(numbers)))


def unit64(numbers: Any) -> Any:
    """A vector divided by its length; zeros stay zeros."""
    import numpy as np

    largest = np.abs(numbers).max()
    if not largest > 0:
        return numbers
    scaled = numbers / largest  # so that no square overflows or vanishes
    return scaled / np.sqrt((scaled * scaled).sum())


def fill_ours(
    fields: Fields,
    item: MemoryItem,
    body: bytes,
    token: bytes,
    digest: bytes,
    stamp: Stamp,
    embedder: str | None,
    *,
    expires_natively: bool,
) -> None:
    """Our fields but the terms, once the native ones are filled in."""
    ours = fields[OURS].map_value.fields
    ours["v"].integer_value = FORMAT
    ours["key"].bytes_value = encode_key(item.key)
    ours["path"].bytes_value = path_bytes(item.namespace)
    ours["body"].bytes_value = body
    ours["token"].bytes_value = token
    ours["digest"].bytes_value = digest
    ours["agent"].CopyFrom(values.optional_text(item.agent_id))
    ours["importance"].double_value = item.importance
    ours["updated"].integer_value = stamp.updated
    ours["accessed"].integer_value = stamp.accessed
    ours["count"].integer_value = stamp.count
    if item.tags:
        ours["tags"].CopyFrom(values.texts(dict.fromkeys(item.tags)))
    if embedder is not None:
        ours["embedder"].string_value = embedder
    if expires_natively and stamp.expires is not None:
        # A day later: native deletion only reclaims what nobody sees any more.
        ours["ttl"].CopyFrom(values.moment(min(stamp.expires + DAY, LAST_MOMENT)))
    ours["native"].bytes_value = native_hash(fields)


LAST_MOMENT = 253_402_300_799_999_999
"""The last microsecond of the year 9999, where Firestore's timestamps end."""


def fill_terms(fields: Fields, terms: dict[str, int], length: int) -> None:
    """What text search needs."""
    if terms:
        ours = fields[OURS].map_value.fields
        ours["terms"].CopyFrom(values.texts(term_value(term) for term in terms))
        ours["counts"].bytes_value = _pack(list(terms.values()))
        ours["length"].integer_value = length


def term_value(term: str) -> str:
    """A term as it is indexed: itself, or the hash of a very long one (no term begins with ~)."""
    raw = term.encode()
    return term if len(raw) <= LONGEST_TERM else "~" + hashlib.blake2b(raw, digest_size=16).hexdigest()


def native_hash(fields: Fields) -> bytes:
    """16 bytes that change when a V2 program changes what is not always read natively."""
    state = hashlib.blake2b(digest_size=16)
    for name in sorted(fields):
        if name not in _STAMPS:
            state.update(name.encode() + b"\0" + fields[name].SerializeToString(deterministic=True) + b"\0")
    return state.digest()


# --- from a document to a row ------------------------------------------------------------------


def row_of(found: Found, embedder: str | None, dimension: int | None, *, vectors: bool = True) -> Row:
    """The row of a document; native fields that a V2 program changed win. Raises CorruptData.

    ``embedder`` and ``dimension`` are the store's space; an embedding of another dimension is none of its own.
    """
    stamp = found.stamp()
    ours = found.ours
    body = found.part("body")
    if not body or found.changed:
        body = _reconciled(found, body)
    embedding = None
    if vectors and "embedding" in found.fields:
        embedding = values.floats(found.fields["embedding"])
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
        embedder=embedder
        if "embedding" in found.fields and embedding is not None
        else None
        if ours is None
        else values.get_text(ours, "embedder"),
    )


def _reconciled(found: Found, body: bytes) -> bytes:
    """The body that the native fields say, in a document that only V2 programs wrote or that they changed."""
    try:
        if not body:
            return encode(legacy_item(found.id, found.fields))
        stamp = found.stamp()
        item = decode(Row(body=body, version=1, created=stamp.created, updated=stamp.updated, accessed=stamp.accessed))
        return encode(overlaid(item, found.fields))
    except InvalidItem as error:
        raise CorruptData(
            f"the document {found.id!r}, written by another program, is no item: {error}", document=found.id
        ) from None


def item_of(found: Found) -> MemoryItem:
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


def covers(scope: Scope, found: Found) -> bool:
    """Whether a document's item lies inside. Raises CorruptData."""
    return scope.covers_namespace(found.key[0]) and scope.covers_owner(*found.owner)
