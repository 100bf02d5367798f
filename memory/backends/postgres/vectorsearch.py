"""Runs a search by vector: which of the ways in `nearest` it takes, and how many it asks for until the best are certain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory.backends.postgres import nearest, reading
from memory.backends.postgres.records import to_row
from memory.codec import decode
from memory.filters import predicate
from memory.ops import Nearest, Row, Space

if TYPE_CHECKING:
    from memory.backends.postgres.calling import Caller
    from memory.store import MemoryStore

STEP = 500
PINNED_SETTINGS = f"SET LOCAL hnsw.iterative_scan = strict_order; SET LOCAL hnsw.ef_search = {nearest.EF_SEARCH}"
"""What direct connections are opened with."""


class VectorSearch:
    """One search. ``index``: the number of the space whose index may be used, None where there is none."""

    def __init__(self, store: MemoryStore, caller: Caller, op: Nearest, space: Space, index: int | None) -> None:
        from memory.search.vectors import slack, unit

        self.store = store
        self.caller = caller
        self.op = op
        self.space = space
        self.index = index
        self.wanted = unit(op.vector).tobytes()
        self.margin = 2 * slack(len(op.vector) // 4)
        self.accept = None if op.where is None else predicate(op.where)

    async def typed(self) -> list[Row]:
        """The nearest, found by the server."""
        few: list[bytes] | None = None
        if self.index is not None and not self.op.exact:
            few = await self._few()
            if few is None:
                rows = await self._by_index(self.index)
                if rows is not None:
                    return rows
        return await self._by_scan(few)

    async def _few(self) -> list[bytes] | None:
        """The keys of all that pass; None where they are many."""
        if self.op.where is None and not self.op.scope.path and self.op.scope.user_id is None:
            return None
        ((keys,),) = await self.caller.fetch_apart(*nearest.survivors(self.op))
        return keys if keys is None else list(keys)

    async def _by_scan(self, among: list[bytes] | None) -> list[Row]:
        limit = self.op.limit + nearest.SPARE
        while True:
            statement, exact = nearest.by_scan(self.op, self.wanted, limit, among)
            found = await self.caller.fetch_apart(*statement)
            passing = await self._passing(found, exact)
            if len(found) < limit or nearest.decided(
                [*[far for far, _ in passing], found[-1]["far"]], self.op.limit, self.margin
            ):
                return [row for _, row in passing]
            limit *= 4

    async def _by_index(self, number: int) -> list[Row] | None:
        """None: the index gave too few, so that only a look at all can tell."""
        limit = self.op.limit + nearest.SPARE
        for _ in range(3):
            (template, values), exact = nearest.by_index(self.op, self.wanted, limit, self.space, number)
            found = await self.caller.fetch_apart(template, values, before=PINNED_SETTINGS)
            passing = await self._passing(found, exact)
            if len(passing) >= self.op.limit:
                return [row for _, row in passing]
            if len(found) < limit:
                return None
            limit *= 4
        return None

    async def _passing(self, found: list[Any], exact: bool) -> list[tuple[float, Row]]:
        passing: list[tuple[float, Row]] = []
        async for part in self.store._slices(found):
            for one in part:
                row = to_row(one, vector=True)
                if exact or self.accept is None or self.accept(decode(row, vector=False)):
                    passing.append((one["far"], row))
        return passing

    async def untyped(self) -> list[Row]:
        """The nearest, found here: every vector that passes is read, and of each only its score kept."""
        import numpy as np

        from memory.search.vectors import at_least, cosines, matrix, products, unit

        (template, values), _ = nearest.everything(self.op)
        wanted = unit(self.op.vector)
        keys: list[bytes] = []
        scores = [np.empty(0, dtype=np.float32)]
        async with self.caller.transaction(readonly=True) as connection:
            patience = self.caller.timeout
            cursor = await connection.cursor(self.caller.fill(template), *values, timeout=patience)
            while found := await cursor.fetch(STEP, timeout=patience):
                async for part in self.store._slices(found):
                    rows = matrix([raw for _, raw in part], self.space.dimension).astype(np.float64)
                    lengths = np.sqrt((rows * rows).sum(axis=1, keepdims=True))
                    units = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0).astype(np.float32)
                    scores.append(products(units, wanted))
                    keys += [key for key, _ in part]
        every = np.concatenate(scores)
        count = self.op.limit
        while True:
            places = at_least(every, count, self.space.dimension).tolist()
            best = await self._whole([keys[place] for place in places])
            # Read after the scores, so even where the server has said the whole filter it is asked again.
            accept = self.accept
            passing = best if accept is None else [row for row in best if accept(decode(row, vector=False))]
            if len(passing) >= self.op.limit or count >= len(keys):
                break
            count = min(len(keys), 4 * count)
        if len(passing) <= 4 * self.op.limit:
            return passing
        # Many that tie: the best by cosine and key, as the base would choose them.
        exactly: list[float] = []
        async for rows_part in self.store._slices(passing):
            exactly += cosines(
                self.op.vector, matrix([row.embedding or b"" for row in rows_part], self.space.dimension)
            ).tolist()
        ranked = sorted(range(len(passing)), key=lambda i: -exactly[i])
        least = exactly[ranked[self.op.limit - 1]]
        return [passing[i] for i in ranked if exactly[i] >= least]

    async def _whole(self, keys: list[bytes]) -> list[Row]:
        """Records by key that still are live, in scope, and have a vector of the space."""
        rows: list[Row] = []
        for start in range(0, len(keys), STEP):
            found = await self.caller.fetch_apart(reading.MANY, (keys[start : start + STEP],))
            async for part in self.store._slices(found):
                seen = [reading.seen(one, self.op.scope, self.op.now) for one in part]
                size = 4 * self.space.dimension
                rows += [
                    row for row in seen if row is not None and row.embedding is not None and len(row.embedding) == size
                ]
        return rows
