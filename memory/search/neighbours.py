"""``neighbours=n``: a turn of a conversation is found by what was said around it.

Take the best 50 items by their own score. They and the n items before and after each, in the same namespace and
session by (created_at, id), get the score

    (own + 0.3 · sum of the own scores of its n neighbours on either side) / (1 + 0.6·n)

An item's own score is the score the search gives it alone, also where it is not among the best 50: 0 when nothing
of the query matches it. Items outside the filter lend their score like any other; the caller drops them from the
result. A neighbour of a neighbour counts too, so windows reach 2n items to either side of each of the 50. At the
ends of a session the divisor stays: there is less context to speak for an item.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

BEST = 50
SHARE = 0.3

K = TypeVar("K", bound=Hashable)


def best(scores: Mapping[K, float], limit: int = BEST) -> list[K]:
    """The keys of the highest scores, best first, ties by key (keys must be sortable)."""
    ranked: list[K] = sorted(scores)  # type: ignore[type-var]  # sortable, as documented
    ranked.sort(key=scores.__getitem__, reverse=True)  # stable, also in reverse: ties stay in key order
    return ranked[:limit]


def reach(n: int) -> int:
    """How many items to either side of each of the best 50 `share` needs to know of."""
    return 2 * n


def share(own: Mapping[K, float], windows: Iterable[tuple[K, Sequence[K], Sequence[K]]], n: int) -> dict[K, float]:
    """Scores with context, for the best 50 and for the n items to either side of each.

    ``own``: own score by key; a key that is not there has 0. ``windows``: for each of the best 50, best first, (its
    key, what comes before, what comes after), each nearest first and up to ``reach(n)`` long. Where windows
    contradict each other (something was written between two reads), that of the better item counts.
    """
    divisor = 1.0 + 2 * SHARE * n
    shared: dict[K, float] = {}
    for anchor, before, after in windows:
        line = [*reversed(before[: 2 * n]), anchor, *after[: 2 * n]]
        middle = len(line) - 1 - len(after[: 2 * n])
        for i in range(max(0, middle - n), min(len(line), middle + n + 1)):
            key = line[i]
            if key in shared:
                continue
            lent = 0.0
            for j in range(max(0, i - n), min(len(line), i + n + 1)):  # oldest first, so that sums agree to the bit
                if j != i:
                    lent += own.get(line[j], 0.0)
            shared[key] = (own.get(key, 0.0) + SHARE * lent) / divisor
    return shared
