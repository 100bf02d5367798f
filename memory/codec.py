"""Serialisation, once: the canonical body bytes, the content hash, and the envelope people see (``to_dict``).

A stored record is a body and a stamp. The body is canonical JSON (sorted keys, UTF-8, shortest floats) of
what the caller said; every backend keeps it verbatim. The stamp is what the store says: version, times,
access count, expiry. Reads decode the body and put the stamp beside it.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import msgspec

from memory.clock import from_micros
from memory.errors import CorruptData, InvalidItem
from memory.model import MAX_RECORD_BYTES, UNSTAMPED, MemoryItem, check_item, path_bytes
from memory.vectors import vector as to_vector
from memory.vectors import vector_bytes

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

    from memory.ops import Row

FORMAT = 1
"""The version of the body and of the envelope. A reader refuses a higher one."""

BODY_FIELDS = (
    *("content", "id", "namespace", "kind", "text", "metadata", "tags"),
    *("user_id", "agent_id", "session_id", "importance", "source"),
)
STAMP_FIELDS = ("created_at", "updated_at", "accessed_at", "expires_at", "access_count", "version")

_encoder = msgspec.json.Encoder(order="deterministic")


class _Body(msgspec.Struct, omit_defaults=True, kw_only=True):
    """The body as it is written. Field order here is the order in the bytes; empty optional fields are left out."""

    v: int
    id: str
    namespace: tuple[str, ...]
    kind: str
    content: Any
    text: str | None = None
    metadata: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    user_id: str | None = None
    agent_id: str | None = None
    session_id: str | None = None
    importance: float
    source: dict[str, Any] = {}


class _Head(msgspec.Struct):
    """As much of a body as every version will have."""

    v: int


_HEAD = b'{"v":%d,' % FORMAT
_decode_item = msgspec.json.Decoder(MemoryItem).decode
_decode_head = msgspec.json.Decoder(_Head).decode
_force = msgspec.structs.force_setattr


def encode(item: MemoryItem) -> bytes:
    """The canonical body bytes of a checked item. Raises InvalidItem beyond 256 KiB or for lone surrogates."""
    try:
        body = _encoder.encode(
            _Body(
                v=FORMAT,
                id=item.id,
                namespace=item.namespace,
                kind=item.kind,
                content=item.content,
                text=item.text,
                metadata=item.metadata,
                tags=item.tags,
                user_id=item.user_id,
                agent_id=item.agent_id,
                session_id=item.session_id,
                importance=item.importance,
                source=item.source,
            )
        )
    except UnicodeEncodeError:
        raise InvalidItem("a string holds a lone surrogate; it is not text and cannot be stored") from None
    if len(body) > MAX_RECORD_BYTES:
        raise InvalidItem(
            f"the encoded record is {len(body):,} bytes; the limit is {MAX_RECORD_BYTES:,}. "
            "Split it into several items, or keep the bulk elsewhere and remember a link",
            size=len(body),
        )
    return body


def decode(row: Row, *, vector: bool = True) -> MemoryItem:
    """A stored row as an item, with its vector if asked. Raises CorruptData when the bytes are not a body this version reads."""
    body = row.body
    if not body.startswith(_HEAD):
        raise CorruptData(_unreadable(body))
    try:
        item = _decode_item(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CorruptData(f"a stored record cannot be decoded: {error}") from None
    stamp(item, row)
    if row.count:
        _force(item, "access_count", row.count)
    if row.expires is not None:
        _force(item, "expires_at", from_micros(row.expires))
    if vector and row.embedding is not None:
        _force(item, "embedding", to_vector(row.embedding))
    return item


def stamp(item: MemoryItem, row: Row) -> None:
    """Set the row's times and version on an item. It is frozen, so only on one that nobody else has seen yet."""
    created, updated = row.created, row.updated
    moment = from_micros(created)
    _force(item, "created_at", moment)
    # Equal times share a datetime: to make one costs more than to set it.
    later = moment if updated == created else from_micros(updated)
    _force(item, "updated_at", later)
    accessed = row.accessed
    _force(
        item, "accessed_at", moment if accessed == created else later if accessed == updated else from_micros(accessed)
    )
    _force(item, "version", row.version)


def _unreadable(body: bytes) -> str:
    """Why a body does not begin as ours do."""
    try:
        found = _decode_head(body).v
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return f"a stored record cannot be decoded: {error}"
    return f"a record has format {found}; this version reads {FORMAT}. Upgrade agent-memory-backends"


def _equal_form(value: Any) -> Any:
    """The value with equal numbers made identical: 1.0 becomes 1 and -0.0 becomes 0."""
    if type(value) is float:
        return int(value) if value.is_integer() else value
    if type(value) is list:
        return [_equal_form(part) for part in value]
    if type(value) is dict:
        return {name: _equal_form(part) for name, part in value.items()}
    return value


