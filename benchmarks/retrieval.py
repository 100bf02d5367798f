"""Retrieval quality on a LoCoMo file through the real stores: evidence recall at 5, 10 and 20.

Each conversation is a namespace and each turn an item of its session; questions search one conversation. The protocol
is in benchmarks.locomo.
"""

from __future__ import annotations

from statistics import fmean

from benchmarks.locomo import CUTS, Conversation, load, recall
from benchmarks.session import Session
from memory import MemoryItem, MemoryStore

NAME = "retrieval"


async def run(session: Session) -> None:
    if session.options.locomo is None:
        return
    conversations = load(session.options.locomo)
    asked = sum(len(conversation.questions) for conversation in conversations)
    found: dict[str, list[float]] = {}
    for backend in session.options.backends:
        async with session.store(backend, index=()) as store:
            await store.put_many([item for conversation in conversations for item in items(conversation)])
            for neighbours in (0, 1, 2):
                ranked = await answers(store, conversations, neighbours)
                method = "text" + (f", neighbours={neighbours}" if neighbours else "")
                for cut in CUTS:
                    value = fmean(recall(ids, evidence, cut) for ids, evidence in ranked)
                    what = f"recall@{cut}, {method}"
                    session.add(NAME, what, backend, "", (value,), note=f"{asked} questions")
                    found.setdefault(what, []).append(value)
    if len(session.options.backends) > 1:
        apart = max(max(values) - min(values) for values in found.values())
        session.add(NAME, "largest difference of a recall", "all", "", (apart,))


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
    store: MemoryStore, conversations: list[Conversation], neighbours: int
) -> list[tuple[list[str], frozenset[str]]]:
    """(ids of the hits, ids of the evidence) for every question."""
    ranked = []
    for conversation in conversations:
        path = ("locomo", conversation.name)
        for question in conversation.questions:
            page = await store.search(question.text, namespace=path, limit=max(CUTS), neighbours=neighbours)
            ranked.append(([hit.item.id for hit in page], question.evidence))
    return ranked
