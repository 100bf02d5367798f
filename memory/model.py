"""The record: MemoryItem, its limits, and the one place where they are checked (those of its vector: memory.vectors)."""

from __future__ import annotations

import math
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from memory.clock import check_moment
from memory.errors import InvalidItem
from memory.vectors import check_embedding, vector_bytes

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

Key = tuple[tuple[str, ...], str]
"""(namespace, id): what identifies an item."""

DEFAULT_NAMESPACE: tuple[str, ...] = ("default",)
UNSTAMPED = datetime(1, 1, 1, tzinfo=UTC)
"""The value of an item's times before a store has written it."""

MAX_ID_BYTES = 512
MAX_NAMESPACE_BYTES = 512
MAX_NAMESPACE_SEGMENTS = 16
MAX_NAME_BYTES = 256
MAX_TAGS = 64
MAX_RECORD_BYTES = 256 * 1024
MAX_JSON_DEPTH = 20
MAX_DISTINCT_TERMS = 5_000
INT_MIN, INT_MAX = -(2**63), 2**63 - 1


def new_id() -> str:
    """A fresh UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then random bits, so ids sort by age."""
    value = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


# gc=False: a collection of garbage need not walk through items, of which a program holds many; they hold plain JSON values,
# through which no cycle leads back.
class MemoryItem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, eq=False, dict=False, gc=False):
    """One memory. Immutable; change it with ``store.update`` or ``msgspec.structs.replace``.

    ``content`` is what is remembered (any JSON value); ``text`` is what is searched, by default the
    content when that is a string, else its string leaves (see ``searchable``). Times, ``access_count``
    and ``version`` are given by the store when it writes; ``created_at`` and ``expires_at`` may be set
    before. ``source`` is set by the store's owner (``scoped(source=...)``), not by the payload.
    ``embedding`` is a 1-d float32 array or None.
    """

    content: Any
    id: str = msgspec.field(default_factory=new_id)
    namespace: tuple[str, ...] = DEFAULT_NAMESPACE
    kind: str = "note"
    text: str | None = None
    metadata: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    user_id: str | None = None
    agent_id: str | None = None
    session_id: str | None = None
    importance: float = 0.5
    embedding: Any = None
    created_at: datetime = UNSTAMPED
    updated_at: datetime = UNSTAMPED
    accessed_at: datetime = UNSTAMPED
    expires_at: datetime | None = None
    access_count: int = 0
    version: int = 0
    source: dict[str, Any] = {}

    @property
    def key(self) -> Key:
        """(namespace, id)."""
        return (self.namespace, self.id)

    @property
    def searchable(self) -> str:
        """The text that search sees: ``text``, else the content, else the content's string leaves, a line each."""
        if self.text is not None:
            return self.text
        if type(self.content) is str:
            return self.content
        leaves: list[str] = []
        _string_leaves(self.content, leaves)
        return "\n".join(leaves)

    def to_dict(self) -> dict[str, Any]:
        """The item as plain JSON values in a versioned envelope (``v``); times as ISO-8601, vector as base64."""
        from memory.codec import to_dict

        return to_dict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> MemoryItem:
        """The inverse of ``to_dict``. Raises InvalidItem for unknown fields, wrong types or a newer envelope."""
        from memory.codec import from_dict

        return from_dict(data)

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """JSON Schema (2020-12) of ``to_dict``'s result."""
        from memory.codec import json_schema

        return json_schema()

    def __repr__(self) -> str:
        # A vector is told by its length: its numbers tell a reader nothing, and there are hundreds.
        told = {name: repr(getattr(self, name)) for name in self.__struct_fields__}
        if getattr(self.embedding, "ndim", 0) == 1 or type(self.embedding) in (list, tuple):
            told["embedding"] = f"<{len(self.embedding)} numbers>"
        return f"MemoryItem({', '.join(f'{name}={value}' for name, value in told.items())})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not MemoryItem:
            return NotImplemented
        for name in self.__struct_fields__:
            if name != "embedding" and getattr(self, name) != getattr(other, name):
                return False
        return vector_bytes(self.embedding) == vector_bytes(other.embedding)

    def __ne__(self, other: object) -> bool:
        # The base class has one of its own, by identity: it does not follow from __eq__.
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Lets a MemoryItem be a field of a pydantic model: accepts an item or a ``to_dict`` dict, dumps the dict."""
        from memory.codec import pydantic_schema

        return pydantic_schema()


def _string_leaves(value: Any, into: list[str]) -> None:
    if type(value) is str:
        into.append(value)
    elif type(value) is list:
        for part in value:
            _string_leaves(part, into)
    elif type(value) is dict:
        for part in value.values():
            _string_leaves(part, into)


def path_bytes(namespace: tuple[str, ...]) -> bytes:
    """A namespace as bytes that sort like its tuple of UTF-8 segments (names hold no NUL)."""
    return "\0".join(namespace).encode()


def key_order(key: Key) -> tuple[bytes, bytes]:
    """The sort key of the default order: namespace path, then id, both by UTF-8 bytes."""
    return (path_bytes(key[0]), key[1].encode())


def check_name(value: object, field: str, limit: int = MAX_NAME_BYTES) -> str:
    """A non-empty str without NUL or lone surrogates, at most ``limit`` UTF-8 bytes. Raises InvalidItem."""
    if type(value) is str and value.isascii() and 0 < len(value) <= limit and "\0" not in value:
        return value  # the common case, decided cheaply
    if not isinstance(value, str):
        raise InvalidItem(f"{field} must be a str, not {type(value).__name__}", field=field)
    if type(value) is not str:
        value = str.__str__(value)  # a StrEnum member becomes its plain value
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidItem(f"{field} holds a lone surrogate; it is not text", field=field) from None
    if not 0 < size <= limit:
        what = "must not be empty" if not size else f"is {size} bytes of UTF-8; the limit is {limit}"
        raise InvalidItem(f"{field} {what}", field=field)
    if "\0" in value:
        raise InvalidItem(f"{field} must not hold a NUL character", field=field)
    return value


_known_namespaces: dict[tuple[str, ...], tuple[str, ...]] = {}
"""Namespaces found valid lately; they repeat."""


def check_namespace(value: Any, field: str = "namespace", *, allow_root: bool = False) -> tuple[str, ...]:
    """A namespace as a tuple of valid segments; a bare str is one segment. Raises InvalidItem."""
    if type(value) is tuple:
        try:
            known = _known_namespaces.get(value)
        except TypeError:  # a segment that cannot be hashed: no str
            known = None
        if known is not None:
            return known
    path = _checked_namespace(value, field, allow_root)
    if path and path == value:
        if len(_known_namespaces) >= 4_096:
            _known_namespaces.clear()
        _known_namespaces[path] = path
    return path


def _checked_namespace(value: Any, field: str, allow_root: bool) -> tuple[str, ...]:
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, tuple | list):
        raise InvalidItem(f"{field} must be a tuple of str, not {type(value).__name__}", field=field)
    if not value and not allow_root:
        raise InvalidItem(f"{field} needs at least one segment", field=field)
    if len(value) > MAX_NAMESPACE_SEGMENTS:
        raise InvalidItem(f"{field} has {len(value)} segments; the limit is {MAX_NAMESPACE_SEGMENTS}", field=field)
    path = tuple(check_name(part, f"{field} segment", MAX_NAMESPACE_BYTES) for part in value)
    size = len("\0".join(path).encode())
    if size > MAX_NAMESPACE_BYTES:
        raise InvalidItem(f"{field} is {size} bytes in all; the limit is {MAX_NAMESPACE_BYTES}", field=field)
    return path


def check_text(value: object, field: str) -> str:
    """A str without lone surrogates. Raises InvalidItem."""
    if not isinstance(value, str):
        raise InvalidItem(f"{field} must be a str, not {type(value).__name__}", field=field)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidItem(f"{field} holds a lone surrogate; it is not text", field=field) from None
    return value


def check_id(value: Any, field: str = "id") -> str:
    """An item id: 1 to 512 UTF-8 bytes. Raises InvalidItem."""
    return check_name(value, field, MAX_ID_BYTES)


def check_json(value: Any, field: str, depth: int = 1) -> Any:
    """A JSON value within the limits, as a copy of which nobody else holds a part that can be changed: depth 20, ints
    within 64 bits, finite floats, str keys. Raises InvalidItem.
    """
    kind = type(value)
    if kind is dict or kind is list:
        if depth > MAX_JSON_DEPTH:
            raise InvalidItem(f"{field} is nested deeper than {MAX_JSON_DEPTH} levels", field=field)
        value = value.copy()  # what is checked is what is kept
        if kind is dict:
            for name in value:
                if type(name) is not str:
                    raise InvalidItem(f"{field} has the key {name!r}; JSON keys are str", field=field)
        for place, part in value.items() if kind is dict else enumerate(value):
            # Most parts are one of these, and need no call.
            kind = type(part)
            if kind is str or kind is bool or part is None:
                continue
            if (kind is int and INT_MIN <= part <= INT_MAX) or (kind is float and math.isfinite(part)):
                continue
            value[place] = check_json(part, field, depth + 1)
        return value
    if kind is int:
        if not INT_MIN <= value <= INT_MAX:
            raise InvalidItem(f"{field} holds an int beyond 64 bits; store it as a string", field=field)
    elif kind is float:
        if not math.isfinite(value):
            raise InvalidItem(f"{field} holds {value!r}; JSON has no NaN or Infinity", field=field)
    elif not (kind is str or kind is bool or value is None):
        raise InvalidItem(f"{field} holds a {kind.__name__}; only plain JSON values can be stored", field=field)
    return value


def check_source(value: Any) -> dict[str, Any]:
    """Who writes, as a dict of the store's own. Raises InvalidItem."""
    source = _check_object(value, "source")
    try:
        msgspec.json.encode(source)
    except UnicodeEncodeError:
        raise InvalidItem("source holds a lone surrogate; it is not text", field="source") from None
    return source


