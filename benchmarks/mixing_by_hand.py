"""Searching by words and by vector at once, by hand: a hundred of each, both halves of every score, the ten best records.

As in `finding_by_hand` and `nearest_by_hand`; the mix is the store's. A text that is not among the newest 1,000 of any word has no
words in common with the question, for all this program knows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.finding_by_hand import FindsByHand
from benchmarks.nearest_by_hand import TOP, Floor, Program
from memory.backends.sqlite.docs import LENGTH_BITS
from memory.search.vectors import Matrix

POOL = 100


class MixesByHand:
    """Searches a file of the store, rows included."""

    def __init__(self, path: Path, floor: Floor) -> None:
        self._words, self._nearest = FindsByHand(path), Program(path, floor)

    def close(self) -> None:
        self._words.close()
        self._nearest.close()

    def search(self, question: str, wanted: Matrix) -> list[Any]:
        """The ten records of the highest mixed score, decoded."""
        docs, scores = self._words.scored(question)
        ords = docs >> LENGTH_BITS
        texts = {int(ords[place]): float(scores[place]) for place in np.argsort(-scores)[:POOL]}
        cosines = self._nearest.nearest(wanted, POOL)
        cosines |= self._nearest.cosines([ord for ord in texts if ord not in cosines], wanted)
        others = [ord for ord in cosines if ord not in texts]
        places = np.minimum(np.searchsorted(ords, others), len(ords) - 1)
        known = ords[places] == others
        texts |= {
            ord: float(scores[place]) if held else 0.0 for ord, place, held in zip(others, places, known, strict=True)
        }
        best = max(texts.values()) or 1.0
        mixed = sorted(texts, key=lambda ord: -(texts[ord] / best + max(0.0, cosines[ord])))
        return self._nearest.records(mixed[:TOP])
