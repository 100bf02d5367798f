"""Records of earlier managers, told by their shape, as MemoryItem; and their filters, as ours.

A record is a mapping or an object with attributes. Nothing of it is lost:

| theirs | here |
|---|---|
| ``id`` | ``id``; new when it has none |
| ``user_id``, ``session_id``, ``agent_id`` | the same; an empty one is None |
| ``item_type`` (MemoryItem), ``data_type`` (AgentData) | ``kind``; "message" and "agent_data" when it has none |
| ``text_content`` (MemoryItem), else ``content`` (AgentData) | ``content`` |
| ``persona_active`` | ``metadata["persona_active"]`` |
| ``timestamp``, ``expiration`` | ``created_at``, ``expires_at`` |
| ``embedding`` | ``embedding``, taken for one of the store's own space; an empty list is None |
| ``metadata`` | ``metadata`` |
| anything else, and what would not fit beside it | ``metadata["legacy"]`` |

A time is a datetime, an ISO text, or seconds or milliseconds since the epoch; without a zone it is UTC, as they wrote it.
Values that JSON lacks (times, enums, tuples, sets, UUIDs) become their nearest JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any
from uuid import UUID

from memory.clock import EPOCH, from_micros
from memory.errors import InvalidFilter, InvalidItem
from memory.model import MAX_JSON_DEPTH, UNSTAMPED, MemoryItem, new_id

MILLISECONDS_FROM = 1e11
"""A number of this size is milliseconds: as seconds it would lie beyond the year 5138."""

FILTER_NAMES = {
    "item_type": "kind",
    "data_type": "kind",
    "text_content": "content",
    "persona_active": "metadata.persona_active",
    "timestamp": "created_at",
    "expiration": "expires_at",
}
"""Their names of fields in filters -> ours."""

CHANGEABLE = ("content", "text", "metadata", "kind", "tags", "importance", "embedding", "session_id")
"""Fields of ours that an update may replace."""

_ITEM = frozenset({"user_id", "item_type", "text_content", "persona_active"})
_AGENT = frozenset({"agent_id", "data_type"})


def item_of(record: Any) -> MemoryItem:
    """A MemoryItem as it is; an original's MemoryItem or AgentData as ours. Raises InvalidItem."""
    if isinstance(record, MemoryItem):
        return record
    fields = fields_of(record)
    if not fields.keys() & (_ITEM | _AGENT):
        raise InvalidItem(
            "this is no memory: give a MemoryItem, or a mapping or object with user_id and text_content, or with "
            f"agent_id, data_type and content; it has {', '.join(sorted(fields)) or 'no fields'}"
        )
    agent = not fields.keys() & (_ITEM - {"user_id"}) and bool(fields.keys() & _AGENT)
    kind = "data_type" if agent else "item_type"
    said = "text_content" if "text_content" in fields else "content"
    legacy: dict[str, Any] = {}
    metadata = _metadata(fields.pop("metadata", None))
    persona = fields.pop("persona_active", None)
    if persona is not None:
        if metadata.get("persona_active", persona) != persona:
            legacy["metadata.persona_active"] = metadata["persona_active"]
        metadata["persona_active"] = plain(persona)
    created, expires = (time_of(fields.pop(name, None), name) for name in ("timestamp", "expiration"))
    vector = fields.pop("embedding", None)
    if hasattr(vector, "__len__") and len(vector) == 0:
        vector = None
    given: dict[str, Any] = {
        name: _name(fields.pop(name, None)) for name in ("id", "user_id", "session_id", "agent_id", kind)
    }
    content = plain(fields.pop(said, None))
    legacy |= {name: plain(value) for name, value in fields.items()}
    if legacy:
        if "legacy" in metadata:
            legacy.setdefault("metadata.legacy", metadata["legacy"])
        metadata["legacy"] = legacy
    return MemoryItem(
        id=given.pop("id") or new_id(),
        kind=given.pop(kind) or ("agent_data" if agent else "message"),
        content=content,
        metadata=metadata,
        embedding=vector,
        created_at=created or UNSTAMPED,
        expires_at=expires,
        **given,
    )


def fields_of(record: Any) -> dict[str, Any]:
    """The fields of a mapping, or of an object by its attributes. Raises InvalidItem for what has none."""
    if isinstance(record, Mapping):
        fields = dict(record)
    elif isinstance(record, str | bytes | int | float | list | tuple | type) or record is None:
        raise InvalidItem(f"a memory has fields; a {type(record).__name__} has none: give a MemoryItem or a mapping")
    else:
        slots = [name for cls in type(record).__mro__ for name in _slots(cls)]
        fields = {name: getattr(record, name) for name in slots if hasattr(record, name)}
        fields |= getattr(record, "__dict__", {})
        fields |= getattr(record, "model_extra", None) or {}  # what a pydantic model was given beyond its fields
        fields = {name: value for name, value in fields.items() if not name.startswith("_")}
    if not all(isinstance(name, str) for name in fields):
        raise InvalidItem("the names of a memory's fields must be str")
    return fields


