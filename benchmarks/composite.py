"""What a composite adds to a call of the member that answers it, by turns, on the same stores."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from statistics import median

from benchmarks import workload
from benchmarks.measure import awaiting, p50, turns
from benchmarks.session import Session
from memory.backends.composite import Route, RoutedStore, TieredStore
from memory.backends.in_memory import InMemoryStore
from memory.ops import Read, Touch
from memory.store.settle import new_token

NAME = "composite"
RECORDS = 500


async def run(session: Session) -> None:
    items = workload.records(0, RECORDS, session.options.vectors)
    keys = workload.keys(RECORDS)
    reads = [Read(keys=(key,), now=1) for key in keys]
    routes = {"first": Route(InMemoryStore(), under="elsewhere"), "rest": Route(InMemoryStore())}
    async with RoutedStore(routes, sweep_interval=None) as routed:
        await routed.put_many(items)
        rest = routed.routes[-1].store
        touches = [Touch(key=key, token=new_token(), now=1, accesses=1) for key in keys]
        await _compare(session, "routing a get", lambda i: routed._read(reads[i]), lambda i: rest._read(reads[i]))
        await _compare(
            session,
            "routing a write",
            lambda i: routed._write((touches[i],), False),
            lambda i: rest._write((touches[i],), False),
        )
    async with TieredStore(InMemoryStore(), InMemoryStore(), sweep_interval=None) as tiered:
        await tiered.put_many(items)
        fast = tiered.fast.store
        await _compare(
            session, "a hit of the fast tier", lambda i: tiered._read(reads[i]), lambda i: fast._read(reads[i])
        )


async def _compare(
    session: Session, what: str, ours: Callable[[int], Awaitable[object]], theirs: Callable[[int], Awaitable[object]]
) -> None:
    async def whole(number: int) -> None:
        await ours(number % RECORDS)

    async def member(number: int) -> None:
        await theirs(number % RECORDS)

    sides = (awaiting(whole), awaiting(member))
    one, other = await turns(sides, session.options.rounds, 5 * session.options.calls)
    costs = [a - b for a, b in zip(p50(one), p50(other), strict=True)]
    note = f"composite {median(p50(one)):.1f} - member {median(p50(other)):.1f}"
    session.add(NAME, what, "in_memory", "µs", costs, durability="none", note=note)
