"""Reclaiming what has expired, and what was kept for a day only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory.backends.firestore import values
from memory.backends.firestore.connection import Write, expecting
from memory.backends.firestore.faults import CALL_ERRORS, translate
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.queries import Condition, Query
from memory.backends.firestore.records import DAY, EXPIRATION
from memory.backends.firestore.writing import Batch
from memory.errors import CorruptData
from memory.ops import Remove, Status
from memory.store.settle import new_token

if TYPE_CHECKING:
    from memory.backends.firestore.store import FirestoreStore

STEP = 200


async def sweep(store: FirestoreStore[Any], now: int) -> int:
    """Remove expired documents by version, and tombstones and locks older than a day."""
    removed = 0
    for collection in store.collections:
        removed += await _sweep(store, collection, now)
    for collection in (store.names.tombstones, store.names.locks):
        await _forget(store, collection, now - DAY)
    return removed


async def _sweep(store: FirestoreStore[Any], collection: str, now: int) -> int:
    removed = 0
    expired = Query(
        collection=collection,
        conditions=(Condition(EXPIRATION, "<=", values.moment(now)),),
        orders=((EXPIRATION, False),),
        limit=STEP,
    )
    while found := await store._connected().query(expired, Meter()):
        ops: list[Remove] = []
        for one in found:
            try:
                ops.append(Remove(key=one.key, token=new_token(), now=now, expect=one.version, expired=True))
            except CorruptData:
                continue  # verify tells of it
        results = await Batch(store, ops).run(store._known(found))
        done = sum(result.status is Status.DONE for result in results)
        removed += done
        if not done:
            break
    return removed


async def _forget(store: FirestoreStore[Any], collection: str, before: int) -> None:
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
        writes = [expecting(Write(delete=connection.name(collection, one.id)), one.version) for one in found]
        try:
            await connection.commit(writes)
        except CALL_ERRORS as error:
            raise translate(error, connection.place.address, store.timeout) from error
        if len(found) < STEP:
            return
