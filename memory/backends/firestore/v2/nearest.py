"""The nearest by vector: Firestore's own search gives candidates, float64 cosines decide, and a full scan where the search's
limit of 1,000 does not prove that none is missing.

Firestore's one kind of vector index, flat, compares the query with every vector, so its order is that of the cosines but for
the rounding of its numbers: an answer is taken when the last place lies below the last wanted one by more than that.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nsmallest
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING

from memory.backends.firestore import values
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.queries import Condition, Query
from memory.backends.firestore.records import covers, item_of
from memory.backends.firestore.spaces import read_space
from memory.backends.firestore.v2 import paths
from memory.backends.firestore.v2.documents import Found, unit64
from memory.backends.firestore.v2.filtering import narrow
from memory.backends.firestore.v2.legacy import VECTOR
from memory.backends.firestore.v2.scanning import live, row
from memory.filters import predicate
from memory.model import key_order
from memory.ops import Nearest, Row
from memory.store.embedding import mismatch

if TYPE_CHECKING:
    from memory.backends.firestore.v2.backend import FirestoreV2Store

MOST = 1_000
"""What Firestore's search returns at most."""
PRE_FILTERS = (paths.PATH, paths.USER)
"""Equalities that the search can be narrowed by: each subset of them has an index of its own."""
Scored = tuple[float, tuple[bytes, bytes], Row]


async def nearest(store: FirestoreV2Store, op: Nearest, meter: Meter) -> list[Row]:
    """The best ``op.limit`` by cosine. Raises EmbeddingMismatch."""
    space = store._space or await read_space(store, meter)
    if space is None:
        return []
    if not space.admits(op.embedder, len(op.vector) // 4):
        raise mismatch(space, op.embedder, len(op.vector) // 4)
    narrowed = narrow(op.scope, op.where, by_key=False)
    if narrowed.empty:
        return []
    return await _Search(store, op, meter, narrowed.conditions).run()


class _Search:
    def __init__(self, store: FirestoreV2Store, op: Nearest, meter: Meter, conditions: tuple[Condition, ...]) -> None:
        self.store, self.op, self.meter, self.conditions = store, op, meter, conditions
        self.accept = None if op.where is None else predicate(op.where)

    async def run(self) -> list[Row]:
        import numpy as np

        from memory.search.vectors import slack

        wanted = unit64(np.frombuffer(self.op.vector, dtype="<f4").astype(np.float64))
        if not wanted.any():  # as near to all: the first by key
            return await self._all()
        near, limit = values.vector(wanted), self.op.limit
        margin = 2 * slack(len(wanted))
        pre = tuple(one for one in self.conditions if one.path in PRE_FILTERS and one.operator == "==")
        size = min(MOST, max(limit + 1, min(limit + max(8, limit // 4), 2 * limit - 2)))
        while True:
            query = Query(collection=self.store.names.items, conditions=pre, limit=size, near=(VECTOR, near))
            found = await self.store._connected().query(query, self.meter)
            best, last = await self._score(found)
            best.sort(key=itemgetter(0, 1))
            whole = len(found) < size
            if whole or (len(best) >= limit and -best[limit - 1][0] > last + margin):
                return [one for _, _, one in best[:limit]]
            if size == MOST or limit >= MOST:
                return await self._all()
            size = min(MOST, size * 4)

    async def _all(self) -> list[Row]:
        """Score every vector in scope."""
        query = Query(
            collection=self.store.names.items,
            conditions=narrow(self.op.scope, self.op.where, by_key=True).conditions,
            orders=((paths.KEY, False),),
        )
        best: list[Scored] = []
        async for documents in live(self.store, query, self.op.now, 1 << 62, self.meter):
            fresh, _ = await self._score(documents)
            best = nsmallest(self.op.limit, chain(best, fresh), key=itemgetter(0, 1))
        return [one for _, _, one in best]

    async def _score(self, found: Sequence[Found]) -> tuple[list[Scored], float]:
        """(-cosine, key, row) of those that are live, in scope, satisfy the filter and have a vector of the space; and
        the cosine of the last of all."""
        from memory.search.vectors import cosines, matrix

        op, scored, last = self.op, [], -1.0
        async for part in self.store._slices(list(found)):
            rows = [row(self.store, one) for one in part]
            held = [(one, made, made.embedding) for one, made in zip(part, rows, strict=True) if made.embedding]
            if not held:
                continue
            scores = cosines(op.vector, matrix([raw for _, _, raw in held], len(op.vector) // 4)).tolist()
            last = scores[-1]
            for score, (one, made, _) in zip(scores, held, strict=True):
                if one.live(op.now) and covers(op.scope, one) and (self.accept is None or self.accept(item_of(one))):
                    scored.append((-score, key_order(one.key), made))
        return scored, last
