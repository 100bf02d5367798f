"""One bit a number: codes of vectors, and the distance of a query to many of them at once.

The bit says whether the number of the unit vector lies above the centre's. How many bits of two codes differ grows
with their angle (Charikar 2002), which picks candidates; what they are worth is told by the vectors themselves.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from memory.search.vectors import Matrix

Ints = np.ndarray[Any, np.dtype[np.int64]]
Words = np.ndarray[Any, np.dtype[np.uint64]]
UNSHARED = 9_000
"""A product of so many numbers OpenBLAS does not share out (its limit is 9,216)."""
BLOCK = 16_384
"""Codes compared in one step: what a step needs stays in the processor's second cache."""


def words_of(dimension: int) -> int:
    """64-bit words of a code."""
    return -(-dimension // 64)


def lengths(rows: Matrix) -> Matrix:
    """The length of each row, float32."""
    found: Matrix = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return found


def inverse_lengths(rows: Matrix) -> Matrix:
    """One divided by the length of each row, float32; 0 for a row of zeros."""
    size = lengths(rows)
    found: Matrix = np.divide(1, size, out=np.zeros_like(size), where=size > 0)
    return found


def products(rows: Matrix, wanted: Matrix) -> Matrix:
    """The product of each row with a vector, float32, by this thread alone.

    One product of them all is shared out among threads by BLAS, which on busy processors wait for each other: 30 ms
    instead of 1. Products of a few rows each are not.
    """
    together = max(1, UNSHARED // max(1, rows.shape[1]))
    whole = len(rows) // together * together
    found = np.empty(len(rows), dtype=np.float32)
    if whole:
        np.matmul(rows[:whole].reshape(-1, together, rows.shape[1]), wanted, out=found[:whole].reshape(-1, together))
    found[whole:] = np.einsum("ij,j->i", rows[whole:], wanted)
    return found


def centre_of(rows: Matrix) -> Matrix:
    """The mean of the rows' unit vectors, which codes are taken around."""
    size = lengths(rows)
    units = rows / np.where(size > 0, size, 1)[:, None]
    found: Matrix = units.mean(axis=0, dtype=np.float64).astype(np.float32)
    return found


def pack(rows: Matrix, centre: Matrix) -> Words:
    """The codes of the rows: (n, words), uint64."""
    packed = np.zeros((len(rows), words_of(rows.shape[1]) * 8), dtype=np.uint8)
    for start in range(0, len(rows), 512):
        part = rows[start : start + 512]
        bits = np.packbits(part > lengths(part)[:, None] * centre, axis=1, bitorder="little")
        packed[start : start + 512, : bits.shape[1]] = bits
    return packed.view("<u8")


def distances(code: Words, columns: Words) -> Any:
    """How many bits of each code differ from this one. ``columns`` holds the codes by word: (words, n)."""
    count = columns.shape[1]
    found = np.empty(count, dtype=np.uint16 if 64 * len(columns) < 2**16 else np.uint32)
    size = min(BLOCK, count)
    differing, bits = np.empty(size, dtype=np.uint64), np.empty(size, dtype=np.uint8)
    for start in range(0, count, BLOCK):
        part = found[start : start + BLOCK]
        x, y = differing[: len(part)], bits[: len(part)]
        for word in range(len(columns)):
            np.bitwise_xor(columns[word, start : start + BLOCK], code[word], out=x)
            np.bitwise_count(x, out=y)
            if word:
                np.add(part, y, out=part)
            else:
                part[:] = y
    return found


def closest(found: Any, limit: int) -> Any:
    """Places of the ``limit`` smallest distances; of those that tie with the last, the first."""
    if len(found) <= limit:
        return np.arange(len(found))
    counted = np.cumsum(np.bincount(found))
    last = int(np.searchsorted(counted, limit))  # the distance of the last that is taken
    places = np.flatnonzero(found <= last)
    if len(places) > limit:
        below = found[places] < last
        tied = np.flatnonzero(~below)
        places = np.delete(places, tied[limit - int(below.sum()) :])
    return places
