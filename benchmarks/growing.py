"""How a store on a server grows with its records: get, put, filter, text and vector at every size, by turns; and recall.

The servers' benchmarks share it. Stores of all sizes lie on one server, each under a name of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from benchmarks import workload
from benchmarks.figures import percentile
from benchmarks.measure import awaiting, fitted
from benchmarks.nearest import JUDGED, NARROWED, NEAREST, recall, search
from benchmarks.session import Session
from memory import MemoryStore

FIRST = 10
ROUND_SECONDS = 3.0
"""About how long one round of one figure may take, all sizes together."""
WRITTEN = 1_000
"""Live records that puts go to."""
TEXT = "text top-10"
GROWING = {TEXT: "text", NEAREST: "vector"}
"""Figures whose growth has a name of its own among the targets."""
Call = Callable[[int], Awaitable[Any]]


async def growing(session: Session, name: str, backend: str, stores: Mapping[int, MemoryStore]) -> None:
    """Figures of filled stores, by their sizes."""
    options = session.options
    calls = {size: _calls(session, size, store) for size, store in stores.items()}
    rounds, seconds = (1, 0.1) if options.quick else (options.rounds, ROUND_SECONDS)
    for what in calls[min(calls)]:
        sides = {size: awaiting(by_name[what]) for size, by_name in calls.items()}
        found = await fitted(sides, rounds, options.calls, seconds)
        each = {size: [percentile(taken, 0.5) / 1e3 for taken in spent] for size, spent in found.items()}
        durability = stores[min(stores)].durability if what == "put" else ""
        for size, values in each.items():
            session.add(name, f"{what}, p50", backend, "ms", values, records=size, durability=durability)
        session.add_growth(name, GROWING.get(what, what), backend, each, durability)
    if options.vectors:
        await recall(session, name, backend, stores, JUDGED)


def _calls(session: Session, size: int, store: MemoryStore) -> dict[str, Call]:
    """What is done to a store of this size; each call has a number."""
    keys = workload.keys(size)
    written = workload.rewritten(workload.records(0, min(size, WRITTEN), session.options.vectors))
    questions = workload.questions(200, size)

    async def get(number: int) -> None:
        path, id = keys[number * 7_919 % size]
        assert await store.get(id, namespace=path) is not None

    async def put(number: int) -> None:
        await store.put(written[number % len(written)])

    async def listed(number: int) -> None:
        await store.list({"metadata.topic": f"topic{number % workload.TOPICS}"}, limit=FIRST)

    async def asked(number: int) -> None:
        await store.search(questions[number % len(questions)], mode="text", limit=FIRST)

    calls: dict[str, Call] = {
        "get": get,
        "put": put,
        f"indexed filter, first {FIRST}": listed,
        TEXT: asked,
    }
    if session.options.vectors:
        wanted = workload.wanted(200)
        calls |= {what: partial(search, store, wanted, NARROWED[what]) for what in JUDGED}
    return calls
