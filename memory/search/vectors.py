"""Cosine, to the bit the same everywhere: computed in float64, row by row, from the float32 numbers that are stored.

Engines may look for candidates in any way they like; what they return is scored here. A sum runs along a row, in
numpy's pairwise order, so it does not depend on which other rows are scored with it (a matrix product's does). A vector
of zeros has no direction: its cosine is 0 with everything.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

Floats = np.ndarray[Any, np.dtype[np.float64]]
Matrix = np.ndarray[Any, np.dtype[np.float32]]

STEP = 12_288
"""Numbers scored in one step. As float64 they stay below what malloc maps anew each time: its pages cost four times the work."""


def matrix(rows: list[bytes], dimension: int) -> Matrix:
    """Stored vectors, float32 little-endian, as an array (n, dimension)."""
    return np.frombuffer(b"".join(rows), dtype="<f4").reshape(len(rows), dimension)


def cosines(query: bytes, rows: Matrix) -> Floats:
    """The cosine of a stored vector with each of the rows (n, dimension), from -1 to 1."""
    wanted, length = _measured(query)
    found = np.zeros(len(rows))
    step = max(1, STEP // len(wanted))
    for start in range(0, len(rows), step):
        part = rows[start : start + step].astype(np.float64, order="C")
        products = np.add.reduce(part * wanted, axis=1)
        norms = np.sqrt(np.add.reduce(np.multiply(part, part, out=part), axis=1))
        norms *= length
        np.divide(products, norms, out=found[start : start + step], where=norms > 0)
    return np.minimum(np.maximum(found, -1.0, out=found), 1.0, out=found)


def unit(query: bytes) -> Matrix:
    """A stored vector divided by its length (zeros stay zeros), float32: what rough scores are made with."""
    wanted, length = _measured(query)
    return (wanted / length if length > 0 else wanted).astype(np.float32)


@lru_cache(maxsize=4)
def _measured(query: bytes) -> tuple[Floats, float]:
    """A stored vector in float64, and its length; kept, since a search asks more than once."""
    wanted = np.frombuffer(query, dtype="<f4").astype(np.float64)
    return wanted, math.sqrt(np.add.reduce(wanted * wanted))


def products(rows: Matrix, wanted: Matrix, out: Matrix | None = None) -> Matrix:
    """The product of each row with a vector, float32, by this thread alone; into ``out``, where it is given.

    Row by row: a product of the whole matrix is shared out among threads by BLAS, which on busy processors wait for each other:
    30 ms instead of 1.
    """
    found: Matrix = np.vecdot(rows, wanted, out=out)
    return found


def slack(dimension: int) -> float:
    """No float32 product of two unit vectors of this dimension is further than this from their cosine.

    The bound of a dot product in any order of summation (Higham 2002, section 3.1), with room for the rounding of
    the vectors themselves.
    """
    return (dimension + 8) * 2.0**-23


def at_least(scores: Any, limit: int, dimension: int) -> Any:
    """Places of rough scores (float32, of unit vectors) that may be among the best ``limit`` by cosine: at least so many.

    A score that is no number, as that of a damaged vector, is the worst.
    """
    if len(scores) <= limit:
        return np.arange(len(scores))
    best = scores.copy()
    best.partition(len(scores) - limit)  # numpy takes NaN for the largest
    best = best[len(scores) - limit :]
    if math.isnan(np.maximum.reduce(best)):
        return at_least(np.where(np.isnan(scores), -np.inf, scores), limit, dimension)
    return (scores >= best[0] - 2 * slack(dimension)).nonzero()[0]
