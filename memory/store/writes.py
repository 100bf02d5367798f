"""Writing: put, add, update, touch, delete, each as one operation value whose outcome becomes a result or an error."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from memory.clock import to_micros
from memory.codec import content_hash, decode, encode
from memory.errors import EmbeddingMismatch, InvalidFilter, InvalidItem, UnsupportedOperation, VersionConflict
from memory.filters import parse, predicate
from memory.model import DEFAULT_NAMESPACE, MAX_DISTINCT_TERMS, UNSTAMPED, MemoryItem, check_item, vector_bytes
from memory.ops import ABSENT, ANY, WHOLE, Position, Put, Read, Remove, Scan, Touch, Write
from memory.store.bound import Bound, Namespace
from memory.store.settle import (
    BATCH,
    apply,
    apply_all,
    apply_batches,
    check_dedup,
    check_version,
    finish_batch,
    merge_patch,
    new_token,
    not_found,
    ttl_micros,
)
from memory.sync import blocking

if TYPE_CHECKING:
    from memory.filters import Where
    from memory.store.base import MemoryStore


class Writes(Bound):
    """The writing half of a store or view."""

    async def put(
        self,
        item: MemoryItem,
        *,
        ttl: float | None = None,
        if_version: int | None = None,
        dedup: Literal["content"] | None = None,
    ) -> MemoryItem:
        """Write the item, new or in place of the one under its key, and return it as stored.

        On a live key created_at, accessed_at and access_count are kept. ``ttl``: seconds until it expires
        (instead of ``item.expires_at``). ``if_version``: only if the live item has this version.
        ``dedup="content"``: a live item of the same namespace, user, agent, session and kind with equal content
        is returned instead. Raises InvalidItem, VersionConflict, AlreadyExists (the key belongs to somebody
        outside this view), StorageFull, UnknownOutcome.
        """
        store = self._enter()
        op = await self._prepare(store, item, ttl=ttl, expect=check_version(if_version), dedup=check_dedup(dedup))
        stored: MemoryItem = await apply(store, op)
        return stored

    async def add(
        self, item: MemoryItem, *, ttl: float | None = None, dedup: Literal["content"] | None = None
    ) -> MemoryItem:
        """Write a new item. Raises AlreadyExists when its key is live; else as ``put``."""
        store = self._enter()
        op = await self._prepare(store, item, ttl=ttl, expect=ABSENT, dedup=check_dedup(dedup))
        stored: MemoryItem = await apply(store, op)
        return stored

    async def put_many(
        self,
        items: Iterable[MemoryItem],
        *,
        ttl: float | None = None,
        dedup: Literal["content"] | None = None,
        atomic: bool = False,
    ) -> list[MemoryItem]:
        """Write many items; each is atomic, all are checked before the first is written.

        Returns the stored items in order. Raises InvalidItem (``index`` names the item) before any I/O,
        BatchError when some could not be written (``results`` tells each one's outcome). ``atomic=True``: all or
        none, where the backend declares it, else UnsupportedOperation.
        """
        store = self._enter()
        if atomic and not store.capabilities.atomic_batches:
            raise UnsupportedOperation(f"{store.name} has no atomic batches; write the items without atomic=True")
        unique = check_dedup(dedup)
        checked: list[tuple[MemoryItem, bytes]] = []
        if not isinstance(items, Iterable):
            raise InvalidItem(f"items must be an iterable of MemoryItem, not {type(items).__name__}")
        wanted = list(items)
        if "numpy" not in sys.modules and any(getattr(item, "embedding", None) is not None for item in wanted):
            await store._vectors_ready()
        async for batch in store._slices(wanted):
            for item in batch:
                try:
                    item, body = self._check(item)
                    if ttl is not None and item.expires_at is not None:
                        raise InvalidItem("give ttl or item.expires_at, not both", field="ttl")
                    # A text this short cannot hold too many terms; longer ones are analysed before any I/O.
                    if len(body) > MAX_DISTINCT_TERMS:
                        await store._check_terms(item)
                    checked.append((item, body))
                except InvalidItem as error:
                    facts = {
                        **error.__dict__,
                        "message": f"item {len(checked)}: {error.message}",
                        "index": len(checked),
                    }
                    raise InvalidItem(**facts) from None
        expires = ttl_micros(store, ttl)

        async def batches() -> AsyncIterator[list[Put]]:
            size = max(1, len(checked)) if atomic else BATCH
            for start in range(0, len(checked), size):
                ops: list[Put] = []
                async for part in store._slices(checked[start : start + size]):
                    ops += [self._operation(store, item, body, ANY, unique, ttl, expires) for item, body in part]
                await store._add_terms(ops)
                yield ops

        return finish_batch(await apply_batches(store, batches(), atomic))

    async def update(
        self,
        id: str,
        *,
        namespace: Namespace | None = None,
        if_version: int | None = None,
        ttl: float | None = None,
        content: Any = UNSET,
        text: str | None | UnsetType = UNSET,
        metadata: dict[str, Any] | UnsetType = UNSET,
        kind: str | UnsetType = UNSET,
        tags: tuple[str, ...] | UnsetType = UNSET,
        user_id: str | None | UnsetType = UNSET,
        agent_id: str | None | UnsetType = UNSET,
        session_id: str | None | UnsetType = UNSET,
        importance: float | UnsetType = UNSET,
        embedding: Any = UNSET,
        expires_at: datetime | None | UnsetType = UNSET,
    ) -> MemoryItem:
        """Change some fields of a live item and return it.

        ``content`` and ``metadata`` are JSON merge patches (RFC 7396): null removes a key, a content that is no
        object is replaced. The others are replaced. Runs as a compare-and-set loop, so no concurrent change is
        lost. A vector is dropped when the searchable text changes and no new one is given.
        Raises NotFound, VersionConflict (only with ``if_version``), InvalidItem.
        """
        store = self._enter()
        key = self._key(id, namespace)
        wanted = check_version(if_version)
        if not self._scope.covers_namespace(key[0]):
            raise not_found(key)
        plain = {
            name: value
            for name, value in (
                *(("text", text), ("kind", kind), ("tags", tags), ("user_id", user_id), ("agent_id", agent_id)),
                *(("session_id", session_id), ("importance", importance), ("expires_at", expires_at)),
            )
            if value is not UNSET
        }
        if metadata is not UNSET and type(metadata) is not dict:
            raise InvalidItem("metadata must be a dict: a JSON merge patch", field="metadata")
        if ttl is not None and expires_at is not UNSET:
            raise InvalidItem("give ttl or expires_at, not both", field="ttl")
        while True:
            (row,) = await store._do_read(Read(keys=(key,), now=store._clock(), scope=self._scope))
            if row is None:
                raise not_found(key)
            if wanted not in (ANY, row.version):
                raise VersionConflict(
                    f"item {id!r} is at version {row.version}, not {wanted}; read it again and decide",
                    key=key,
                    expected=wanted,
                    actual=row.version,
                )
            if row.embedding is not None:
                await store._vectors_ready()
            old = decode(row)
            changes = dict(plain)
            if content is not UNSET:
                changes["content"] = merge_patch(old.content, content)
            if metadata is not UNSET:
                changes["metadata"] = merge_patch(old.metadata, metadata)
            new = msgspec.structs.replace(old, **changes)
            if embedding is not UNSET:
                new = msgspec.structs.replace(new, embedding=embedding)
            elif old.embedding is not None and new.searchable != old.searchable:
                new = msgspec.structs.replace(new, embedding=None)
            if ttl is not None:
                new = msgspec.structs.replace(new, expires_at=None)
            op = await self._prepare(store, new, ttl=ttl, expect=row.version)
            try:
                stored: MemoryItem = await apply(store, op)
            except VersionConflict as error:
                if error.actual is None:
                    raise not_found(key) from None
                if wanted != ANY:
                    raise
            else:
                return stored

    async def touch(
        self,
        id: str,
        *,
        namespace: Namespace | None = None,
        ttl: float | None = None,
        expires_at: datetime | None | UnsetType = UNSET,
        if_version: int | None = None,
    ) -> bool:
        """Count an access and, if asked, move the expiry (``expires_at=None``: never). False when there is no such item.

        A new version, but ``updated_at`` stays. Raises VersionConflict, InvalidItem.
        """
        store = self._enter()
        key = self._key(id, namespace)
        expires = ttl_micros(store, ttl)
        if expires_at is not UNSET:
            if ttl is not None:
                raise InvalidItem("give ttl or expires_at, not both", field="ttl")
            expires = None if expires_at is None else to_micros(expires_at, "expires_at")
        expect = check_version(if_version)
        if not self._scope.covers_namespace(key[0]):
            return False
        op = Touch(
            key=key,
            token=new_token(),
            now=store._clock(),
            scope=self._scope,
            expect=expect,
            set_expiry=ttl is not None or expires_at is not UNSET,
            expires=expires,
            accesses=1,
        )
        return bool(await apply(store, op))

    async def delete(self, id: str, *, namespace: Namespace | None = None, if_version: int | None = None) -> bool:
        """Delete the item. False when there is none. Raises VersionConflict when it has another version."""
        store = self._enter()
        key = self._key(id, namespace)
        expect = check_version(if_version)
        if not self._scope.covers_namespace(key[0]):
            return False
        op = Remove(key=key, token=new_token(), now=store._clock(), scope=self._scope, expect=expect)
        return bool(await apply(store, op))

    async def delete_many(self, ids: Iterable[str], *, namespace: Namespace | None = None) -> list[bool]:
        """Delete items; for each, in order, whether it was there. Raises BatchError when some deletes failed."""
        store = self._enter()
        keys = self._keys(ids, namespace)
        if not keys or not self._scope.covers_namespace(keys[0][0]):
            return [False] * len(keys)
        now = store._clock()
        ops: list[Write] = [Remove(key=key, token=new_token(), now=now, scope=self._scope) for key in keys]
        return finish_batch(await apply_all(store, ops))

    async def delete_where(
        self, where: Where, *, namespace: Namespace | None = None, under: Namespace | None = None
    ) -> int:
        """Delete every live item that satisfies the filter; returns how many.

        Without a filter, on an unscoped store, name what to empty (``namespace=`` or ``under=``; ``under=()`` is
        everything). An item changed meanwhile is looked at again. Raises InvalidFilter.
        """
        store = self._enter()
        filter = parse(where)
        scope = self._narrow(namespace, under)
        if filter is None and scope == WHOLE and under is None:
            raise InvalidFilter("this would delete everything; if that is meant, say so with under=()")
        if scope is None:
            return 0
        accept = None if filter is None else predicate(filter)
        deleted, after = 0, None
        while True:
            op = Scan(now=store._clock(), scope=scope, where=filter, after=after, limit=BATCH, vectors=False)
            pairs = await store._filled(op)
            todo = [(item.key, row.version) for row, item in pairs]
            while todo:
                now = store._clock()
                removes: list[Write] = [
                    Remove(key=key, token=new_token(), now=now, scope=scope, expect=version) for key, version in todo
                ]
                results = await apply_all(store, removes)
                deleted += sum(1 for result in results if result is True)
                lost = [op.key for op, r in zip(removes, results, strict=True) if isinstance(r, VersionConflict)]
                finish_batch([r for r in results if not isinstance(r, VersionConflict)])
                rows = await store._do_read(Read(keys=tuple(lost), now=now, scope=scope)) if lost else []
                fresh = [(row, decode(row)) for row in rows if row is not None]
                todo = [(item.key, row.version) for row, item in fresh if accept is None or accept(item)]
            if len(pairs) < BATCH:
                return deleted
            after = Position(*pairs[-1][1].key)

    put_sync = blocking(put)
    add_sync = blocking(add)
    put_many_sync = blocking(put_many)
    update_sync = blocking(update)
    touch_sync = blocking(touch)
    delete_sync = blocking(delete)
    delete_many_sync = blocking(delete_many)
    delete_where_sync = blocking(delete_where)

    # --- from an item to an operation ----------------------------------------------------------

    def _check(self, item: MemoryItem, *, keep_source: bool = False) -> tuple[MemoryItem, bytes]:
        """The item checked, moved into the view, and encoded. Raises InvalidItem."""
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
        if not keep_source and item.source != self._source:
            changes["source"] = self._source
        if changes:
            item = msgspec.structs.replace(item, **changes)
        dimension = self._store.dimension
        if item.embedding is not None and dimension is not None and len(item.embedding) != dimension:
            raise EmbeddingMismatch(
                f"the embedding has {len(item.embedding)} numbers; this store holds vectors of {dimension}",
                expected=dimension,
                actual=len(item.embedding),
            )
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
        )

    async def _prepare(
        self, store: MemoryStore, item: MemoryItem, *, ttl: float | None, expect: int, dedup: bool = False
    ) -> Put:
        expires = ttl_micros(store, ttl)
        if type(item) is MemoryItem and item.embedding is not None:
            await store._vectors_ready()
        checked, body = self._check(item)
        op = self._operation(store, checked, body, expect, dedup, ttl, expires)
        if store.capabilities.indexes_terms:
            await store._add_terms((op,))
        elif len(body) > MAX_DISTINCT_TERMS:
            await store._check_terms(checked)
        return op
