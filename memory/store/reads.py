"""Reading: get, list, stream, count, namespaces."""

from __future__ import annotations

import builtins  # a class here has a method called list
import sys
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

from memory.codec import decode
from memory.errors import InvalidItem
from memory.filters import parse, predicate
from memory.model import MemoryItem, check_namespace
from memory.ops import WHOLE, Count, Order, OrderField, Page, Position, Read, Row, Scan
from memory.store import cursors
from memory.store.bound import Bound, Namespace
from memory.store.slicing import decoded
from memory.store.types import ItemPage
from memory.sync import blocking, blocking_iterator

if TYPE_CHECKING:
    from memory.filters import Where
    from memory.store.base import MemoryStore

ORDERS: tuple[OrderField, ...] = ("key", "created_at", "updated_at", "accessed_at", "importance")
_ORDERS = {sign + name: Order(name, descending=bool(sign)) for name in ORDERS for sign in ("", "-")}
MAX_LIMIT = 1_000


def parse_order(order: object) -> Order:
    """``"created_at"``, or ``"-created_at"`` for newest first. Raises InvalidItem."""
    found = _ORDERS.get(order) if isinstance(order, str) else None
    if found is None:
        raise InvalidItem(
            f"order must be one of {', '.join(ORDERS)}, with - before it to descend; got {order!r}", field="order"
        )
    return found


def check_limit(limit: int, most: int = MAX_LIMIT) -> int:
    """A page size from 1 to ``most``. Raises InvalidItem."""
    if type(limit) is not int or not 1 <= limit <= most:
        raise InvalidItem(f"limit must be an int from 1 to {most}, not {limit!r}", field="limit")
    return limit


def position_of(item: MemoryItem, row: Row, order: Order) -> Position:
    """Where a row stands in an order."""
    value: Any = {
        "key": None,
        "created_at": row.created,
        "updated_at": row.updated,
        "accessed_at": row.accessed,
        "importance": item.importance,
    }[order.field]
    return Position(item.namespace, item.id, value)


