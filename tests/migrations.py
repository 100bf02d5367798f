"""What the tests of migrations share: the stores that are moved between, and items of every kind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import pytest
from flavours import FLAVOURS, VARIANTS, flavour

from memory import MemoryItem, MemoryStore
from memory.backends.sqlite import SqliteStore
from memory.layers import Layer
from memory.model import Key
from memory.ops import Position, Row, Scan, Write
from memory.store.settle import apply_all

DRIVER = Path(__file__).parent / "kill_migrations.py"
LOCAL = ("in_memory", "sqlite")
ALL = [f"{source}-{target}" for source, target in product(FLAVOURS, FLAVOURS)]
"""Every two flavours (tests/flavours.py), either way: "source-target"."""
PAIRS = [
    pair
    for pair in ALL
    if (set(pair.split("-")) <= set(LOCAL) or "sqlite" in pair.split("-")) and not VARIANTS & set(pair.split("-"))
]
"""For tests that run over many: those without a server, and sqlite with each server."""
FED = [pair for pair in PAIRS if "firestore" not in pair.partition("-")[0]]
"""Those whose source keeps a feed where asked."""
EVERY_PAIR = [
    pytest.param(pair, marks=pytest.mark.full)
    if VARIANTS & set(pair.split("-")) or ("firestore" in pair and pair not in PAIRS)
    else pair
    for pair in ALL
]
"""All of them. Firestore's emulator is slow: with sqlite alone it is in every run."""


def made(
    pair: str, place: Path, *, source: dict[str, Any] | None = None, **target: Any
) -> tuple[MemoryStore, MemoryStore]:
    """A source and a target, not open yet."""
    one, _, other = pair.partition("-")
    return at(one, place / "source", **(source or {})), at(other, place / "target", **target)


def at(name: str, place: Path, **options: Any) -> MemoryStore:
    """A store of a flavour, not open yet, at a place of its own."""
    place.mkdir(parents=True, exist_ok=True)
    return flavour(name)(place, sweep_interval=None, **options)


def file(path: Path, **options: Any) -> MemoryStore:
    """A file that a command may be given too."""
    return SqliteStore(path, synchronous="off", sweep_interval=None, **options)


def stamped(item: MemoryItem, **fields: Any) -> MemoryItem:
    """An item with times and counts of its own."""
    return msgspec.structs.replace(item, **fields)


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(1_750_000_000 + seconds, UTC)


HOSTILE = (
    "a/b",
    "..",
    "*",
    "%",
    "f_o",
    "foo",
    "foobar",
    "foo.bar",
    "é",
    "e\u0301",
    "K",
    "k",
    "\u212a",
    "a:b",
    "__x__",
    "x" * 512,
)


def every_kind(count: int = 60) -> list[MemoryItem]:
    """Items in which every field takes every shape it has."""
    contents: list[Any] = [
        "plain text",
        "",
        "NUL \0 within, and \u202e turned",
        {"nested": {"list": [1, 1.0, -0.0, None, True, [], {}], "deep": [[[[1]]]]}},
        [2**63 - 1, -(2**63), 1e18, 0.1, 1e-300],
        None,
        False,
        "long " * 4_000,
        {"": "empty name", "$gte": 1, "a.b": "dot", "é": "accent"},
    ]
    namespaces = [("default",), ("team",), ("team", "red"), ("team.red",), ("team", "a/b", ".."), ("é",), ("teams",)]
    items: list[MemoryItem] = []
    for i in range(count):
        id = HOSTILE[i] if i < len(HOSTILE) else f"item-{i:05}"
        items.append(
            MemoryItem(
                id=id,
                namespace=namespaces[i % len(namespaces)],
                kind=("note", "semantic", "episodic")[i % 3],
                content=contents[i % len(contents)],
                text=(None, "another text", "")[i % 3],
                metadata={} if i % 4 == 0 else {"score": i, "ratio": i / 7, "none": None, "k\0": ["\0", {"x": -0.0}]},
                tags=() if i % 3 == 0 else ("red", f"t{i}", "ä\u0001"),
                user_id=(None, "ana", "bob")[i % 3],
                agent_id=(None, "a1")[i % 2],
                session_id=(None, "s1", "s2")[i % 3],
                importance=(0.0, 0.5, 1.0, 0.1)[i % 4],
                embedding=[float(i), 0.5, -1e-30] if i % 5 else None,
                created_at=moment(i % 7),
                updated_at=moment(i % 7 + 1.000001),
                accessed_at=moment(i % 7 + 2),
                access_count=i % 4,
                expires_at=datetime(2200, 1, 1, 1, 1, 1, 123456, UTC) if i % 6 == 0 else None,
                source={} if i % 2 else {"who": "importer", "trust": 0.5},
            )
        )
    return items


async def fill(store: MemoryStore, items: Sequence[MemoryItem], embedder: str | None = None) -> None:
    """Put items with all their times and counts."""
    for start in range(0, len(items), 500):
        puts = [store._privileged(store, item, embedder) for item in items[start : start + 500]]
        outcomes = await apply_all(store, puts)
        assert all(isinstance(outcome, MemoryItem) for outcome in outcomes), outcomes


def killed(
    kills: int, seed: int, state: Path, *arguments: str, growth: int = 1_000, **environment: str
) -> dict[str, int]:
    """Run a command whose processes are killed, and once more to its end."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MEMORY_")}
    line = [sys.executable, str(DRIVER), str(kills), str(seed), str(state), str(growth), *arguments]
    done = subprocess.run(
        line, env=kept | environment, cwd=state.parent, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, int] = json.loads(done.stdout)
    return told


def plain(count: int, **fields: Any) -> list[MemoryItem]:
    """Simple items."""
    return [MemoryItem(id=f"i{n:05}", content=f"thing number {n}", metadata={"n": n}, **fields) for n in range(count)]


async def rows(store: MemoryStore) -> dict[Key, Row]:
    """All live rows by key."""
    found: dict[Key, Row] = {}
    after: Position | None = None
    while pairs := await store._filled(Scan(now=store._clock(), after=after, limit=500)):
        found.update((item.key, row) for row, item in pairs)
        after = Position(*pairs[-1][1].key)
    return found


async def records(store: MemoryStore) -> dict[Key, Row]:
    """All live rows by key, without their versions."""
    return {key: msgspec.structs.replace(row, version=0) for key, row in (await rows(store)).items()}


async def versions(store: MemoryStore) -> dict[Key, int]:
    return {key: row.version for key, row in (await rows(store)).items()}


def before_write(number: int, act: Callable[[], Awaitable[Any]]) -> Layer:
    """A layer that does something just before the n-th write (from 1) reaches the backend."""
    seen = 0

    def layer(name: str, hook: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def watched(*args: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen == number:
                await act()
            return await hook(*args)

        return watched if name == "write" else hook

    return layer


def around_write(
    change: Callable[[int, Callable[..., Awaitable[Any]], Sequence[Write], bool], Awaitable[Any]],
) -> Layer:
    """A layer that stands in for the write hook: called with the number of the write (from 1), the hook, and its arguments."""
    seen = 0

    def layer(name: str, hook: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def changed(ops: Sequence[Write], atomic: bool) -> Any:
            nonlocal seen
            seen += 1
            return await change(seen, hook, ops, atomic)

        return changed if name == "write" else hook

    return layer
