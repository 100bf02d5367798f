"""The framework's own cost: a public call against a call of the hook it ends in, by turns, on the same store.

Where writes go to a worker thread, waking it costs more, and varies more, than what is looked for. There the hook is
replaced, for both sides, by one that answers at once what the real one answered before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from statistics import median
from typing import Any

from benchmarks import workload
from benchmarks.measure import Side, p50, timed, timed_sync, turns
from benchmarks.session import Session, fill
from memory import MemoryItem, MemoryStore
from memory.codec import content_hash, encode
from memory.layers import deadline, observe, wrap
from memory.ops import Put, Read, Result, Write
from memory.search.analysis import Analyser
from memory.vectors import vector_bytes

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

    await _compare(session, "get over the hook", backend, "", layers, public, hook)


async def _put(
    session: Session, store: MemoryStore, backend: str, items: list[MemoryItem], durability: str, layers: bool
) -> None:
    ops: list[Put] = [store._operation(store, *store._check(item), -1, False, None, None) for item in items]
    await store._add_terms(ops)
    write: Callable[[Sequence[Write], bool], Awaitable[list[Result]]] = store._write
    if backend != "in_memory":
        answers = {op.key: [result] for op, result in zip(ops, await store._write(ops, False), strict=True)}

        async def at_once(asked: Sequence[Write], atomic: bool) -> list[Result]:
            return answers[asked[0].key]

        write = at_once
        store._do_write = wrap("write", at_once, store._layers)

    async def public(i: int) -> None:
        await store.put(items[i])

    async def hook(i: int) -> None:
        await write((ops[i],), False)

    async def floor(i: int) -> None:
        item = items[i]
        encode(item), content_hash(item), vector_bytes(item.embedding)
        if store.capabilities.indexes_terms:
            store.analyser.counts(item.searchable)

    await _compare(session, "put over the hook", backend, durability, layers, public, hook, floor)


async def _compare(
    session: Session,
    what: str,
    backend: str,
    durability: str,
    layers: bool,
    public: Callable[[int], Awaitable[None]],
    hook: Callable[[int], Awaitable[None]],
    floor: Callable[[int], Awaitable[None]] | None = None,
) -> None:
    """``floor``: what a program written by hand does with an item as well before it can write it."""

    def side(call: Callable[[int], Awaitable[None]]) -> Side:
        state = iter(range(10**9))

        async def run_side(count: int) -> list[float]:
            return await timed(call, [next(state) % RECORDS for _ in range(count)])

        return run_side

    sides = [side(call) for call in (public, hook, floor) if call is not None]
    ours, theirs, *rest = [
        p50(rounds) for rounds in await turns(sides, session.options.rounds, 5 * session.options.calls)
    ]
    costs = [a - b for a, b in zip(ours, theirs, strict=True)]
    on = ", layers on" if layers else ""
    session.add(
        NAME, what + on, backend, "µs", costs, durability=durability, floor=rest[0] if rest else None,
        note=f"public {median(ours):.1f} - hook {median(theirs):.1f}",
    )  # fmt: skip
    for least in rest:
        left = [a - b for a, b in zip(costs, least, strict=True)]
        session.add(
            NAME, f"{what} and the floor{on}", backend, "µs", left, durability=durability,
            target=what + on, note=f"floor {median(least):.1f}: encoded, hashed, analysed by hand",
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
