"""MemoryManager: the front door for applications. Opens the store the settings name, and says the common things briefly."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Self

import msgspec
from msgspec import UNSET, UnsetType

from memory.clock import from_micros
from memory.errors import Closed, InvalidItem, InvalidSetting
from memory.filters import parse
from memory.filters.tree import conjoin
from memory.manager.messages import from_message
from memory.model import DEFAULT_NAMESPACE, MemoryItem
from memory.store import ItemPage, MemoryStore, SearchPage
from memory.sync import Home, blocking
from memory.telemetry import configure

if TYPE_CHECKING:
    from datetime import datetime

    from memory.filters import Where
    from memory.settings import Settings
    from memory.store import View
    from memory.store.bound import Namespace


class MemoryManager:
    """A memory, opened from settings.

    ``backend_type``: a name, a URL, ``module:Class`` (see memory.registry), a subclass of MemoryStore, or a store
    ready-made; by default what MEMORY_BACKEND_TYPE says, else SQLite in ``./memory.db``. ``settings`` replaces the
    environment. ``options`` are settings (``path=``, ``deadline=``...) or options of the backend
    (``clock=``, ``layers=``...), and win over both. A mistake raises InvalidSetting or BackendUnavailable: here, or on a
    running event loop, where reading files has to wait, from ``open``.

    >>> async with MemoryManager() as memory:                                       # doctest: +SKIP
    ...     await memory.add("Ana is allergic to nuts", user_id="ana")
    ...     page = await memory.search("what may Ana not eat? nuts?", user_id="ana")

    In every method ``user_id``, ``agent_id`` and ``session_id`` say whose memories are meant: what belongs to others is
    neither found nor changed. Each coroutine has a synchronous twin: ``add_sync``, ``search_sync``...; from
    synchronous code use ``with MemoryManager() as memory``. A manager belongs to one event loop. Not every operation is
    repeated here: ``memory.store`` is the whole store.
    """

    def __init__(
        self,
        backend_type: str | type[MemoryStore] | MemoryStore | None = None,
        *,
        settings: Settings | None = None,
        **options: Any,
    ) -> None:
        self._last_created = 0
        self._settings: Settings | None = settings
        self._built: MemoryStore | None = None
        self._building = threading.Lock()
        self._wanted = (backend_type, options)
        if isinstance(backend_type, MemoryStore):
            if settings is not None or options:
                raise InvalidSetting("a store that is ready-made takes no settings; give them when making the store")
            self._built = backend_type
            return
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._build()
        # On a running loop ``open`` does it in a thread: it reads files and imports the settings' library.

    def _build(self) -> MemoryStore:
        """The store, made at the first call. Raises InvalidSetting, BackendUnavailable."""
        with self._building:
            if self._built is None:
                from memory.settings import store_of

                backend_type, options = self._wanted
                assert not isinstance(backend_type, MemoryStore)
                self._settings, self._built = store_of(backend_type, self._settings, options)
            return self._built

    @property
    def store(self) -> MemoryStore:
        """The whole store: put, list, stream, count, scoped views, verify, backup and everything else."""
        return self._built or self._build()

    @property
    def settings(self) -> Settings | None:
        """The settings in force; None for a store that was given ready-made."""
        if self._built is None:
            self._build()
        return self._settings

    @property
    def _opened(self) -> MemoryStore:
        """The store, if it was made; whether it is open it knows itself."""
        if self._built is None:
            raise Closed("this memory is not open yet: use 'async with', or await memory.open()")
        return self._built

    @property
    def _home(self) -> Home:
        return self.store._residence

    def __repr__(self) -> str:
        return f"<MemoryManager of {self.store.name}>"

    async def open(self) -> Self:
        """Open the store on the running loop. Raises InvalidSetting, BackendUnavailable, CorruptData, WrongLoop."""
        if self._built is None:
            await asyncio.to_thread(self._build)
        if self._settings is not None and self._settings.log_format is not None:
            await asyncio.to_thread(configure, self._settings.log_format, self._settings.log_level)
        await self.store.open()
        return self

    async def close(self) -> None:
        """Finish what was accepted and release everything; again is harmless."""
        if self._built is not None:
            await self._built.close()

    def open_sync(self) -> Self:
        """Synchronous twin of ``open``: a private thread owns the loop until ``close_sync``."""
        return self._home.run(self.open, "open_sync")

    async def __aenter__(self) -> Self:
        return await self.open()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    def __enter__(self) -> Self:
        self.open_sync()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close_sync()

    # --- single memories -----------------------------------------------------------------------

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
    ) -> MemoryItem:
        """Remember something new and return it as stored, with its id.

        ``what``: a text, a JSON object or list, or a MemoryItem; the keywords set its other fields, and replace those
        of an item. ``ttl``: seconds until it is forgotten. ``dedup="content"``: a live memory of the same namespace,
        owner and kind with equal content is returned instead. Raises InvalidItem, AlreadyExists (the id is taken).
        """
        fields = {
            "id": id,
            "namespace": (namespace,) if isinstance(namespace, str) else namespace,
            "kind": kind,
            "text": text,
            "metadata": metadata,
            "tags": tags if isinstance(tags, str | UnsetType) else tuple(tags),
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
        return await self._opened.add(item, ttl=ttl, dedup=dedup)

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
    ) -> MemoryItem:
        """Change some fields of a memory and return it.

        ``content`` (an object) and ``metadata`` are merged, null removing a key (RFC 7396); the others are
        replaced. ``user_id``, ``agent_id`` and ``session_id`` say whose it must be. Raises NotFound, InvalidItem,
        VersionConflict (only with ``if_version``).
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

    # --- finding -------------------------------------------------------------------------------

    async def search(
        self,
        query: str,
        *,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        where: Where = None,
        mode: Literal["auto", "text"] = "auto",
        limit: int = 10,
        cursor: str | None = None,
        min_score: float | None = None,
        min_text: float | None = None,
        neighbours: int = 0,
        explain: bool = False,
    ) -> SearchPage:
        """The memories that answer a query best, best first: see ``MemoryStore.search``.

        Without a scope the whole store is searched. Raises InvalidItem, InvalidFilter, InvalidCursor.
        """
        return await self._view(user_id, agent_id, session_id).search(
            query,
            where=where,
            namespace=namespace,
            under=under,
            mode=mode,
            limit=limit,
            cursor=cursor,
            min_score=min_score,
            min_text=min_text,
            neighbours=neighbours,
            explain=explain,
        )

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
    ) -> ItemPage:
        """What was said, newest first: one page, and a cursor for what came before.

        ``kind=None``: memories of every kind. Raises InvalidItem, InvalidFilter, InvalidCursor.
        """
        filters = [one for one in (parse(None if kind is None else {"kind": kind}), parse(where)) if one is not None]
        return await self._view(user_id, agent_id, session_id).list(
            conjoin(filters) if filters else None,
            namespace=namespace,
            under=under,
            order="-created_at",
            limit=limit,
            cursor=cursor,
        )

    # --- conversations -------------------------------------------------------------------------

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
    ) -> list[MemoryItem]:
        """Remember the messages of a conversation, in order, each as an item of kind ``conversation``.

        A message is ``{"role": ..., "content": ...}``; the content is a text, or a list of parts as chat interfaces
        have them (the text parts are what is searched). The role, and whatever else a message holds (name, tool
        calls), goes into metadata. ``created_at`` increases strictly from message to message. All are checked before
        the first is written; where the backend can, all or none are written. Raises InvalidItem (``index`` names the
        message), BatchError.
        """
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
        return await self._opened.put_many(items, ttl=ttl, atomic=self._opened.capabilities.atomic_batches)

    close_sync = blocking(close)
    add_sync = blocking(add)
    get_sync = blocking(get)
    update_sync = blocking(update)
    delete_sync = blocking(delete)
    search_sync = blocking(search)
    history_sync = blocking(history)
    add_messages_sync = blocking(add_messages)

    def _view(self, user_id: str | None, agent_id: str | None, session_id: str | None) -> MemoryStore | View:
        if user_id is None and agent_id is None and session_id is None:
            return self._opened
        return self._opened.scoped(user_id=user_id, agent_id=agent_id, session_id=session_id)
