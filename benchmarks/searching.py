"""Searching by text and listing by indexed fields, over the whole store, at every size by turns."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks import workload
from benchmarks.figures import percentile
from benchmarks.finding_by_hand import FindsByHand
from benchmarks.measure import Side, ratios, timed, timed_sync, turns
from benchmarks.session import Session
from memory import F, MemoryStore
from memory.backends.sqlite import SqliteStore

NAME = "searching"
FIRST = 10
ROUND_SECONDS = 3.0
"""About how long one round of one figure may take, all sizes together."""

Call = Callable[[MemoryStore, random.Random], Awaitable[Any]]
ByHand = Callable[[FindsByHand, int, random.Random], None]
Rounds = dict[int, list[list[float]]]
"""Size -> round -> µs of each call."""

# Name -> one call. The first is the figure of the targets: a metadata field that the store was told to index.
LISTS: dict[str, Call] = {
    "indexed filter": lambda store, rng: store.list(
        {"metadata.topic": f"topic{rng.randrange(workload.TOPICS)}"}, limit=FIRST
    ),
    "indexed range": lambda store, rng: store.list({"metadata.score": {"$gte": rng.randrange(980, 990)}}, limit=FIRST),
    "filter by tag": lambda store, rng: store.list(F.tags.contains(f"tag{rng.randrange(40)}"), limit=FIRST),
    "filter by user": lambda store, rng: store.list(F.user_id == f"user{rng.randrange(1_000)}", limit=FIRST),
    "filter by kind in a namespace": lambda store, rng: store.list(
        F.kind == "procedural", namespace=workload.namespace(rng.randrange(100)), limit=FIRST
    ),
    "newest": lambda store, rng: store.list(order="-created_at", limit=FIRST),
    "most important of a topic": lambda store, rng: store.list(
        {"metadata.topic": f"topic{rng.randrange(workload.TOPICS)}"}, order="-importance", limit=FIRST
    ),
    "filter without an index": lambda store, rng: store.list(
        {"metadata.place.city": f"city{rng.randrange(80)}"}, limit=FIRST
    ),
}


async def run(session: Session) -> None:
    for backend in session.options.backends:
        stores = {size: await session.filled(backend, size) for size in session.options.records}
        hands: dict[int, FindsByHand] = {}
        if backend == "sqlite":
            hands = {size: FindsByHand(_file_of(store)) for size, store in stores.items()}
        await _questions(session, backend, stores, hands)
        for what, call in LISTS.items():
            by_hand = LISTED_BY_HAND if what == "indexed filter" else {}
            rounds, floors = await _turns(session, stores, call, session.options.calls // 4, hands, by_hand)
            _tell(session, f"{what}, first {FIRST}", backend, rounds, floors=floors)
            session.add_growth(NAME, what, backend, {size: _each(spent, 0.5) for size, spent in rounds.items()})


def _file_of(store: MemoryStore) -> Path:
    """The store's own file, so that its writes cost a reader by hand what they cost a search: the pages it has in memory."""
    assert isinstance(store, SqliteStore)
    return Path(store.path)


def _topic_by_hand(hand: FindsByHand, _size: int, rng: random.Random) -> None:
    hand.of_topic(f"topic{rng.randrange(workload.TOPICS)}", FIRST + 1)


def _page_by_hand(hand: FindsByHand, _size: int, rng: random.Random) -> None:
    hand.page_of(f"topic{rng.randrange(workload.TOPICS)}", FIRST)


LISTED_BY_HAND: dict[str, ByHand] = {"by hand": _topic_by_hand, "by hand, as promised": _page_by_hand}


