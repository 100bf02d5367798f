"""One record at a time: get, put, update, delete, beside the same work written by hand, at every size, by turns.

A put may have to wait, for the disk or for another process's write lock, and on the event loop it must not. What it is held to is
the same work by hand in a thread.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from benchmarks import workload
from benchmarks.by_hand import Bare, ByHand
from benchmarks.measure import Side, p50, ratios, timed, timed_sync, turns
from benchmarks.session import DURABILITIES, Session
from memory import MemoryItem, MemoryStore

NAME = "points"
BLOCK = 50


@dataclass(frozen=True, slots=True)
class _Ground:
    """A filled store, and the connections written by hand that have the same records (None for in_memory)."""

    size: int
    store: MemoryStore
    hand: ByHand | None
    bare: Bare | None
    thread: ThreadPoolExecutor


async def run(session: Session) -> None:
    for backend in session.options.backends:
        for durability in DURABILITIES[backend]:
            grounds = [await _ground(session, backend, size, durability) for size in session.options.records]
            try:
                await _all(session, backend, durability, grounds)
            finally:
                for ground in grounds:
                    ground.thread.shutdown()
                    if ground.hand is not None and ground.bare is not None:
                        ground.hand.close()
                        ground.bare.close()


async def _ground(session: Session, backend: str, size: int, durability: str) -> _Ground:
    store = await session.filled(backend, size, durability)
    thread = ThreadPoolExecutor(1)
    if backend != "sqlite":
        return _Ground(size, store, None, None, thread)
    hand = ByHand(await session.file(size), durability)
    bare = Bare(session.path("bare"), durability)
    for items in workload.batches(0, size, session.options.vectors):
        bare.put_many(items)
    return _Ground(size, store, hand, bare, thread)


async def _all(session: Session, backend: str, durability: str, grounds: Sequence[_Ground]) -> None:
    options = session.options
    some = options.calls * options.rounds + 2 * BLOCK
    fresh = {ground.size: workload.records(ground.size, ground.size + 2 * some, options.vectors) for ground in grounds}
    # Twice as many as a round overwrites: no put finds what it puts there already.
    live = {}
    for ground in grounds:
        items = workload.records(0, min(ground.size, options.calls), options.vectors)
        live[ground.size] = workload.rewritten(items) + items
    if durability != "normal":  # reads are the same whatever the durability of writes
        await _compare(session, "get", backend, "", grounds, _gets, _hand_gets)
    await _compare(
        session, "put, new key", backend, durability, grounds,
        lambda g: _puts(g.store, fresh[g.size]),
        lambda g: _hand_puts(g.hand, fresh[g.size]),
        lambda g: _hand_puts(g.bare, fresh[g.size]),
        in_a_thread=lambda g: _thread_puts(g, fresh[g.size]),
    )  # fmt: skip
    await _compare(
        session, "put, live key", backend, durability, grounds,
        lambda g: _puts(g.store, live[g.size]),
        lambda g: _hand_puts(g.hand, live[g.size]),
        in_a_thread=lambda g: _thread_puts(g, live[g.size]),
    )  # fmt: skip
    await _compare(session, "update", backend, durability, grounds, _updates, _hand_updates)
    await _compare(
        session, "delete", backend, durability, grounds,
        lambda g: _deletes(g.store, live[g.size]),
        lambda g: _hand_deletes(g.hand, live[g.size]),
    )  # fmt: skip


async def _compare(
    session: Session,
    what: str,
    backend: str,
    durability: str,
    grounds: Sequence[_Ground],
    ours: Callable[[_Ground], Side],
    by_hand: Callable[[_Ground], Side],
    bare: Callable[[_Ground], Side] | None = None,
    in_a_thread: Callable[[_Ground], Side] | None = None,
) -> None:
    options = session.options
    makers = {"": ours}
    if backend == "sqlite":
        beside = {"by hand": by_hand, "bare command": bare, "by hand, in a thread": in_a_thread}
        makers |= {name: maker for name, maker in beside.items() if maker is not None}
    sides = [maker(ground) for ground in grounds for maker in makers.values()]
    spent = iter([p50(rounds) for rounds in await turns(sides, options.rounds, options.calls, BLOCK)])
    mine = {}
    operation, _, which = what.partition(", ")
    title = f"{operation} p50" + (f", {which}" if which else "")
    for ground in grounds:
        mine[ground.size], *others = [next(spent) for _ in makers]
        floors = dict(zip(list(makers)[1:], others, strict=True))
        tell: dict[str, Any] = {"records": ground.size, "durability": durability}
        floor = floors.get("by hand, in a thread", floors.get("by hand"))
        session.add(NAME, title, backend, "µs", mine[ground.size], floor=floor, **tell)
        if floors:
            session.add(NAME, f"{what}: ÷ by hand", backend, "×", ratios(mine[ground.size], floors["by hand"]), **tell)
        for which, taken in floors.items():
            session.add(NAME, f"{what}: {which}", backend, "µs", taken, **tell)
    session.add_growth(NAME, what, backend, mine, durability)


def _side(call: Callable[[int], Awaitable[Any]], numbers: Callable[[int], Sequence[int]]) -> Side:
    async def side(count: int) -> list[float]:
        return await timed(call, numbers(count))

    return side


def _side_by_hand(call: Callable[[int], Any], numbers: Callable[[int], Sequence[int]]) -> Side:
    async def side(count: int) -> list[float]:
        return timed_sync(call, numbers(count))

    return side


def _random(size: int) -> Callable[[int], Sequence[int]]:
    rng = random.Random(size)
    return lambda count: [rng.randrange(size) for _ in range(count)]


def _in_order(size: int, start: int = 0) -> Callable[[int], Sequence[int]]:
    """The next numbers, from 0 again at the end."""
    state = [start]

    def numbers(count: int) -> Sequence[int]:
        first = state[0]
        state[0] = (first + count) % size
        return [(first + i) % size for i in range(count)]

    return numbers


def _gets(ground: _Ground) -> Side:
    keys = workload.keys(ground.size)

    async def call(i: int) -> None:
        path, id = keys[i]
        assert await ground.store.get(id, namespace=path) is not None

    return _side(call, _random(ground.size))


def _hand_gets(ground: _Ground) -> Side:
    hand, keys = ground.hand, workload.keys(ground.size)
    assert hand is not None
    return _side_by_hand(lambda i: hand.get(keys[i]), _random(ground.size))


def _puts(store: MemoryStore, items: list[MemoryItem]) -> Side:
    return _side(lambda i: store.put(items[i]), _in_order(len(items)))


def _hand_puts(hand: ByHand | Bare | None, items: list[MemoryItem]) -> Side:
    assert hand is not None
    return _side_by_hand(lambda i: hand.put(items[i]), _in_order(len(items)))


def _thread_puts(ground: _Ground, items: list[MemoryItem]) -> Side:
    """From the middle on: the other half of what `_hand_puts` puts into the same file meanwhile."""
    hand = ground.hand
    assert hand is not None

    async def call(i: int) -> None:
        await asyncio.get_running_loop().run_in_executor(ground.thread, hand.put, items[i])

    return _side(call, _in_order(len(items), len(items) // 2))


def _updates(ground: _Ground) -> Side:
    keys = workload.keys(ground.size)

    async def call(i: int) -> None:
        path, id = keys[i]
        await ground.store.update(id, namespace=path, metadata={"score": i % 1_000})

    return _side(call, _random(ground.size))


def _hand_updates(ground: _Ground) -> Side:
    hand, keys = ground.hand, workload.keys(ground.size)
    assert hand is not None
    return _side_by_hand(lambda i: hand.update(keys[i], i % 1_000), _random(ground.size))


def _deletes(store: MemoryStore, items: list[MemoryItem]) -> Side:
    numbers = _in_order(len(items))

    async def side(count: int) -> list[float]:
        chosen = list(dict.fromkeys(numbers(count)))
        spent = await timed(lambda i: store.delete(items[i].id, namespace=items[i].namespace), chosen)
        await store.put_many([items[i] for i in chosen])
        return spent

    return side


def _hand_deletes(hand: ByHand | None, items: list[MemoryItem]) -> Side:
    assert hand is not None
    numbers = _in_order(len(items))

    async def side(count: int) -> list[float]:
        chosen = list(dict.fromkeys(numbers(count)))
        spent = timed_sync(lambda i: hand.delete(items[i].key), chosen)
        hand.put_many([items[i] for i in chosen])
        return spent

    return side
