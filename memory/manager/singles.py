"""Single memories: add, get, update, delete."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from memory.errors import InvalidItem
from memory.manager.lifecycle import Lifecycle
from memory.model import MemoryItem
from memory.sync import blocking

if TYPE_CHECKING:
    from datetime import datetime

    from memory.store.bound import Namespace
    from memory.store.embedding import Embed


class Singles(Lifecycle):
    """What concerns one memory."""

    async def add(
        self,
        what: str | MemoryItem | dict[str, Any] | list[Any],
        *,
        id: str | UnsetType = UNSET,
        namespace: Namespace | UnsetType = UNSET,
        kind: str | UnsetType = UNSET,
        text: str | None | UnsetType = UNSET,
        metadata: dict[str, Any] | UnsetType = UNSET,
        tags: Iterable[str] | UnsetType = UNSET,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        importance: float | UnsetType = UNSET,
        embedding: Any = UNSET,
        created_at: datetime | UnsetType = UNSET,
        expires_at: datetime | None | UnsetType = UNSET,
        ttl: float | None = None,
        dedup: Literal["content"] | None = None,
        embed: Embed = "now",
    ) -> MemoryItem:
        """Remember something new and return it as stored, with its id.

        ``what``: a text, a JSON object or list, or a MemoryItem; the keywords set its other fields, and replace those
        of an item. ``ttl``: seconds until it is forgotten. ``dedup="content"``: a live memory of the same namespace,
        owner and kind with equal content is returned instead. ``embed="later"``: stored without a vector, which
        ``store.reembed()`` makes. Raises InvalidItem, AlreadyExists (the id is taken), EmbeddingFailed.
        """
        fields = {
            "id": id,
            "namespace": (namespace,) if isinstance(namespace, str) else namespace,
            "kind": kind,
            "text": text,
            "metadata": metadata,
            "tags": tuple(tags) if isinstance(tags, Iterable) and not isinstance(tags, str) else tags,
            "importance": importance,
            "embedding": embedding,
            "created_at": created_at,
            "expires_at": expires_at,
        }
        given = {name: value for name, value in fields.items() if value is not UNSET}
        owner = {"user_id": user_id, "agent_id": agent_id, "session_id": session_id}
        given.update({name: value for name, value in owner.items() if value is not None})
        if ttl is not None and given.get("expires_at") is not None:
            raise InvalidItem("give ttl or expires_at, not both", field="ttl")
        if isinstance(what, MemoryItem):
            item = msgspec.structs.replace(what, **given) if given else what
        elif isinstance(what, str | dict | list):
            item = MemoryItem(content=what, **given)
        else:
            raise InvalidItem(
                f"what is remembered must be a str, a JSON object or list, or a MemoryItem, not {type(what).__name__}",
                field="content",
            )
        return await self._view().add(item, ttl=ttl, dedup=dedup, embed=embed)

    async def get(
        self,
        id: str,
        *,
        namespace: Namespace | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
    ) -> MemoryItem | None:
        """The live memory under this id, or None. Without ``namespace``: in ``("default",)``."""
        return await self._view(user_id, agent_id, session_id).get(id, namespace=namespace)

    async def update(
        self,
        id: str,
        *,
        namespace: Namespace | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        content: Any = UNSET,
        text: str | None | UnsetType = UNSET,
        metadata: dict[str, Any] | UnsetType = UNSET,
        kind: str | UnsetType = UNSET,
        tags: tuple[str, ...] | UnsetType = UNSET,
        importance: float | UnsetType = UNSET,
        embedding: Any = UNSET,
        ttl: float | None = None,
        expires_at: datetime | None | UnsetType = UNSET,
        if_version: int | None = None,
        embed: Embed = "now",
    ) -> MemoryItem:
        """Change some fields of a memory and return it.

        ``content`` (an object) and ``metadata`` are merged, null removing a key (RFC 7396); the others are
        replaced. ``user_id``, ``agent_id`` and ``session_id`` say whose it must be. A text that changes gets a vector anew,
        at once or, with ``embed="later"``, by ``store.reembed()``. Raises NotFound, InvalidItem, VersionConflict (only
        with ``if_version``), EmbeddingFailed.
        """
        return await self._view(user_id, agent_id, session_id).update(
            id,
            namespace=namespace,
            if_version=if_version,
            ttl=ttl,
            content=content,
            text=text,
            metadata=metadata,
            kind=kind,
            tags=tags,
            importance=importance,
            embedding=embedding,
            expires_at=expires_at,
            embed=embed,
        )

    async def delete(
        self,
        id: str,
        *,
        namespace: Namespace | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        if_version: int | None = None,
    ) -> bool:
        """Forget one memory. False when there is none. Raises VersionConflict (only with ``if_version``)."""
        return await self._view(user_id, agent_id, session_id).delete(id, namespace=namespace, if_version=if_version)

    add_sync = blocking(add)
    get_sync = blocking(get)
    update_sync = blocking(update)
    delete_sync = blocking(delete)
