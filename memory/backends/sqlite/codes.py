"""Codes of vectors in two grades: one bit a number to look through all of them, four bits to put some in order.

Both are of the unit vector, turned (`memory.backends.sqlite.rotation`) and seen from a centre, since many models have much in
common in all their vectors. A bit says whether a number lies above the centre's. How many bits of two codes differ grows
with their angle (Charikar 2002): that picks candidates. The fine code is each number's distance from the centre's in 16
steps; its product with the query is off by less than a hundredth, which leaves few to compare by the vectors themselves.
Codes only choose: what a result is worth is told by its vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from memory.backends.sqlite.rotation import rotated
from memory.search.vectors import Matrix, cosines, products

Ints = np.ndarray[Any, np.dtype[np.int64]]
Words = np.ndarray[Any, np.dtype[np.uint64]]
Bytes = np.ndarray[Any, np.dtype[np.uint8]]
BLOCK = 16_384
"""Codes compared in one step: what a step needs stays in the processor's second cache."""
SAMPLED = 16
PACKED = 512
"""Vectors packed in one step, for the same reason."""
GATHERED = 2**17
"""Bytes of rows gathered in one step, for the same reason."""
LEAST = np.float32(1e-30)
"""The smallest step of a fine code: that of a vector which is the centre, of which one can still divide by it."""
ROUGH = (1e-20, 1e30)
"""Squares of lengths from which float32 tells a cosine. Beyond, a square or a product may be too large or too small for it,
and the cosine is made in float64."""


CUT = 3
"""How codes are cut: the layout of the file that began with it. A part of their digest, so that a program of an older layout
which still has the file open takes these codes for damaged, as they are to it, and ours takes its codes so."""


class Codes(NamedTuple):
    """Of n vectors: ``bits`` (n, words), ``fine`` (n, half the dimension), and the size of its step (n)."""

    bits: Words
    fine: Bytes
    step: Matrix

    def at(self, places: Any) -> Codes:
        """Those at these places."""
        return Codes(self.bits[places], self.fine[places], self.step[places])

    def blobs(self) -> tuple[bytes, bytes]:
        """As they are stored: the bits; the steps, then the fine codes."""
        return self.bits.astype("<u8", copy=False).tobytes(), self.step.astype(
            "<f4", copy=False
        ).tobytes() + self.fine.tobytes()


def codes_of(count: int, dimension: int, bits: bytes, fine: bytes) -> Codes | None:
    """The inverse of ``blobs`` for so many vectors; None for bytes of another size."""
    words, half = words_of(dimension), halves(dimension)
    if len(bits) != 8 * words * count or len(fine) != (4 + half) * count:
        return None
    return Codes(
        np.frombuffer(bits, dtype="<u8").reshape(count, words),
        np.frombuffer(fine, dtype=np.uint8, offset=4 * count).reshape(count, half),
        np.frombuffer(fine, dtype="<f4", count=count),
    )


def joined(parts: Sequence[Codes]) -> Codes:
    """Codes one after another; there is at least one part."""
    return Codes(
        np.concatenate([part.bits for part in parts]),
        np.concatenate([part.fine for part in parts]),
        np.concatenate([part.step for part in parts]),
    )


