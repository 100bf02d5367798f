"""The bits of many vectors as FAISS looks through them: in registers, four numbers of 32 vectors at a time.

FAISS's *fast scan* (André, Kermarrec and Le Scouarnec 2017) is made for product quantisers of four bits. Four bits of a code are
one: of each of their 16 patterns of signs it looks up what the query's four numbers are worth. Nothing is trained.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import faiss
import numpy as np

from memory.backends.faiss.codes import Query
from memory.backends.sqlite.codes import Ints, Words
from memory.search.vectors import Matrix

PACKED = 16_384
"""Codes put in FAISS's order in one step, each of which takes as much memory again."""
_SIGNS = np.where(np.arange(16)[:, None] >> np.arange(4) & 1, 1, -1).astype(np.float32)
"""What the 16 values of four bits mean."""


class Scan:
    """The bits (n, words) of vectors, by place. They are read a step at a time, and ``after`` is called after each."""

    def __init__(self, bits: Words, after: Callable[[], None] = lambda: None) -> None:
        self.count, words = bits.shape
        quantiser = faiss.IndexPQ(64 * words, 16 * words, 4, faiss.METRIC_INNER_PRODUCT)
        faiss.copy_array_to_vector(np.tile(_SIGNS.reshape(-1), 16 * words), quantiser.pq.centroids)
        quantiser.is_trained = True
        self._index = _packed(quantiser, bits[:0])
        self._index.ntotal, self._index.ntotal2 = self.count, -(-self.count // self._index.bbs) * self._index.bbs
        self._index.codes.resize(self._index.ntotal2 * self._index.M2 // 2)
        whole, done = _memory(self._index), 0
        for start in range(0, self.count, PACKED):
            part = _packed(quantiser, bits[start : start + PACKED])
            piece = _memory(part)
            whole[done : done + len(piece)] = piece
            done += len(piece)
            after()

    def nearest(self, query: Query, count: int) -> tuple[Ints, Matrix]:
        """Places of so many codes, or of all, by which the sum of the query's numbers is largest; and their sums."""
        count = min(count, self.count)
        with one_thread():
            (sums,), (places,) = self._index.search(query.numbers, count)
        known = places >= 0
        if known.all():
            return places, sums
        # FAISS passes over codes of the least sum that there can be.
        places, sums = places[known], sums[known]
        others = np.setdiff1d(np.arange(self.count), places)[: count - len(places)]
        least = np.full(len(others), -np.abs(query.numbers).sum(), dtype=np.float32)
        return np.concatenate([places, others]), np.concatenate([sums, least])


def _packed(quantiser: Any, bits: Words) -> Any:
    faiss.copy_array_to_vector(np.ascontiguousarray(bits, dtype="<u8").reshape(-1).view(np.uint8), quantiser.codes)
    quantiser.ntotal = len(bits)
    return faiss.IndexPQFastScan(quantiser)


def _memory(index: Any) -> Any:
    """The codes of an index, as they lie in its memory."""
    return faiss.rev_swig_ptr(index.codes.get(), index.codes.size())


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """FAISS works in this thread alone: its threads would wait for each other, and hang after a fork."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
