"""What a search has to return, from the model's records and memory.search alone."""

from __future__ import annotations

from typing import Any

from memory.model import MemoryItem
from memory.search.analysis import Analyser
from memory.search.neighbours import best, share
from memory.search.text import Scorer, query_terms, reference_match
from memory.testing.machine.model import Key, Model, Pins, key_bytes

_ANALYSER = Analyser()


def searchable(record: dict[str, Any]) -> str:
    """The text that search sees."""
    return MemoryItem(content=record["content"], text=record["text"]).searchable


def search(model: Model, pins: Pins, where: Any, query: str, neighbours: int) -> list[tuple[Key, float]]:
    """(key, score), best first, ties by key."""
    terms = query_terms(_ANALYSER, query)
    inside = model.seen(pins)
    keys = {key_bytes(record): record for record in inside}
    counted = {place: _ANALYSER.counts(searchable(record)) for place, record in keys.items()}
    matching = {key_bytes(record) for record in model.seen(pins, where)}
    fed = [(place, keys[place]["created_at"], *counted[place]) for place in matching]
    df, found = reference_match(terms, fed)
    scorer = Scorer(terms, df)
    own = {place: scorer.score(scorer.counts(counts), length) for place, (counts, length) in counted.items()}
    scores = {one.key: own[one.key] for one in found}
    if neighbours:
        line = sorted(inside, key=lambda record: (record["created_at"], record["id"].encode()))
        windows = []
        for place in best(scores):
            here = keys[place]
            near = [
                key_bytes(r)
                for r in line
                if (r["namespace"], r["session_id"]) == (here["namespace"], here["session_id"])
            ]
            middle, reach = near.index(place), 2 * neighbours
            windows.append((place, near[max(0, middle - reach) : middle][::-1], near[middle + 1 : middle + 1 + reach]))
        shared = share(own, windows, neighbours)
        scores = {place: score for place, score in shared.items() if score > 0 and place in matching}
    ranked = sorted(scores, key=lambda place: (-scores[place], place))
    return [((keys[place]["namespace"], keys[place]["id"]), scores[place]) for place in ranked]
