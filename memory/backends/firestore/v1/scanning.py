"""Point reads, pages and counts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from heapq import nlargest, nsmallest
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from memory.backends.firestore.meter import Meter
from memory.backends.firestore.pacing import singly
from memory.backends.firestore.records import row_of
from memory.backends.firestore.v1.documents import Found
from memory.backends.firestore.v1.narrowing import narrow
from memory.backends.firestore.v1.natives import AGENTS, ITEMS
from memory.backends.firestore.v1.walking import By, Walk
from memory.codec import decode
from memory.errors import CorruptData
from memory.filters import predicate
from memory.model import DEFAULT_NAMESPACE, MemoryItem
from memory.ops import Count, Order, Page, Read, Row, Scan, Scope

if TYPE_CHECKING:
    from memory.backends.firestore.v1.backend import FirestoreV1Store

_WALKS: dict[Order, By] = {
    Order("key"): "name",
    Order("created_at"): "oldest",
    Order("created_at", descending=True): "newest",
}
Ranked = tuple[tuple[Any, ...], Row]


def row(store: FirestoreV1Store, found: Found, *, vectors: bool = True) -> Row:
    """The row of a document in this store. Raises CorruptData."""
    if store._space is None and vectors:
        store._derive_space((found,))
    space = store._space
    embedder, dimension = (None, None) if space is None else (space.embedder, space.dimension)
    return row_of(found, embedder, dimension, vectors=vectors)


async def fetch(store: FirestoreV1Store, names: list[str], meter: Meter) -> dict[str, Found | None]:
    """What is there under each of these names; a document of ``memory_items`` hides one of ``agent_data``."""
    places = [(collection, name) for name in names for collection in (ITEMS, AGENTS)]
    read = await store._connected().get_across(places, meter)
    found: dict[str, Found | None] = {}
    for name in names:
        one, other = read.get((ITEMS, name)), read.get((AGENTS, name))
        if one is not None and other is not None:
            one.rival = other
            store._clashes((name,))
        found[name] = one or other
    return found


async def read(store: FirestoreV1Store, op: Read, meter: Meter) -> list[Row | None]:
    """Point reads: a look into both collections each."""
    names = [id for namespace, id in op.keys if namespace == DEFAULT_NAMESPACE and store.can_hold(id)]
    wanted = list(dict.fromkeys(names)) if op.scope.covers_namespace(DEFAULT_NAMESPACE) else []
    found = await fetch(store, wanted, meter) if wanted else {}
    rows: list[Row | None] = []
    async for namespace, id in singly(op.keys):
        one = found.get(id) if namespace == DEFAULT_NAMESPACE else None
        shown = one is not None and one.live(op.now) and op.scope.covers_owner(*one.owner)
        rows.append(row(store, one) if one is not None and shown else None)
    return rows


async def scan(store: FirestoreV1Store, op: Scan, meter: Meter) -> Page:
    """One page of live rows in order: as far as it reaches where Firestore has the order, else the best of all in scope."""
    asked = narrow(op.scope, op.where)
    by = _WALKS.get(op.order)
    if by is None or (by != "name" and any(asked.values())):
        return await _best(store, op, meter)
    rows: list[Row] = []
    walk = Walk(store, asked, meter, by=by, after=op.after, size=op.limit)
    while documents := await walk.next():
        rows += [made async for made, _ in readable(store, documents, op.scope, op.now, vectors=op.vectors)]
        if len(rows) >= op.limit:
            return Page(rows[: op.limit], exact=op.where is None, more=True)
    return Page(rows, exact=op.where is None, more=False)


async def _best(store: FirestoreV1Store, op: Scan, meter: Meter) -> Page:
    accept = None if op.where is None else predicate(op.where)
    rank = _rank(op.order)
    after = None if op.after is None else _rank_of(op.order, op.after.value, op.after.id)
    by_key = op.order.field == "key"  # descending: the others are walked
    best: list[Ranked] = []
    walk = Walk(store, narrow(op.scope, op.where), meter)
    while documents := await walk.next():
        fresh: list[Ranked] = []
        async for made, item in readable(store, documents, op.scope, op.now, vectors=op.vectors):
            place = rank(made, item)
            behind = after is None or (place < after if by_key else place > after)
            if behind and (accept is None or accept(item)):
                fresh.append((place, made))
        choose = nlargest if by_key else nsmallest
        best = choose(op.limit + 1, chain(best, fresh), key=itemgetter(0))
    return Page([made for _, made in best[: op.limit]], exact=True, more=len(best) > op.limit)


def _rank(order: Order) -> Callable[[Row, MemoryItem], tuple[Any, ...]]:
    def rank(made: Row, item: MemoryItem) -> tuple[Any, ...]:
        value = {
            "key": None,
            "created_at": made.created,
            "updated_at": made.updated,
            "accessed_at": made.accessed,
            "importance": item.importance,
        }[order.field]
        return _rank_of(order, value, item.id)

    return rank


def _rank_of(order: Order, value: float | None, id: str) -> tuple[Any, ...]:
    if order.field == "key":
        return (id.encode(),)
    return (-(value or 0) if order.descending else value or 0, id.encode())


async def readable(
    store: FirestoreV1Store, documents: list[Found], scope: Scope, now: int, *, vectors: bool
) -> AsyncIterator[tuple[Row, MemoryItem]]:
    """The live items in scope with their rows. What is no item is told once, and left out."""
    async for one in singly(documents):
        if not one.live(now) or not scope.covers_owner(*one.owner):
            continue
        try:
            held = row(store, one, vectors=vectors)
            item = decode(held, vector=False)
        except CorruptData as error:
            store._unreadable(one, error)
        else:
            yield held, item


async def count(store: FirestoreV1Store, op: Count, meter: Meter) -> int:
    """How many, by reading them: Firestore's own counting cannot leave out what has expired and what is hidden."""
    accept = None if op.where is None else predicate(op.where)
    total = 0
    walk = Walk(store, narrow(op.scope, op.where), meter)
    while documents := await walk.next():
        async for _, item in readable(store, documents, op.scope, op.now, vectors=False):
            total += accept is None or accept(item)
    return total


async def find_space(store: FirestoreV1Store, meter: Meter) -> None:
    """Look for the first vector of V1 programs, where nothing has told of how many numbers they are."""
    walk = Walk(store, narrow(Scope(), None), meter)
    while documents := await walk.next():
        store._derive_space(documents)
        if store._space is not None or store.embedder is not None:
            return
