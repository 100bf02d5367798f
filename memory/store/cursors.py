"""Opaque cursors and resume tokens: base64 of JSON [kind, digest of the question, position].

The digest binds a cursor to its scope, filter and order, so it cannot be used to ask another question. It is
no secret and needs none: the scope is enforced in every read, whatever the position says. Since anybody can write another
position into a cursor, one that no store can have written is refused here: an engine is asked only what it can be asked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from memory.clock import EARLIEST, LATEST
from memory.errors import InvalidCursor, InvalidItem
from memory.filters import Filter, digest_form
from memory.model import MemoryItem, check_id, check_namespace
from memory.ops import Order, Position, Scope

if TYPE_CHECKING:
    from memory.store.base import MemoryStore

T = TypeVar("T")
_encode = msgspec.json.encode


def question(kind: str, scope: Scope, where: Filter | None, *details: Any) -> str:
    """A short digest of everything a cursor must agree with. BLAKE2b, 9 bytes."""
    asked = _encode((kind, scope, details)) + b"\0" + (b"" if where is None else digest_form(where))
    return base64.urlsafe_b64encode(hashlib.blake2b(asked, digest_size=9).digest()).decode()


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
    except (msgspec.MsgspecError, binascii.Error, UnicodeError, ValueError, RecursionError):
        raise altered() from None
    if made_for != digest:
        raise InvalidCursor(
            "the cursor belongs to another question: scope, filter, order and page arguments must be those it was made for"
        )
    return position


def check_key(store: MemoryStore, scope: Scope, namespace: tuple[str, ...], id: str) -> None:
    """Where a page ended is the key of an item that lies inside. Raises InvalidCursor."""
    try:
        inside = scope.covers_namespace(check_namespace(namespace))
        # What the class declares: a composite may list what a member holds and another could not.
        type(store).capabilities.check(store.name, MemoryItem(content=None, id=check_id(id), namespace=namespace))
    except InvalidItem:
        inside = False
    if not inside:
        raise altered()


def check_place(store: MemoryStore, scope: Scope, order: Order, place: Position) -> Position:
    """A position that such a list may have ended at. Raises InvalidCursor."""
    check_key(store, scope, place.namespace, place.id)
    value = place.value
    if order.field == "key":
        fits = value is None
    elif order.field == "importance":
        fits = value is not None and 0 <= value <= 1
    else:
        fits = type(value) is int and is_time(value)
    if not fits:
        raise altered()
    return place


def is_time(micros: int) -> bool:
    """Whether it is a moment that an item can have."""
    return EARLIEST <= micros <= LATEST


def altered() -> InvalidCursor:
    """The error for a cursor that no store has written."""
    return InvalidCursor("the cursor is damaged; start again without one")
