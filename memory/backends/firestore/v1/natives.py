"""V1's own fields: what each means to an item, and how an item is said in them.

V1 writes every field, nulls included. Fields that no item has are, in an item, under ``metadata["legacy"]``, and are written
back as the fields they were; what the metadata itself held under that name is one level deeper, in
``metadata["legacy"]["metadata"]``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from memory.backends.firestore import values
from memory.backends.firestore.records import EMBEDDING, EXPIRATION, OURS, PERSONA, TIMESTAMP
from memory.backends.firestore.values import Fields
from memory.errors import InvalidItem
from memory.model import MemoryItem, check_item

ITEMS, AGENTS = "memory_items", "agent_data"
KIND = "message"
"""The kind of a document that says none."""
LEGACY = "legacy"
KIND_FIELD = {ITEMS: "item_type", AGENTS: "data_type"}
KNOWN = {
    ITEMS: frozenset(
        ("id", "user_id", "session_id", TIMESTAMP, "item_type", "text_content", EMBEDDING, "metadata", EXPIRATION, OURS)
    ),
    AGENTS: frozenset(("id", "agent_id", TIMESTAMP, "data_type", "content", EMBEDDING, "metadata", EXPIRATION, OURS)),
}
"""Fields that say something of an item; ``embedding`` of agent data is ours, where V1 has no such field."""
_canonical = msgspec.json.Encoder(order="deterministic").encode


def collection_of(item: MemoryItem) -> str:
    """Where an item lies: agent data is what belongs to an agent alone."""
    return AGENTS if item.agent_id is not None and item.user_id is None and item.session_id is None else ITEMS


# --- from fields to an item --------------------------------------------------------------------


def name_at(fields: Fields, name: str) -> str | None:
    """The string of this name, if it says anything."""
    return values.get_text(fields, name) or None


def native_item(collection: str, id: str, fields: Fields) -> MemoryItem:
    """The item that a document stands for. Raises InvalidItem for what is none."""
    if values.get_moment(fields, TIMESTAMP) is None:
        raise InvalidItem("it has no timestamp", field=TIMESTAMP)
    agent = name_at(fields, "agent_id") if collection == AGENTS else None
    if collection == AGENTS and agent is None:
        raise InvalidItem("it has no agent_id", field="agent_id")
    return check_item(
        MemoryItem(
            id=id,
            content=content_of(collection, fields),
            kind=name_at(fields, KIND_FIELD[collection]) or KIND,
            metadata=metadata_of(collection, id, fields),
            user_id=name_at(fields, "user_id") if collection == ITEMS else None,
            session_id=name_at(fields, "session_id") if collection == ITEMS else None,
            agent_id=agent,
        )
    )


def content_of(collection: str, fields: Fields) -> Any:
    """What is remembered, as JSON."""
    name = "text_content" if collection == ITEMS else "content"
    return values.plain(fields[name]) if name in fields else None


def metadata_of(collection: str, id: str, fields: Fields) -> dict[str, Any]:
    """The metadata of a document, and under ``legacy`` what an item has no field for."""
    metadata = values.get_map(fields, "metadata")
    found = {} if metadata is None else values.plain_map(metadata)
    legacy = {name: values.plain(fields[name]) for name in fields if name not in KNOWN[collection]}
    legacy = {name: value for name, value in legacy.items() if value is not None}
    if metadata is None:
        legacy["metadata"] = values.plain(fields["metadata"]) if "metadata" in fields else None
    elif LEGACY in found:
        legacy["metadata"] = {LEGACY: found.pop(LEGACY)}
    for name in ("id", "user_id", "session_id", "item_type", "data_type"):
        if name in KNOWN[collection] and name in fields and values.get_text(fields, name) is None:
            legacy[name] = values.plain(fields[name])  # it is of a type that it cannot have
    if values.get_text(fields, "id") not in (None, id):
        legacy["id"] = values.get_text(fields, "id")
    legacy = {name: value for name, value in legacy.items() if value is not None}
    return {**found, LEGACY: legacy} if legacy else found


def overlaid(collection: str, item: MemoryItem, fields: Fields) -> MemoryItem:
    """The item with those native fields that differ from what we wrote for it. Raises InvalidItem."""
    now, was = native_item(collection, item.id, fields), written_item(collection, item)
    changes: dict[str, Any] = {}
    for field in ("user_id", "session_id", "agent_id", "kind"):
        if getattr(now, field) != getattr(was, field):
            changes[field] = getattr(now, field)
    if not same(now.content, was.content):
        if collection == AGENTS or (type(item.content) is str and item.text is None):
            changes["content"] = now.content
        else:
            changes["text"] = now.content if isinstance(now.content, str) else ""
    if not same(now.metadata, was.metadata):
        changes["metadata"] = _overlaid_metadata(item.metadata, was.metadata, now.metadata)
    return check_item(msgspec.structs.replace(item, **changes)) if changes else item


def written_item(collection: str, item: MemoryItem) -> MemoryItem:
    """What a V1 program would read of an item that we wrote."""
    fields = values.Document().fields
    fill(fields, item, collection, {})
    fields[TIMESTAMP].CopyFrom(values.moment(0))
    return native_item(collection, item.id, fields)


def _overlaid_metadata(ours: dict[str, Any], was: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The metadata as it is now, and of ours what was never written natively."""
    kept = {name: value for name, value in ours.items() if name not in was and name != LEGACY}
    legacy = ours.get(LEGACY)
    if isinstance(legacy, dict):
        unsaid = {name: value for name, value in legacy.items() if name not in was.get(LEGACY, {})}
        if unsaid:
            kept[LEGACY] = {**unsaid, **now.get(LEGACY, {})}
    return {**now, **kept}