class Reads(Bound):
    """The reading half of a store or view."""

    async def get(self, id: str, *, namespace: Namespace | None = None) -> MemoryItem | None:
        """The live item under this id, or None. ``namespace`` defaults to the view's, else ``("default",)``."""
        store = self._enter()
        key = self._key(id, namespace)
        if self._scope is not WHOLE and not self._scope.covers_namespace(key[0]):
            return None
        row = (await store._do_read(Read(keys=(key,), now=store._clock(), scope=self._scope)))[0]
        if row is None:
            return None
        if row.embedding is not None and "numpy" not in sys.modules:
            await store._vectors_ready()
        if store._tracker is not None:
            store._tracker.saw(key, self._scope)
        return decode(row)

    async def get_many(self, ids: Iterable[str], *, namespace: Namespace | None = None) -> list[MemoryItem | None]:
        """The live items under these ids, in order; None where there is none."""
        store = self._enter()
        keys = self._keys(ids, namespace)
        if not keys or not self._scope.covers_namespace(keys[0][0]):
            return [None] * len(keys)
        items: list[MemoryItem | None] = []
        for start in range(0, len(keys), MAX_LIMIT):
            part = keys[start : start + MAX_LIMIT]
            rows = await store._do_read(Read(keys=part, now=store._clock(), scope=self._scope))
            if any(row is not None and row.embedding is not None for row in rows):
                await store._vectors_ready()
            there = iter(await decoded([row for row in rows if row is not None]))
            items += [None if row is None else next(there) for row in rows]
        if store._tracker is not None:
            for key, item in zip(keys, items, strict=True):
                if item is not None:
                    store._tracker.saw(key, self._scope)
        return items

    async def exists(self, id: str, *, namespace: Namespace | None = None) -> bool:
        """Whether a live item has this id."""
        store = self._enter()
        key = self._key(id, namespace)
        if not self._scope.covers_namespace(key[0]):
            return False
        return (await store._do_read(Read(keys=(key,), now=store._clock(), scope=self._scope)))[0] is not None

    async def list(
        self,
        where: Where = None,
        *,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        order: str = "key",
        limit: int = 100,
        cursor: str | None = None,
    ) -> ItemPage:
        """One page of live items that satisfy the filter, and a cursor for the next.

        ``order``: key, created_at, updated_at, accessed_at or importance, with ``-`` before it to descend; ties
        by key. Pages are always full but the last. By key and created_at each item comes exactly once whatever
        is written meanwhile; by the others that holds for items not written meanwhile.
        Raises InvalidFilter, InvalidCursor, InvalidItem (limit, order, names).
        """
        store = self._enter()
        filter, sort = parse(where), parse_order(order)
        check_limit(limit)
        scope = self._narrow(namespace, under)
        after = None
        if cursor is not None:
            asked = cursors.question("list", scope or self._scope, filter, (sort.field, sort.descending))
            after = cursors.check_place(store, scope or self._scope, sort, cursors.read(cursor, asked, Position))
        if scope is None:
            return ItemPage([])
        op = Scan(now=store._clock(), scope=scope, where=filter, order=sort, after=after, limit=limit + 1)
        pairs = await store._filled(op)
        more = len(pairs) > limit
        following = None
        if more:
            row, item = pairs[limit - 1]
            asked = cursors.question("list", scope, filter, (sort.field, sort.descending))
            following = cursors.write(asked, position_of(item, row, sort))
        return ItemPage([item for _, item in pairs[:limit]], following)

    async def stream(
        self,
        where: Where = None,
        *,
        namespace: Namespace | None = None,
        under: Namespace | None = None,
        batch_size: int = 100,
    ) -> AsyncIterator[builtins.list[MemoryItem]]:
        """All live items that satisfy the filter, in key order, in batches. Holds no lock between batches."""
        self._enter()
        filter = parse(where)
        check_limit(batch_size)
        scope = self._narrow(namespace, under)
        after: Position | None = None
        while scope is not None:
            store = self._enter()
            op = Scan(now=store._clock(), scope=scope, where=filter, after=after, limit=batch_size)
            pairs = await store._filled(op)
            if pairs:
                yield [item for _, item in pairs]
            if len(pairs) < batch_size:
                return
            after = Position(*pairs[-1][1].key)

    async def count(
        self, where: Where = None, *, namespace: Namespace | None = None, under: Namespace | None = None
    ) -> int:
        """How many live items satisfy the filter."""
        store = self._enter()
        filter = parse(where)
        scope = self._narrow(namespace, under)
        if scope is None:
            return 0
        total = await store._do_count(Count(now=store._clock(), scope=scope, where=filter))
        if total is not None:
            return int(total)
        return sum([len(batch) async for batch in self.stream(where, namespace=namespace, under=under, batch_size=500)])

    async def namespaces(self, *, under: Namespace | None = None) -> builtins.list[tuple[str, ...]]:
        """The namespaces that hold live items, in order."""
        store = self._enter()
        scope = self._narrow(None, check_namespace(under, "under", allow_root=True) if under is not None else None)
        if scope is None:
            return []
        found: builtins.list[tuple[str, ...]] = await store._do_namespaces(Count(now=store._clock(), scope=scope))
        return found

    get_sync = blocking(get)
    get_many_sync = blocking(get_many)
    exists_sync = blocking(exists)
    list_sync = blocking(list)
    stream_sync = blocking_iterator(stream)
    count_sync = blocking(count)
    namespaces_sync = blocking(namespaces)


async def filled(store: MemoryStore, op: Scan) -> list[tuple[Row, MemoryItem]]:
    """Rows with their items, ``op.limit`` of them if there are as many: pages on where the engine's answer is a superset."""
    accept = predicate(op.where) if op.where is not None else None
    found: list[tuple[Row, MemoryItem]] = []
    after, limit = op.after, op.limit
    while True:
        page: Page = await store._do_scan(_again(op, after, limit))
        if "numpy" not in sys.modules and any(row.embedding is not None for row in page.rows):
            await store._vectors_ready()
        test = None if page.exact else accept
        pairs = list(zip(page.rows, await decoded(page.rows), strict=True))
        found += pairs if test is None else [pair for pair in pairs if test(pair[1])]
        if not pairs or not page.more or len(found) >= op.limit:
            return found[: op.limit]
        row, item = pairs[-1]
        after = position_of(item, row, op.order)
        # A rare match is looked for in larger steps, so that few round trips are wasted.
        limit = min(MAX_LIMIT, limit * 2)


def _again(op: Scan, after: Position | None, limit: int) -> Scan:
    if after is op.after and limit == op.limit:
        return op
    return Scan(
        now=op.now, scope=op.scope, where=op.where, order=op.order, after=after, limit=limit, vectors=op.vectors
    )
