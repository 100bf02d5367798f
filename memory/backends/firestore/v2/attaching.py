"""Vectors for documents that have none: found by going through them all, given without touching anything else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memory.backends.firestore import values
from memory.backends.firestore.connection import Write, expecting
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.pacing import singly
from memory.backends.firestore.queries import Query
from memory.backends.firestore.records import OURS
from memory.backends.firestore.spaces import make_space
from memory.backends.firestore.v2 import paths
from memory.backends.firestore.v2.documents import fill_vector
from memory.backends.firestore.v2.legacy import VECTOR
from memory.backends.firestore.v2.scanning import PAGE, row
from memory.errors import UnsupportedOperation
from memory.keys import encode_key
from memory.model import Key
from memory.ops import Attach, Row, Space
from memory.store.settle import new_token

if TYPE_CHECKING:
    from memory.backends.firestore.v2.backend import FirestoreV2Store


async def unattached(store: FirestoreV2Store, after: Key | None, limit: int) -> list[Row]:
    """Rows in key order after a key, expired ones too, that have no vector. No query finds what lacks a field."""
    cursor: tuple[Any, ...] = () if after is None else (values.blob(encode_key(after)),)
    rows: list[Row] = []
    while True:
        query = Query(collection=store.names.items, orders=((paths.KEY, False),), after=cursor, limit=PAGE)
        found = await store._connected().query(query, Meter())
        async for one in singly(found):
            made = row(store, one)
            if made.embedding is None:
                rows.append(made)
        if len(found) < PAGE or len(rows) >= limit:
            return rows[:limit]
        cursor = (values.blob(found[-1].part("key")),)


async def attach(store: FirestoreV2Store, space: Space, ops: Sequence[Attach]) -> int:
    """Give documents vectors, each if it still has its version; it gets a new one."""
    held = store._space or await make_space(store, space)
    if held != space:
        raise UnsupportedOperation(f"{store.name} holds vectors of {held.embedder}; it cannot keep others aside")
    await store._vectors_ready()
    connection, writes = store._connected(), []
    async for op in singly(ops):
        write = Write()
        write.update.name = connection.name(store.names.items, store.document_id(op.key))
        fields = write.update.fields
        fill_vector(fields, op.embedding)
        ours = fields[OURS].map_value.fields
        ours["token"].bytes_value = new_token()
        ours["embedder"].CopyFrom(values.optional_text(space.embedder))
        write.update_mask.field_paths.extend(("embedding", VECTOR, "memory.token", "memory.embedder"))
        writes.append(expecting(write, op.version))
    return await connection.commit_each(writes)
