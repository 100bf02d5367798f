"""The framework's own cost: a public call against a call of the hook it ends in, by turns, on the same store.

Where writes go to a worker thread, the wall clock measures that thread too; what the framework costs there is the
processor time of the event loop's thread.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks import workload
from benchmarks.measure import Side, p50, timed_sync, turns
from benchmarks.session import Session, fill
from memory import MemoryItem, MemoryStore
from memory.codec import content_hash, encode
from memory.layers import deadline, observe
from memory.ops import Put, Read
from memory.search.analysis import Analyser

NAME = "overhead"
RECORDS = 500


async def run(session: Session) -> None:
    items = workload.records(0, RECORDS, session.options.vectors)
    for backend in session.options.backends:
        for layers in (False, True):
            options: dict[str, Any] = {}
            if layers:
                options["layers"] = (deadline(30.0), observe(_Metrics()))
            durability = "none" if backend == "in_memory" else "normal"
            async with session.store(backend, durability=durability, **options) as store:
                await fill(store, RECORDS, session.options.vectors)
                await _get(session, store, backend, layers)
                await _put(session, store, backend, items, durability, layers)
    _parts(session, items)


class _Metrics:
    """An observer that does what a metrics library does: a counter and a histogram for each operation."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, bool], int] = {}
        self._buckets: dict[str, list[int]] = {}

    def __call__(self, name: str, seconds: float, error: BaseException | None) -> None:
        label = (name, error is None)
        self._counts[label] = self._counts.get(label, 0) + 1
        buckets = self._buckets.setdefault(name, [0] * 40)
        buckets[int(seconds * 1e6).bit_length()] += 1


async def _get(session: Session, store: MemoryStore, backend: str, layers: bool) -> None:
    keys = workload.keys(RECORDS)
    ops = [Read(keys=(key,), now=store._clock()) for key in keys]

    async def public(i: int) -> None:
        path, id = keys[i]
        await store.get(id, namespace=path)

    async def hook(i: int) -> None:
        await store._read(ops[i])

    clock = time.perf_counter_ns
    await _compare(session, "get over the hook", backend, "", layers, public, hook, clock)


async def _put(
    session: Session, store: MemoryStore, backend: str, items: list[MemoryItem], durability: str, layers: bool
) -> None:
    ops: list[Put] = [store._operation(store, *store._check(item), -1, False, None, None) for item in items]
    await store._add_terms(ops)

    async def public(i: int) -> None:
        await store.put(items[i])

    async def hook(i: int) -> None:
        await store._write((ops[i],), False)

    clock = time.perf_counter_ns if backend == "in_memory" else time.thread_time_ns
    await _compare(session, "put over the hook", backend, durability, layers, public, hook, clock)


async def _compare(
    session: Session,
    what: str,
    backend: str,
    durability: str,
    layers: bool,
    public: Callable[[int], Awaitable[None]],
    hook: Callable[[int], Awaitable[None]],
    clock: Callable[[], int],
) -> None:
    def side(call: Callable[[int], Awaitable[None]]) -> Side:
        state = iter(range(10**9))

        async def run_side(count: int) -> list[float]:
            spent = []
            for _ in range(count):
                i = next(state) % RECORDS
                start = clock()
                await call(i)
                spent.append((clock() - start) / 1e3)
            return spent

        return run_side

    ours, theirs = await turns((side(public), side(hook)), session.options.rounds, session.options.calls)
    costs = [a - b for a, b in zip(p50(ours), p50(theirs), strict=True)]
    kind = "loop thread's processor time, " if clock is time.thread_time_ns else ""
    session.add(
        NAME, what + (", layers on" if layers else ""), backend, "µs", costs,
        durability=durability, note=f"{kind}public {sorted(p50(ours))[len(ours) // 2]:.1f} - hook",
    )  # fmt: skip


def _parts(session: Session, items: list[MemoryItem]) -> None:
    """What of a put's cost a program written by hand has too: it encodes, hashes and analyses as well."""
    analyser = Analyser()
    for item in items:
        analyser.counts(item.searchable)
    parts: dict[str, Callable[[int], object]] = {
        "canonical bytes": lambda i: encode(items[i]),
        "content hash": lambda i: content_hash(items[i]),
        "terms of 200 characters": lambda i: analyser.counts(items[i].searchable),
    }
    numbers = [i % RECORDS for i in range(session.options.calls)]
    for what, call in parts.items():
        spent = [timed_sync(call, numbers) for _ in range(session.options.rounds)]
        session.add(NAME, f"of a put: {what}", "", "µs", p50(spent))
