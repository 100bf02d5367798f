"""One bit a number of the vectors that are held in memory: most of those that cannot be among the nearest are not looked at.

Of two vectors in a random rotation (`memory.backends.sqlite.rotation`) the signs of as large a part of the numbers differ as
their angle is of half a turn, and that varies as if each were tossed for (Charikar 2002). So when some are known, whatever is
no further than the last of them differs from the query in so many signs, and ``SURE`` deviations more, but for one in three
million. Where that leaves too many, signs tell nothing, and all vectors are compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from memory.backends.sqlite.codes import closest, distances, packed, words_of
from memory.backends.sqlite.rotation import rotated, rotated_vector
from memory.search.vectors import slack

if TYPE_CHECKING:
    from memory.backends.sqlite.codes import Ints, Words
    from memory.search.vectors import Matrix

WORTH = 4_000
"""Fewer vectors are compared sooner than their signs are."""
FIRST = (32, 4)
"""Those whose signs differ least are compared at first: so many, and more for each result wanted."""
SURE = 5.0
PART = 4
"""At most this part of all is worth being picked."""
BLIND = 16
"""After a search that signs could not help, so many that want as much do without."""
PACKED = 512
"""Vectors turned in one step: what a step needs stays in the processor's second cache."""


class Signs:
    """Of the vectors at the places 0 to n."""

    def __init__(self, rows: Matrix, scale: Matrix) -> None:
        self._dimension = rows.shape[1]
        self._columns: Words = np.empty((words_of(self._dimension), 0), dtype=np.uint64)
        self._usable = True
        self._blind = 0
        self._blind_to = 0
        self.put(slice(0, len(rows)), rows, scale, len(rows))

    def put(self, places: slice | list[int], rows: Matrix, scale: Matrix, room: int) -> None:
        """Vectors, new or in place of others, with the inverse of their lengths; there may be as many as ``room``."""
        self._usable = self._usable and bool(np.isfinite(scale).all())  # float32 cannot tell the lengths of some
        if room > self._columns.shape[1]:
            wider = np.empty((len(self._columns), room), dtype=np.uint64)
            wider[:, : self._columns.shape[1]] = self._columns
            self._columns = wider
        bits = np.empty((len(rows), len(self._columns)), dtype=np.uint64)
        for start in range(0, len(rows), PACKED):
            part = slice(start, start + PACKED)
            turned = rotated(_spun(np.ascontiguousarray((rows[part] * scale[part, None]).T)))
            bits[part] = packed(np.ascontiguousarray((turned > 0).T))
        self._columns[:, places] = bits.T

    def near(self, count: int, unit: Matrix, limit: int, cosines: Callable[[Ints], Matrix]) -> Ints | None:
        """Places, of the first ``count``, of all that can be among the ``limit`` nearest to a unit vector; None: unknown.

        ``cosines`` of the vectors at some places, about; below -1 for one that is gone.
        """
        if not self._usable:
            return None
        if self._blind and limit >= self._blind_to:
            self._blind -= 1
            return None
        turned = rotated_vector(_spun(unit.copy()))
        found = distances(packed(turned[None, :] > 0)[0], self._columns[:, :count])
        first = np.nan_to_num(cosines(closest(found, FIRST[0] + FIRST[1] * limit)), nan=-2.0)
        least = float(np.partition(first, len(first) - limit)[len(first) - limit]) if limit <= len(first) else -1.0
        angle = math.acos(max(-1.0, min(least - 2 * slack(self._dimension), 1.0))) / math.pi
        differing = self._dimension * angle + SURE * math.sqrt(self._dimension * angle * (1 - angle))
        places: Ints = np.flatnonzero(found <= differing)
        if PART * len(places) <= count:
            return places
        self._blind, self._blind_to = BLIND, limit
        return None


def _spun(columns: Matrix) -> Matrix:
    """Vectors, each a column (dimension, n) or one alone, with pairs of their numbers turned, in place.

    The rotation adds and subtracts: of vectors that have few numbers, or such as 1 and -1, it would make many zeros, which have
    no sign.
    """
    half = len(columns) // 2
    for_each = (half,) + (1,) * (columns.ndim - 1)
    cosine, sine = (turn.reshape(for_each) for turn in _angles(half))
    first, second = columns[:half], columns[half : 2 * half]
    kept = first * sine
    first *= cosine
    first -= second * sine
    second *= cosine
    second += kept
    return columns


@lru_cache(maxsize=8)
def _angles(count: int) -> tuple[Matrix, Matrix]:
    drawn = np.random.default_rng(0).uniform(0.2, 1.3, count).astype(np.float32)
    return np.cos(drawn), np.sin(drawn)
