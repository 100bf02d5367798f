"""What a program written by hand with Google's AsyncClient would do: the same documents, no framework.

It writes the same fields (V2's, ours, the terms, the vector), without checks, scopes or a condition on writes, into a
collection of its own. A put reads what is there first, as it has to keep times and counts. The floor, not a rival.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.base_vector_query import DistanceMeasure
from google.cloud.firestore_v1.vector import Vector

from memory import MemoryItem
from memory.backends.firestore.v2.documents import unit64
from memory.backends.firestore.v2.names import document_id
from memory.clock import to_micros
from memory.codec import decode, encode
from memory.keys import encode_key
from memory.model import Key, path_bytes
from memory.ops import Row
from memory.search.analysis import Analyser

TOGETHER = 100
"""Documents of one commit."""
_EMULATOR = "FIRESTORE_EMULATOR_HOST"
_ASKED: dict[str, Any] = {"retry": None, "timeout": 30}


class ByHand:
    """Works on the emulator at ``host``, in ``collection`` of a project."""

    def __init__(self, project: str, host: str, collection: str = "by_hand") -> None:
        before = os.environ.get(_EMULATOR)
        os.environ[_EMULATOR] = host
        try:
            self.client = firestore.AsyncClient(project=project, credentials=AnonymousCredentials())
        finally:
            os.environ.pop(_EMULATOR)
            if before is not None:
                os.environ[_EMULATOR] = before
        self.items = self.client.collection(collection)
        self._analyser = Analyser()

    def close(self) -> None:
        with suppress(AttributeError):
            self.client.close()

    def document(self, item: MemoryItem) -> dict[str, Any]:
        """The fields of an item."""
        counts, length = self._analyser.counts(item.searchable)
        now = time.time_ns() // 1_000
        fields = {
            "id": item.id, "user_id": item.user_id, "session_id": item.session_id, "item_type": item.kind,
            "metadata": item.metadata, "timestamp": firestore.SERVER_TIMESTAMP, "text_content": item.searchable,
            "memory": {
                "v": 1, "key": encode_key(item.key), "path": path_bytes(item.namespace), "body": encode(item),
                "token": os.urandom(16), "agent": item.agent_id, "importance": item.importance, "updated": now,
                "accessed": now, "count": 0, "terms": list(counts), "counts": bytes(min(n, 255) for n in counts.values()),
                "length": length, "tags": list(item.tags),
            },
        }  # fmt: skip
        if item.embedding is not None:
            numbers = item.embedding.astype(np.float64)
            fields["embedding"] = numbers.tolist()
            fields["memory_vector"] = Vector(unit64(numbers).tolist())
        return fields

    async def get(self, key: Key) -> Any:
        return (await self.items.document(document_id(key)).get(**_ASKED)).to_dict()

    async def put(self, item: MemoryItem) -> None:
        reference = self.items.document(document_id(item.key))
        await reference.get(**_ASKED)
        await reference.set(self.document(item), **_ASKED)

    async def put_many(self, items: Sequence[MemoryItem]) -> None:
        """As ``put``: read, then committed in batches."""
        references = [self.items.document(document_id(item.key)) for item in items]
        async for _ in self.client.get_all(references, **_ASKED):
            pass
        await self.write(items)

    async def write(self, items: Sequence[MemoryItem]) -> None:
        """Committed in batches, whatever is there."""
        for start in range(0, len(items), TOGETHER):
            batch = self.client.batch()
            for item in items[start : start + TOGETHER]:
                batch.set(self.items.document(document_id(item.key)), self.document(item))
            await batch.commit(**_ASKED)

    async def page(self, user: str, limit: int) -> list[Any]:
        query = self.items.where(filter=FieldFilter("user_id", "==", user)).order_by("memory.key").limit(limit)
        return [one.to_dict() async for one in query.stream(**_ASKED)]

    async def near(self, vector: Any, limit: int) -> list[Any]:
        query = self.items.find_nearest(
            "memory_vector", Vector(vector.tolist()), distance_measure=DistanceMeasure.DOT_PRODUCT, limit=limit
        )
        return [one.to_dict() async for one in query.stream(**_ASKED)]

    async def every(self, size: int) -> AsyncIterator[list[MemoryItem]]:
        """All items in the order of their documents' names, so many at a time."""
        last: Any = None
        while True:
            query = self.items.order_by("__name__").limit(size)
            found = [one async for one in (query if last is None else query.start_after(last)).stream(**_ASKED)]
            yield [_item(one.to_dict()) for one in found]
            if len(found) < size:
                return
            last = found[-1]


def _item(fields: dict[str, Any]) -> MemoryItem:
    vector = fields.get("embedding")
    raw = None if vector is None else np.array(vector, dtype="<f4").tobytes()
    made = to_micros(fields["timestamp"])
    return decode(
        Row(body=fields["memory"]["body"], version=1, created=made, updated=made, accessed=made, embedding=raw)
    )
