"""Facts for health, and the check of every document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory.backends.firestore import queries, values
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.pacing import singly
from memory.backends.firestore.queries import Query
from memory.backends.firestore.records import item_of
from memory.backends.firestore.v2.documents import Found, term_value
from memory.codec import content_hash
from memory.errors import CorruptData, InvalidItem
from memory.keys import encode_key
from memory.ops import Problem

if TYPE_CHECKING:
    from memory.backends.firestore.v2.backend import FirestoreV2Store

STEP = 200


async def health(store: FirestoreV2Store) -> dict[str, Any]:
    """Plain facts."""
    connection = store._connected()
    documents = await connection.count(Query(collection=store.names.items), Meter())
    return {
        "project": connection.place.project,
        "database": connection.place.database,
        "emulator": connection.place.emulator is not None,
        "collection": store.names.items,
        "documents": documents,
        "unreadable": store._adopter.unreadable,
        "reads": connection.reads,
        "commits": connection.commits,
        "circuit": "open" if connection.breaker.is_open else "closed",
    }


async def verify(store: FirestoreV2Store) -> tuple[int, list[Problem]]:
    """Read every document, expired ones too: whether it is an item, under its own name, its indexes in step."""
    checked, problems = 0, []
    after: tuple[Any, ...] = ()
    while True:
        query = Query(collection=store.names.items, orders=((queries.NAME, False),), after=after, limit=STEP)
        found = await store._connected().query(query, Meter())
        async for one in singly(found):
            checked += 1
            problem = await _problem(store, one)
            if problem is not None:
                problems.append(problem)
        if len(found) < STEP:
            return checked, problems
        name = values.Value(reference_value=store._connected().name(store.names.items, found[-1].id))
        after = (name,)


async def _problem(store: FirestoreV2Store, found: Found) -> Problem | None:
    try:
        key = found.key
        item = item_of(found)
    except (CorruptData, InvalidItem) as error:
        return Problem("unreadable document", detail=f"{found.id}: {error}")
    if found.ours is None:
        return Problem("document of another program, not found by searches yet", key, "repair adopts it")
    if item.key != key or store.document_id(key) != found.id:
        return Problem("document under another key's name", key, found.id)
    if found.changed:
        return Problem(
            "changed by another program, searches may not know yet", key, "repair brings its indexes in step"
        )
    counts, length = await store._counts(item.searchable)
    held = found.terms()
    if held is not None and held != ({term_value(term): n for term, n in counts.items()}, length):
        return Problem("terms differ from the text", key)
    if found.part("digest") != content_hash(item) or found.part("key") != encode_key(item.key):
        return Problem("index fields differ from the item", key)
    return None
