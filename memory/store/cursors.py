"""Opaque cursors and resume tokens: base64 of JSON [kind, digest of the question, position].

The digest binds a cursor to its scope, filter and order, so it cannot be used to ask another question. It is
no secret and needs none: the scope is enforced in every read, whatever the position says.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any, TypeVar

import msgspec

from memory.errors import InvalidCursor
from memory.filters import Filter, digest_form
from memory.ops import Order, Scope

T = TypeVar("T")
_encode = msgspec.json.encode


def question(kind: str, scope: Scope, where: Filter | None, *details: Any) -> str:
    """A short digest of everything a cursor must agree with. BLAKE2b, 9 bytes."""
    parts = _encode([kind, scope, [d if not isinstance(d, Order) else [d.field, d.descending] for d in details]])
    form = b"" if where is None else digest_form(where)
    return base64.urlsafe_b64encode(hashlib.blake2b(parts + b"\0" + form, digest_size=9).digest()).decode()


def write(digest: str, position: Any) -> str:
    """A cursor for this question and position."""
    return base64.urlsafe_b64encode(_encode([digest, position])).decode().rstrip("=")


def read(cursor: str, digest: str, form: type[T]) -> T:
    """The position in a cursor. Raises InvalidCursor when it is damaged or was made for another question."""
    if not isinstance(cursor, str):
        raise InvalidCursor(f"a cursor is the str that the page before returned, not a {type(cursor).__name__}")
    try:
        raw = base64.b64decode(cursor.encode() + b"=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        made_for, position = msgspec.json.decode(raw, type=tuple[str, form])  # type: ignore[valid-type]
    except (msgspec.MsgspecError, binascii.Error, UnicodeError, ValueError):
        raise InvalidCursor("the cursor is damaged; start again without one") from None
    if made_for != digest:
        raise InvalidCursor(
            "the cursor belongs to another question: scope, filter, order and page arguments must be those it was made for"
        )
    return position