def content_hash(item: MemoryItem) -> bytes:
    """16 bytes that are equal for items that dedup treats as equal: same namespace, user, agent, session, kind
    and equal content (1 equals 1.0). BLAKE2b (RFC 7693) over canonical JSON.
    """
    content = item.content if type(item.content) is str else _equal_form(item.content)
    scope = (item.user_id, item.agent_id, item.session_id, item.kind, content)
    return hashlib.blake2b(_encoder.encode(scope) + b"\0" + path_bytes(item.namespace), digest_size=16).digest()


# --- the envelope people see -------------------------------------------------------------------


class _Envelope(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    v: int = FORMAT
    content: Any
    id: str | None = None
    namespace: tuple[str, ...] = ("default",)
    kind: str = "note"
    text: str | None = None
    metadata: dict[str, Any] = {}
    tags: tuple[str, ...] = ()
    user_id: str | None = None
    agent_id: str | None = None
    session_id: str | None = None
    importance: float = 0.5
    embedding: str | list[float] | None = None
    embedder: str | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None
    accessed_at: datetime | None = None
    expires_at: datetime | None = None
    access_count: int = 0
    version: int = 0
    source: dict[str, Any] = {}


ENVELOPE_FIELDS = _Envelope.__struct_fields__


def to_dict(item: MemoryItem, embedder: str | None = None) -> dict[str, Any]:
    """See MemoryItem.to_dict. Unset times are left out; ``embedder`` names the maker of the vector, where known."""
    data: dict[str, Any] = {"v": FORMAT}
    for field in BODY_FIELDS:
        data[field] = getattr(item, field)
    data["namespace"], data["tags"] = list(item.namespace), list(item.tags)
    for field in STAMP_FIELDS:
        value = getattr(item, field)
        if isinstance(value, datetime):
            if value == UNSTAMPED:
                continue
            value = value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        data[field] = value
    raw = vector_bytes(item.embedding)
    data["embedding"] = None if raw is None else base64.b64encode(raw).decode()
    if embedder is not None:
        data["embedder"] = embedder
    return data


def from_dict(data: Any) -> MemoryItem:
    """See MemoryItem.from_dict. The item comes back checked."""
    if not isinstance(data, dict):
        raise InvalidItem(f"a record must be a JSON object, not {type(data).__name__}")
    version = data.get("v", FORMAT)
    if type(version) is int and version > FORMAT:
        raise InvalidItem(
            f"the record has format {version}; this version reads {FORMAT}. Upgrade agent-memory-backends"
        )
    for name in data:
        if name not in ENVELOPE_FIELDS:
            close = get_close_matches(str(name), ENVELOPE_FIELDS, 1)
            hint = f"; did you mean {close[0]!r}?" if close else "; put your own fields into metadata"
            raise InvalidItem(f"unknown field {name!r}{hint}", field=str(name))
    try:
        form = msgspec.convert(data, _Envelope)
    except (msgspec.ValidationError, OverflowError) as error:
        raise InvalidItem(f"the record is malformed: {error}") from None
    embedding: Any = form.embedding
    if isinstance(embedding, str):
        embedding = _unpack_vector(embedding)
    fields: dict[str, Any] = {name: getattr(form, name) for name in BODY_FIELDS if name != "id"}
    if form.id is not None:
        fields["id"] = form.id
    for name in ("created_at", "updated_at", "accessed_at"):
        fields[name] = getattr(form, name) or UNSTAMPED
    return check_item(
        MemoryItem(
            **fields,
            expires_at=form.expires_at,
            access_count=form.access_count,
            version=form.version,
            embedding=embedding,
        )
    )


def _unpack_vector(text: str) -> Any:
    try:
        return to_vector(base64.b64decode(text, validate=True))
    except ValueError:
        raise InvalidItem("embedding must be base64 of little-endian float32, or a list", field="embedding") from None


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of ``to_dict``'s result."""
    (schema,), components = msgspec.json.schema_components([_Envelope], ref_template="#/$defs/{name}")
    name = schema["$ref"].rsplit("/", 1)[1]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **components[name], "title": "MemoryItem"}


def pydantic_schema() -> CoreSchema:
    """The pydantic-core schema of MemoryItem: validates items and dicts, serialises to ``to_dict``."""
    from pydantic_core import core_schema

    def validate(value: Any) -> MemoryItem:
        if isinstance(value, MemoryItem):
            return value
        try:
            return from_dict(value)
        except InvalidItem as error:
            raise ValueError(str(error)) from None

    return core_schema.no_info_plain_validator_function(
        validate,
        serialization=core_schema.plain_serializer_function_ser_schema(to_dict, when_used="always"),
        metadata={"pydantic_js_functions": [lambda _schema, _handler: json_schema()]},
    )
