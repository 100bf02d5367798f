"""Pages, counts, namespaces and neighbours: each query in the order of an index, paged by cursor, never by offset."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from memory.backends.firestore import values
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.queries import Condition, Query
from memory.backends.firestore.records import covers, row_of
from memory.backends.firestore.v2 import paths
from memory.backends.firestore.v2.documents import Found
from memory.backends.firestore.v2.filtering import narrow
from memory.codec import decode
from memory.errors import CorruptData
from memory.filters import predicate
from memory.keys import encode_key, key_range
from memory.model import path_bytes
from memory.ops import Count, Order, Page, Position, Read, Row, Scan, Scope

if TYPE_CHECKING:
    from memory.backends.firestore.v2.backend import FirestoreV2Store

PAGE = 300
"""Documents that one query reads at most."""


def row(store: FirestoreV2Store, found: Found, *, vectors: bool = True) -> Row:
    """The row of a document in this store."""
    space = store._space
    embedder, dimension = (None, None) if space is None else (space.embedder, space.dimension)
    return row_of(found, embedder, dimension, vectors=vectors)


async def read(store: FirestoreV2Store, op: Read, meter: Meter) -> list[Row | None]:
    """Point reads: one document each."""
    names = [store.document_id(key) for key in op.keys]
    pairs = zip(names, op.keys, strict=True)
    wanted = {name: key for name, key in pairs if op.scope.covers_namespace(key[0])}
    found = await store._connected().get(store.names.items, list(wanted), meter) if wanted else {}
    rows: list[Row | None] = []
    async for part in store._slices(list(zip(names, op.keys, strict=True))):
        for name, key in part:
            one = found.get(name)
            if one is None or not one.live(op.now) or one.key != key or not covers(op.scope, one):
                rows.append(None)
            else:
                rows.append(row(store, one))
    return rows


async def scan(store: FirestoreV2Store, op: Scan, meter: Meter) -> Page:
    """One page of live rows in order."""
    by_key = op.order.field == "key"
    narrowed = narrow(op.scope, op.where, by_key=by_key)
    if narrowed.empty:
        return Page([], exact=True, more=False)
    rows: list[Row] = []
    found = live(
        store,
        Query(
            collection=store.names.items,
            conditions=narrowed.conditions,
            orders=orders(op.order),
            after=cursor(op.order, op.after),
        ),
        op.now,
        op.limit,
        meter,
    )
    async for documents in found:
        async for part in store._slices(documents):
            rows += [row(store, one, vectors=op.vectors) for one in part]
        if len(rows) >= op.limit:
            return Page(rows, narrowed.exact, more=True)
    return Page(rows, narrowed.exact, more=False)


async def live(store: FirestoreV2Store, query: Query, now: int, limit: int, meter: Meter) -> AsyncIterator[list[Found]]:
    """The first ``limit`` documents of an ordered query that have not expired, as they come."""
    after, inclusive = query.after, query.inclusive
    while limit > 0:
        size = min(limit, PAGE)
        asked = Query(
            collection=query.collection,
            conditions=query.conditions,
            orders=query.orders,
            after=after,
            inclusive=inclusive,
            limit=size,
            fields=query.fields,
        )
        found = await store._connected().query(asked, meter)
        alive = [one for one in found if one.live(now)]
        limit -= len(alive)
        yield alive
        if len(found) < size:
            return
        after, inclusive = tuple(value_at(found[-1], path) for path, _ in query.orders), False


def orders(order: Order) -> tuple[tuple[str, bool], ...]:
    """The fields of an order; ties by key, ascending."""
    if order.field == "key":
        return ((paths.KEY, order.descending),)
    return ((paths.ORDERS[order.field], order.descending), (paths.KEY, False))


def cursor(order: Order, after: Position | None) -> tuple[Any, ...]:
    """The values of a position's fields in an order."""
    if after is None:
        return ()
    key = values.blob(encode_key((after.namespace, after.id)))
    if order.field == "key":
        return (key,)
    value = after.value or 0
    if order.field == "created_at":
        return (values.moment(int(value)), key)
    return (values.number(float(value)) if order.field == "importance" else values.integer(int(value)), key)


def value_at(found: Found, path: str) -> Any:
    """The value of a field of a document. Raises CorruptData when it is not there: an index said that it was."""
    fields = found.fields
    first, _, second = path.partition(".")
    if second and first in fields:
        fields, first = fields[first].map_value.fields, second
    if first not in fields:
        raise CorruptData(f"the document {found.id!r} has no {path}. Run 'memory verify'", document=found.id)
    return fields[first]


async def count(store: FirestoreV2Store, op: Count, meter: Meter) -> int:
    """How many: counted by Firestore where it can tell, else by reading them."""
    narrowed = narrow(op.scope, op.where, by_key=False)
    if narrowed.empty:
        return 0
    if narrowed.exact:
        connection = store._connected()
        expired = Condition(paths.EXPIRES, "<=", values.moment(op.now))
        every = Query(collection=store.names.items, conditions=_with_key(narrowed.conditions))
        gone = Query(collection=store.names.items, conditions=(*_with_key(narrowed.conditions), expired))
        return max(0, await connection.count(every, meter) - await connection.count(gone, meter))
    accept = predicate(op.where)
    total = 0
    found = scan_all(store, op.scope, op, meter)
    async for rows in found:
        async for part in store._slices(rows):
            total += sum(accept(decode(one, vector=False)) for one in part)
    return total


def _with_key(conditions: tuple[Condition, ...]) -> tuple[Condition, ...]:
    """The conditions, so that only items are counted: what V2 programs wrote and nobody adopted has no key yet."""
    if any(one.path == paths.KEY for one in conditions):
        return conditions
    return (*conditions, Condition(paths.KEY, ">=", values.blob(b"")))


async def scan_all(store: FirestoreV2Store, scope: Scope, op: Count, meter: Meter) -> AsyncIterator[list[Row]]:
    """All live rows in scope that may satisfy the filter, by key, without vectors."""
    after: Position | None = None
    while True:
        page = await scan(
            store,
            Scan(now=op.now, scope=scope, where=op.where, after=after, limit=PAGE, vectors=False),
            meter,
        )
        yield page.rows
        if not page.more:
            return
        after = Position(*decode(page.rows[-1], vector=False).key)


async def namespaces(store: FirestoreV2Store, op: Count, meter: Meter) -> list[tuple[str, ...]]:
    """Namespaces with live rows in scope: from each the first live row, then a step behind all its keys."""
    narrowed = narrow(op.scope, op.where, by_key=True)
    if narrowed.empty:
        return []
    bounds = key_range(op.scope)
    end = None if bounds is None else bounds[1]
    kept = tuple(one for one in narrowed.conditions if one.path != paths.KEY)
    after = b"" if bounds is None else bounds[0]
    found: list[tuple[str, ...]] = []
    while True:
        conditions = [*kept, Condition(paths.KEY, ">=", values.blob(after))]
        if end is not None:
            conditions.append(Condition(paths.KEY, "<", values.blob(end)))
        query = Query(
            collection=store.names.items,
            conditions=tuple(conditions),
            orders=((paths.KEY, False),),
            fields=(paths.KEY, paths.EXPIRES),
        )
        first: Found | None = None
        async for documents in live(store, query, op.now, 1, meter):
            first = documents[0] if documents else first
        if first is None:
            return found
        namespace = first.key[0]
        found.append(namespace)
        after = path_bytes(namespace) + b"\0\0\xff"  # no id begins with this byte: it is not UTF-8
