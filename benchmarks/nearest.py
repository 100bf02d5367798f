"""Searches by vector as every benchmark of them makes them: over the whole store, under filters, in a namespace; and recall."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import workload
from benchmarks.nearest_by_hand import TOP
from benchmarks.session import Session
from memory import MemoryStore

NEAREST = "vector top-10"
Narrowed = Callable[[int], dict[str, Any]]
"""What a search is narrowed by, from its number: stores remember filters, so these change from call to call."""


def _at_least(number: int, score: int) -> dict[str, Any]:
    # Scores are whole numbers, so each of these filters lets the same records through, and none is like another.
    return {"where": {"metadata.score": {"$gte": score - 0.5 + number / 1_000_000}}}


def _between(number: int, width: int) -> dict[str, Any]:
    low = number * 37 % (1_001 - width)
    return {"where": {"metadata.score": {"$gte": low, "$lt": low + width}}}


# None has to do with the vectors' clusters.
NARROWED: dict[str, Narrowed] = {
    NEAREST: lambda _: {},
    f"{NEAREST} of 10 %": lambda number: _at_least(number, 900),
    f"{NEAREST} of 10 %, the same filter": lambda _: _at_least(0, 900),
    f"{NEAREST} of 1 %": lambda number: _at_least(number, 990),
    f"{NEAREST} of 1 %, between two values": lambda number: _between(number, 10),
    f"{NEAREST} in one namespace": lambda number: {"namespace": workload.namespace(number * 7)},
    f"{NEAREST} of 8 %, not indexed": lambda number: {"where": {"metadata.place.floor": number % 12}},
}
COMPARED = tuple(what for what in NARROWED if "not indexed" not in what and "the same" not in what)
"""Those whose recall is of interest."""
JUDGED = tuple(f"{NEAREST}{narrowed}" for narrowed in ("", " of 10 %", " of 1 %", " in one namespace"))
"""Those that have a target."""


async def search(store: MemoryStore, asked: Any, narrowed: Narrowed, number: int) -> None:
    """One search, rows included."""
    await store.search(vector=asked[number % len(asked)], limit=TOP, **narrowed(number))


async def recall(
    session: Session,
    name: str,
    backend: str,
    stores: Mapping[int, MemoryStore],
    figures: Sequence[str] = COMPARED,
) -> None:
    """How many of the nearest each search finds, against ``exact=True`` of the same store."""
    asked = workload.wanted(5 if session.options.quick else 50)
    for what in figures:
        narrowed = NARROWED[what]
        for size, store in stores.items():
            shares = []
            for number, vector in enumerate(asked):
                found = await store.search(vector=vector, limit=TOP, **narrowed(number))
                exact = await store.search(vector=vector, limit=TOP, exact=True, **narrowed(number))
                keys = {hit.item.key for hit in exact}
                shares.append(len(keys & {hit.item.key for hit in found}) / max(1, len(keys)))
            note = f"{len(asked)} searches, the least {min(shares):.1f}"
            session.add(name, f"recall, {what}", backend, "", (float(np.mean(shares)),), records=size, note=note)
