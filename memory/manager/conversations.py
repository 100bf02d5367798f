"""Conversations: messages are remembered in order, and told again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, overload

import msgspec

from memory.clock import from_micros
from memory.errors import InvalidItem
from memory.filters import parse
from memory.filters.tree import conjoin
from memory.manager.lifecycle import Lifecycle
from memory.manager.messages import from_message, to_messages
from memory.model import DEFAULT_NAMESPACE, MemoryItem
from memory.store import ItemPage
from memory.sync import blocking

if TYPE_CHECKING:
    from memory.filters import Where
    from memory.store.bound import Namespace
    from memory.store.embedding import Embed


class Conversations(Lifecycle):
    """What was said."""

    async def add_messages(
        self,
        messages: Iterable[Mapping[str, Any]],
        user_id: str | None = None,
        session_id: str | None = None,
        *,
        agent_id: str | None = None,
        namespace: Namespace = DEFAULT_NAMESPACE,
        metadata: dict[str, Any] | None = None,
        ttl: float | None = None,
        embed: Embed = "now",
    ) -> list[MemoryItem]:
        """Remember the messages of a conversation, in order, each as an item of kind ``conversation``.

        A message is ``{"role": ..., "content": ...}``; the content is a text, or a list of parts as chat interfaces
        have them (the text parts are what is searched). The role, and whatever else a message holds (name, tool
        calls), goes into metadata. ``created_at`` increases strictly from message to message. All are checked before
        the first is written; where the backend can, all or none are written. ``embed="later"``: stored without vectors,
        which ``store.reembed()`` makes. Raises InvalidItem (``index`` names the message), BatchError, EmbeddingFailed.
        """
        if not isinstance(messages, Iterable):
            raise InvalidItem(f"messages must be an iterable of dicts, not {type(messages).__name__}", field="messages")
        if metadata is not None and not isinstance(metadata, dict):
            raise InvalidItem(f"metadata must be a dict, not {type(metadata).__name__}", field="metadata")
        start = max(self._opened._clock(), self._last_created + 1)
        items = [
            msgspec.structs.replace(
                from_message(message, index, metadata or {}),
                namespace=(namespace,) if isinstance(namespace, str) else namespace,
                user_id=user_id,
                agent_id=agent_id,
                session_id=session_id,
                created_at=from_micros(start) + timedelta(microseconds=index),
            )
            for index, message in enumerate(messages)
        ]
        self._last_created = start + len(items) - 1
        atomic = self._opened.capabilities.atomic_batches
        return await self._view().put_many(items, ttl=ttl, atomic=atomic, embed=embed)

    @overload
    async def history(
        self,
        user_id: str | None = None,
        session_id: str | None = None,
        limit: int = 20,
        *,
        agent_id: str | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        kind: str | None = "conversation",
        where: Where = None,
        cursor: str | None = None,
        as_messages: Literal[False] = False,
    ) -> ItemPage: ...

    @overload
    async def history(
        self,
        user_id: str | None = None,
        session_id: str | None = None,
        limit: int = 20,
        *,
        agent_id: str | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        kind: str | None = "conversation",
        where: Where = None,
        cursor: str | None = None,
        as_messages: Literal[True],
    ) -> list[dict[str, Any]]: ...

    async def history(
        self,
        user_id: str | None = None,
        session_id: str | None = None,
        limit: int = 20,
        *,
        agent_id: str | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        kind: str | None = "conversation",
        where: Where = None,
        cursor: str | None = None,
        as_messages: bool = False,
    ) -> ItemPage | list[dict[str, Any]]:
        """What was said, newest first: one page, and a cursor for what came before.

        ``kind=None``: memories of every kind. ``as_messages=True``: the page as messages for a chat interface, oldest
        first, as ``add_messages`` got them (see memory.manager.messages.to_messages). Raises InvalidItem,
        InvalidFilter, InvalidCursor.
        """
        filters = [one for one in (parse(None if kind is None else {"kind": kind}), parse(where)) if one is not None]
        page = await self._view(user_id, agent_id, session_id).list(
            conjoin(filters) if filters else None,
            namespace=namespace,
            under=under,
            order="-created_at",
            limit=limit,
            cursor=cursor,
        )
        return to_messages(page) if as_messages else page

    add_messages_sync = blocking(add_messages)

    @overload
    def history_sync(
        self,
        user_id: str | None = None,
        session_id: str | None = None,
        limit: int = 20,
        *,
        agent_id: str | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        kind: str | None = "conversation",
        where: Where = None,
        cursor: str | None = None,
        as_messages: Literal[False] = False,
    ) -> ItemPage: ...

    @overload
    def history_sync(
        self,
        user_id: str | None = None,
        session_id: str | None = None,
        limit: int = 20,
        *,
        agent_id: str | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        kind: str | None = "conversation",
        where: Where = None,
        cursor: str | None = None,
        as_messages: Literal[True],
    ) -> list[dict[str, Any]]: ...

    def history_sync(self, *args: Any, **keywords: Any) -> Any:
        """Synchronous twin of ``history``; written out for type checkers, as ``blocking`` keeps one of two signatures."""

    if not TYPE_CHECKING:
        history_sync = blocking(history)
