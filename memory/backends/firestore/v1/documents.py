"""A document of V1's two collections, with what V1 has no field for in the map ``memory``, which V1 programs do not read."""

from __future__ import annotations

from typing import Any

from memory.backends.firestore import values
from memory.backends.firestore.records import (
    EMBEDDING,
    EXPIRATION,
    FORMAT,
    OURS,
    TIMESTAMP,
    Record,
    Stamp,
    item_of,
    native_hash,
)
from memory.backends.firestore.v1.natives import AGENTS, collection_of, fill, name_at, native_item, overlaid
from memory.errors import CorruptData
from memory.model import DEFAULT_NAMESPACE, Key, MemoryItem
from memory.ops import Owner, Put, Space


class Found(Record, gc=False):
    """A document of ``memory_items`` or ``agent_data``. ``rival``: of the same name in ``agent_data``, which the one in
    ``memory_items`` hides."""

    rival: Found | None = None

    @property
    def key(self) -> Key:
        """(namespace, id)."""
        return (DEFAULT_NAMESPACE, self.id)

    @property
    def owner(self) -> Owner:
        """(user, agent, session)."""
        if self.collection == AGENTS:
            return (None, name_at(self.fields, "agent_id"), None)
        agent = None if self.ours is None else values.get_text(self.ours, "agent")
        return (name_at(self.fields, "user_id"), agent, name_at(self.fields, "session_id"))

    def native_item(self) -> MemoryItem:
        """The item that the native fields alone stand for. Raises InvalidItem."""
        return native_item(self.collection, self.id, self.fields)

    def overlaid(self, item: MemoryItem) -> MemoryItem:
        """The item with those native fields that a V1 program changed. Raises InvalidItem."""
        return overlaid(self.collection, item, self.fields)

    @property
    def created(self) -> int:
        """Microseconds since the epoch."""
        return values.get_moment(self.fields, TIMESTAMP) or 0

    def vector(self) -> bytes | None:
        """Its numbers, of whatever dimension."""
        return values.floats(self.fields[EMBEDDING]) if EMBEDDING in self.fields else None


def document_of(op: Put, name: str, stamp: Stamp, embedder: str | None, live: Found | None, space: Space | None) -> Any:
    """The whole document of an item. ``name`` is its full name, ``live`` the document that is replaced."""
    item, collection = op.item, collection_of(op.item)
    made = values.Document(name=name)
    fields = made.fields
    before = {} if live is None else live.fields
    fill(fields, item, collection, before)
    fields[TIMESTAMP].CopyFrom(values.moment(stamp.created))
    fields[EXPIRATION].CopyFrom(values.Value(null_value=0) if stamp.expires is None else values.moment(stamp.expires))
    embedding = _embedding(op, live, space)
    if embedding is not None:
        fields[EMBEDDING].CopyFrom(embedding)
    elif collection != AGENTS:
        fields[EMBEDDING].null_value = 0
    ours = fields[OURS].map_value.fields
    ours["v"].integer_value = FORMAT
    ours["body"].bytes_value = op.body
    ours["token"].bytes_value = op.token
    ours["digest"].bytes_value = op.digest
    if item.agent_id is not None:
        ours["agent"].string_value = item.agent_id
    ours["updated"].integer_value = stamp.updated
    ours["accessed"].integer_value = stamp.accessed
    ours["count"].integer_value = stamp.count
    if embedder is not None:
        ours["embedder"].string_value = embedder
    ours["native"].bytes_value = native_hash(fields, Found.always_native)
    return made


def _embedding(op: Put, live: Found | None, space: Space | None) -> Any:
    """The embedding to write. Numbers that are the same as float32 stay as they are, with all their digits; a vector that no
    item shows, because it is of another dimension, stays while the text does."""
    held = None if live is None or EMBEDDING not in live.fields else live.fields[EMBEDDING]
    raw = None if live is None else live.vector()
    if op.embedding is not None:
        if raw == op.embedding:
            return held
        import numpy as np

        return values.doubles(np.frombuffer(op.embedding, dtype="<f4").astype(np.float64))
    if live is None or held is None or held.WhichOneof("value_type") == "null_value":
        return None
    if raw is not None and space is not None and len(raw) // 4 == space.dimension:
        return None
    try:
        return held if item_of(live).searchable == op.item.searchable else None
    except CorruptData:
        return None