def _slots(cls: type) -> tuple[str, ...]:
    slots = cls.__dict__.get("__slots__", ())
    return (slots,) if isinstance(slots, str) else tuple(slots)


def plain(value: Any, depth: int = 0) -> Any:
    """A value as JSON: times in ISO form, enums as their values, tuples and sets as lists. The rest is left to be checked.

    Raises InvalidItem for what is nested too deep, or in itself.
    """
    if depth > MAX_JSON_DEPTH:
        raise InvalidItem(f"a value is nested deeper than {MAX_JSON_DEPTH} levels")
    if isinstance(value, Enum):
        return plain(value.value, depth + 1)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return {_key(name): plain(part, depth + 1) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part, depth + 1) for part in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(part, depth + 1) for part in value), key=repr)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


def _key(name: Any) -> Any:
    return str(name.value if isinstance(name, Enum) else name) if isinstance(name, str | Enum) else name


def time_of(value: Any, field: str) -> datetime | None:
    """A time as the originals write it: a datetime, an ISO text, or seconds or milliseconds. Raises InvalidItem."""
    if value is None or value == "":
        return None
    try:
        if isinstance(value, str):
            value = datetime.fromisoformat(value.strip())
        if isinstance(value, datetime):
            return (value if value.utcoffset() is not None else value.replace(tzinfo=UTC)).astimezone(UTC)
        if type(value) in (int, float) and math.isfinite(value):
            return from_micros(round(value * (1_000 if abs(value) >= MILLISECONDS_FROM else 1_000_000)))
    except (ValueError, OverflowError):
        pass
    raise InvalidItem(f"{field} must be a time, such as {EPOCH.isoformat()!r}, not {value!r}", field=field)


def changes_of(updates: Mapping[str, Any]) -> dict[str, Any]:
    """Some fields of a record, by their names or ours, as keywords of ``update``. Raises InvalidItem for others."""
    changes: dict[str, Any] = {}
    for name, value in updates.items():
        if name == "persona_active":
            changes["metadata"] = {**changes.get("metadata", {}), "persona_active": plain(value)}
        elif name == "metadata":
            changes["metadata"] = {**changes.get("metadata", {}), **_metadata(value)}
        elif name in ("expiration", "expires_at"):
            changes["expires_at"] = time_of(value, name)
        elif (ours := FILTER_NAMES.get(name, name)) in CHANGEABLE:
            changes[ours] = plain(value) if ours == "content" else value
        else:
            raise InvalidItem(
                f"{name!r} cannot be changed; what can: {', '.join((*CHANGEABLE, 'expires_at', 'persona_active'))}",
                field=str(name),
            )
    return changes


def where_of(filters: Any) -> Any:
    """Their filters, ``{field: value}`` with their names of fields, as ``where=``; ours stay. Raises InvalidFilter."""
    if not isinstance(filters, Mapping):
        return filters
    where: dict[Any, Any] = {}
    for name, value in filters.items():
        ours = FILTER_NAMES.get(name, name)
        if ours in where:
            raise InvalidFilter(f"{name!r} and {ours!r} are the same field; name it once", field=name)
        where[ours] = persona_name(value) if name == "persona_active" else _operand(value)
    return where


def persona_name(persona: Any) -> Any:
    """The name of a persona given as a text, a mapping or an object with a name; anything else stays as it is."""
    if isinstance(persona, str) or persona is None:
        return persona
    if isinstance(persona, Mapping) and "name" not in persona:
        return dict(persona)  # a comparison, such as {"$in": [...]}
    name = persona.get("name") if isinstance(persona, Mapping) else getattr(persona, "name", None)
    if not isinstance(name, str) or not name:
        raise InvalidFilter(
            f"a persona is known by its name; {type(persona).__name__} has none", field="persona_active"
        )
    return name


def _operand(value: Any) -> Any:
    return plain(value) if isinstance(value, Enum | UUID) else value


def _name(value: Any) -> str | None:
    """A name as text; an empty one is none. What is no name is refused when the item is checked."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, UUID):
        value = str(value)
    return None if value is None or value == "" else value


def _metadata(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidItem(f"metadata must be a dict, not {type(value).__name__}", field="metadata")
    made: dict[str, Any] = plain(value)
    return made
