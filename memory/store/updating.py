"""Changing an item that is there: update, touch."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from memory.clock import to_micros
from memory.codec import decode
from memory.errors import InvalidItem, VersionConflict
from memory.model import MemoryItem, check_item
from memory.ops import ANY, Read, Touch
from memory.store.bound import Namespace
from memory.store.embedding import Embed, check_embed
from memory.store.settle import apply, check_version, merge_patch, new_token, not_found, ttl_micros
from memory.store.writes import Writes
from memory.sync import blocking


class Updates(Writes):
    """The changing part of a store or view."""

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
        embed: Embed = "now",
    ) -> MemoryItem:
        """Change some fields of a live item and return it.

        ``content`` and ``metadata`` are JSON merge patches (RFC 7396): null removes a key, a content that is no
        object is replaced. The others are replaced. Runs as a compare-and-set loop, so no concurrent change is
        lost. Where the searchable text changes and no new vector is given, the old one goes, and the store's embedder, if
        it has one, makes another (see ``put``); ``embedding=None`` takes the vector away.
        Raises NotFound, VersionConflict (only with ``if_version``), InvalidItem, EmbeddingMismatch, EmbeddingFailed.
        """
        store = self._enter()
        key = self._key(id, namespace)
        wanted = check_version(if_version)
        check_embed(embed)
        if not self._scope.covers_namespace(key[0]):
            raise not_found(key)
        plain: dict[str, Any] = {
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
        # All of it is checked before anything is read, and is what it was then, however long the loop runs.
        if embedding is not UNSET and embedding is not None:
            await store._vectors_ready()
        given = check_item(
            MemoryItem(
                content=None if content is UNSET else content,
                metadata={} if metadata is UNSET else metadata,
                id=key[1],
                namespace=key[0],
                embedding=None if embedding is UNSET else embedding,
                **plain,
            )
        )
        plain = {name: getattr(given, name) for name in plain}
        if content is not UNSET:
            content = given.content
        if metadata is not UNSET:
            metadata = given.metadata or {}  # an empty one is still the caller's
        if embedding is not UNSET and embedding is not None:
            embedding = given.embedding.copy()
        ttl_micros(store, ttl)
        while True:
            (row,) = await store._do_read(Read(keys=(key,), now=store._clock(), scope=self._scope, fresh=True))
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
            another = new.searchable != old.searchable
            if embedding is not UNSET or another:
                new = msgspec.structs.replace(new, embedding=None if embedding is UNSET else embedding)
            if ttl is not None:
                new = msgspec.structs.replace(new, expires_at=None)
            how = embed if another and embedding is UNSET else None
            keeps = embedding is UNSET and not another
            op = await self._prepare(store, new, ttl=ttl, expect=row.version, embed=how, keeps_vector=keeps)
            if keeps:
                op = msgspec.structs.replace(op, embedder=row.embedder)  # whose it was, or who owes it
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

    update_sync = blocking(update)
    touch_sync = blocking(touch)