def same(a: Any, b: Any) -> bool:
    """Whether two JSON values are the same, types of numbers included."""
    return bool(a is b or _canonical(a) == _canonical(b))


# --- from an item to fields --------------------------------------------------------------------


def fill(fields: Fields, item: MemoryItem, collection: str, before: Mapping[str, Any]) -> None:
    """V1's fields but times and embedding. ``before``: the fields of the document that is replaced; a value of these that
    still says the same stays as it is, with its own type (a time is a string in JSON)."""
    fields["id"].string_value = item.id
    fields[KIND_FIELD[collection]].string_value = item.kind
    if collection == AGENTS:
        fields["agent_id"].string_value = item.agent_id or ""
        fields["content"].CopyFrom(_content(item.content, before))
    else:
        fields["user_id"].string_value = item.user_id or ""  # V1 has no item without one
        fields["session_id"].CopyFrom(values.optional_text(item.session_id))
        text = item.searchable
        fields["text_content"].CopyFrom(values.optional_text(text if text or type(item.content) is str else None))
        fields[PERSONA].null_value = 0
    metadata, further = _apart(item.metadata)
    held = values.get_map(before, "metadata") if "metadata" in before else None
    fields["metadata"].CopyFrom(_kept(metadata, {} if held is None else held))
    further = {name: value for name, value in further.items() if name not in KNOWN[collection]}
    made = _kept(further, before).map_value.fields
    for name in made:
        if name != PERSONA or collection == AGENTS or made[name].WhichOneof("value_type") == "string_value":
            fields[name].CopyFrom(made[name])


def _apart(metadata: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Metadata as V1 has it, and the fields that it has beside."""
    legacy = metadata.get(LEGACY)
    if not isinstance(legacy, dict):
        return metadata, {}
    plain = {name: value for name, value in metadata.items() if name != LEGACY}
    theirs = legacy.get("metadata")
    if isinstance(theirs, dict) and LEGACY in theirs:
        plain[LEGACY] = theirs[LEGACY]
    return plain, legacy


def _kept(wanted: dict[str, Any], before: Mapping[str, Any]) -> Any:
    made = values.native_map(wanted)
    fields = made.map_value.fields
    for name in list(fields):
        if name in before and same(values.plain(before[name]), wanted[name]):
            fields[name].CopyFrom(before[name])
    return made


def _content(content: Any, before: Mapping[str, Any]) -> Any:
    """Content of agent data: as itself, or as JSON where Firestore's types cannot hold it."""
    if "content" in before and same(values.plain(before["content"]), content):
        return before["content"]
    try:
        made, leaves = values.native(content)
        if leaves <= values.NATIVE_LEAVES:
            return made
    except values.NotNativeError:
        pass
    return values.text(_canonical(content).decode())
