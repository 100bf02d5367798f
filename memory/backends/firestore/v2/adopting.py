"""What V2 programs wrote, or changed after us, gets our fields, so that every list, count and search finds it.

No query finds documents that lack a field. So a look compares how many documents there are with how many have a key of
ours, which costs a read for every thousand; where the numbers differ, all documents are read once and those without our
fields, or with those of another text, are given them. Native fields are left as they are.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from memory.backends.firestore import queries, values
from memory.backends.firestore.connection import Write, expecting
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.pacing import singly
from memory.backends.firestore.queries import Condition, Query
from memory.backends.firestore.records import OURS, item_of, row_of
from memory.backends.firestore.spaces import make_space
from memory.backends.firestore.v2 import paths
from memory.backends.firestore.v2.documents import Found, fill_ours, fill_terms, fill_vector
from memory.backends.firestore.v2.legacy import VECTOR
from memory.backends.firestore.v2.names import document_id
from memory.codec import content_hash
from memory.errors import CorruptData, MemoryStoreError
from memory.model import MAX_DISTINCT_TERMS
from memory.ops import Space
from memory.store.settle import new_token
from memory.telemetry import get_logger

if TYPE_CHECKING:
    from memory.backends.firestore.v2.backend import FirestoreV2Store

STEP = 200
_log = get_logger("firestore_v2")


class Adopter:
    """Looks for documents of other programs, at most every ``interval`` seconds (None: only when the store opens)."""

    def __init__(self, store: FirestoreV2Store, interval: float | None) -> None:
        self.store, self.interval = store, interval
        self.unreadable = 0
        """Documents that are no items: neither listed nor searched, told by health and verify."""
        self._looked: float | None = None
        self._lock = asyncio.Lock()

    async def look(self) -> None:
        """Before what lists, counts or searches. With an interval of 0 every document is read each time."""
        if not self._due():
            return
        async with self._lock:
            if not self._due():
                return
            if self.interval == 0 or await self._differs():
                await self.adopt()
            self._looked = time.monotonic()

    def _due(self) -> bool:
        if self._looked is None:
            return True
        return self.interval is not None and time.monotonic() - self._looked >= self.interval

    async def _differs(self) -> bool:
        connection, items = self.store._connected(), self.store.names.items
        every = await connection.count(Query(collection=items), Meter())
        if not every:
            return False
        keyed = Condition(paths.KEY, ">=", values.blob(b""))
        ours = await connection.count(Query(collection=items, conditions=(keyed,)), Meter())
        return every - ours != self.unreadable

    async def adopt(self) -> int:
        """Read every document; how many were given our fields."""
        adopted = unreadable = 0
        after: tuple[Any, ...] = ()
        while True:
            query = Query(collection=self.store.names.items, orders=((queries.NAME, False),), after=after, limit=STEP)
            found = await self.store._connected().query(query, Meter())
            writes = []
            async for one in singly(found):
                if one.ours is not None and not one.changed:
                    continue
                try:
                    writes.append(await self.adoption(one))
                except MemoryStoreError as error:
                    unreadable += 1
                    _log.warning("unreadable document", backend=self.store.name, document=one.id, error=error)
            adopted += await self.store._connected().commit_each(writes)
            if len(found) < STEP:
                break
            name = self.store._connected().name(self.store.names.items, found[-1].id)
            after = (values.Value(reference_value=name),)
        self.unreadable = unreadable
        if adopted:
            _log.info("adopted documents of other programs", backend=self.store.name, documents=adopted)
        return adopted

    async def adoption(self, found: Found) -> Any:
        """The write that gives a document our fields. Raises CorruptData, InvalidItem for what is no item."""
        store, item = self.store, item_of(found)
        if document_id(item.key) != found.id:
            raise CorruptData(f"the document {found.id!r} bears a name that its item cannot have", document=found.id)
        counts, length = await store._counts(item.searchable)
        if len(counts) > MAX_DISTINCT_TERMS:
            raise CorruptData(f"the document {found.id!r} has {len(counts):,} distinct terms", document=found.id)
        stamp = found.stamp()
        if "timestamp" not in found.fields or found.fields["timestamp"].WhichOneof("value_type") != "timestamp_value":
            raise CorruptData(f"the document {found.id!r} has no timestamp", document=found.id)
        write = Write()
        write.update.name = store._connected().name(store.names.items, found.id)
        fields = write.update.fields
        for name in found.fields:
            if name not in (OURS, VECTOR):
                fields[name].CopyFrom(found.fields[name])
        for name in ("user_id", "session_id"):  # so that their absence can be asked for
            if name not in fields:
                fields[name].null_value = 0
        embedding = await self._embedding(found)
        embedder = None if embedding is None or store._space is None else store._space.embedder
        if embedding is not None:
            await store._vectors_ready()
            fill_vector(fields, embedding)
            fields["embedding"].CopyFrom(found.fields["embedding"])
        body = row_of(found, None, None, vectors=False).body
        fill_ours(
            fields, item, body, new_token(), content_hash(item), stamp, embedder,
            expires_natively=store.expires_natively,
        )  # fmt: skip
        fill_terms(fields, counts, length)
        return expecting(write, found.version)

    async def _embedding(self, found: Found) -> bytes | None:
        """Its vector, if it belongs into the store's space. The first one of a store without an embedder makes it."""
        store = self.store
        if "embedding" not in found.fields:
            return None
        await store._vectors_ready()
        raw = values.floats(found.fields["embedding"])
        if raw is None:
            return None
        dimension = len(raw) // 4
        if dimension > store.capabilities.max_dimension:
            return None
        if store._space is None and store.embedder is None and store.dimension in (None, dimension):
            await make_space(store, Space(None, dimension))
        return raw if store._space is not None and store._space.dimension == dimension else None
