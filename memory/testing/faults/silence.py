"""A server that falls silent: connections stay open, nothing answers (SIGSTOP). Every call has to end by its deadline."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from memory.errors import BackendUnavailable, BatchError, DeadlineExceeded, MemoryStoreError, Overloaded, UnknownOutcome
from memory.model import MemoryItem
from memory.store import MemoryStore
from memory.testing.faults.counting import Counting, until

SLACK_SECONDS = 1.0
"""What a call may take beyond its deadline on a busy machine."""
AFTER_SECONDS = 5.0
"""How soon everything works again."""
ENDINGS = (DeadlineExceeded, UnknownOutcome, Overloaded, BackendUnavailable)


class Found(msgspec.Struct):
    """What was seen."""

    counts: Counter[str] = msgspec.field(default_factory=Counter)
    wrong: list[str] = []


def calls(store: MemoryStore) -> dict[str, Callable[[], Any]]:
    """One call of each kind that reads or writes."""
    item = MemoryItem(id="silent", content="a marmot")
    return {
        "get": lambda: store.get("a"),
        "get_many": lambda: store.get_many(["a", "b"]),
        "exists": lambda: store.exists("a"),
        "list": lambda: store.list(),
        "count": lambda: store.count({"kind": "note"}),
        "namespaces": lambda: store.namespaces(),
        "search": lambda: store.search("marmot", mode="text"),
        "search by vector": lambda: store.search(vector=[1.0, 0.0]),
        "put": lambda: store.put(item),
        "add": lambda: store.add(MemoryItem(content="new")),
        "put_many": lambda: store.put_many([item, MemoryItem(content="new")]),
        "update": lambda: store.update("a", metadata={"n": 1}),
        "touch": lambda: store.touch("b"),
        "delete": lambda: store.delete("c"),
        "delete_where": lambda: store.delete_where({"id": "c"}),
        "stats": lambda: store.stats(),
    }


async def silence(store: MemoryStore, server: Any, *, seconds: float, deadline: float) -> Found:
    """Stop the server for so long while every kind of call is made; ``deadline`` is the store's own, in seconds."""
    found = Found()
    counting = Counting(store, callers=3, seed=1)
    await counting.prepare()
    await store.put_many([MemoryItem(id=id, content="a marmot", embedding=[1.0, 0.0]) for id in "abc"])
    ending = asyncio.Event()
    work = asyncio.ensure_future(counting.run())
    await asyncio.sleep(0.1)
    server.pause()
    try:
        callers = [
            asyncio.ensure_future(_call(name, call, ending, deadline, found)) for name, call in calls(store).items()
        ]
        await asyncio.sleep(seconds)
        ending.set()
        _, late = await asyncio.wait(callers, timeout=deadline + 2 * SLACK_SECONDS)
    finally:
        server.resume()
    for task in late:
        task.cancel()
        found.wrong.append(f"{task.get_name()} is still waiting {deadline + 2 * SLACK_SECONDS:g} s after it was called")
    resumed = time.monotonic()
    took = await until(lambda: counting.newest >= resumed, 2 * AFTER_SECONDS)
    if took > AFTER_SECONDS:
        found.wrong.append(f"no write was acknowledged for {took:.1f} s after the server went on")
    counting.ending = True
    await asyncio.wait([work], timeout=30)
    if not work.done():
        work.cancel()
        found.wrong.append("a counting caller hangs after the server went on")
    for name, call in calls(store).items():
        try:
            async with asyncio.timeout(AFTER_SECONDS):
                await call()
        except (MemoryStoreError, TimeoutError) as error:
            if name not in ("update", "delete"):
                found.wrong.append(f"{name} does not work after the server went on: {error!r}")
    found.wrong += await counting.check()
    found.counts.update(counting.tally)
    found.counts["milliseconds until it worked again"] = round(took * 1_000)
    return found


async def _call(name: str, call: Callable[[], Any], ending: asyncio.Event, deadline: float, found: Found) -> None:
    """Make one kind of call again and again; each has to end by its deadline with an error that says what is the case."""
    while not ending.is_set():
        began = time.monotonic()
        error: BaseException | None = None
        try:
            await call()
        except BatchError as batch:
            error = next(iter(batch.errors.values()))
        except Exception as raised:
            error = raised
        took = time.monotonic() - began
        found.counts["calls"] += 1
        found.counts["slowest call in ms"] = max(found.counts["slowest call in ms"], round(took * 1_000))
        if took > deadline + SLACK_SECONDS:
            found.wrong.append(f"{name} took {took:.1f} s with a deadline of {deadline:g} s")
        if error is None:
            found.counts["answered (by a cache, or before it was silent)"] += 1
            await asyncio.sleep(0.05)
        elif isinstance(error, ENDINGS):
            found.counts[type(error).__name__] += 1
            if isinstance(error, (Overloaded, BackendUnavailable)):
                await asyncio.sleep(0.05)
        else:
            found.wrong.append(f"{name} ended with {error!r}")
            await asyncio.sleep(0.05)
