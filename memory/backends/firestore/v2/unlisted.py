"""What lies beside the items and is not listed among them: documents that are no items, and V2's agent data.

V2 programs keep agent data in a collection of its own. Here an item with an agent is a document among the others, so that
one index answers each question and a get reads one document; documents of that collection are neither read nor written,
but told: a migration leaves nothing behind in silence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory.backends.firestore import queries, values
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.pacing import singly
from memory.backends.firestore.queries import Query
from memory.backends.firestore.v2.documents import Found
from memory.errors import MemoryStoreError
from memory.model import DEFAULT_NAMESPACE
from memory.ops import Problem

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from memory.backends.firestore.v2.backend import FirestoreV2Store

STEP = 300


async def unlisted(store: FirestoreV2Store) -> list[Problem]:
    """A problem for each such document, with the key that its name would be."""
    beside = f"a document of {store.agents}, where V2 programs keep agent data: this store does not list it"
    agents = documents(store, store.agents, names_only=True)
    told = [Problem(beside, (DEFAULT_NAMESPACE, one.id)) async for one in agents]
    if store._adopter.unreadable:
        async for one in documents(store, store.names.items):
            reason = await _why_none(store, one)
            if reason is not None:
                told.append(Problem("a document that is no item", (DEFAULT_NAMESPACE, one.id), reason))
    return told


async def documents(store: FirestoreV2Store, collection: str, *, names_only: bool = False) -> AsyncIterator[Found]:
    """All documents of a collection, by name."""
    after: tuple[Any, ...] = ()
    while True:
        query = Query(
            collection=collection,
            orders=((queries.NAME, False),),
            after=after,
            limit=STEP,
            fields=(queries.NAME,) if names_only else (),
        )
        found = await store._connected().query(query, Meter())
        async for one in singly(found):
            yield one
        if len(found) < STEP:
            return
        after = (values.Value(reference_value=store._connected().name(collection, found[-1].id)),)


async def _why_none(store: FirestoreV2Store, found: Found) -> str | None:
    """Why a document is no item; None where it is one, or may be given our fields at the next look."""
    if found.ours is not None and not found.changed:
        return None
    try:
        await store._adopter.adoption(found)
    except MemoryStoreError as error:
        return error.message
    return None
