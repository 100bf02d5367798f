"""Facts for health, and the check of every document."""

from __future__ import annotations

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


async def verify(store: FirestoreV1Store) -> tuple[int, list[Problem]]:
    """Read every document, expired ones too: whether it is an item, and the only one of its name."""
    checked, problems = 0, []
    store.unreadable.clear()  # what has been mended since is not told any more
    store.hidden.clear()
    for collection in (ITEMS, AGENTS):
        after: tuple[Any, ...] = ()
        while True:
            query = Query(collection=collection, orders=((NAME, False),), after=after, limit=STEP)
            found = await store._connected().query(query, Meter())
            shown = await visible(store, found, Meter()) if collection == AGENTS else found
            shown_ids = {one.id for one in shown}
            async for one in singly(found):
                checked += 1
                if one.id not in shown_ids:
                    problems.append(Problem("agent data hidden by a memory item of the same name", one.key))
                elif (problem := _problem(store, one)) is not None:
                    problems.append(problem)
            if len(found) < STEP:
                break
            after = (values.Value(reference_value=store._connected().name(collection, found[-1].id)),)
    return checked, problems


def _problem(store: FirestoreV1Store, found: Found) -> Problem | None:
    try:
        item = item_of(found)
    except CorruptData as error:
        store._unreadable(found, error)
        return Problem("unreadable document", detail=f"{found.collection}/{found.id}: {error}")
    if item.key != found.key:
        return Problem("document under another key's name", found.key, item.id)
    if not found.changed and found.part("digest") != content_hash(item):
        return Problem("index fields differ from the item", found.key)
    return None
