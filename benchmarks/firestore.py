"""Firestore beside the same work written by hand with Google's client, by turns, on the emulator, which takes most of each
time: get, put, bulk, a page, the nearest, and 64 callers at once. Starts its own emulator."""

from __future__ import annotations

import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks import serving, workload
from benchmarks.measure import p50, ratios, turns
from benchmarks.session import Session
from memory import MemoryStore
from memory.testing.services import ServiceMissing, firestore

NAME = "firestore"
MOST = 2_000
"""Records: the emulator holds everything in its memory and takes milliseconds for each."""
QUICK = 200
LIMIT = 10


async def run(session: Session) -> None:
    options = session.options
    size = min(*options.records, QUICK if options.quick else MOST)
    try:
        with firestore() as server:
            from benchmarks.firestore_by_hand import ByHand
            from memory.backends.firestore.v2 import FirestoreV2Store

            project = "bench-" + uuid.uuid4().hex[:8]
            hand = ByHand(project, server.url)
            async with FirestoreV2Store(project_id=project, emulator=server.url, sweep_interval=None) as store:
                for items in workload.batches(0, size, size=500):
                    await store.put_many(items)
                    await hand.write(items)
                await serving.points(session, NAME, store, hand, size)
                await _questions(session, store, hand, size)
                await _bulk(session, store, hand, size)
                await serving.callers(session, NAME, store, hand, size, serving.CALLERS if options.quick else None)
            hand.close()
    except ServiceMissing:
        return  # the report has no rows of it


async def _questions(session: Session, store: MemoryStore, hand: Any, size: int) -> None:
    options = session.options
    count = 2 if options.quick else 50
    users = [item.user_id or "" for item in workload.records(0, count)]
    vectors = workload.wanted(count)
    asked: list[tuple[str, Callable[[int], Awaitable[Any]], Callable[[int], Awaitable[Any]]]] = [
        (
            "first 10 of a user, p50",
            lambda i: store.list({"user_id": users[i]}, limit=LIMIT),
            lambda i: hand.page(users[i], LIMIT + 1),
        ),
        (
            "vector top-10, p50",
            lambda i: store.search(vector=vectors[i], limit=LIMIT),
            lambda i: hand.near(vectors[i], LIMIT),
        ),
    ]
    for what, ours, by_hand in asked:
        sides = [serving.picked(call, count) for call in (ours, by_hand)]
        spent = [p50(rounds) for rounds in await turns(sides, options.rounds, count)]
        session.add(NAME, what, store.name, "µs", spent[0], records=size, floor=spent[1], target="none")
        session.add(NAME, f"{what}: ÷ by hand", store.name, "×", ratios(spent[0], spent[1]), records=size)


async def _bulk(session: Session, store: MemoryStore, hand: Any, size: int) -> None:
    """New records, 500 at a time."""
    options, start = session.options, size
    ours: list[float] = []
    theirs: list[float] = []
    count = 20 if options.quick else 1_000
    for number in range(options.rounds + 1):
        for mine in (True, False) if number % 2 else (False, True):
            items = workload.records(start, start + count)
            start += count
            began = time.perf_counter()
            for at in range(0, count, 500):
                await (store if mine else hand).put_many(items[at : at + 500])
            (ours if mine else theirs).append(count / (time.perf_counter() - began))
    tell: dict[str, Any] = {"records": size, "durability": store.durability}
    session.add(NAME, "bulk", store.name, "/s", ours[1:], floor=theirs[1:], **tell)
    session.add(NAME, "bulk: ÷ by hand", store.name, "×", ratios(ours[1:], theirs[1:]), **tell)
