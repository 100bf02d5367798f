"""Records as a migration compares them: all of a record but its version, which the target issues itself."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Literal

import msgspec

from memory.codec import BODY_FIELDS, decode
from memory.errors import CorruptData
from memory.model import Key, path_bytes
from memory.store.embedding import is_text

if TYPE_CHECKING:
    from memory.model import MemoryItem
    from memory.ops import Row

Vectors = Literal["copy", "reembed", "drop"]
"""What becomes of vectors: moved as they are, made anew by the target's embedder, or left behind."""
Pair = tuple["Row", "MemoryItem"]
"""A stored row and the item it decodes to."""

_STAMP = {
    "created_at": "created",
    "updated_at": "updated",
    "accessed_at": "accessed",
    "expires_at": "expires",
    "access_count": "count",
}
"""Fields of an item that its row keeps beside the body -> their names there."""
_encode = msgspec.json.Encoder(order="deterministic").encode


def key_digest(key: Key) -> int:
    """64 bits that stand for a key. BLAKE2b."""
    raw = path_bytes(key[0]) + b"\0\0" + key[1].encode()
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "big")


def expected(pair: Pair, vectors: Vectors, embedder: str | None) -> Row:
    """The row that the target should hold. A vector that is yet to be made (``reembed``) is there as b""."""
    row, item = pair
    if vectors == "copy":
        return row
    made = vectors == "reembed" and is_text(item)
    return msgspec.structs.replace(row, embedding=b"" if made else None, embedder=embedder if made else None)


def fingerprint(row: Row, vectors: Vectors) -> str:
    """A hash that is equal for rows that are equal but for their versions. BLAKE2b, 16 bytes, in hex.

    With ``reembed`` what counts of a vector is that there is one and who made it; with ``drop`` it does not count.
    """
    raw, maker = _vector(row, vectors)
    head = (row.created, row.updated, row.accessed, row.count, row.expires, len(row.body), maker, raw is None)
    told = hashlib.blake2b(_encode(head), digest_size=16)
    told.update(row.body)
    told.update(raw or b"")
    return told.hexdigest()


def _vector(row: Row, vectors: Vectors) -> tuple[bytes | None, str | None]:
    """What counts of a row's vector, and of its maker (or of who owes it)."""
    if vectors == "drop":
        return None, None
    if vectors == "copy":
        return row.embedding, row.embedder
    return (None, None) if row.embedding is None else (b"", row.embedder)


def differing(one: Row, other: Row, vectors: Vectors) -> tuple[str, ...]:
    """The names of the fields in which two rows differ."""
    fields = [name for name, column in _STAMP.items() if getattr(one, column) != getattr(other, column)]
    if one.body != other.body:
        fields += _differing_bodies(one, other)
    (raw, maker), (other_raw, other_maker) = _vector(one, vectors), _vector(other, vectors)
    if raw != other_raw:
        fields.append("embedding")
    if maker != other_maker:
        fields.append("embedder")
    return tuple(fields)


def _differing_bodies(one: Row, other: Row) -> list[str]:
    try:
        ours, theirs = decode(one, vector=False), decode(other, vector=False)
    except CorruptData:
        return ["body"]
    # As JSON, in which 1 and 1.0 or True and 1 are not the same.
    found = [name for name in BODY_FIELDS if _encode(getattr(ours, name)) != _encode(getattr(theirs, name))]
    return found or ["body"]
