"""Everything a reader can ask of a store, and how the answers of a damaged one compare with those of the whole one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any

import msgspec

from memory.codec import from_dict, to_dict
from memory.errors import BackendUnavailable, CorruptData, StorageFull
from memory.model import MemoryItem
from memory.store import MemoryStore
from memory.testing.faults.history import Name
from memory.testing.faults.workload import KINDS, SHARED, WORDS, key_of, private_names

HARMLESS, AT_OPEN, AT_READ, BY_VERIFY = "harmless", "detected at open", "detected at read", "detected by verify"
OLDER, WRONG, FOREIGN = "an earlier state", "wrong", "foreign error"
DETECTED = (CorruptData, BackendUnavailable, StorageFull)
NAMES = (*SHARED, *private_names(0, 0))

Answers = dict[str, Any]
"""Question -> answer, or the error it ended with."""
Snapshot = frozenset[tuple[Name, int]]
"""The whole state after one acknowledged operation: names and versions."""


class Past(msgspec.Struct):
    """Everything that was ever acknowledged: each item as it was, and each state of the whole."""

    items: dict[tuple[Name, int], MemoryItem] = {}
    states: set[Snapshot] = set()

    def saw(self, items: Iterable[MemoryItem]) -> None:
        """One more acknowledged state."""
        here = {(item.id, item.version): item for item in items}
        self.items.update(here)
        self.states.add(frozenset(here))

    def dump(self) -> bytes:
        """As JSON, for another process."""
        return msgspec.json.encode([[to_dict(item) for item in self.items.values()], [list(s) for s in self.states]])

    @classmethod
    def load(cls, data: bytes) -> Past:
        """The inverse of ``dump``."""
        items, states = msgspec.json.decode(data)
        whole = [from_dict(item) for item in items]
        return cls(
            {(item.id, item.version): item for item in whole},
            {frozenset((name, version) for name, version in state) for state in states},
        )


async def ask(store: MemoryStore) -> Answers:
    """Every question, each on its own: an error of one does not spare the others."""
    answers: Answers = {}

    async def put(question: str, answer: Callable[[], Awaitable[Any]]) -> None:
        try:
            answers[question] = await answer()
        except Exception as error:
            answers[question] = error

    for name in NAMES:
        namespace, id = key_of(name)
        await put(f"get {name}", partial(store.get, id, namespace=namespace))
    for order in ("key", "-created_at", "-updated_at", "importance"):
        await put(f"list by {order}", partial(_list, store, None, order))
    for kind in KINDS:
        await put(f"list of {kind}", partial(_list, store, {"kind": kind}, "key"))
    await put("list by tag", partial(_list, store, {"tags": {"$contains": WORDS[3]}}, "key"))
    await put("list by user", partial(_list, store, {"user_id": "user-1"}, "key"))
    await put("list by metadata", partial(_list, store, {"metadata.shade": {"$gte": 2}}, "key"))
    await put("count", store.count)
    await put("count of kind", partial(store.count, {"kind": KINDS[0]}))
    await put("namespaces", store.namespaces)
    for word in WORDS[:6]:
        await put(f"search {word}", partial(_search, store, word, 0))
    await put("search with neighbours", partial(_search, store, f"{WORDS[6]} {WORDS[7]}", 1))
    if store.embedding is not None:
        await put("nearest", partial(_search, store, WORDS[2], 0, mode="vector"))
        await put("hybrid", partial(_search, store, f"{WORDS[2]} {WORDS[4]}", 0, mode="hybrid", limit=5))
    await put("verify", partial(_verify, store))
    return answers


async def _list(store: MemoryStore, where: dict[str, Any] | None, order: str) -> list[MemoryItem]:
    return (await store.list(where, order=order, limit=1_000)).items


async def _search(
    store: MemoryStore, query: str, neighbours: int, limit: int = 100, **how: Any
) -> list[tuple[MemoryItem, float]]:
    page = await store.search(query, limit=limit, neighbours=neighbours, **how)
    return [(hit.item, round(hit.score, 9)) for hit in page]


async def _verify(store: MemoryStore) -> list[str]:
    return [problem.what for problem in (await store.verify()).problems]


def judge(whole: Answers, found: Answers, past: Past) -> tuple[str, str]:
    """(verdict, why). A wrong memory stays wrong even if verify would have told."""
    reported: dict[str, str] = {}
    for question, answer in found.items():
        if isinstance(answer, DETECTED):
            reported[question] = f"{question}: {answer!r:.200}"
        elif isinstance(answer, Exception):
            return FOREIGN, f"{question}: {answer!r:.200}"
        for item in _items(answer):
            known = past.items.get((item.id, item.version))
            if known is None or item not in (
                known,
                msgspec.structs.replace(known, embedding=None),
            ):  # hits have no vector
                return WRONG, f"{question} answered with an item nobody wrote: {item.id} at version {item.version}"
    if reported.keys() - {"verify"}:
        return AT_READ, next(iter(reported.values()))
    if reported or found["verify"]:
        return BY_VERIFY, reported.get("verify") or found["verify"][0]
    different = [question for question in whole if found[question] != whole[question]]
    if not different:
        return HARMLESS, ""
    if _consistently_older(found, past):
        return OLDER, different[0]
    question = different[0]
    return WRONG, f"verify found nothing, yet {question} answered {_brief(found[question], whole[question])}"


def _consistently_older(found: Answers, past: Past) -> bool:
    """Whether every answer belongs to one and the same acknowledged earlier state."""
    state = _versions(found["list by key"])
    if state not in past.states:
        return False
    there = dict(state)
    for name in NAMES:
        item = found[f"get {name}"]
        if (item.version if item is not None else None) != there.get(name):
            return False
    items = [past.items[part] for part in state]
    lists = all(_versions(found[f"list by {order}"]) == state for order in ("-created_at", "-updated_at", "importance"))
    kinds = all(
        _versions(found[f"list of {kind}"]) == {(item.id, item.version) for item in items if item.kind == kind}
        for kind in KINDS
    )
    return lists and kinds and found["count"] == len(state)


def _versions(items: Iterable[MemoryItem]) -> Snapshot:
    return frozenset((item.id, item.version) for item in items)


def _items(answer: Any) -> list[MemoryItem]:
    parts = [
        part[0] if isinstance(part, tuple) else part for part in (answer if isinstance(answer, list) else [answer])
    ]
    return [part for part in parts if isinstance(part, MemoryItem)]


def _brief(found: Any, whole: Any) -> str:
    if isinstance(found, list) and isinstance(whole, list):
        return f"{len(found)} entries instead of {len(whole)}"
    return f"{found!r:.80} instead of {whole!r:.80}"
