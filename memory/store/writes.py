"""Writing: put, add, put_many, each item as one operation value whose outcome becomes a result or an error."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from memory.clock import to_micros
from memory.codec import content_hash, encode
from memory.errors import InvalidItem, MemoryStoreError, UnsupportedOperation
from memory.model import DEFAULT_NAMESPACE, MAX_DISTINCT_TERMS, UNSTAMPED, MemoryItem, check_item
from memory.ops import ABSENT, ANY, WHOLE, Put
from memory.store.deleting import Deletes
from memory.store.embedding import Embed, add_vectors, check_dimension, check_embed, check_space
from memory.store.settle import (
    BATCH,
    Refused,
    apply,
    apply_batches,
    check_dedup,
    check_version,
    finish_batch,
    new_token,
    ttl_micros,
)
from memory.sync import blocking
from memory.turns import is_due, pause
from memory.vectors import vector_bytes

if TYPE_CHECKING:
    from memory.store.base import MemoryStore


class Writes(Deletes):
    """The writing part of a store or view."""

    async def put(
        self,
        item: MemoryItem,
        *,
        ttl: float | None = None,
        if_version: int | None = None,
        dedup: Literal["content"] | None = None,
        embed: Embed = "now",
    ) -> MemoryItem:
        """Write the item, new or in place of the one under its key, and return it as stored.

        On a live key created_at, accessed_at and access_count are kept. ``ttl``: seconds until it expires
        (instead of ``item.expires_at``). ``if_version``: only if the live item has this version.
        ``dedup="content"``: a live item of the same namespace, user, agent, session and kind with equal content
        is returned instead. Where the store has an embedder, an item without a vector gets one within the write, and
        an embedder's failure fails it; ``embed="later"`` stores the item without and marks it for ``reembed``.
        Raises InvalidItem, VersionConflict, AlreadyExists (the key belongs to somebody outside this view),
        EmbeddingMismatch, EmbeddingFailed, StorageFull, UnknownOutcome.
        """
        store = self._enter()
        expect, unique = check_version(if_version), check_dedup(dedup)
        op = await self._prepare(store, item, ttl=ttl, expect=expect, dedup=unique, embed=embed)
        stored: MemoryItem = await apply(store, op)
        return stored

    async def add(
        self,
        item: MemoryItem,
        *,
        ttl: float | None = None,
        dedup: Literal["content"] | None = None,
        embed: Embed = "now",
    ) -> MemoryItem:
        """Write a new item. Raises AlreadyExists when its key is live; else as ``put``."""
        store = self._enter()
        op = await self._prepare(store, item, ttl=ttl, expect=ABSENT, dedup=check_dedup(dedup), embed=embed)
        stored: MemoryItem = await apply(store, op)
        return stored

    async def put_many(
        self,
        items: Iterable[MemoryItem],
        *,
        ttl: float | None = None,
        dedup: Literal["content"] | None = None,
        atomic: bool = False,
        embed: Embed = "now",
    ) -> list[MemoryItem]:
        """Write many items; each is atomic, all are checked before the first is written.

        Returns the stored items in order. Raises InvalidItem (``index`` names the item) before any I/O,
        BatchError when some could not be written (``results`` tells each one's outcome): when the embedder fails,
        those from there on. ``atomic=True``: all or none, where the backend declares it, else UnsupportedOperation.
        """
        store = self._enter()
        if atomic and not store.capabilities.atomic_batches:
            raise UnsupportedOperation(f"{store.name} has no atomic batches; write the items without atomic=True")
        unique, now = check_dedup(dedup), check_embed(embed)
        if not isinstance(items, Iterable):
            raise InvalidItem(f"items must be an iterable of MemoryItem, not {type(items).__name__}")
        # What is done with is let go at once: to free a hundred thousand bodies at the end would hold the loop.
        wanted = deque(items)
        checked: deque[tuple[MemoryItem, bytes]] = deque()
        dimension: int | None = None
        if "numpy" not in sys.modules and any(getattr(item, "embedding", None) is not None for item in wanted):
            await store._vectors_ready()
        while wanted:
            if is_due():
                await pause()
            try:
                item, body = self._check(wanted.popleft())
                if ttl is not None and item.expires_at is not None:
                    raise InvalidItem("give ttl or item.expires_at, not both", field="ttl")
                # A text this short cannot hold too many terms; longer ones are analysed before any I/O.
                if len(body) > MAX_DISTINCT_TERMS:
                    await store._check_terms(item)
                if item.embedding is not None:
                    dimension = dimension or len(item.embedding)
                    check_dimension(len(item.embedding), dimension, f"item {len(checked)}")
                    if item.embedding.flags.writeable:  # its bytes are taken when its batch is written
                        item = msgspec.structs.replace(item, embedding=item.embedding.copy())
                checked.append((item, body))
            except InvalidItem as error:
                facts = {**error.__dict__, "message": f"item {len(checked)}: {error.message}", "index": len(checked)}
                raise InvalidItem(**facts) from None
        ttl_micros(store, ttl)  # a wrong one is refused before any I/O

        async def batches() -> AsyncIterator[list[Put] | Refused]:
            size = len(checked) if atomic else BATCH
            begun = False
            while checked:
                ops: list[Put] = []
                while checked and len(ops) < size:
                    if is_due():
                        await pause()
                    ops.append(self._operation(store, *checked.popleft(), ANY, unique, ttl, None))
                await store._add_terms(ops)
                try:
                    await add_vectors(store, ops, now)
                except MemoryStoreError as error:
                    if not begun:
                        raise  # nothing is written yet
                    yield Refused(error, len(ops) + len(checked))
                    return
                if ttl is not None:  # from now on, not from before the vectors were made
                    expires = ttl_micros(store, ttl)
                    ops = [msgspec.structs.replace(op, expires=expires) for op in ops]
                begun = True
                yield ops

        return finish_batch(await apply_batches(store, batches(), atomic))

    put_sync = blocking(put)
    add_sync = blocking(add)
    put_many_sync = blocking(put_many)

    # --- from an item to an operation ----------------------------------------------------------

    def _check(
        self, item: MemoryItem, *, keep_source: bool = False, keeps_vector: bool = False
    ) -> tuple[MemoryItem, bytes]:
        """The item checked, moved into the view, and encoded. Raises InvalidItem, EmbeddingMismatch.

        ``keeps_vector``: its vector is the stored one, or comes with the name of who made it.
        """
        item = check_item(item)
        scope = self._scope
        changes: dict[str, Any] = {}
        if scope is not WHOLE:
            if not scope.covers_namespace(item.namespace):
                if item.namespace != DEFAULT_NAMESPACE:
                    raise InvalidItem(
                        f"namespace {item.namespace!r} lies outside this view of {scope.path!r}", field="namespace"
                    )
                changes["namespace"] = scope.path
            for field in ("user_id", "agent_id", "session_id"):
                pinned, given = getattr(scope, field), getattr(item, field)
                if pinned is not None and given != pinned:
                    if given is not None:
                        raise InvalidItem(f"{field} is pinned by this view and cannot be {given!r}", field=field)
                    changes[field] = pinned
        if not keep_source and (self._source or item.source):
            changes["source"] = msgspec.to_builtins(self._source)  # the next item gets the same stamp
        if changes:
            item = msgspec.structs.replace(item, **changes)
        self._store.capabilities.check(self._store.name, item)
        if item.embedding is not None and not keeps_vector:
            check_space(self._store, None, len(item.embedding))
        body = encode(item)
        # A text this short cannot hold too many terms; a longer one is analysed here, before any I/O.
        return item, body

    def _operation(
        self,
        store: MemoryStore,
        item: MemoryItem,
        body: bytes,
        expect: int,
        dedup: bool,
        ttl: float | None,
        ttl_expires: int | None,
    ) -> Put:
        if ttl is None:
            expires = None if item.expires_at is None else to_micros(item.expires_at)
        elif item.expires_at is None:
            expires = ttl_expires
        else:
            raise InvalidItem("give ttl or item.expires_at, not both", field="ttl")
        return Put(
            key=(item.namespace, item.id),
            item=item,
            body=body,
            token=new_token(),
            now=store._clock(),
            scope=self._scope,
            expect=expect,
            created=None if item.created_at == UNSTAMPED else to_micros(item.created_at),
            expires=expires,
            digest=content_hash(item),
            dedup=dedup,
            embedding=vector_bytes(item.embedding),
            embedder=None if item.embedding is None or store.embedding is None else store.embedding.name,
        )

    async def _prepare(
        self,
        store: MemoryStore,
        item: MemoryItem,
        *,
        ttl: float | None,
        expect: int,
        dedup: bool = False,
        embed: Embed | None = None,
        keeps_vector: bool = False,
    ) -> Put:
        """The write of one item. ``embed`` None: no vector is made, nor owed."""
        now = embed is not None and check_embed(embed)
        expires = ttl_micros(store, ttl)
        if "numpy" not in sys.modules and type(item) is MemoryItem and item.embedding is not None:
            await store._vectors_ready()
        checked, body = self._check(item, keeps_vector=keeps_vector)
        op = self._operation(store, checked, body, expect, dedup, ttl, expires)
        if store.capabilities.indexes_terms:
            await store._add_terms((op,))
        elif len(body) > MAX_DISTINCT_TERMS:
            await store._check_terms(checked)
        if embed is not None and store.embedding is not None:
            await add_vectors(store, (op,), now)
            if ttl is not None:  # from now on, not from before the vector was made
                op = msgspec.structs.replace(op, expires=ttl_micros(store, ttl))
        return op
