"""The trained alternative: lists of a coarse quantiser, each a range of places, of which a search looks through some.

The heads of the lists are the means of what k-means has put together in a sample. How many lists have to be looked through
is not guessed: for vectors that it was not trained with, training counts where in their order of lists their nearest in
the sample lie. So vectors without clusters get many probes, and as many results as without lists.
"""

from __future__ import annotations

from typing import NamedTuple

import faiss
import numpy as np

from memory.backends.faiss.scan import one_thread
from memory.backends.sqlite.codes import Ints
from memory.search.vectors import Matrix

LEAST = 10_000
"""Codes from which on lists are worth their training. There are as many as the root of the number of codes."""
SAMPLED = 40
"""Codes sampled for each list,"""
ROUNDS = 8
"""and rounds of k-means over them."""
ASKED = 1_024
"""Vectors of the sample that are kept out of the training, to count probes with."""
FOUND = 0.995
"""Part of their nearest that lies in the lists looked through,"""
SPARE = 1
"""without so many to spare: where a few vectors lie between lists, all their nearest may be in the next."""
TOP = 64
"""Nearest of each that are looked at."""


class Lists(NamedTuple):
    """``heads`` (lists, dimension); ``probes``: lists that hold the nearest 1, 2, 4, ... of a sample."""

    heads: Matrix
    probes: tuple[int, ...]

    def of(self, units: Matrix) -> Ints:
        """The list of each unit vector."""
        return _nearest(units, self.heads, 1)[:, 0]


def worth(count: int) -> int:
    """So many lists for so many codes; 0: none."""
    return int(np.sqrt(count)) if count >= LEAST else 0


def sampled(count: int) -> float:
    """The part of so many codes that is trained with."""
    return min(1.0, (SAMPLED * worth(count) + ASKED) / count)


def train(units: Matrix, count: int) -> Lists:
    """So many lists, from a sample of unit vectors (n, dimension) in any order."""
    asked = min(ASKED, len(units) // 2)
    questions, rest = units[:asked], np.ascontiguousarray(units[asked:])
    count = min(count, len(rest))
    with one_thread():
        means = faiss.Kmeans(
            units.shape[1], count, niter=ROUNDS, spherical=True, seed=1, min_points_per_centroid=1,
            max_points_per_centroid=len(rest),
        )  # fmt: skip
        means.train(rest)
    lists = Lists(np.asarray(means.centroids, dtype=np.float32), ())
    ranks = np.argsort(_nearest(questions, lists.heads, count), axis=1)
    near = _nearest(questions, rest, max(1, min(TOP, len(rest))))
    found = np.take_along_axis(ranks, lists.of(rest)[near], axis=1)
    tops = [2**power for power in range(TOP.bit_length()) if 2**power <= near.shape[1]]
    last = 0
    probes = []
    for top in tops:
        last = max(last, int(np.quantile(found[:, :top], FOUND, method="higher")))
        probes.append(min(count, last + 1 + SPARE))
    return lists._replace(probes=tuple(probes))


def probed(probes: tuple[int, ...], wanted: int, sample: float) -> int | None:
    """How many lists hold the nearest ``wanted``, if a sample was such a part of all; None: all of them."""
    power = max(0, int(np.ceil(np.log2(wanted * sample)))) if wanted * sample > 1 else 0
    return probes[power] if power < len(probes) else None


def _nearest(rows: Matrix, among: Matrix, count: int) -> Ints:
    with one_thread():
        found: Ints = faiss.knn(np.ascontiguousarray(rows), among, count, metric=faiss.METRIC_INNER_PRODUCT)[1]
    return found
