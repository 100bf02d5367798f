"""Codes of two bits a number: the high bits look through all vectors, both say which are worth a look at their fine code.

A number of the unit vector, turned and seen from the centre as in SQLite's codes, is one of four levels (-1.5, -0.5, 0.5, 1.5), one apart in steps of
about its mean size, which is the best that two bits do for numbers that scatter as in a normal distribution. How many high
bits differ is counted by FAISS. A query keeps its numbers: its product with levels is sums of them over
bits, looked up a byte at a time, and how far such a product may be off is known, so that what cannot be among the nearest is left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from memory.backends.sqlite.codes import Bytes, Words, bits_of, halves, words_of
from memory.backends.sqlite.codes import Codes as Fine
from memory.search.vectors import Matrix

STEP = 0.9957
"""Between two levels, in mean sizes of a number (Max 1960)."""
FINEST = 100.0
"""``scale`` counts in hundredths, of vectors of as many numbers as their squared length."""
ONE_BIT, TWO_BITS = 0.668, 0.325
"""How far products by the high bits and by both are off, one standard deviation, as a part of the scale."""
FOUR_BITS = 0.289
"""And products by SQLite's fine codes, as a part of their step: each number lies anywhere within one."""
SIGN = 1.109
"""What the sum over high bits alone is worth, in scales."""
SUMMED = 4_096
"""Codes whose sums are looked up in one step: of all at once what is looked up would take hundreds of megabytes."""
_BYTES = np.unpackbits(np.arange(256, dtype=np.uint8)[None, :], axis=0, bitorder="little").astype(np.float32)
"""The bits of each byte, a column each."""


class Codes(NamedTuple):
    """Of n vectors: ``high`` and ``low`` bits (n, words), and the ``scale`` (n) that makes levels of size."""

    high: Words
    low: Words
    scale: Bytes


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
    """The same vectors, of which the fine codes of SQLite's file are known."""
    count, dimension = len(codes.step), len(centre)
    away = _away(codes, dimension)
    bits = codes.bits.astype("<u8", copy=False).view(np.uint8)
    above = np.unpackbits(bits, axis=1, count=dimension, bitorder="little")
    size = np.einsum("ij,ij->i", away, away)
    outer = np.abs(away) > (np.sqrt(size / dimension) * np.float32(STEP))[:, None]
    low = np.zeros((count, 8 * words_of(dimension)), dtype=np.uint8)
    packed = np.packbits(above == outer, axis=1, bitorder="little")
    low[:, : packed.shape[1]] = packed
    levels = (above - np.float32(0.5)) * (1 + 2 * outer)
    along = np.einsum("ij,ij->i", levels, away)
    scale = np.divide(size, along, out=np.zeros_like(size), where=along > 0) * np.float32(FINEST * np.sqrt(dimension))
    return Codes(codes.bits, low.view("<u8"), np.minimum(np.rint(scale), 255).astype(np.uint8))


class Query:
    """A unit vector, turned as they are, ready to be compared with codes."""

    def __init__(self, unit: Matrix, centre: Matrix) -> None:
        self.bits = bits_of(unit[None, :], centre)
        self.base = np.float32(unit @ centre)
        """Its product with the centre."""
        self._total = float(unit.sum())
        self._size = 1 / (FINEST * np.sqrt(len(unit)))
        numbers = np.zeros(64 * words_of(len(unit)), dtype=np.float32)
        numbers[: len(unit)] = unit
        self._table = (numbers.reshape(-1, 8) @ _BYTES).reshape(-1)
        """What each of the 256 values of a byte is worth, for each byte of a code: a look-up is eight numbers' sum."""
        self._begins: Any = np.arange(
            0, len(self._table), 256, dtype=np.uint16 if len(self._table) <= 2**16 else np.int64
        )

    def sums(self, words: Words) -> Matrix:
        """For each row of bits (n, words) the sum of the query's numbers where a bit is set."""
        found: Matrix = np.empty(len(words), dtype=np.float32)
        for start in range(0, len(words), SUMMED):
            each = words[start : start + SUMMED].astype("<u8", copy=False).view(np.uint8) + self._begins
            self._table.take(each).sum(axis=1, out=found[start : start + SUMMED])
        return found

    def by_high(self, high: Matrix, scale: Matrix) -> Matrix:
        """About the products, from the sums of high bits."""
        about = self.base + SIGN * scale * (2 * high - self._total)
        return about.astype(np.float32, copy=False)

    def by_both(self, high: Matrix, low: Matrix, scale: Matrix) -> Matrix:
        """About the products, from the sums of both bits."""
        about = self.base + scale * (2 * high + low - 1.5 * self._total)
        return about.astype(np.float32, copy=False)

    def sizes(self, scale: Bytes) -> Matrix:
        """The stored scale of vectors in the units of products."""
        found: Matrix = scale * np.float32(self._size)
        return found
