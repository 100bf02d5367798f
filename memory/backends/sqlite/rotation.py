"""A fixed random rotation of unit vectors: codes are cut in it, so that every number of a vector says as much as another.

Some models have a few numbers that are ten times the others. Codes give each number as many bits, so there nearly all would
be spent on what hardly counts. Vectors are turned first, twice: a random order, random signs and a Hadamard transform in
blocks (Ailon and Chazelle 2006, the fast Johnson-Lindenstrauss transform; RaBitQ, Gao and Long 2024, also codes vectors in
a random rotation). Then each number is a sum of nearly all, with random signs. Lengths and products stay.

``verify`` makes codes again and compares them byte by byte. So the rotation follows from the dimension alone, and is made
of additions, subtractions and multiplications of float32 in one order, of each vector by itself. The last bits of a
matrix product depend on the machine, and on how many vectors there are.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from memory.backends.sqlite.codes import Ints
    from memory.search.vectors import Matrix

BLOCK = 128
"""Numbers of the largest block; each is a power of two."""
ROUNDS = 2
"""One mixes only within blocks; the second, in another order, mixes what came of them."""


class _Round(NamedTuple):
    """The ``order`` in which numbers are taken, and their ``signs`` (dimension, 1)."""

    order: Ints
    signs: Matrix


def rotated(columns: Matrix) -> Matrix:
    """Vectors, each a column (dimension, n), turned. ``columns`` is overwritten."""
    dimension = len(columns)
    size, whole = _blocks(dimension)
    spare = np.empty_like(columns)
    for order, signs in _rounds(dimension):
        np.take(columns, order, axis=0, out=spare, mode="clip")  # the default mode makes a copy of its own
        np.multiply(spare, signs, out=columns)
        _mix(columns[:whole], spare[:whole], size)
        if whole < dimension:
            # What is left over is in a block with the last of the others. Without the signs it would undo the other block.
            columns *= signs
            _mix(columns[-size:], spare[-size:], size)
    return columns


def rotated_vector(vector: Matrix) -> Matrix:
    """One vector, turned, to rounding: of what is searched for no bit has to be the same again, and products of matrices are
    fewer calls than sums."""
    size, whole = _blocks(len(vector))
    for order, signs in _rounds(len(vector)):
        vector = vector[order] * signs[:, 0]
        vector[:whole] = _mixed(vector[:whole], size)
        if whole < len(vector):
            vector *= signs[:, 0]
            vector[-size:] = _mixed(vector[-size:], size)
    return vector


def _blocks(dimension: int) -> tuple[int, int]:
    """The size of a block, and how many numbers lie in such."""
    size = min(BLOCK, 1 << dimension.bit_length() - 1)
    return size, dimension // size * size


def _mix(columns: Matrix, spare: Matrix, size: int) -> None:
    """The Hadamard transform, in place, of blocks of so many numbers. Those of a block lie as far apart as there are blocks:
    what is added to one another are then long pieces of memory."""
    half = columns.size // 2
    source, target = columns, spare
    for _ in range(size.bit_length() - 1):
        pairs, made = source.reshape(-1, 2, half), target.reshape(-1, 2, half)
        first, second = pairs[:, 0], pairs[:, 1]
        np.add(first, second, out=made[:, 0])
        np.subtract(first, second, out=made[:, 1])
        source, target = target, source
        half //= 2
    np.multiply(source, np.float32(1 / math.sqrt(size)), out=columns)


def _mixed(vector: Matrix, size: int) -> Matrix:
    """The same for one vector, by two small products: one of 128 rows BLAS would share out among threads."""
    high = 1 << size.bit_length() // 2
    low = size // high
    halfway = _hadamard(high) @ vector.reshape(high, -1)
    found: Matrix = (_hadamard(low) @ halfway.reshape(high, low, -1)).ravel()
    return found


@lru_cache(maxsize=8)
def _hadamard(size: int) -> Matrix:
    rows = np.eye(size, dtype=np.float32)
    _mix(rows, np.empty_like(rows), size)
    return rows


@lru_cache(maxsize=16)
def _rounds(dimension: int) -> tuple[_Round, ...]:
    """From a hash, whose bits no release of Python or numpy changes."""
    found = []
    for number in range(ROUNDS):
        raw = hashlib.shake_128(f"rotation {number} of {dimension}".encode()).digest(8 * dimension)
        drawn = np.frombuffer(raw, dtype="<u8")
        signs = np.where(drawn & 1, np.float32(-1), np.float32(1))
        found.append(_Round(np.argsort(drawn, kind="stable"), signs[:, None]))
    return tuple(found)
