"""Why a search found what it found, and what to try when it found nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory.cli.command import At
from memory.cli.output import safe

if TYPE_CHECKING:
    from memory.store import Hit, MemoryStore, Weights

_MODEL = "sentence-transformers:all-MiniLM-L6-v2"


def explained(hit: Hit, weights: Weights, neighbours: int) -> str:
    """How a hit's score came about: its words, its cosine, what neighbours lend, what recency and importance add."""
    parts = hit.components
    own = _own(parts)
    if neighbours:
        own = f"({own}) / {1 + 0.6 * neighbours:g} + {parts['neighbours']:.2f} lent"
    if "recency" not in parts:
        return own
    total = weights.relevance + weights.recency + weights.importance
    mix = " + ".join(
        f"{getattr(weights, name) / total:.2g} x {name} {parts[name]:.2f}"
        for name in ("relevance", "recency", "importance")
    )
    return f"{mix}; relevance from {own}"


def _own(parts: dict[str, Any]) -> str:
    """Relevance by itself, without neighbours."""
    near = "no vector" if parts.get("vector") is None else f"cosine {parts['vector']:.2f}"
    if "terms" not in parts:
        return near
    words = " + ".join(
        f"{safe(part['term'])} {part['contribution']:.2f} ({part['tf']}x, in {part['df']})"
        for part in parts["terms"]
        if part["tf"]
    )
    words = words or "no word of its own"
    return f"text {parts['text']:.2f} / the best ({words}), averaged with {near}" if "vector" in parts else words


async def remedy(
    at: At,
    store: MemoryStore,
    where: dict[str, Any] | None,
    scope: dict[str, Any],
    mode: str,
    cuts: dict[str, float | None],
    neighbours: int,
) -> str:
    """What to try when nothing was found, from how was searched and what there is to find."""
    view = at.view(store)
    everything = await view.count(**scope)
    if not everything:
        if at.scoped or any(scope.values()):
            return "There are no memories in this scope at all: check --user, --namespace and `memory config`"
        return f"Nothing is remembered yet{at.hint}"
    there = await view.count(where, **scope) if where else everything
    if not there:
        return f"None of the {everything} memories in this scope satisfies --where: loosen it"
    embedder = store.embedding
    knows = embedder is not None and embedder.semantic
    if mode == "auto":
        mode = "hybrid" if knows else "text"
    tries = []
    if given := [option for option, value in cuts.items() if value]:
        tries.append(f"a lower {' or '.join(given)}")
    if mode != "vector":
        tries.append("other words for the same thing (words are matched in any of their forms)")
    if not neighbours:
        tries.append("--neighbours 1, which also finds what was said next to a match")
    if mode != "text" and (owed := (await store.stats()).details.get("vectors_owed")):
        tries.append(f"`memory reembed`, since {owed:,} of the store's memories have no vector yet")
    if not knows:
        tries.append(_semantic(None if embedder is None else embedder.name))
    elif mode == "text":
        tries.append("--mode hybrid, which also searches by meaning")
    how = {"text": "by words (text)", "vector": "by vector", "hybrid": "by words and vector (hybrid)"}[mode]
    return f"{there:,} {'memory was' if there == 1 else 'memories were'} searched {how}. Try {', or '.join(tries)}"


def _semantic(embedder: str | None) -> str:
    """How to come to a search by meaning: what is still to be installed, set and done."""
    from importlib.util import find_spec

    steps = [f"set MEMORY_EMBEDDER={_MODEL}", "run `memory reembed`"]
    if find_spec("sentence_transformers") is None:
        steps.insert(0, "pip install 'agent-memory-backends[semantic]'")
    why = "which needs a model" if embedder is None else f"which {embedder} cannot"
    return f"search by meaning, {why}: {', '.join(steps)}"