def check_tags(tags: Any) -> tuple[str, ...]:
    """At most 64 names as a tuple. Raises InvalidItem."""
    if not isinstance(tags, tuple | list):
        raise InvalidItem("tags must be a tuple of str", field="tags")
    if len(tags) > MAX_TAGS:
        raise InvalidItem(f"{len(tags)} tags; the limit is {MAX_TAGS}", field="tags")
    return tuple([check_name(tag, "tag") for tag in tags])


_SOME = "-"
"""Stands for an owner that is not named, in a check of names."""


def _has_plain_names(item: MemoryItem) -> bool:
    """Whether all names but the namespace are short, plain and in place: the common case, decided in one go."""
    tags = item.tags
    if type(tags) is not tuple or len(tags) > MAX_TAGS:
        return False
    user, agent, session = item.user_id, item.agent_id, item.session_id
    owner = (_SOME if user is None else user, _SOME if agent is None else agent, _SOME if session is None else session)
    names = (item.id, item.kind, *owner, *tags)
    for name in names:
        if type(name) is not str or not name:
            return False
    together = "".join(names)
    if len(together) > MAX_NAME_BYTES and max(map(len, names)) > MAX_NAME_BYTES:
        return False
    return together.isascii() and "\0" not in together


def _check_names(item: MemoryItem, changes: dict[str, Any]) -> None:
    """Every name in detail; what has to be made plain goes into ``changes``. Raises InvalidItem."""
    changes["id"] = check_id(item.id)
    changes["kind"] = check_name(item.kind, "kind")
    for field in ("user_id", "agent_id", "session_id"):
        value = getattr(item, field)
        if value is not None:
            changes[field] = check_name(value, field)
    changes["tags"] = check_tags(item.tags)


