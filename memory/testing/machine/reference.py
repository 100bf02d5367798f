"""What a search has to return: texts by memory.search.text, all else said once more in plain Python."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from memory.search.analysis import Analyser
from memory.search.neighbours import best, share
from memory.search.text import Scorer, query_terms, reference_match
from memory.testing.machine.model import SECOND, Key, Model, Pins, Vector, key_bytes, searchable

_ANALYSER = Analyser()
HALF_LIFE = 86_400


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One search. ``query`` and ``vector``: hybrid."""

    pins: Pins
    where: Any
    query: str | None = None
    vector: Vector | None = None
    neighbours: int = 0
    order: str = "relevance"
    min_vector: float | None = None


def search(model: Model, asked: Asked) -> list[tuple[Key, float]]:
    """(key, score), best first, ties by key."""
    inside = model.seen(asked.pins)
    keys = {key_bytes(record): record for record in inside}
    matching = {key_bytes(record) for record in model.seen(asked.pins, asked.where)}
    texts, matched = _texts(asked, keys, matching)
    cosines = {} if asked.vector is None else _cosines(asked.vector, keys)
    top = max((texts[place] for place in matched), default=0.0)

    def relevance(place: Any) -> float:
        if asked.vector is None:
            return texts[place]
        if asked.query is None:
            return cosines.get(place, 0.0)
        half = texts[place] / top if top > 0 else 0.0
        return (half + max(0.0, cosines.get(place, 0.0))) / 2

    near = {place for place in cosines if place in matching}
    scores = {place: relevance(place) for place in matched | near}
    if asked.neighbours:
        own = {place: max(0.0, relevance(place)) for place in keys}
        shared = share(own, _windows(best(scores), keys, asked.neighbours), asked.neighbours)
        scores = {place: score for place, score in shared.items() if score > 0 and place in matching}
    if asked.order == "composite":
        # A cosine and a hybrid score are absolute; what has no upper limit is measured by the best.
        highest = max(scores.values(), default=0.0)
        unit = highest if asked.vector is None or asked.neighbours else 1.0
        for place, score in scores.items():
            record = keys[place]
            part = max(0.0, score / unit) if highest > 0 else 0.0
            fresh = 0.5 ** (max(0, model.now - record["created_at"]) / SECOND / HALF_LIFE)
            scores[place] = (0.4 * part + 0.3 * fresh + 0.3 * record["importance"]) / (0.4 + 0.3 + 0.3)
    if asked.min_vector is not None:
        scores = {place: score for place, score in scores.items() if cosines.get(place, -2.0) >= asked.min_vector}
    ranked = sorted(scores, key=lambda place: (-scores[place], place))
    return [((keys[place]["namespace"], keys[place]["id"]), scores[place]) for place in ranked]


def diverse(model: Model, ranked: list[tuple[Key, float]], limit: int, share: float) -> list[tuple[Key, float]]:
    """The picks of maximal marginal relevance from a ranked list."""
    highest = max((score for _, score in ranked), default=0.0)
    left: list[tuple[Key, float]] = list(ranked)
    picked: list[tuple[Key, float]] = []
    while left and len(picked) < limit:

        def worth(one: tuple[Key, float]) -> float:
            alike = [_alike(model.records[one[0]], model.records[key]) for key, _ in picked]
            relevance = max(0.0, one[1] / highest) if highest > 0 else 0.0
            return share * relevance - (1.0 - share) * max([0.0, *alike])

        chosen = max(left, key=worth)  # of equals the first
        left.remove(chosen)
        picked.append(chosen)
    return picked


def cosine(one: Vector, other: Vector) -> float:
    """Of two vectors; 0 when one of them has no direction."""
    lengths = math.sqrt(_dot(other, other)) * math.sqrt(_dot(one, one))
    return max(-1.0, min(1.0, _dot(one, other) / lengths)) if lengths > 0 else 0.0


def _dot(one: Vector, other: Vector) -> float:
    total = 0.0
    for a, b in zip(one, other, strict=True):
        total += a * b
    return total


def _alike(one: dict[str, Any], other: dict[str, Any]) -> float:
    a, b = one["embedding"], other["embedding"]
    return 0.0 if a is None or b is None else cosine(b, a)


def _texts(asked: Asked, keys: dict[Any, Any], matching: set[Any]) -> tuple[dict[Any, float], set[Any]]:
    """The text score of every item, and the places of those that match."""
    if asked.query is None:
        return {}, set()
    terms = query_terms(_ANALYSER, asked.query)
    counted = {place: _ANALYSER.counts(searchable(record)) for place, record in keys.items()}
    df, found = reference_match(terms, [(place, keys[place]["created_at"], *counted[place]) for place in matching])
    scorer = Scorer(terms, df)
    scores = {place: scorer.score(scorer.counts(counts), length) for place, (counts, length) in counted.items()}
    return scores, {one.key for one in found}


def _cosines(vector: Vector, keys: dict[Any, Any]) -> dict[Any, float]:
    held = {place: record["embedding"] for place, record in keys.items()}
    return {place: cosine(vector, embedding) for place, embedding in held.items() if embedding is not None}


def _windows(places: list[Any], keys: dict[Any, Any], neighbours: int) -> list[tuple[Any, list[Any], list[Any]]]:
    """What stands before and after each place in its namespace and session."""
    line = sorted(keys.values(), key=lambda record: (record["created_at"], record["id"].encode()))
    windows, reach = [], 2 * neighbours
    for place in places:
        here = keys[place]
        near = [
            key_bytes(r) for r in line if (r["namespace"], r["session_id"]) == (here["namespace"], here["session_id"])
        ]
        middle = near.index(place)
        windows.append((place, near[max(0, middle - reach) : middle][::-1], near[middle + 1 : middle + 1 + reach]))
    return windows
