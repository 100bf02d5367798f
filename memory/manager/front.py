"""MemoryManager: the front door for applications."""

from __future__ import annotations

from memory.manager.conversations import Conversations
from memory.manager.finding import Finding
from memory.manager.seeds import Seeds
from memory.manager.singles import Singles


class MemoryManager(Singles, Finding, Conversations, Seeds):
    """A memory, opened from settings.

    ``backend_type``: a name, a URL, ``module:Class`` (see memory.registry), a subclass of MemoryStore, or a store
    ready-made; by default what MEMORY_BACKEND_TYPE says, else SQLite in ``./memory.db``. ``settings`` replaces the
    environment. ``namespace``: every call stays in it and what lies below; by default calls see everything and write to
    ``("default",)``. ``options`` are settings (``path=``, ``deadline=``...) or options of the backend
    (``clock=``, ``layers=``...), and win over both; keywords of earlier managers are understood, or refused with what
    replaces them (see memory.manager.keywords). A mistake raises InvalidSetting or BackendUnavailable: here, or on a
    running event loop, where reading files has to wait, from ``open``.

    >>> async with MemoryManager() as memory:                                       # doctest: +SKIP
    ...     await memory.add("Ana is allergic to nuts", user_id="ana")
    ...     page = await memory.search("what may Ana not eat? nuts?", user_id="ana")

    In every method ``user_id``, ``agent_id`` and ``session_id`` say whose memories are meant: what belongs to others is
    neither found nor changed. Each coroutine has a synchronous twin: ``add_sync``, ``search_sync``...; from
    synchronous code use ``with MemoryManager() as memory``. A manager belongs to one event loop. Not every operation is
    repeated here: ``memory.store`` is the whole store. The methods with longer names (``add_memory_item``,
    ``get_conversation_history``...) serve callers of earlier managers.
    """
