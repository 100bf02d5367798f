"""What is measured of every server: get and put beside the same work by hand, and 64 callers at once, by turns."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from benchmarks import workload
from benchmarks.measure import Side, p50, ratios, timed, turns
from benchmarks.session import Session
from memory import MemoryItem, MemoryStore
from memory.model import Key

CALLERS = 64


LANES = 2
"""Of work put together by hand: so that client and server both have some."""
Call = Callable[[int], Awaitable[Any]]


class Hand(Protocol):
    """The same work written by hand."""

    async def get(self, key: Key) -> Any: ...

    async def put(self, item: MemoryItem) -> None: ...


class Together(Protocol):
    """The work of many callers put together by hand."""

    async def get_many(self, keys: Sequence[Key]) -> Any: ...

    async def put_many(self, items: Sequence[MemoryItem]) -> Any: ...


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
    session: Session, name: str, store: MemoryStore, hand: Hand, size: int, calls: int | None = None,
    *, together: Sequence[Together] = (), besides: Mapping[str, Hand] | None = None,
) -> None:  # fmt: skip
    """64 callers of the store at once, beside 64 of the driver, whose calls are not put together. ``calls``: of all in a
    round.

    ``together`` puts the work of 64 together by hand, without callers: a floor, since nothing is left of a call but the
    record. ``besides``: further ways in which the driver's callers may go.
    """
    options = session.options
    items = workload.records(0, min(size, 1_000), options.vectors)
    written = workload.rewritten(items) + items
    keys = workload.keys(size)
    lanes = list(together)[:LANES]

    async def get(i: int) -> None:
        await store.get(keys[i % size][1], namespace=keys[i % size][0])

    def of(side: Hand) -> tuple[Call, Call]:
        return lambda i: side.get(keys[i % size]), lambda i: side.put(written[i % len(written)])

    others = {"uncoalesced": of(hand)} | {what: of(side) for what, side in (besides or {}).items()}
    for place, (what, ours) in enumerate((("get", get), ("put", lambda i: store.put(written[i % len(written)])))):
        sides: dict[str, Callable[[int, int], Awaitable[float]]] = {
            side: partial(_rate, call)
            for side, call in {"": ours, **{of: both[place] for of, both in others.items()}}.items()
        }
        if lanes:
            sides["put together by hand"] = partial(_lanes, lanes, (keys, written)[place], what)
        rates: dict[str, list[float]] = {side: [] for side in sides}
        for number in range(options.rounds + 1):
            order = list(sides) if number % 2 else list(reversed(sides))
            for side in order:
                rates[side].append(await sides[side](calls or options.calls * 16, number))
        found = {side: tuple(measured[1:]) for side, measured in rates.items()}
        tell: dict[str, Any] = {"records": size, "durability": store.durability if what == "put" else ""}
        session.add(name, f"64 callers, {what}", store.name, "/s", found[""], floor=found["uncoalesced"], **tell)
        floor = found.get("put together by hand")
        for other in others:
            session.add(
                name, f"64 callers, {what}: ÷ {other}", store.name, "×", ratios(found[""], found[other]),
                floor=None if floor is None else ratios(floor, found[other]), **tell,
            )  # fmt: skip
        if floor is not None:
            session.add(name, f"64 callers, {what}: put together by hand", store.name, "/s", floor, **tell)


async def _lanes(lanes: Sequence[Together], things: Sequence[Any], what: str, calls: int, seed: int) -> float:
    """Operations a second, so many at a time as 64 callers ask, without a caller."""
    rng = random.Random(seed)
    share = CALLERS // len(lanes)

    async def lane(side: Together) -> None:
        ask = side.get_many if what == "get" else side.put_many
        for _ in range(calls // CALLERS):
            await ask(rng.sample(things, min(share, len(things))))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for side in lanes:
            group.create_task(lane(side))
    return len(lanes) * (calls // CALLERS) * min(share, len(things)) / (time.perf_counter() - began)


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
