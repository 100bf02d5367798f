"""One call of each public operation, for the sentences that hold for all of them."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from memory.model import MemoryItem
from memory.store import MemoryStore
from memory.testing.contract.suite import item
from memory.testing.embedder import WordEmbedder

DIMENSION = 16
MANY = 40
"""Items that are there when calls are made: with ``small_batches`` more than two batches."""
_words = WordEmbedder(dimension=DIMENSION)


def every_call(store: Any, place: Path) -> dict[str, Callable[[], Any]]:
    """One harmless call of each public coroutine or iterator; names as on the store, with a word after it where there are
    several ways through it."""
    path = place / "call"
    vector = _words.vector("marmot")
    return {
        "get": lambda: store.get("a"),
        "get_many": lambda: store.get_many(["a", "b"]),
        "exists": lambda: store.exists("a"),
        "list": lambda: store.list({"metadata.n": {"$gte": 0}}, order="-updated_at"),
        "stream": lambda: _read(store.stream(batch_size=15)),
        "count": lambda: store.count({"kind": "note"}),
        "namespaces": lambda: store.namespaces(),
        "put": lambda: store.put(item("a", "marmot")),
        "add": lambda: store.add(item(os.urandom(8).hex(), "marmot")),
        "put_many": lambda: store.put_many(_many()),
        "update": lambda: store.update("u", metadata={"n": 1}),
        "touch": lambda: store.touch("a"),
        "delete": lambda: store.delete("a"),
        "delete_many": lambda: store.delete_many(["a", "m1"]),
        "delete_where": lambda: store.delete_where({"metadata.n": {"$gt": 30}}),
        "search": lambda: store.search("marmot", neighbours=1),
        "search vector": lambda: store.search(vector=vector),
        "search hybrid": lambda: store.search("marmot", vector=vector, mode="hybrid", neighbours=1),
        "export_jsonl": lambda: store.export_jsonl(f"{path}-{os.urandom(8).hex()}.jsonl"),
        "import_jsonl": lambda: store.import_jsonl(place / "import.jsonl"),
        "health": lambda: store.health(),
        "stats": lambda: store.stats(),
        "verify": lambda: store.verify(),
        "repair": lambda: store.repair(),
        "sweep": lambda: store.sweep(),
        "backup": lambda: store.backup(f"{path}-{os.urandom(8).hex()}.backup"),
        "restore": lambda: store.restore(place / "import.jsonl", replace=True),
        "reembed": lambda: store.reembed(WordEmbedder(os.urandom(8).hex(), DIMENSION), batch=15),
        "watch": lambda: anext(store.watch(timeout=0), None),
    }


def possible_calls(store: MemoryStore, place: Path) -> dict[str, Callable[[], Any]]:
    """Those of them that this store, as it is declared and was made, does not refuse."""
    calls = every_call(store, place)
    if not store.feed:
        del calls["watch"]
    if not store.capabilities.reembeds:
        del calls["reembed"]
    return calls


def called(calls: dict[str, Any]) -> set[str]:
    """The operations that are called."""
    return {name.split()[0] for name in calls}


def operations(kind: type) -> set[str]:
    """The public coroutines and async iterators of a class, but for those that open and close it."""
    return {
        name
        for name, member in inspect.getmembers_static(kind)
        if not name.startswith("_") and (inspect.iscoroutinefunction(member) or inspect.isasyncgenfunction(member))
    } - {"open", "close"}


async def prepare(store: MemoryStore, place: Path) -> None:
    """What the calls above expect to find."""
    lines = [json.dumps(one.to_dict()) + "\n" for one in _found()]
    await asyncio.to_thread((place / "import.jsonl").write_text, "".join(lines), "utf-8")
    await refill(store)


async def refill(store: MemoryStore) -> None:
    """What they expect to find once more, after one that takes it away."""
    await store.put_many(_found())


@functools.cache
def _many() -> list[MemoryItem]:
    return [
        item(f"m{i}", f"marmot {i}", metadata={"n": i}, session_id="s", embedding=_words.vector(f"marmot {i}"))
        for i in range(MANY)
    ]


@functools.cache
def _found() -> list[MemoryItem]:
    return [item("a", "marmot"), item("u"), *_many()]


async def _read(batches: AsyncIterator[Any]) -> None:
    """A stream, to its end."""
    async for _ in batches:
        pass
