"""Views: the same operations, seen through a narrower scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from memory.errors import InvalidItem, MemoryStoreError, UnsupportedOperation
from memory.model import check_name, check_source
from memory.ops import Scope
from memory.store.bound import Namespace
from memory.store.reads import Reads
from memory.store.searching import Searches
from memory.store.transfer import Transfers
from memory.store.types import Health
from memory.store.watching import Watches
from memory.sync import blocking

if TYPE_CHECKING:
    from memory.store.base import MemoryStore


class Operations(Reads, Transfers, Searches, Watches):
    """Everything that works the same on a store and on a view of it."""

    def scoped(
        self,
        namespace: Namespace | None = None,
        *,
        under: Namespace | None = None,
        user_id: str | None = None,
        agent_id: str | None = None,
        session_id: str | None = None,
        source: dict[str, Any] | None = None,
    ) -> View:
        """A view pinned to a namespace (or everything under one), a user, an agent, a session.

        No argument of the view's operations widens it; what lies outside is absent. Items written through it get
        what it pins, and ``source`` (who writes and how far it is trusted). A view of a view is narrower still;
        raises InvalidItem when it would contradict the wider one.
        """
        scope = self._narrow(namespace, under)
        if scope is None:
            raise InvalidItem(f"the view's namespace lies outside {self._scope.path!r}", field="namespace")
        pins = {"user_id": user_id, "agent_id": agent_id, "session_id": session_id}
        for field, value in pins.items():
            pinned = getattr(scope, field)
            if value is None:
                continue
            if pinned is not None and pinned != value:
                raise InvalidItem(f"{field} is already pinned to another value by this view", field=field)
            scope = msgspec.structs.replace(scope, **{field: check_name(value, field)})
        return View(self._store, scope, self._source if source is None else check_source(source))

    async def health(self) -> Health:
        """Whether the engine answers: healthy, degraded or unhealthy, with facts. Never raises for a sick engine."""
        store = self._enter()
        try:
            details = await store._health()
        except MemoryStoreError as error:
            # Which server it was, and why, is not for those who see a part of the store.
            return Health("unhealthy", store.name, store.durability, {"error": str(error)} if self is store else {})
        details["embedder"] = None if store._space is None else store._space.embedder
        status: Literal["healthy", "degraded"] = "degraded" if details.get("warnings") else "healthy"
        return Health(status, store.name, store.durability, details if self is store else {})

    health_sync = blocking(health)


def _refused(name: str) -> Any:
    async def refuse(self: View, *args: Any, **kwargs: Any) -> Any:
        raise UnsupportedOperation(f"{name} concerns the whole store; call it on the store, not on a view")

    refuse.__name__ = name
    refuse.__doc__ = "Refused on a view: raises UnsupportedOperation."
    return refuse


class View(Operations):
    """A store seen through a scope; made by ``scoped``. Shares the store's connections, loop and lifetime."""

    def __init__(self, store: MemoryStore, scope: Scope, source: dict[str, Any]) -> None:
        self._store = store
        self._scope = scope
        self._source = source

    stats, verify, repair, sweep, backup, restore, reembed = map(
        _refused, ("stats", "verify", "repair", "sweep", "backup", "restore", "reembed")
    )

    stats_sync: Any = blocking(stats)
    verify_sync: Any = blocking(verify)
    repair_sync: Any = blocking(repair)
    sweep_sync: Any = blocking(sweep)
    backup_sync: Any = blocking(backup)
    restore_sync: Any = blocking(restore)
    reembed_sync: Any = blocking(reembed)

    def __repr__(self) -> str:
        return f"<View of {self._store.name}: {self._scope}>"
