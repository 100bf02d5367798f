"""The code that FAISS looks through: one bit a number, and how large the vector is; and what such codes say of a query.

A bit says whether a number of the unit vector, turned and seen from the centre as in SQLite's codes, lies above the centre's.
A query keeps its numbers: FAISS sums those where the bit is set and takes off the others. With the size of the vector that tells
their product, without bias and with a known error (Gao and Long 2024, RaBitQ), so what cannot be among the nearest is left out.
The fine codes of SQLite's file, four bits a number, tell it for the others.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from memory.backends.sqlite.codes import Bytes, Words, fine_products, halves, words_of
from memory.backends.sqlite.codes import Codes as Fine
from memory.search.vectors import Matrix

FINEST = 100.0
"""``scale`` counts in hundredths, of vectors of as many numbers as their squared length."""
ONE_BIT = 0.603
"""How far a product by bits is off, one standard deviation, as a part of the scale."""
FOUR_BITS = 0.289
"""And one by a fine code, as a part of its step: each number lies anywhere within one."""


class Codes(NamedTuple):
    """Of n vectors: ``bits`` (n, words), the ``scale`` (n) of their signs, and ``fine`` (n, 4 and half the dimension): step and code."""

    bits: Words
    scale: Bytes
    fine: Bytes


def units_of(codes: Fine, centre: Matrix) -> Matrix:
    """About the unit vectors (n, dimension) that the fine codes were made of, turned."""
    return _away(codes, len(centre)) + centre


def _away(codes: Fine, dimension: int) -> Matrix:
    """The same, seen from the centre."""
    half = halves(dimension)
    away = np.empty((len(codes.step), 2 * half), dtype=np.float32)
    away[:, :half] = codes.fine & 15
    away[:, half:] = codes.fine >> 4
    away -= np.float32(7.5)
    away *= codes.step[:, None]
    return away[:, :dimension]


def from_fine(codes: Fine, centre: Matrix) -> Codes:
    """The same vectors, of which the codes of SQLite's file are known."""
    dimension = len(centre)
    away = _away(codes, dimension)
    size, along = np.einsum("ij,ij->i", away, away), np.abs(away).sum(axis=1)
    scale = np.divide(size, along, out=np.zeros_like(size), where=along > 0) * np.float32(FINEST * np.sqrt(dimension))
    step = codes.step.astype("<f4", copy=False)[:, None].view(np.uint8)
    return Codes(codes.bits, np.minimum(np.rint(scale), 255).astype(np.uint8), np.hstack([step, codes.fine]))


def fine_width(dimension: int) -> int:
    """Bytes of a fine code and its step."""
    return 4 + halves(dimension)


class Query:
    """A unit vector, turned as they are, ready to be compared with codes."""

    def __init__(self, unit: Matrix, centre: Matrix) -> None:
        self._unit = unit
        self.numbers: Matrix = np.zeros((1, 64 * words_of(len(unit))), dtype=np.float32)
        """The same with zeros for the bits that are none: what FAISS is asked."""
        self.numbers[0, : len(unit)] = unit
        self._base = np.float32(unit @ centre)
        self._size = np.float32(1 / (FINEST * np.sqrt(len(unit))))

    def sizes(self, scale: Bytes) -> Matrix:
        """The stored scale of vectors in the units of products."""
        found: Matrix = scale * self._size
        return found

    def by_bits(self, sums: Matrix, sizes: Matrix) -> Matrix:
        """About the products, from the query's numbers summed with the sign that a bit says."""
        found: Matrix = self._base + sizes * sums
        return found

    def by_fine(self, fine: Bytes) -> tuple[Matrix, Matrix]:
        """About the products, from fine codes; and how far they are off, one standard deviation."""
        step: Any = np.ascontiguousarray(fine[:, :4]).view("<f4")[:, 0]
        return fine_products(fine[:, 4:], step, self._unit) + self._base, np.float32(FOUR_BITS) * step
