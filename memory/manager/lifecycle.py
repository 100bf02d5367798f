"""From settings to an open store: the part of the manager that every other part stands on."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Self

from memory.errors import Closed, InvalidItem, InvalidSetting
from memory.manager.keywords import REFUSED, check_cache_ttl, translated
from memory.model import check_namespace
from memory.store import MemoryStore
from memory.sync import TO_OPEN, Home, Opens, blocking
from memory.telemetry import configure

if TYPE_CHECKING:
    from memory.settings import Settings
    from memory.store import View
    from memory.store.bound import Namespace


class Lifecycle(Opens):
    """Makes, opens and closes the store, and keeps what calls are narrowed to."""

    def __init__(
        self,
        backend_type: str | type[MemoryStore] | MemoryStore | None = None,
        *,
        settings: Settings | None = None,
        namespace: Namespace | None = None,
        **options: Any,
    ) -> None:
        self._cache_ttl: float | None = options.get("cache_ttl")
        backend_type, options = translated(backend_type, options)
        try:
            self._namespace = None if namespace is None else check_namespace(namespace)
        except InvalidItem as error:
            raise InvalidSetting(error.message, setting="namespace") from None
        self._last_created = 0
        self._settings: Settings | None = settings
        self._built: MemoryStore | None = None
        self._building = threading.Lock()
        self._wanted = (backend_type, options)
        if isinstance(backend_type, MemoryStore):
            if settings is not None or options:
                raise InvalidSetting("a store that is ready-made takes no settings; give them when making the store")
            check_cache_ttl(backend_type, self._cache_ttl)
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
                from memory.manager.choosing import store_of

                backend_type, options = self._wanted
                assert not isinstance(backend_type, MemoryStore)
                settings, store = store_of(backend_type, self._settings, options, REFUSED)
                check_cache_ttl(store, self._cache_ttl)
                self._settings, self._built = settings, store
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
            raise Closed(f"this memory is not open yet: use {TO_OPEN.format('memory')}")
        return self._built

    @property
    def _home(self) -> Home:
        return self.store._residence

    def _view(
        self, user_id: str | None = None, agent_id: str | None = None, session_id: str | None = None
    ) -> MemoryStore | View:
        """The store seen through the manager's namespace and an owner."""
        if user_id is None and agent_id is None and session_id is None and self._namespace is None:
            return self._opened
        return self._opened.scoped(under=self._namespace, user_id=user_id, agent_id=agent_id, session_id=session_id)

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

    close_sync = blocking(close)
