"""Facts for health, and the check of every document."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from memory.backends.firestore import values
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.pacing import singly
from memory.backends.firestore.queries import NAME, Condition, Query
from memory.backends.firestore.records import TIMESTAMP, item_of
from memory.backends.firestore.v1.documents import Found
from memory.backends.firestore.v1.natives import AGENTS, ITEMS
from memory.backends.firestore.v1.walking import visible
from memory.codec import content_hash
from memory.errors import CorruptData
from memory.ops import Problem

if TYPE_CHECKING:
    from memory.backends.firestore.v1.backend import FirestoreV1Store

STEP = 200
UNREADABLE = "unreadable document"
HIDDEN = "agent data hidden by a memory item of the same name"
FIRST_MOMENT = -62_135_596_800_000_000
"""The first microsecond of the year 1, where Firestore's timestamps begin."""


async def health(store: FirestoreV1Store) -> dict[str, Any]:
    """Plain facts."""
    connection, meter = store._connected(), Meter()
    counted: dict[str, int] = {}
    untimed = 0
    for collection in store.collections:
        counted[collection] = await connection.count(Query(collection=collection), meter)
        timed = Condition(TIMESTAMP, ">=", values.moment(FIRST_MOMENT))
        untimed += counted[collection] - await connection.count(
            Query(collection=collection, conditions=(timed,)), meter
        )
    return {
        "project": connection.place.project,
        "database": connection.place.database,
        "emulator": connection.place.emulator is not None,
        "documents": counted,
        "without_timestamp": untimed,
        "unreadable": len(store.unreadable),
        "hidden": len(store.hidden),
        "reads": connection.reads,
        "commits": connection.commits,
        "circuit": "open" if connection.breaker.is_open else "closed",
    }


async def unlisted(store: FirestoreV1Store) -> list[Problem]:
    """What is live and not shown: documents that are no items, agent data whose name a memory item has, and vectors of
    another size than the store's."""
    now, told = store._clock(), []
    async for one, hidden in _every(store):
        if not one.live(now):
            continue
        problem = Problem(HIDDEN, one.key) if hidden else _problem(store, one)
        if problem is None or problem.what not in (HIDDEN, UNREADABLE):
            problem = _odd_vector(store, one)
        if problem is not None:
            told.append(problem)
    return told


def _odd_vector(store: FirestoreV1Store, found: Found) -> Problem | None:
    vector, space = found.vector(), store._space
    if vector is None or space is None or len(vector) // 4 == space.dimension:
        return None
    return Problem(f"its vector has {len(vector) // 4} numbers, those of this store have {space.dimension}", found.key)


async def verify(store: FirestoreV1Store) -> tuple[int, list[Problem]]:
    """Read every document, expired ones too: whether it is an item, and the only one of its name."""
    checked, problems = 0, []
    store.unreadable.clear()  # what has been mended since is not told any more
    store.hidden.clear()
    async for one, hidden in _every(store):
        checked += 1
        problem = Problem(HIDDEN, one.key) if hidden else _problem(store, one)
        if problem is not None:
            problems.append(problem)
    return checked, problems


async def _every(store: FirestoreV1Store) -> AsyncIterator[tuple[Found, bool]]:
    """Each document, and whether another one of its name hides it."""
    for collection in (ITEMS, AGENTS):
        after: tuple[Any, ...] = ()
        while True:
            query = Query(collection=collection, orders=((NAME, False),), after=after, limit=STEP)
            found = await store._connected().query(query, Meter())
            shown = await visible(store, found, Meter()) if collection == AGENTS else found
            shown_ids = {one.id for one in shown}
            async for one in singly(found):
                yield one, one.id not in shown_ids
            if len(found) < STEP:
                break
            after = (values.Value(reference_value=store._connected().name(collection, found[-1].id)),)


def _problem(store: FirestoreV1Store, found: Found) -> Problem | None:
    try:
        item = item_of(found)
    except CorruptData as error:
        store._unreadable(found, error)
        return Problem(UNREADABLE, found.key, f"{found.collection}/{found.id}: {error}")
    if item.key != found.key:
        return Problem("document under another key's name", found.key, item.id)
    if not found.changed and found.part("digest") != content_hash(item):
        return Problem("index fields differ from the item", found.key)
    return None
