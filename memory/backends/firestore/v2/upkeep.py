"""Reclaiming what has expired, facts for health, and the check of every document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory.backends.firestore import queries, values
from memory.backends.firestore.connection import Write
from memory.backends.firestore.faults import CALL_ERRORS, translate
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.pacing import singly
from memory.backends.firestore.queries import Condition, Query
from memory.backends.firestore.v2 import paths
from memory.backends.firestore.v2.documents import DAY, Found, item_of, term_value
from memory.backends.firestore.v2.writing import Batch
from memory.codec import content_hash
from memory.errors import CorruptData, InvalidItem
from memory.keys import encode_key
from memory.ops import Problem, Remove, Status
from memory.store.settle import new_token

if TYPE_CHECKING:
    from memory.backends.firestore.v2.backend import FirestoreV2Store

STEP = 200


async def sweep(store: FirestoreV2Store, now: int) -> int:
    """Remove expired documents by version, and tombstones and locks older than a day."""
    removed = 0
    expired = Query(
        collection=store.names.items,
        conditions=(Condition(paths.EXPIRES, "<=", values.moment(now)),),
        orders=((paths.EXPIRES, False),),
        limit=STEP,
    )
    while found := await store._connected().query(expired, Meter()):
        ops: list[Remove] = []
        for one in found:
            try:
                ops.append(Remove(key=one.key, token=new_token(), now=now, expect=one.version, expired=True))
            except CorruptData:
                continue  # verify tells of it
        results = await Batch(store, ops).run({one.id: one for one in found})
        done = sum(result.status is Status.DONE for result in results)
        removed += done
        if not done:
            break
    for collection in (store.names.tombstones, store.names.locks):
        await _forget(store, collection, now - DAY)
    return removed


async def _forget(store: FirestoreV2Store, collection: str, before: int) -> None:
    connection = store._connected()
    old = Query(
        collection=collection,
        conditions=(Condition("at", "<=", values.integer(before)),),
        orders=(("at", False),),
        limit=STEP,
        fields=("at",),
    )
    while found := await connection.query(old, Meter()):
        # Of one that was written again meanwhile the new one stays.
        writes = []
        for one in found:
            write = Write(delete=connection.name(collection, one.id))
            stamp = write.current_document.update_time
            stamp.seconds, rest = divmod(one.version, 1_000_000)
            stamp.nanos = rest * 1_000
            writes.append(write)
        try:
            await connection.commit(writes)
        except CALL_ERRORS as error:
            raise translate(error, connection.place.address, store.timeout) from error
        if len(found) < STEP:
            return


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