def digest(*blobs: bytes) -> int:
    """A sum that a changed byte changes, or another way to cut codes. Ten times as fast as CRC-32: 24 MB are checked at the
    first search."""
    total = CUT
    for blob in blobs:
        whole = len(blob) // 8 * 8
        total = total * 31 + int(np.add.reduce(np.frombuffer(blob, dtype="<u8", count=whole // 8)))
        total += int.from_bytes(blob[whole:], "little") + len(blob)
    return total % (1 << 62)


def words_of(dimension: int) -> int:
    """64-bit words of a code."""
    return -(-dimension // 64)


def halves(dimension: int) -> int:
    """Bytes of a fine code."""
    return -(-dimension // 2)


def inverse_lengths(rows: Matrix) -> Matrix:
    """One divided by the length of each row, float32; 0 for a row of zeros; NaN where float32 cannot tell: see ``ROUGH``."""
    squares = np.einsum("ij,ij->i", rows, rows)
    least, most = ROUGH
    if least <= squares.min(initial=1) and squares.max(initial=1) <= most:
        rough: Matrix = 1 / np.sqrt(squares)
        return rough
    known = (squares >= least) & (squares <= most)
    found: Matrix = np.divide(1, np.sqrt(squares), out=np.full_like(squares, np.nan), where=known)
    other = np.flatnonzero(~known)
    found[other[~rows[other].any(axis=1)]] = 0
    return found


def rough_cosines(rows: Matrix, unit: Matrix, inverse: Matrix | None = None) -> Matrix:
    """About the cosine of each row with a unit vector, as near as `memory.search.vectors.slack` says.

    ``inverse``: the rows' ``inverse_lengths``, where they are known.
    """
    if inverse is None:
        inverse = inverse_lengths(rows)
    with _quiet():
        found = products(rows, unit)
        found *= inverse
    return _sure(found, lambda odd: rows[odd], unit)


def rough_cosines_at(places: Ints, rows: Matrix, unit: Matrix, inverse: Matrix) -> Matrix:
    """As ``rough_cosines``, of the rows at these places, which are gathered a few at a time: those stay in a near cache."""
    found = np.empty(len(places), dtype=np.float32)
    step = min(max(1, GATHERED // (4 * rows.shape[1])), len(places))
    gathered = np.empty((step, rows.shape[1]), dtype=np.float32)
    with _quiet():
        for start in range(0, len(places), max(1, step)):
            part = places[start : start + step]
            near = rows.take(part, axis=0, out=gathered[: len(part)], mode="clip")  # any other mode copies once more
            products(near, unit, found[start : start + step])
        found *= inverse.take(places)
    return _sure(found, lambda odd: rows[places[odd]], unit)


def _quiet() -> np.errstate:
    """No warnings of products that are too large: such rows are looked at again (`_sure`)."""
    return np.errstate(over="ignore", invalid="ignore")


def _sure(found: Matrix, rows_at: Callable[[Ints], Matrix], unit: Matrix) -> Matrix:
    """The same; where float32 cannot tell a cosine, from the row itself."""
    if len(found) and math.isnan(np.maximum.reduce(found)):
        odd = np.flatnonzero(np.isnan(found))
        found[odd] = cosines(unit.astype("<f4", copy=False).tobytes(), rows_at(odd))
    return found


def unit_columns(rows: Matrix) -> Matrix:
    """The rows' unit vectors in their rotation, each a column: (dimension, n). The same bits everywhere, whatever the rows."""
    columns = rows.T.astype(np.float32, order="C")
    largest = np.maximum(columns.max(axis=0), -columns.min(axis=0))
    largest[largest == 0] = 1
    columns /= largest  # squares of numbers beyond 1e19 would be too large
    squares = columns * columns
    while len(squares) > 1:  # a sum in an order of our own: numpy's depends on the processor
        half = len(squares) // 2
        squares[:half] += squares[-half:]
        squares = squares[: len(squares) - half]
    columns /= np.maximum(np.sqrt(squares[0]), 1)  # 0 only for zeros: one number is 1
    return rotated(columns)


def centre_of(rows: Matrix) -> Matrix:
    """The mean of the rows' unit vectors in their rotation, which codes are taken around."""
    found: Matrix = unit_columns(rows).mean(axis=1, dtype=np.float64).astype(np.float32)
    return found


def bits_of(units: Matrix, centre: Matrix) -> Words:
    """One bit a number of turned unit vectors: (n, words)."""
    return packed(units - centre > 0)


def packed(above: Any) -> Words:
    """Truths (n, dimension) as bits: (n, words)."""
    bits = np.zeros((len(above), 8 * words_of(above.shape[1])), dtype=np.uint8)
    packed = np.packbits(above, axis=1, bitorder="little")
    bits[:, : packed.shape[1]] = packed
    return bits.view("<u8")


def pack(rows: Matrix, centre: Matrix) -> Codes:
    """The codes of the rows."""
    count, dimension = rows.shape
    half = halves(dimension)
    bits = np.empty((count, words_of(dimension)), dtype="<u8")
    fine, step = np.empty((count, half), dtype=np.uint8), np.empty(count, dtype=np.float32)
    for start in range(0, count, PACKED):
        end = min(count, start + PACKED)
        away = unit_columns(rows[start:end])
        away -= centre[:, None]
        bits[start:end] = packed(np.ascontiguousarray((away > 0).T))
        size = np.maximum(away.max(axis=0), -away.min(axis=0)) / np.float32(7.5)
        step[start:end] = np.maximum(size, LEAST)
        away *= 1 / step[start:end]
        away += 8.0
        steps = away.astype(np.uint8)
        steps[: dimension - half] |= steps[half:] << 4
        fine[start:end] = steps[:half].T
    return Codes(bits, fine, step)


def fine_products(fine: Bytes, step: Matrix, unit: Matrix) -> Matrix:
    """The product of each finely coded vector with a turned unit vector, about, less that of the centre."""
    half = fine.shape[1]
    low, high = unit[:half], np.zeros(half, dtype=np.float32)
    high[: len(unit) - half] = unit[half:]
    found = np.empty(len(fine), dtype=np.float32)
    for start in range(0, len(fine), PACKED):
        part = fine[start : start + PACKED]
        found[start : start + PACKED] = products((part & 15).astype(np.float32), low)
        found[start : start + PACKED] += products((part >> 4).astype(np.float32), high)
    found -= np.float32(7.5) * unit.sum()
    found *= step
    return found


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
    if len(found) > 64 * SAMPLED and len(found) > 8 * limit:
        # What a sample says is likely enough; the rest is exact again.
        sample = np.sort(found[::SAMPLED])
        places = np.flatnonzero(found <= sample[min(len(sample) - 1, limit * 5 // (4 * SAMPLED) + 16)])
        if limit <= len(places) < len(found):  # where hardly any differ it may be all of them
            return places[closest(found[places], limit)]
    counted = np.cumsum(np.bincount(found))
    last = int(np.searchsorted(counted, limit))  # the distance of the last that is taken
    places = np.flatnonzero(found <= last)
    if len(places) > limit:
        below = found[places] < last
        tied = np.flatnonzero(~below)
        places = np.delete(places, tied[limit - int(below.sum()) :])
    return places


def largest(scores: Matrix, limit: int) -> Any:
    """Places of the ``limit`` largest scores."""
    if len(scores) <= limit:
        return np.arange(len(scores))
    return np.argpartition(scores, len(scores) - limit)[len(scores) - limit :]
