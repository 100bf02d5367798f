"""Documents of V2 programs as items: what each native field means, and which of them win after a change.

Nothing is lost: fields that no item has go to ``metadata["legacy"]``.
"""

from __future__ import annotations

from typing import Any

from memory.backends.firestore import values
from memory.backends.firestore.records import OURS
from memory.backends.firestore.values import Fields
from memory.codec import encode
from memory.model import DEFAULT_NAMESPACE, MemoryItem, check_item

VECTOR = "memory_vector"
"""Ours too: the vector that Firestore searches. Its emulator finds none inside a map."""
KIND = "message"
"""The item_type of a document that has none, as V2 reads it."""
_KNOWN = frozenset(
    (
        "id",
        "user_id",
        "session_id",
        "item_type",
        "timestamp",
        "text_content",
        "metadata",
        "embedding",
        "expiration",
        OURS,
        VECTOR,
    )
)
HASH = "content_hash"
"""V2 keeps the SHA-256 of the text among the metadata, to find duplicates by."""


def native_metadata(metadata: dict[str, Any], text: str) -> Any:
    """Metadata as Firestore's own map: what of it can be one, and the hash by which V2 programs find duplicates."""
    made = values.native_map(metadata)
    if text and HASH not in metadata:
        made.map_value.fields[HASH].string_value = _sha256(text)
    return made


def _sha256(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()


def legacy_item(id: str, fields: Fields) -> MemoryItem:
    """The item that a document of a V2 program stands for. Raises InvalidItem for what is none."""
    content = values.plain(fields["text_content"]) if "text_content" in fields else None
    item = MemoryItem(
        id=id,
        namespace=DEFAULT_NAMESPACE,
        content=content,
        kind=_said(fields, "item_type") or KIND,
        metadata=_metadata(id, fields),
        user_id=_said(fields, "user_id"),
        session_id=_said(fields, "session_id"),
    )
    item = check_item(item)
    encode(item)  # beyond the size of a record it is no item either
    return item


def _metadata(id: str, fields: Fields) -> dict[str, Any]:
    """The metadata of a document, and under ``legacy`` what an item has no field for."""
    metadata = values.get_map(fields, "metadata")
    found = {} if metadata is None else values.plain_map(metadata)
    legacy = {name: values.plain(fields[name]) for name in fields if name not in _KNOWN}
    legacy = {name: value for name, value in legacy.items() if value is not None}
    if metadata is None and "metadata" in fields and values.plain(fields["metadata"]) is not None:
        legacy["metadata"] = values.plain(fields["metadata"])
    named = values.plain(fields["id"]) if "id" in fields else None
    if named not in (None, id):
        legacy["id"] = named
    if legacy:
        inner = found.get("legacy")
        found["legacy"] = {**inner, **legacy} if isinstance(inner, dict) else legacy
    return found


def _said(fields: Fields, name: str) -> str | None:
    """A field that is a name: what is no string is written as one, what is empty is nothing."""
    if name not in fields:
        return None
    value = values.plain(fields[name])
    if value is None or value == "":
        return None
    return value if isinstance(value, str) else str(value)


def overlaid(item: MemoryItem, fields: Fields) -> MemoryItem:
    """The item with those native fields that differ from what we wrote for it. Raises InvalidItem."""
    import msgspec

    changes: dict[str, Any] = {}
    for field, name in (("user_id", "user_id"), ("session_id", "session_id"), ("kind", "item_type")):
        said = _said(fields, name) or (KIND if field == "kind" else None)
        if said != getattr(item, field):
            changes[field] = said
    text = values.plain(fields["text_content"]) if "text_content" in fields else None
    if (text or "") != item.searchable:
        if type(item.content) is str and item.text is None:
            changes["content"] = text
        else:
            changes["text"] = text if isinstance(text, str) else ""
    extra = any(name not in _KNOWN for name in fields)
    written = native_metadata(item.metadata, item.searchable)
    if extra or "metadata" not in fields or fields["metadata"] != written:
        changes["metadata"] = _overlaid_metadata(item, written, fields)
    return check_item(msgspec.structs.replace(item, **changes)) if changes else item


def _overlaid_metadata(item: MemoryItem, written: Any, fields: Fields) -> dict[str, Any]:
    """The native metadata, and of ours what was never written natively."""
    now = _metadata(item.id, fields)
    if HASH not in item.metadata:
        now.pop(HASH, None)
    kept = {name: value for name, value in item.metadata.items() if name not in written.map_value.fields}
    legacy = item.metadata.get("legacy")
    if "legacy" in kept and isinstance(legacy, dict) and isinstance(now.get("legacy"), dict):
        now["legacy"] = {**legacy, **now["legacy"]}
    return {**kept, **now}
