"""A stored record: its key as bytes, the document that filters look at, and its row as the base wants it."""

from __future__ import annotations

import re
import zlib
from typing import Any

import msgspec

from memory.keys import damaged
from memory.model import MemoryItem
from memory.ops import Row

ROW = "r.body, r.key, r.crc, r.version, r.created, r.updated, r.accessed, r.count, r.expires, r.owed"
"""What is read of a record, in this order; its vector may follow: VECTOR."""
VECTOR = ", x.raw, (SELECT embedder FROM $state) AS embedder"
JOINED = " LEFT JOIN $vectors x ON x.key = r.key AND x.space = (SELECT space FROM $state)"
"""Where the vector comes from."""


def sort_key(raw: bytes) -> tuple[bytes, bytes]:
    """memory.model.key_order of a stored key."""
    path, _, name = raw.partition(b"\0\0")
    return (path, name)


def checksum(body: bytes) -> int:
    """CRC-32 of a body."""
    return zlib.crc32(body)


def to_row(found: Any, *, vector: bool = False) -> Row:
    """The Row of a record selected by ROW, with its vector where that was selected too. Raises CorruptData."""
    body = found[0]
    if zlib.crc32(body) != found[2]:
        raise damaged(found[1])
    embedding, embedder = None, found[9]
    if vector:
        embedding = found[10]
        if embedding is not None:
            embedder = found[11]
    return Row(
        body=body,
        version=found[3],
        created=found[4],
        updated=found[5],
        accessed=found[6],
        count=found[7],
        expires=found[8],
        embedding=embedding,
        embedder=embedder,
    )


# --- what filters look at ----------------------------------------------------------------------

_encode = msgspec.json.encode
_needs_care = re.compile(rb"\\u000[01]|[0-9.]{16}|[0-9]e").search
"""Whether encoded JSON may hold what JSONB takes for something else: see `speakable`."""


def document(item: MemoryItem) -> str | None:
    """Tags, metadata, and content that is an object, as JSON for the column ``doc``; None where there is none."""
    parts: dict[str, Any] = {}
    if item.metadata:
        parts["metadata"] = item.metadata
    if item.tags:
        parts["tags"] = item.tags
    if type(item.content) is dict and item.content:
        parts["content"] = item.content
    if item.source:
        parts["source"] = item.source
    if not parts:
        return None
    encoded = _encode(parts)
    if _needs_care(encoded):
        encoded = _encode(speakable(parts))
    return encoded.decode()


def speakable(value: Any) -> Any:
    """The value in a form that JSONB compares as filters do.

    A large float is written with all its digits: JSONB takes the shortest form for the exact number. U+0000, which
    JSONB refuses, and U+0001 become two characters each, by which strings keep their order and their beginnings.
    """
    kind = type(value)
    if kind is str:
        return escaped(value)
    if kind is float:
        return int(value) if value.is_integer() else value
    if kind is dict:
        return {escaped(name): speakable(part) for name, part in value.items()}
    if kind is list or kind is tuple:
        return [speakable(part) for part in value]
    return value


def escaped(text: str) -> str:
    """A string as ``doc`` holds it."""
    if "\0" in text or "\1" in text:
        return text.replace("\1", "\1\2").replace("\0", "\1\1")
    return text
