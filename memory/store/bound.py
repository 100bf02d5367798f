"""What every public operation starts from: a store, a scope that no argument widens, and who writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from memory.errors import InvalidItem
from memory.model import DEFAULT_NAMESPACE, Key, check_id, check_namespace
from memory.ops import Scope
from memory.sync import Home

if TYPE_CHECKING:
    from memory.store.base import MemoryStore

Namespace = tuple[str, ...] | str
_running_loop = asyncio.get_running_loop


class Bound:
    """A store seen through a scope. ``MemoryStore`` is bound to everything, a ``View`` to less."""

    _store: MemoryStore
    _scope: Scope
    _source: dict[str, Any]

    @property
    def _home(self) -> Home:
        return self._store._residence

    def _enter(self) -> MemoryStore:
        """The store, if it is open and this is its loop; else the typed error. Costs well under a microsecond."""
        store = self._store
        if store._loop is not _running_loop():
            store._refuse()
        return store

    def _key(self, id: str, namespace: Namespace | None) -> Key:
        if namespace is None:
            return (self._scope.path or DEFAULT_NAMESPACE, check_id(id))
        return (check_namespace(namespace), check_id(id))

    def _keys(self, ids: Iterable[str], namespace: Namespace | None) -> tuple[Key, ...]:
        if isinstance(ids, str | bytes) or not isinstance(ids, Iterable):
            raise InvalidItem(f"ids must be an iterable of str, not a {type(ids).__name__}", field="ids")
        return tuple(self._key(id, namespace) for id in ids)

    def _narrow(self, namespace: Namespace | None, under: Namespace | None) -> Scope | None:
        """This scope narrowed to a namespace or to everything under one; None when nothing can lie inside."""
        scope = self._scope
        if namespace is not None and under is not None:
            raise InvalidItem(
                "give namespace= (exact) or under= (it and everything below), not both", field="namespace"
            )
        if namespace is not None:
            path = check_namespace(namespace)
            if not scope.covers_namespace(path):
                return None
            return msgspec.structs.replace(scope, path=path, below=False)
        if under is not None:
            path = check_namespace(under, "under", allow_root=True)
            if scope.covers_namespace(path):
                return msgspec.structs.replace(scope, path=path, below=scope.below)
            # Asking for more than the view holds gives what the view holds.
            return scope if scope.path[: len(path)] == path else None
        return scope
