"""The names that callers of earlier managers use. They take our MemoryItem or a record of theirs; MemoryItem comes back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from memory.errors import AlreadyExists, Closed, InvalidItem, NotFound, VersionConflict
from memory.filters import parse
from memory.filters.tree import conjoin
from memory.manager.lifecycle import Lifecycle
from memory.manager.originals import changes_of, item_of, where_of
from memory.model import DEFAULT_NAMESPACE, MemoryItem, check_name
from memory.store import Health
from memory.sync import blocking

if TYPE_CHECKING:
    from memory.store import MemoryStore, View


class Seeds(Lifecycle):
    """What earlier managers offered, by their names. How their records become ours: memory.manager.originals."""

    async def initialize(self) -> Self:
        """The same as ``open``."""
        return await self.open()

    async def add_memory_item(self, item: Any) -> str:
        """Remember an item, or a record of an earlier manager, and return its id.

        An item of the same id and owner is replaced; an id that belongs to another user or agent raises AlreadyExists.
        Raises InvalidItem, EmbeddingMismatch.
        """
        return await self._remember(item_of(item))

    async def add_raw_agent_data(self, data: Any) -> str:
        """Remember what an agent produced (agent_id, data_type, content), and return its id.

        Raises InvalidItem, without an agent_id too; AlreadyExists.
        """
        item = item_of(data)
        check_name(item.agent_id, "agent_id")
        return await self._remember(item)

    async def get_memory_item(self, item_id: str, *, user_id: str | None = None) -> MemoryItem | None:
        """The live item under this id, or None; with ``user_id`` only if it is that user's."""
        return await self._view(user_id).get(item_id)

    async def update_memory_item(
        self, item: Any, updates: Mapping[str, Any] | None = None, *, user_id: str | None = None
    ) -> MemoryItem:
        """Change an item that is there, and return it.

        Either a whole item, which takes the place of the one under its id; or an id and ``updates``, fields by their
        names or ours: metadata and objects are merged (null removes a key), the rest is replaced. Raises NotFound,
        InvalidItem.
        """
        if updates is not None:
            if not isinstance(updates, Mapping):
                raise InvalidItem(f"updates must be a dict of fields, not {type(updates).__name__}", field="updates")
            return await self._view(user_id).update(item, **changes_of(updates))
        new = item_of(item)
        view = self._owner(new, user_id)
        while True:
            old = await view.get(new.id, namespace=_place(new))
            if old is None:
                raise NotFound(f"there is no item {new.id!r} to update", key=new.key)
            try:
                return await view.put(new, if_version=old.version)
            except VersionConflict:
                # Somebody changed it meanwhile; the whole item is meant to win, unless it is gone.
                continue

    async def delete_memory_item(self, item_id: str, *, user_id: str | None = None) -> bool:
        """Forget one item; with ``user_id`` only if it is that user's. False when there is none."""
        return await self._view(user_id).delete(item_id)

    async def search_memory(
        self,
        query: str,
        user_id: str | None = None,
        limit: int = 10,
        filters: Any = None,
        *,
        session_id: str | None = None,
    ) -> list[MemoryItem]:
        """The items that answer a query best, best first. ``filters``: fields by their names or ours, or a filter."""
        page = await self._view(user_id, None, session_id).search(query, where=where_of(filters), limit=limit)
        return [hit.item for hit in page]

    async def semantic_search(
        self, user_id: str, query_embedding: Any, persona_context: Any = None, top_k: int = 5
    ) -> list[MemoryItem]:
        """A user's items whose vectors are nearest to a vector, nearest first.

        ``persona_context``: a persona, or its name; then only what was said as that persona. Items come without their
        vectors, and those that have none are not found. ``top_k`` is at most 200. Raises InvalidItem, EmbeddingMismatch.
        """
        where = None if persona_context is None else where_of({"persona_active": persona_context})
        page = await self._view(check_name(user_id, "user_id")).search(
            vector=query_embedding, mode="vector", where=where, limit=top_k
        )
        return [hit.item for hit in page]

    async def get_conversation_history(
        self, user_id: str, session_id: str | None = None, limit: int = 20, filters: Any = None
    ) -> list[MemoryItem]:
        """A user's conversation, newest first: items of kind ``conversation``, unless ``filters`` names another.

        ``filters``: ``{field: value}`` by their names or ours (``persona_active`` by name, or a persona), or a filter.
        Raises InvalidItem, InvalidFilter.
        """
        where = where_of(filters)
        parts = [parse(where)]
        if not (isinstance(where, Mapping) and "kind" in where):
            parts.append(parse({"kind": "conversation"}))
        page = await self._view(check_name(user_id, "user_id"), None, session_id).list(
            conjoin([part for part in parts if part is not None]), order="-created_at", limit=limit
        )
        return page.items

    async def check_duplicate(self, item: Any) -> bool:
        """Whether the item's user already has a live item of equal text. An item without text is no duplicate.

        Reads the user's items, and somebody may write between this and an add: ``add(..., dedup="content")`` is one
        indexed write that decides both.
        """
        wanted = item_of(item)
        text = wanted.searchable
        if not text:
            return False
        same: dict[str, Any] = {"$or": [{"content": text}, {"text": text}]}
        if wanted.user_id is None:
            same["user_id"] = None
        return len(await self._view(wanted.user_id).list(same, limit=1)) > 0

    async def cleanup_expired_items(self) -> int:
        """Reclaim the space of expired items, which are invisible already; returns how many were removed."""
        return await self._opened.sweep()

    async def health_check(self) -> Health:
        """Whether the memory works: ``status`` is healthy, degraded or unhealthy, ``details`` are facts.

        Never raises for a sick engine; a memory that is not open is unhealthy.
        """
        try:
            return await self._opened.health()
        except Closed as error:
            store = self._built
            return Health(
                "unhealthy",
                "unknown" if store is None else store.name,
                "unknown" if store is None else store.durability,
                {"error": error.message},
            )

    async def save_all(self) -> None:
        """Write what is still waiting, which is counts of accesses only: a write that was acknowledged is saved."""
        store = self._opened._enter()
        if store._tracker is not None:
            await store._tracker.flush()

    async def _remember(self, item: MemoryItem) -> str:
        view = self._owner(item)
        while True:
            try:
                return (await view.add(item)).id
            except AlreadyExists:
                old = await view.get(item.id, namespace=_place(item))
                if old is None or (old.user_id, old.agent_id) != (item.user_id, item.agent_id):
                    raise
            try:
                return (await view.put(item, if_version=old.version)).id
            except VersionConflict:
                continue  # somebody changed it meanwhile: look again whose it is

    def _owner(self, item: MemoryItem, user_id: str | None = None) -> MemoryStore | View:
        """What the item's owner sees, so that an id of somebody else is never overwritten."""
        return self._view(item.user_id if user_id is None else user_id, item.agent_id)

    def initialize_sync(self) -> Self:
        """Synchronous twin of ``initialize``."""
        return self.open_sync()

    add_memory_item_sync = blocking(add_memory_item)
    add_raw_agent_data_sync = blocking(add_raw_agent_data)
    get_memory_item_sync = blocking(get_memory_item)
    update_memory_item_sync = blocking(update_memory_item)
    delete_memory_item_sync = blocking(delete_memory_item)
    semantic_search_sync = blocking(semantic_search)
    search_memory_sync = blocking(search_memory)
    get_conversation_history_sync = blocking(get_conversation_history)
    check_duplicate_sync = blocking(check_duplicate)
    cleanup_expired_items_sync = blocking(cleanup_expired_items)
    health_check_sync = blocking(health_check)
    save_all_sync = blocking(save_all)


def _place(item: MemoryItem) -> tuple[str, ...] | None:
    """The namespace in which a view looks for the item: its own, or the view's for one that names none."""
    return None if item.namespace == DEFAULT_NAMESPACE else item.namespace
