"""Reading a store whole: every item checked against what wrote it, and every other answer against that scan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from memory.clock import to_micros
from memory.model import MemoryItem
from memory.ops import FeedRead
from memory.search.text import query_terms
from memory.store import MemoryStore
from memory.testing.faults.history import UNEXPECTED, WRONG, By, History, Name, State, Violation
from memory.testing.faults.workload import KINDS, WORDS, item_for

STAMPS = ("created_at", "updated_at", "accessed_at", "expires_at", "access_count", "version", "embedding", "source")


class Findings(msgspec.Struct):
    """What a store holds, and what is wrong with its answers."""

    states: dict[Name, State] = {}
    violations: list[Violation] = []
    records: int = 0


def state_of(item: MemoryItem) -> tuple[State | None, str]:
    """Who wrote an item; or None and why it is not an item that the workload could have written."""
    try:
        by, born = _by(item.content["by"]), _by(item.content["born"])
        trail = frozenset(_by(part.split(".")) for part in item.content["trail"])
    except (TypeError, KeyError, ValueError):
        return None, "its content is not of the workload's shape"
    expected = item_for(item.id, by, born, trail)
    for field in item.__struct_fields__:
        if field not in STAMPS and getattr(item, field) != getattr(expected, field):
            return None, f"its {field} is not what {by} wrote"
    if trail and by not in trail:
        return None, f"{by} wrote it, which is not among its updates"
    return State(item.version, by, born, trail), ""


def _by(pair: Any) -> By:
    writer, serial = pair
    return (int(writer), int(serial))


async def examine(store: MemoryStore, *, thorough: bool = True) -> Findings:
    """Every live item, and whether verify, get, list, count, namespaces and search agree with the scan."""
    found = Findings()
    items: dict[Name, MemoryItem] = {}
    async for batch in store.stream(batch_size=200):
        for item in batch:
            state, why = state_of(item)
            if state is None or item.id in items:
                found.violations.append(Violation(WRONG, item.id, why or "it came twice in one scan"))
            else:
                items[item.id], found.states[item.id] = item, state
    found.records = len(items)
    report = await store.verify()
    found.violations += [Violation(WRONG, "verify", f"{p.what} {p.key} {p.detail}") for p in report.problems]
    if report.checked < len(items):
        found.violations.append(Violation(WRONG, "verify", f"checked {report.checked} of {len(items)} records"))
    if thorough:
        found.violations += [
            Violation(WRONG, question, f"{got} instead of {expected}")
            for question, got, expected in await _answers(store, items)
            if got != expected
        ]
    return found


async def _answers(store: MemoryStore, items: Mapping[Name, MemoryItem]) -> list[tuple[str, Any, Any]]:
    """(question, answer, what the scan says) for reads that go through other indexes."""
    asked: list[tuple[str, Any, Any]] = [("count", await store.count(), len(items))]
    for kind in KINDS:
        same = sum(1 for item in items.values() if item.kind == kind)
        asked.append((f"count of kind {kind}", await store.count({"kind": kind}), same))
    tagged = {item.id for item in items.values() if WORDS[0] in item.tags}
    page = await store.list({"tags": {"$contains": WORDS[0]}}, limit=1_000)
    asked.append(("list by tag", {item.id for item in page}, tagged))
    users = {item.id: item.version for item in items.values() if item.user_id == "user-1"}
    page = await store.list({"user_id": "user-1"}, limit=1_000)
    asked.append(("list by user", {item.id: item.version for item in page}, users))
    newest = [item.id for item in await store.list(order="-created_at", limit=1_000)]
    line = sorted(items.values(), key=lambda item: (-to_micros(item.created_at), item.namespace, item.id))
    asked.append(("list by creation", newest, [item.id for item in line]))
    spaces = sorted({item.namespace for item in items.values()})
    asked.append(("namespaces", sorted(await store.namespaces()), spaces))
    for name, item in list(items.items())[::7]:
        again = await store.get(name, namespace=item.namespace)
        asked.append((f"get {name}", again, item))
    for word in WORDS[:4]:
        term = query_terms(store.analyser, word)[0]
        expected = {
            item.id: msgspec.structs.replace(item, embedding=None)  # hits come without their vectors
            for item in items.values()
            if term in store.analyser.counts(item.searchable)[0]
        }
        hits = await store.search(word, limit=200)
        asked.append((f"search {word}", {hit.item.id: hit.item for hit in hits}, expected))
    if store.embedding is not None:
        for word in WORDS[:2]:
            near, true = [
                [hit.item.id for hit in await store.search(word, mode="vector", limit=200, exact=exact)]
                for exact in (False, True)
            ]
            asked.append((f"nearest to {word}", near, true))
    if store.feed:
        there, wrong = await _replayed(store)
        asked.append(("order of the feed", wrong, ""))
        asked.append(("replay of the feed", there, {name: item.version for name, item in items.items()}))
    return [(question, _short(got, expected), _short(expected, got)) for question, got, expected in asked]


async def _replayed(store: MemoryStore) -> tuple[dict[Name, int], str]:
    """Names and versions that the change feed ends with, and what is wrong with its order."""
    there: dict[Name, int] = {}
    newest: dict[Name, int] = {}
    after, wrong = 0, ""
    while events := (await store._feed(FeedRead(after=after, limit=500, now=store._clock()))).events:
        for event in events:
            name = event.key[1]
            if event.seq <= after or event.version <= newest.get(name, 0):
                wrong = wrong or f"event {event.seq} of {name} at version {event.version} is out of order"
            after, newest[name] = event.seq, event.version
            there.pop(name, None)
            if not event.removed:
                there[name] = event.version
    return there, wrong


def _short(value: Any, other: Any) -> Any:
    """Of two collections only what differs, so that a message stays readable."""
    if isinstance(value, dict) and isinstance(other, dict):
        return {key: part for key, part in value.items() if key not in other or other[key] != part}
    if isinstance(value, set) and isinstance(other, set):
        return value - other
    return value


async def compare(store: MemoryStore, history: History, *, thorough: bool = True, lossy: bool = False) -> Findings:
    """Read a store whole and compare it with the record. An error while reading is a violation too."""
    try:
        found = await examine(store, thorough=thorough)
    except Exception as error:
        return Findings(violations=[Violation(UNEXPECTED, "reading", repr(error))])
    found.violations += history.check(found.states, lossy=lossy)
    return found
