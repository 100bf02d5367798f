"""Copies: records that another member keeps, with a mark at the end of the body that says which record of the original they are.

A body is a JSON object, so a last field can be added to its bytes, and taken away again, without reading them. Whoever decodes
such a body by itself skips the field. No body ends like a mark: its own last field is a number or an object.
"""

from __future__ import annotations

import msgspec

from memory.codec import content_hash, decode, encode
from memory.model import Key, MemoryItem
from memory.ops import ABSENT, Kept, Put, Row
from memory.store.settle import new_token

_MARK = b',"of":'
_LONGEST_NUMBER = 28
_encode = msgspec.json.Encoder().encode
_replace = msgspec.structs.replace

PLACE: Key = (("\x01composite",), "\x01composite-position")
"""Where a member keeps how far it has followed the feed of another. No item can have this id."""
FORBIDDEN = "\x01composite-.*"

GONE = -1
"""The access count of a note that there is no such record."""
HELD = -2
"""The access count of a note that there is a newer record, which is not kept."""


def marked(body: bytes, number: int) -> bytes:
    """The body with a number at its end."""
    return b"%b%b%d}" % (body[:-1], _MARK, number)


def unmarked(body: bytes) -> tuple[bytes, int]:
    """The inverse of ``marked``; 0 for a body without a mark."""
    at = body.rfind(_MARK, -_LONGEST_NUMBER)
    number = body[at + len(_MARK) : -1] if at >= 0 else b""
    return (body[:at] + b"}", int(number)) if number.isdigit() else (body, 0)


class _Seal(msgspec.Struct, array_like=True):
    """The rest of a record, as it lies at the end of a copy's body: ``at`` is where it begins, in ten digits."""

    version: int
    created: int
    updated: int
    accessed: int
    count: int
    expires: int | None
    embedder: str | None
    embedding: bytes | None
    at: str


def sealed(row: Row) -> bytes:
    """The body of a copy that holds the whole record, vector and stamp, whatever stamp the copy gets."""
    seal = _Seal(
        row.version, row.created, row.updated, row.accessed, row.count, row.expires, row.embedder,
        row.embedding, f"{len(row.body) - 1:010}",
    )  # fmt: skip
    return b"%b%b%b}" % (row.body[:-1], _MARK, _encode(seal))


def unsealed(body: bytes) -> Row | None:
    """The record in a copy's body; None where it is no copy."""
    try:
        at = int(body[-13:-3])
        seal = _decode_seal(memoryview(body)[at + len(_MARK) : -1])
    except (ValueError, msgspec.DecodeError):
        return None
    return Row(
        body=body[:at] + b"}", version=seal.version, created=seal.created, updated=seal.updated, accessed=seal.accessed,
        count=seal.count, expires=seal.expires, embedding=seal.embedding, embedder=seal.embedder,
    )  # fmt: skip


_decode_seal = msgspec.json.Decoder(_Seal).decode


def gone(key: Key, version: int, now: int, count: int = GONE) -> Row:
    """A note that a record is gone since this version (0: since when is not known), or is newer (``HELD``)."""
    return Row(body=encode(_bare(key)), version=version, created=now, updated=now, accessed=now, count=count)


def _bare(key: Key) -> MemoryItem:
    return MemoryItem(namespace=key[0], id=key[1], content=None)


def kept(key: Key, row: Row, now: int, lasts: int, expect: int) -> Put:
    """The write of a whole record into a store that is asked by key alone, for at most ``lasts`` microseconds.

    Nothing is indexed: neither terms nor vector, neither owner nor fields.
    """
    expires = now + lasts if row.expires is None else min(row.expires, now + lasts)
    return Put(
        key=key, item=_bare(key), body=sealed(row), token=new_token(), now=now, expect=expect, expires=expires, terms={}
    )  # fmt: skip


def copy_of(row: Row, now: int, expect: int = ABSENT, *, mark: bool = True) -> Put:
    """The write of a record into a store that is searched like the original. The mark is the original's version."""
    item = decode(row)
    return Put(
        key=item.key, item=item, body=marked(row.body, row.version) if mark else row.body, token=new_token(), now=now, expect=expect,
        created=row.created, expires=row.expires, keep=Kept(row.updated, row.accessed, row.count),
        digest=content_hash(item), embedding=row.embedding, embedder=row.embedder,
    )  # fmt: skip


def original(row: Row) -> Row:
    """The record that a copy made by ``copy_of`` stands for: its body and version."""
    body, version = unmarked(row.body)
    return _replace(row, body=body, version=version)


def place_of(position: int, now: int) -> Put:
    """The write that keeps how far a feed was followed."""
    item = MemoryItem(namespace=PLACE[0], id=PLACE[1], content=position, text="")
    return Put(key=PLACE, item=item, body=encode(item), token=new_token(), now=now, terms={})
