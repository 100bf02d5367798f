"""Which vectors are worth reading: the codes pick, the vectors themselves decide (`memory.backends.sqlite.nearest`).

``Index`` is what a search asks of codes, and the seam at which another backend puts its own in place of these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import apsw

from memory.backends.sqlite.vectorlog import stored_vectors

if TYPE_CHECKING:
    from memory.backends.sqlite.codes import Codes, Ints
    from memory.backends.sqlite.vectorcache import Coded
    from memory.search.vectors import Matrix

BITS = (1_000, 30)
"""Candidates picked by one bit a number to be put in order by their fine codes: so many, and more for each result wanted."""
FINE = (32, 2)
"""Candidates picked by fine code to be compared by their vectors."""
SURE = 2.0
"""The furthest picked by bits is to lie so many deviations beyond where the nearest do on average; else more are picked."""


class Likely(NamedTuple):
    """Vectors among which the nearest are: the numbers of n records, (n, dimension), and whether none was left out."""

    ords: Ints
    rows: Matrix
    whole: bool


Passing = Callable[["Ints"], "Ints"]
"""Of the numbers of records those that pass a filter."""


class Picking(Protocol):
    """One search through codes."""

    def likely(self, wanted: int) -> Likely:
        """Vectors among which the nearest ``wanted`` are. Raises CorruptData."""
        ...


class Index(Protocol):
    """The codes of all vectors: places, each with the number of a record. Later codes of a record follow earlier."""

    @property
    def count(self) -> int:
        """How many places there are."""
        ...

    @property
    def centre(self) -> Matrix | None:
        """What the codes are taken around."""
        ...

    def has_room(self, more: int) -> bool:
        """Whether so many more fit without all being copied."""
        ...

    def append(self, ords: Any, codes: Codes) -> None:
        """Codes of records."""
        ...

    def pack(self, ords: Ints, rows: Matrix) -> None:
        """The codes of these vectors."""
        ...

    def places(self, db: apsw.Connection, rows: Ints, *, patient: bool) -> Ints:
        """The places of the records in these rows of ``items`` that have one. Raises TooLongError unless patient."""
        ...

    def numbered(self, places: Ints) -> Ints:
        """The numbers of the records at these places."""
        ...

    def most(self, vectors: int) -> int:
        """So many survivors of a filter, of so many vectors, are worth being looked up before the codes are."""
        ...

    def search(
        self, db: apsw.Connection, unit: Matrix, pool: Ints | None, limit: int, passing: Passing | None
    ) -> Picking:
        """A search for ``limit`` vectors near a unit vector, among those at the places of ``pool`` or all.

        Of records that do not pass, as far as ``passing`` says, it may leave out the vectors.
        """
        ...


class CodedPicking:
    """Through codes in memory: one bit a number picks some, four bits put those in order.

    ``turned``: the unit vector that is searched for, in the rotation of the codes.
    """

    def __init__(self, index: Coded, db: apsw.Connection, turned: Matrix, pool: Ints | None, limit: int) -> None:
        self._index = index
        self._db = db
        self._turned = turned
        self._pool = pool
        self._picked = BITS[0] + BITS[1] * limit
        self._found: Any = None

    def likely(self, wanted: int) -> Likely:
        """Vectors among which the nearest ``wanted`` are."""
        from memory.backends.sqlite.codes import fine_products, largest

        index, pool, np = self._index, self._pool, self._index.np
        count = index.count if pool is None else len(pool)
        compared = FINE[0] + FINE[1] * wanted
        self._picked = max(self._picked, 4 * compared)
        while True:
            picked = np.arange(count) if self._picked >= count else self._closest(self._picked)
            places = picked if pool is None else pool[picked]
            rough = fine_products(index.fine[places], index.step[places], self._turned)
            if len(picked) == count or self._is_sure(picked, picked[largest(rough, wanted)]):
                break
            self._picked *= 4
        return read_likely(self._db, index.ords[places[largest(rough, compared)]], len(self._turned), compared >= count)

    def _is_sure(self, picked: Any, nearest: Any) -> bool:
        """Whether hardly any as near as these can differ in more bits than all that were picked.

        In how many bits vectors of one angle differ varies as if each bit were tossed for. Where clusters are large, or
        there are none, the nearest are hardly nearer than thousands, and bits do not tell them from each other.
        """
        reach = self._found[nearest].mean() + SURE * len(self._turned) ** 0.5 / 2
        return bool(reach <= self._found[picked].max())

    def _closest(self, picked: int) -> Any:
        from memory.backends.sqlite.codes import bits_of, closest, distances

        index, pool = self._index, self._pool
        if self._found is None:
            assert index.centre is not None
            columns = index.columns[:, : index.count]
            code = bits_of(self._turned[None, :], index.centre)[0]
            self._found = distances(code, columns if pool is None else index.np.ascontiguousarray(columns[:, pool]))
        return closest(self._found, picked)


def read_likely(db: apsw.Connection, ords: Ints, dimension: int, whole: bool) -> Likely:
    """The vectors of these records, of those that still have one. Raises CorruptData."""
    import numpy as np

    pieces = list(stored_vectors(db, np.unique(ords).tolist(), dimension))
    return Likely(
        np.concatenate([np.empty(0, np.int64), *(part for part, _ in pieces)]),
        np.concatenate([np.empty((0, dimension), np.float32), *(part for _, part in pieces)]),
        whole,
    )
