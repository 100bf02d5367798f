"""Vector candidates: exact from memory while vectors are few, else by code first and then by the vectors in the file.

Rough scores (float32, of unit vectors) pick, with a proven margin, those that can be among the best; their cosines in
float64 decide, in the order of which records are read and held to scope, life and filter until enough pass. Where
codes pick first, how many are compared by their vectors follows from how many are wanted and how many pass.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import apsw

from memory.backends.sqlite.compiling import Fields
from memory.backends.sqlite.docs import LENGTH_BITS
from memory.backends.sqlite.entries import TooLongError
from memory.backends.sqlite.picking import Index
from memory.backends.sqlite.reading import (
    all_of,
    conditions,
    filter_columns,
    held_to_seal,
    key_condition,
    unindexed,
)
from memory.backends.sqlite.records import FULL_SQL, ROW_SQL, to_rows_within
from memory.backends.sqlite.spaces import VectorState, read_state, space_of
from memory.backends.sqlite.statements import fetch, numbers
from memory.backends.sqlite.survivors import indexed, survivors
from memory.backends.sqlite.vectorcache import Held, VectorCache
from memory.backends.sqlite.vectorlog import all_vectors, stored_vectors
from memory.backends.sqlite.workers import Breather
from memory.codec import decode
from memory.errors import CorruptData
from memory.filters import predicate
from memory.keys import key_range
from memory.ops import Nearest, Row
from memory.store.embedding import mismatch

if TYPE_CHECKING:
    from memory.search.vectors import Floats

MOST = 4_096
"""More than the nearest so many are not picked by code: then all vectors are compared."""
NONE = 16
"""Where none of the nearest passes, so many times as many come next."""
LONG = 8
"""On the loop no more than so many times the results wanted are picked."""
TIED = 4
"""So many beyond the results wanted are read rather than compared once more."""
MANY = 512
"""So many candidates are first cut by their keys."""


def nearest(
    db: apsw.Connection,
    op: Nearest,
    fields: Fields,
    cache: VectorCache,
    noticed: Callable[[VectorState], None],
    patient: bool = True,
) -> list[Row]:
    """Rows with their vectors, in one snapshot. Raises TooLongError unless patient, EmbeddingMismatch, CorruptData."""
    with VectorSnapshot(db, op, cache, noticed, patient) as state:
        return [] if state.space is None else Vectors(db, op, fields, cache, state, patient).run()


nearest_soon = partial(nearest, patient=False)


class VectorSnapshot:
    """One snapshot, and the cache to search in it. Raises TooLongError unless patient, EmbeddingMismatch, CorruptData."""

    def __init__(
        self,
        db: apsw.Connection,
        op: Nearest,
        cache: VectorCache,
        noticed: Callable[[VectorState], None],
        patient: bool,
    ) -> None:
        self._db, self._op, self._lock, self._noticed, self._patient = db, op, cache.lock, noticed, patient

    def __enter__(self) -> VectorState:
        op = self._op
        if not self._lock.acquire(blocking=self._patient):
            raise TooLongError
        try:
            self._db.execute("BEGIN")
            state = read_state(self._db)
            self._noticed(state)
            space = space_of(state)
            if space is not None and not space.admits(op.embedder, len(op.vector) // 4):
                raise mismatch(space, op.embedder, len(op.vector) // 4)
        except BaseException:
            self.__exit__()
            raise
        return state

    def __exit__(self, *exc: object) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("COMMIT")
        finally:
            self._lock.release()


class Vectors:
    """One search by vector, within one read transaction."""

    unread: ClassVar[bool] = False
    """Whether no record has to be read for more to be looked at, where some do not pass."""

    def __init__(
        self, db: apsw.Connection, op: Nearest, fields: Fields, cache: VectorCache, state: VectorState, patient: bool
    ) -> None:
        import numpy as np

        from memory.search.vectors import unit

        assert state.space is not None
        self.np = np
        self.db = db
        self.op = op
        self.fields = fields
        self.cache = cache
        self.state = state
        self.patient = patient
        self.dimension = state.space.dimension
        self.unit = unit(op.vector)
        self.tested = self.passed = 0
        self.stored: Callable[[int], bytes] | None = None
        """Vectors in memory, by the number of the record; None: the file has them."""
        self.said = conditions(op, fields)
        span = unindexed(key_condition(key_range(op.scope)))
        self.condition = all_of([*self.said.parts, span])
        self.narrowed = span is not None or len(self.said.parts) > 1  # one is that they live
        self.accept = None if self.said.exact or op.where is None else predicate(op.where)

    def run(self) -> list[Row]:
        """The rows."""
        if self.said.impossible or not self.state.vectors:
            return []
        index = self.cache.index(self.db, self.state, patient=self.patient)
        pool = self._pool(index)
        if isinstance(index, Held):
            return self._in_memory(index, pool)
        return self._in_file(index, pool) if self.op.exact else self._by_code(index, pool)

    def _pool(self, index: Held | Index) -> Any:
        """Places of the records among which all are that satisfy scope and filter; None: of all."""
        asked = indexed(self.op, self.said.filtered, self.fields)
        known = self.cache.pool(asked, self.state.version)
        if known is not None:
            return known
        most = index.most(self.state.vectors)
        rows = survivors(self.db, asked, most, self.cache.wide, patient=self.patient)
        if rows is None:
            return None
        return self.cache.keep_pool(asked, self.state.version, index.places(self.db, rows, patient=self.patient))

    # --- three ways to rough scores ------------------------------------------------------------

    def _in_memory(self, index: Held, pool: Any) -> list[Row]:
        self.stored = index.stored
        if pool is None and not self.narrowed and not self.op.exact:
            near = index.near(self.unit, self.op.limit, patient=self.patient)
            found = None if near is None else self._at_once(*self._compared(index, near), whole=False)
            if found is not None:
                return found
        likely = pool is not None or not self.narrowed or self.unread
        if not index.all_alive:
            alive = index.alive[: index.count]
            pool = self.np.flatnonzero(alive) if pool is None else pool[alive[pool]]
        ords, scores, cosines = self._compared(index, pool)
        found = self._at_once(ords, scores, cosines) if likely else None
        return found if found is not None else self._ranked(ords, scores, cosines)

    def _compared(self, index: Held, pool: Any) -> tuple[Any, Any, Callable[[Any], Floats]]:
        """Of the records at these places or all: their numbers, rough scores, and cosines of those at some places among them."""
        from memory.backends.sqlite.codes import rough_cosines, rough_cosines_at
        from memory.search.vectors import cosines

        rows, scale, ords = index.rows[: index.count], index.scale[: index.count], index.ords[: index.count]
        if pool is None:
            return ords, rough_cosines(rows, self.unit, scale), lambda places: cosines(self.op.vector, rows[places])
        few = 4 * len(pool) < index.count
        scores = rough_cosines_at(pool, rows, self.unit, scale) if few else rough_cosines(rows, self.unit, scale)[pool]
        return ords[pool], scores, lambda places: cosines(self.op.vector, rows[pool[places]])

    def _by_code(self, index: Index, pool: Any) -> list[Row]:
        from memory.backends.sqlite.codes import rough_cosines
        from memory.search.vectors import cosines

        limit = self.op.limit
        passing = self._passing_first if self.narrowed and pool is None else None
        picking = index.search(self.db, self.unit, pool, limit, passing)
        wanted = limit
        while wanted <= max(MOST, limit):
            if not self.patient and wanted > LONG * limit:
                raise TooLongError
            held, rows, whole = picking.likely(wanted)
            scores = rough_cosines(rows, self.unit)

            def scored(places: Any, rows: Any = rows) -> Floats:
                return cosines(self.op.vector, rows[places])

            self.tested = self.passed = 0
            likely = passing is not None or pool is not None or not self.narrowed
            if likely and wanted == limit and (whole or limit <= len(held)):
                found = self._at_once(held, scores, scored)
                if found is not None:
                    return found
            result = self._ranked(held, scores, scored)
            if whole:
                return result
            # Only of the nearest so many it is known that none was left out.
            if len(result) >= limit and self._nearer(scores, result[limit - 1]) < wanted:
                return result
            if passing is not None and len(held) < wanted:
                break  # of those that were looked at no more pass
            # Of the nearest, so many have to be compared for enough to pass, and some more, since that varies.
            needed = 5 * limit * self.tested // (4 * self.passed) if self.passed else NONE * wanted
            wanted = max(2 * wanted, min(MOST, needed))
        return self._in_file(index, pool)

    def _nearer(self, scores: Any, row: Row) -> int:
        """How many of these are nearer than a row, for all that rough scores tell."""
        from memory.search.vectors import cosines, matrix, slack

        own = cosines(self.op.vector, matrix([row.embedding or b""], self.dimension))[0]
        return int((scores > own + slack(self.dimension)).sum())

    def _in_file(self, index: Index, pool: Any) -> list[Row]:
        """Every vector is read, a step at a time; of each only its score is kept."""
        from memory.backends.sqlite.codes import rough_cosines
        from memory.search.vectors import cosines

        if not self.patient:
            raise TooLongError
        np = self.np
        breather = Breather()
        if pool is None:
            steps = all_vectors(self.db, self.dimension)
        else:
            steps = stored_vectors(self.db, np.unique(index.numbered(pool)).tolist(), self.dimension)
        ords, scores = [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for numbered, rows in steps:
            ords.append(numbered)
            scores.append(rough_cosines(rows, self.unit))
            breather.breathe()
        every = np.concatenate(ords)

        def again(places: Any) -> Floats:
            steps = stored_vectors(self.db, every[places].tolist(), self.dimension)
            found: Floats = np.concatenate([np.empty(0), *(cosines(self.op.vector, rows) for _, rows in steps)])
            return found

        return self._ranked(every, np.concatenate(scores), again)

    # --- and from them to rows -----------------------------------------------------------------

    def _at_once(
        self, ords: Any, scores: Any, cosines: Callable[[Any], Floats], *, whole: bool = True
    ) -> list[Row] | None:
        """The best ``limit``, in any order, where rough scores tell them from the others and all pass, as is mostly so where others
        were left out before; else None. ``whole``: there are no others that are less near."""
        from memory.search.vectors import at_least

        best = at_least(scores, self.op.limit, self.dimension)
        if self.accept is not None or len(best) > self.op.limit + TIED:
            return None
        found = self._read(ords[best].tolist(), self.condition)
        return found if len(found) == len(best) else None

    def _ranked(self, ords: Any, scores: Any, cosines: Callable[[Any], Floats]) -> list[Row]:
        """The best ``limit`` that pass, or all that pass when they are fewer; ties with the last as well."""
        from memory.search.vectors import at_least

        np, limit = self.np, self.op.limit
        rows: list[Row] = []
        done, count = 0, limit + 8
        while True:
            places = at_least(scores, count, self.dimension)
            exact = cosines(places)
            order = np.argsort(-exact, kind="stable")
            if count < len(scores):
                # Beyond the last of them others may lie that were not looked at.
                order = order[: int(np.searchsorted(-exact[order], -exact[order[count - 1]], side="right"))]
            fresh = order[done:]
            rows += self._passing(ords[places[fresh]], exact[fresh], limit - len(rows))
            done = len(order)
            if len(rows) >= limit or count >= len(scores):
                return rows
            count = min(len(scores), 4 * count)

    def _passing(self, ords: Any, exact: Any, wanted: int) -> list[Row]:
        """Of these, best first, the rows that pass: at least the first ``wanted`` by score and key."""
        condition = self.condition
        rows: list[Row] = []
        start, size = 0, wanted
        while start < len(ords) and len(rows) < wanted:
            end = start + size
            if end < len(ords):
                end = int(self.np.searchsorted(-exact, -exact[end - 1], side="right"))
            part = ords[start:end].tolist()
            if len(part) > size + MANY and self.accept is None:
                part = self._first_by_key(part, exact[start:end].tolist(), condition, wanted - len(rows))
            rows += self._read(part, condition)
            self.tested += end - start
            start, size = end, 2 * size
        self.passed += len(rows)
        return rows

    def _passing_first(self, ords: Any) -> Any:
        """Of these records those that pass as far as SQL can say, in any order."""
        return self._docs(ords) >> LENGTH_BITS

    def _docs(self, ords: Any) -> Any:
        """The same, as they are numbered in the text index."""
        if not len(ords):
            return ords
        found = fetch(
            self.db,
            self._from("group_concat(items.doc)", self.condition),
            (numbers(ords.tolist()), *self.condition.params),
        )
        return self.np.fromstring(found[0][0] or "", dtype=self.np.int64, sep=",")

    def _from(self, selected: str, condition: Any) -> str:
        return (
            f"SELECT {selected} FROM carray(?) c CROSS JOIN items INDEXED BY items_doc "  # noqa: S608 - templates
            f"ON items.doc BETWEEN c.value << 10 AND c.value << 10 | 1023 WHERE items.vcrc IS NOT NULL AND {condition.text}"
        )

    def _first_by_key(self, ords: list[int], exact: list[float], condition: Any, wanted: int) -> list[int]:
        score = dict(zip(ords, exact, strict=True))
        found = fetch(self.db, self._from("c.value, items.key", condition), (numbers(ords), *condition.params))
        return [ord for ord, _ in sorted(found, key=lambda row: (-score[row[0]], row[1]))[:wanted]]

    def _read(self, ords: list[int], condition: Any) -> list[Row]:
        if not ords:
            return []
        behind = filter_columns(self.op.where, self.fields)
        columns = FULL_SQL if self.stored is None else f"{ROW_SQL}, c.value"
        found = fetch(self.db, self._from(columns + behind, condition), (numbers(ords), *condition.params))
        if not held_to_seal(found):
            raise CorruptData("an index disagrees with its records. Run 'memory verify', then 'memory repair'")
        rows = to_rows_within(found, self.op.scope, self.stored)
        accept = self.accept
        return rows if accept is None else [row for row in rows if accept(decode(row))]
