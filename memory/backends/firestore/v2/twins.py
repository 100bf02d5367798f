"""Dedup: the live item of equal content, found by an index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memory.backends.firestore import values
from memory.backends.firestore.locks import Twin
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.queries import Condition, Query
from memory.backends.firestore.records import item_of, row_of
from memory.backends.firestore.v2 import paths
from memory.backends.firestore.v2.documents import Found
from memory.codec import content_hash
from memory.ops import Put

if TYPE_CHECKING:
    from memory.backends.firestore.v2.backend import FirestoreV2Store

TOGETHER = 30
"""Values that one ``in`` may list."""
FEW = 60
"""Documents that a query for several digests reads; where there are more each digest is asked for alone."""
PAGE = 4
"""Documents of one digest that are read at once; the first live one is enough."""


async def find_twins(store: FirestoreV2Store, ops: Sequence[Put], meter: Meter) -> dict[bytes, Twin]:
    """Digest -> the live item of this content with the lowest key. Digests without one are left out."""
    puts = {op.digest: op for op in ops}
    twins: dict[bytes, Twin] = {}
    digests = list(puts)
    now = ops[0].now
    for start in range(0, len(digests), TOGETHER):
        part = digests[start : start + TOGETHER]
        found: list[Found] = []
        if len(part) > 1:
            condition = Condition(paths.DIGEST, "in", values.blobs(part))
            found = await store._connected().query(_query(store, condition, FEW), meter)
        if len(part) == 1 or len(found) == FEW:
            for digest in part:
                twin = await _first(store, digest, now, meter)
                if twin is not None:
                    twins[digest] = twin
            continue
        for one in found:  # by key, so the first of each digest is the one
            digest = one.part("digest")
            if digest not in twins and _is_twin(one, digest, now):
                twins[digest] = _twin(store, one)
    return twins


async def _first(store: FirestoreV2Store, digest: bytes, now: int, meter: Meter) -> Twin | None:
    condition = Condition(paths.DIGEST, "==", values.blob(digest))
    after: tuple[Any, ...] = ()
    while True:
        found = await store._connected().query(_query(store, condition, PAGE, after), meter)
        for one in found:
            if _is_twin(one, digest, now):
                return _twin(store, one)
        if len(found) < PAGE:
            return None
        after = (values.blob(found[-1].part("key")),)


def _query(store: FirestoreV2Store, condition: Condition, limit: int, after: tuple[Any, ...] = ()) -> Query:
    return Query(
        collection=store.names.items,
        conditions=(condition,),
        orders=((paths.KEY, False),),
        after=after,
        limit=limit,
    )


def _is_twin(found: Found, digest: bytes, now: int) -> bool:
    return found.live(now) and (not found.changed or content_hash(item_of(found)) == digest)


def _twin(store: FirestoreV2Store, found: Found) -> Twin:
    space = store._space
    return found.id, row_of(
        found, None if space is None else space.embedder, None if space is None else space.dimension
    )