def _check_object(value: Any, field: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise InvalidItem(f"{field} must be a dict", field=field)
    checked: dict[str, Any] = check_json(value, field)
    return checked


def check_item(item: Any) -> MemoryItem:
    """The item with every limit checked that needs no encoding, names made plain, and no part of its JSON values anybody
    else's: a caller may change what it gave while the write is under way. Raises InvalidItem.

    The size limit is checked where the bytes are made (codec.encode), the number of terms where the
    text is analysed; all of it happens before any I/O.
    """
    if type(item) is not MemoryItem:
        raise InvalidItem(f"expected a MemoryItem, not {type(item).__name__}; wrap it: MemoryItem(content=...)")
    changes: dict[str, Any] = {}
    if not _has_plain_names(item):
        _check_names(item, changes)
    namespace = item.namespace
    if namespace is not DEFAULT_NAMESPACE and (checked := check_namespace(namespace)) != namespace:
        changes["namespace"] = checked
    importance = item.importance
    if type(importance) is not float and type(importance) is not int:
        raise InvalidItem("importance must be a number from 0 to 1", field="importance")
    if not 0.0 <= importance <= 1.0:
        raise InvalidItem(f"importance is {importance!r}; it must lie from 0 to 1", field="importance")
    if type(importance) is not float:
        changes["importance"] = float(importance)
    elif not importance:
        changes["importance"] = 0.0  # -0.0 is this number too, but not these bits, and not every engine keeps its sign
    if item.text is not None and type(item.text) is not str:
        raise InvalidItem("text must be a str or None", field="text")
    if type(item.content) is not str:
        changes["content"] = check_json(item.content, "content")
    metadata, source = _check_object(item.metadata, "metadata"), _check_object(item.source, "source")
    if metadata:
        changes["metadata"] = metadata
    if source:
        changes["source"] = source
    if item.expires_at is not None:
        check_moment(item.expires_at, "expires_at")
    if item.created_at is not UNSTAMPED:
        check_moment(item.created_at, "created_at")
    if item.updated_at is not UNSTAMPED:
        check_moment(item.updated_at, "updated_at")
    if item.accessed_at is not UNSTAMPED:
        check_moment(item.accessed_at, "accessed_at")
    if type(item.access_count) is not int or not 0 <= item.access_count <= INT_MAX:
        raise InvalidItem("access_count must be an int from 0", field="access_count")
    if item.embedding is not None and (array := check_embedding(item.embedding)) is not item.embedding:
        changes["embedding"] = array
    return msgspec.structs.replace(item, **changes) if changes else item