async def _questions(
    session: Session, backend: str, stores: dict[int, MemoryStore], hands: dict[int, FindsByHand]
) -> None:
    count = max(20, session.options.calls // 2)
    asked = {store: workload.questions(count, size) for size, store in stores.items()}
    hits: list[int] = []
    written = workload.records(0, 1, session.options.vectors)

    async def ask(store: MemoryStore, rng: random.Random) -> None:
        hits.append(len(await store.search(rng.choice(asked[store]), limit=FIRST)))

    async def write(store: MemoryStore, _rng: random.Random) -> None:
        await store.put(written[0])

    async def ask_in_a_namespace(store: MemoryStore, rng: random.Random) -> None:
        path = workload.namespace(rng.randrange(workload.NAMESPACES))
        await store.search(rng.choice(asked[store]), namespace=path, limit=FIRST)

    async def ask_with_a_filter(store: MemoryStore, rng: random.Random) -> None:
        await store.search(rng.choice(asked[store]), where=F.kind == "procedural", limit=FIRST)

    async def ask_in_context(store: MemoryStore, rng: random.Random) -> None:
        await store.search(rng.choice(asked[store]), limit=FIRST, neighbours=1)

    def ask_by_hand(hand: FindsByHand, size: int, rng: random.Random) -> None:
        hand.answering(rng.choice(asked[stores[size]]), FIRST)

    rounds, floors = await _turns(session, stores, ask, count, hands, {"by hand": ask_by_hand})
    _tell(session, "text top-10", backend, rounds, f"{sum(hits) / len(hits):.1f} hits a question", floors=floors)
    _tell(session, "text top-10", backend, rounds, share=0.95)
    # What a search keeps of the index it keeps until something is written.
    rounds, floors = await _turns(session, stores, ask, count // 4, hands, {"by hand": ask_by_hand}, write)
    _tell(session, "text top-10 after a write", backend, rounds, floors=floors)
    session.add_growth(NAME, "text", backend, {size: _each(spent, 0.5) for size, spent in rounds.items()})
    for what, call in (
        ("text top-10 in one namespace", ask_in_a_namespace),
        ("text top-10 of one kind", ask_with_a_filter),
        ("text top-10, neighbours=1", ask_in_context),
    ):
        _tell(session, what, backend, (await _turns(session, stores, call, count // 4))[0])


async def _turns(
    session: Session,
    stores: dict[int, MemoryStore],
    call: Call,
    calls: int,
    hands: Mapping[int, FindsByHand] | None = None,
    by_hand: Mapping[str, ByHand] | None = None,
    before: Call | None = None,
) -> tuple[Rounds, dict[str, Rounds]]:
    """Size -> round -> µs of each call; of the store, and of the same work by hand in each way, by turns. ``before``: what the
    store does before each call of either, which is not timed."""
    hands, ways = hands or {}, by_hand or {}

    def side(store: MemoryStore) -> Side:
        rng = random.Random(7)

        async def run_side(count: int) -> list[float]:
            return await timed(lambda _: call(store, rng), range(count))

        return run_side if before is None else one_by_one(run_side, store, before)

    def side_by_hand(way: ByHand, hand: FindsByHand, size: int) -> Side:
        rng = random.Random(7)

        async def run_side(count: int) -> list[float]:
            return timed_sync(lambda _: way(hand, size, rng), range(count))

        return run_side if before is None else one_by_one(run_side, stores[size], before)

    def one_by_one(run_side: Side, store: MemoryStore, before: Call) -> Side:
        rng = random.Random(7)

        async def run_after(count: int) -> list[float]:
            spent: list[float] = []
            for _ in range(count):
                await before(store, rng)
                spent += await run_side(1)
            return spent

        return run_after

    started = time.perf_counter()
    for store in stores.values():
        await call(store, random.Random(7))
    # Slow calls are made less often: a round shall end.
    calls = max(10, min(calls, round(ROUND_SECONDS / (time.perf_counter() - started))))
    sides = [side(store) for store in stores.values()]
    sides += [side_by_hand(way, hand, size) for way in ways.values() for size, hand in hands.items()]
    found = await turns(sides, session.options.rounds, calls)
    theirs = iter(found[len(stores) :])
    floors = {name: dict(zip(hands, theirs, strict=False)) for name in ways if hands}
    return dict(zip(stores, found, strict=False)), floors


def _each(rounds: list[list[float]], share: float) -> list[float]:
    """That percentile of each round, in ms."""
    return [percentile(spent, share) / 1e3 for spent in rounds]


def _tell(
    session: Session,
    what: str,
    backend: str,
    rounds: Rounds,
    note: str = "",
    share: float = 0.5,
    floors: Mapping[str, Rounds] | None = None,
) -> None:
    """``floors``: by hand, the last of them the one that a missed target is held against."""
    for size, spent in rounds.items():
        by_hand = {name: _each(each[size], share) for name, each in (floors or {}).items()}
        mine, floor = _each(spent, share), list(by_hand.values())[-1] if by_hand else None
        session.add(NAME, f"{what}, p{share:.0%}"[:-1], backend, "ms", mine, records=size, note=note, floor=floor)
        for name, theirs in by_hand.items():
            session.add(NAME, f"{what}: ÷ {name}", backend, "×", ratios(mine, theirs), records=size)
            session.add(NAME, f"{what}: {name}", backend, "ms", theirs, records=size)
