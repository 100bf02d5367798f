"""From several scores to one: hybrid, the composite order, and diversity. Pure functions; weights in one place.

Hybrid: each half is put on a scale that does not depend on the other, text relative to the best text score of the
pool, vectors by their cosine, and the two are averaged. (Relative scores find more than reciprocal ranks: four points
of recall on long conversations.) Composite: the mix of relevance, recency and importance of generative agents (Park
et al. 2023), with a half-life in place of their decay factor. Diversity: maximal marginal relevance (Carbonell and
Goldstein 1998).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from memory.errors import InvalidSetting

if TYPE_CHECKING:
    import numpy as np

    Floats = np.ndarray[Any, np.dtype[np.float64]]
    Bools = np.ndarray[Any, np.dtype[np.bool_]]


class Weights(msgspec.Struct, frozen=True, kw_only=True):
    """How scores are mixed. Each number is 0 or more; of each group at least one is above 0.

    ``text`` and ``vector`` mix the two halves of a hybrid search; ``relevance``, ``recency`` and ``importance`` make the
    composite order, in which an item's recency halves every ``half_life`` seconds.
    """

    text: float = 1.0
    vector: float = 1.0
    relevance: float = 0.4
    recency: float = 0.3
    importance: float = 0.3
    half_life: float = 86_400.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
                raise InvalidSetting(f"weights: {name} must be a number from 0, not {value!r}", setting="weights")
        if not (self.text + self.vector and self.relevance + self.recency + self.importance and self.half_life):
            raise InvalidSetting(
                "weights: of text and vector, and of relevance, recency and importance, one must be above 0, and so "
                "must half_life",
                setting="weights",
            )


def hybrid(weights: Weights, text: float, best_text: float, cosine: float | None) -> float:
    """(w_t · text / best text + w_v · max(0, cosine)) / (w_t + w_v), from 0 to 1; without a vector its half is 0."""
    half = text / best_text if best_text > 0 else 0.0
    return (weights.text * half + weights.vector * max(0.0, cosine or 0.0)) / (weights.text + weights.vector)


def recency(weights: Weights, created: int, now: int) -> float:
    """1 for what was created now (or later), half of it after each half-life. Times in microseconds."""
    return float(0.5 ** (max(0, now - created) / 1e6 / weights.half_life))


def composite(weights: Weights, relevance: float, recency: float, importance: float) -> float:
    """The weighted mean of three numbers from 0 to 1."""
    total = weights.relevance * relevance + weights.recency * recency + weights.importance * importance
    return total / (weights.relevance + weights.recency + weights.importance)


def most_marginal(relevance: Floats, nearest: Floats, left: Bools, share: float) -> int:
    """Of the places left the one of the greatest share · relevance - (1 - share) · nearest; of equal ones the first.

    ``relevance``: from 0 to 1; ``nearest``: how similar each is to the most similar of those chosen.
    """
    import numpy as np

    return int(np.where(left, share * relevance - (1.0 - share) * nearest, -np.inf).argmax())
