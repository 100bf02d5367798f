"""Retrieval quality on a LoCoMo file through the real stores: evidence recall at 5, 10 and 20.

Each conversation is a namespace and each turn an item of its session; questions search one conversation. The protocol
is in benchmarks.locomo. With an embedder also by vector and by both, each text embedded once for all stores; the bars
of those are for all-MiniLM-L6-v2.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any, Literal

from benchmarks.embedders import MINILM, Remembering, embedder
from benchmarks.locomo import CUTS, Conversation, load, recall
from benchmarks.session import Session, left_out
from memory import MemoryItem, MemoryStore
from memory.store import Weights
from memory.testing.services import ServiceMissing

NAME = "retrieval"
NEIGHBOURS = (0, 1, 2)
FOUND_BY: dict[str, dict[str, Any]] = {"faiss": {"exact": 0}}
"""Settings: so few turns would be compared one by one, without the index that is to be judged."""
EVEN = (1.0, 1.0)
"""Weights of text and vector, as a store has them unless told otherwise."""
Mode = Literal["text", "vector", "hybrid"]
Recalls = dict[str, float]
"""Figure -> recall."""


async def run(session: Session) -> None:
    if session.options.locomo is None:
        return
    conversations = load(session.options.locomo)
    asked = sum(len(conversation.questions) for conversation in conversations)
    maker = None if session.options.embedder is None else Remembering(embedder(session.options.embedder))
    if maker is not None:
        await maker.ready([question.text for conversation in conversations for question in conversation.questions])
    found: dict[str, Recalls] = {}
    for backend in session.options.backends:
        try:
            made = session.store(backend, index=(), embedder=maker, **FOUND_BY.get(backend, {}))
        except ServiceMissing as missing:
            left_out(f"{NAME} on {backend}", missing)
            continue
        async with made as store:
            await store.put_many([item for conversation in conversations for item in items(conversation)])
            found[backend] = await _recalls(session, store, conversations)
        by = "" if maker is None else f", {maker.name}"
        barred = session.options.embedder == MINILM
        for what, value in found[backend].items():
            judged = ", text" in what or barred
            note = f"{asked} questions" + ("" if ", text" in what else by)
            session.add(NAME, what, backend, "", (value,), target=None if judged else "none", note=note)
        if maker is not None:
            worst = min(_gains(found[backend]))
            session.add(
                NAME, "least recall of hybrid over text", backend, "", (worst,), target=None if barred else "none"
            )
    if len(found) > 1:
        each = [[recalls[what] for recalls in found.values()] for what in next(iter(found.values()))]
        apart = max(max(values) - min(values) for values in each)
        session.add(NAME, "largest difference of a recall", "all", "", (apart,))
    if maker is not None:
        await maker.close()


async def _recalls(session: Session, store: MemoryStore, conversations: list[Conversation]) -> Recalls:
    found: Recalls = {}
    modes: tuple[Mode, ...] = ("text",) if session.options.embedder is None else ("text", "vector", "hybrid")
    for mode in modes:
        for text, vector in (EVEN, *session.options.weights) if mode == "hybrid" else (EVEN,):
            store.weights = Weights(text=text, vector=vector)
            mixed = "" if text == vector else f" {text:g}:{vector:g}"
            for neighbours in NEIGHBOURS:
                ranked = await answers(store, conversations, mode, neighbours)
                method = f"{mode}{mixed}" + (f", neighbours={neighbours}" if neighbours else "")
                for cut in CUTS:
                    found[f"recall@{cut}, {method}"] = fmean(recall(ids, evidence, cut) for ids, evidence in ranked)
    return found


def _gains(recalls: Recalls) -> list[float]:
    """What hybrid finds more than text, at each cut and with as many neighbours."""
    return [
        recalls[hybrid] - value
        for what, value in recalls.items()
        if ", text" in what and (hybrid := what.replace(", text", ", hybrid")) in recalls
    ]


def items(conversation: Conversation) -> list[MemoryItem]:
    """The turns of a conversation as items."""
    return [
        MemoryItem(
            id=turn.id,
            namespace=("locomo", conversation.name),
            kind="conversation",
            content=turn.text,
            session_id=turn.session,
            created_at=turn.created_at,
        )
        for turn in conversation.turns
    ]


async def answers(
    store: MemoryStore, conversations: list[Conversation], mode: Mode, neighbours: int
) -> list[tuple[list[str], frozenset[str]]]:
    """(ids of the hits, ids of the evidence) for every question."""
    ranked = []
    for conversation in conversations:
        path = ("locomo", conversation.name)
        for question in conversation.questions:
            page = await store.search(question.text, namespace=path, mode=mode, limit=max(CUTS), neighbours=neighbours)
            ranked.append(([hit.item.id for hit in page], question.evidence))
    return ranked
