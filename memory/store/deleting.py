"""Deleting: one item, many, or all that satisfy a filter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from memory.codec import decode
from memory.errors import InvalidFilter, VersionConflict
from memory.filters import parse, predicate
from memory.ops import WHOLE, Position, Read, Remove, Scan, Write
from memory.store.bound import Bound, Namespace
from memory.store.settle import BATCH, apply, apply_all, check_version, finish_batch, new_token
from memory.sync import blocking

if TYPE_CHECKING:
    from memory.filters import Where


class Deletes(Bound):
    """The deleting part of a store or view."""

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
            now = store._clock()
            op = Scan(now=now, scope=scope, where=filter, after=after, limit=BATCH, vectors=False, fresh=True)
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
                rows = await store._do_read(Read(keys=tuple(lost), now=now, scope=scope, fresh=True)) if lost else []
                fresh = [(row, decode(row)) for row in rows if row is not None]
                todo = [(item.key, row.version) for row, item in fresh if accept is None or accept(item)]
            if len(pairs) < BATCH:
                return deleted
            after = Position(*pairs[-1][1].key)

    delete_sync = blocking(delete)
    delete_many_sync = blocking(delete_many)
    delete_where_sync = blocking(delete_where)
