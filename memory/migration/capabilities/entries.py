"""Entries of the old system as items.

| an entry's | an item's |
|---|---|
| ``key`` | ``id`` |
| ``value`` | ``content`` |
| ``type`` | ``kind`` |
| ``scope``, ``indices`` | ``tags``: ``scope:session``, ``index:semantic`` |
| ``metadata`` | ``metadata`` |
| ``created_at``, ``updated_at``, ``expires_at`` | the same; without a zone they are UTC |
| anything else, and what would not fit beside it | ``metadata["legacy"]`` |

Scope and indices are tags because metadata is the caller's own, and may well hold a ``scope`` of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from memory.clock import EPOCH
from memory.errors import InvalidItem
from memory.manager.originals import plain, time_of
from memory.model import MemoryItem, check_item

SCOPE, INDEX = "scope:", "index:"
"""What the tags of an entry's scope and of its indices begin with."""
DEFAULT_TYPE, DEFAULT_SCOPE = "short_term", "session"


def word(value: Any, field: str, default: str) -> str:
    """A type, scope or index as a word in small letters, given as one, as an enum, or as an enum was once printed
    (``MemoryType.SHORT_TERM``). Raises InvalidItem."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or value == "":
        return default
    if not isinstance(value, str):
        raise InvalidItem(f"{field} must be a str, not {type(value).__name__}", field=field)
    return value.rpartition(".")[2].lower()


def tags_of(scope: str, indices: Iterable[str]) -> tuple[str, ...]:
    """The tags that say an entry's scope and indices."""
    return (SCOPE + scope, *sorted({INDEX + index for index in indices}))


def item_of(key: str, record: Any) -> MemoryItem:
    """The item that a stored record stands for, checked. ``key``: where it lies, by which it was found.

    Raises InvalidItem for what is no entry: no object, without a value, with a time that is none.
    """
    if not isinstance(record, Mapping):
        raise InvalidItem(f"an entry is an object, not a {type(record).__name__}")
    fields = dict(record)
    if "value" not in fields:
        raise InvalidItem("it has no value", field="value")
    content = fields.pop("value")
    legacy: dict[str, Any] = {}
    kind = _word(fields, "type", DEFAULT_TYPE, legacy)
    scope = _word(fields, "scope", DEFAULT_SCOPE, legacy)
    tags = tags_of(scope, _indices(fields.pop("indices", None)))
    created, updated, expires = (
        time_of(fields.pop(name, None), name) for name in ("created_at", "updated_at", "expires_at")
    )
    if (said := fields.pop("key", key)) != key:
        legacy["key"] = plain(said)
    metadata = fields.pop("metadata", None)
    if metadata is None:
        metadata = {}
    elif not isinstance(metadata, Mapping):
        legacy["metadata"] = metadata
        metadata = {}
    metadata = dict(metadata)
    legacy |= fields
    if legacy:
        if "legacy" in metadata:
            legacy.setdefault("metadata.legacy", metadata["legacy"])
        metadata["legacy"] = legacy
    # One that says no time gets the beginning of all, so that a second reading finds the same.
    created = created or updated or EPOCH
    return check_item(
        MemoryItem(
            id=key,
            content=content,
            kind=kind,
            tags=tags,
            metadata=metadata,
            created_at=created,
            updated_at=updated or created,
            accessed_at=updated or created,
            expires_at=expires,
        )
    )


def _word(fields: dict[str, Any], name: str, default: str, legacy: dict[str, Any]) -> str:
    """A field taken out of a record, as a word; what it said otherwise is kept."""
    given = fields.pop(name, None)
    made = word(given, name, default)
    if given is not None and given != made:
        legacy[name] = given
    return made


def _indices(value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidItem("indices must be a list", field="indices")
    return [word(one, "indices", "semantic") for one in value]
