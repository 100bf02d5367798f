"""A stored document: V2's own fields, and beside them, in the map ``memory``, ours.

What V2 has a field for (user_id, session_id, item_type, timestamp, text_content, metadata, embedding, expiration) lies there,
and V2 programs read and change it there.
"""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

import msgspec

from memory.backends.firestore import values
from memory.backends.firestore.records import DAY, FORMAT, LAST_MOMENT, OURS, PERSONA, Record, Stamp, native_hash
from memory.backends.firestore.v2.legacy import VECTOR, legacy_item, native_metadata, overlaid
from memory.backends.firestore.values import Fields
from memory.keys import decode_key, encode_key
from memory.model import Key, MemoryItem, path_bytes
from memory.ops import Owner, Put

LONGEST_TERM = 400
"""Bytes of a term that is indexed as it is; Firestore compares only the first 1,500 of an index entry."""
_pack = msgspec.msgpack.encode
_unpack = msgspec.msgpack.Decoder(list[int]).decode


class Found(Record, gc=False):
    """A document of V2's collection."""

    always_native: ClassVar[frozenset[str]] = Record.always_native | {VECTOR}

    @property
    def key(self) -> Key:
        """(namespace, id). Raises CorruptData."""
        raw = self.part("key")
        return decode_key(raw) if raw else (("default",), self.id)

    @property
    def owner(self) -> Owner:
        """(user, agent, session)."""
        ours = self.ours
        agent = None if ours is None else values.get_text(ours, "agent")
        return (_name(self.fields, "user_id"), agent, _name(self.fields, "session_id"))

    def native_item(self) -> MemoryItem:
        """The item that the native fields alone stand for. Raises InvalidItem."""
        return legacy_item(self.id, self.fields)

    def overlaid(self, item: MemoryItem) -> MemoryItem:
        """The item with those native fields that a V2 program changed. Raises InvalidItem."""
        return overlaid(item, self.fields)

    def terms(self) -> tuple[dict[str, int], int] | None:
        """Indexed term -> occurrences, and the length of the text; None where they are not those of the text."""
        ours = self.ours
        if ours is None or self.changed:
            return None
        terms, counts = values.get_texts(ours, "terms"), values.get_bytes(ours, "counts")
        return dict(zip(terms, _unpack(counts or b"\x90"), strict=False)), values.get_integer(ours, "length") or 0


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
    ours["native"].bytes_value = native_hash(fields, Found.always_native)


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
