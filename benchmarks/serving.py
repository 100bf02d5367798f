"""What is measured of every server: get and put beside the same work by hand, and 64 callers at once, by turns."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from benchmarks import workload
from benchmarks.measure import Side, p50, ratios, timed, turns
from benchmarks.session import Session
from memory import MemoryItem, MemoryStore
from memory.model import Key

CALLERS = 64


class Hand(Protocol):
    """The same work written by hand."""

    async def get(self, key: Key) -> Any: ...

    async def put(self, item: MemoryItem) -> None: ...


async def points(
    session: Session, name: str, store: MemoryStore, hand: Hand, size: int, bare: Hand | None = None
) -> None:
    """One at a time. ``bare``: the least that stores a record; it holds the first ones."""
    options = session.options
    items = workload.records(0, min(size, options.calls), options.vectors)
    written = workload.rewritten(items) + items
    keys = workload.keys(size)
    known = [item.key for item in items]

    async def get(i: int) -> None:
        assert await store.get(keys[i][1], namespace=keys[i][0]) is not None

    gets: list[Callable[[int], Awaitable[Any]]] = [get, lambda i: hand.get(keys[i])]
    puts: list[Callable[[int], Awaitable[Any]]] = [lambda i: store.put(written[i]), lambda i: hand.put(written[i])]
    if bare is not None:
        gets.append(lambda i: bare.get(known[i % len(known)]))
        puts.append(lambda i: bare.put(written[i]))
    for what, calls, most in (("get", gets, size), ("put", puts, len(written))):
        sides = [picked(call, most) for call in calls]
        spent = [p50(rounds) for rounds in await turns(sides, options.rounds, options.calls)]
        tell: dict[str, Any] = {"records": size, "durability": store.durability if what == "put" else ""}
        session.add(name, f"{what} p50", store.name, "µs", spent[0], floor=spent[1], **tell)
        session.add(name, f"{what}: ÷ by hand", store.name, "×", ratios(spent[0], spent[1]), **tell)
        session.add(name, f"{what}: by hand", store.name, "µs", spent[1], **tell)
        if bare is not None:
            session.add(name, f"{what}: bare command", store.name, "µs", spent[2], **tell)


def picked(call: Callable[[int], Awaitable[Any]], most: int) -> Side:
    """Calls with numbers below ``most``, picked at random."""
    rng = random.Random(most)

    async def side(count: int) -> list[float]:
        return await timed(call, [rng.randrange(most) for _ in range(count)])

    return side


async def callers(
    session: Session, name: str, store: MemoryStore, hand: Hand, size: int, calls: int | None = None
) -> None:
    """64 callers of the store at once, beside 64 of the driver, whose calls are not put together. ``calls``: of all in a
    round."""
    options = session.options
    items = workload.records(0, min(size, 1_000), options.vectors)
    written = workload.rewritten(items) + items
    keys = workload.keys(size)

    async def get(i: int) -> None:
        await store.get(keys[i % size][1], namespace=keys[i % size][0])

    for what, ours, by_hand in (
        ("get", get, lambda i: hand.get(keys[i % size])),
        ("put", lambda i: store.put(written[i % len(written)]), lambda i: hand.put(written[i % len(written)])),
    ):
        rates: tuple[list[float], list[float]] = ([], [])
        for number in range(options.rounds + 1):
            for side in (0, 1) if number % 2 else (1, 0):
                rates[side].append(await _rate((ours, by_hand)[side], calls or options.calls * 4, number))
        tell: dict[str, Any] = {"records": size, "durability": store.durability if what == "put" else ""}
        session.add(name, f"64 callers, {what}", store.name, "/s", rates[0][1:], floor=rates[1][1:], **tell)
        session.add(
            name, f"64 callers, {what}: ÷ uncoalesced", store.name, "×", ratios(rates[0][1:], rates[1][1:]), **tell
        )


async def _rate(call: Callable[[int], Awaitable[Any]], calls: int, seed: int) -> float:
    rng = random.Random(seed)
    numbers = iter([rng.randrange(1_000_000) for _ in range(calls)])

    async def caller() -> None:
        for number in numbers:
            await call(number)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(caller())
    return calls / (time.perf_counter() - began)
