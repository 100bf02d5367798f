"""Every public operation, called by tenant A with everything that belongs to B. Nothing of B may come back, be changed
or be distinguishable from its absence. An operation that this test does not know fails it."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flavours import ATTACKED, SEARCHED, flavour
from tenant_attacks import ATTACKS, SECRET, WHOLE_STORE, Loot

from memory.clock import ManualClock
from memory.errors import BatchError, MemoryStoreError
from memory.filters import F
from memory.model import MemoryItem
from memory.store import MemoryStore, View
from memory.sync import blocking, blocking_iterator
from memory.testing.contract.feed import start
from memory.testing.embedder import WordEmbedder
from memory.testing.making import MakeAt


@dataclass
class Tenants:
    """How A and B are kept apart: what their views pin, and the namespaces that B's items lie in."""

    name: str
    a: dict[str, Any]
    b: dict[str, Any]
    spaces: list[tuple[str, ...]]
    shares_keys: bool
    """Their keys can be the same: then put and add of B's id is refused with AlreadyExists, by design."""


KINDS = [
    Tenants("by user", {"user_id": "a"}, {"user_id": "b"}, [("default",), ("team",)], True),
    Tenants(
        "by session", {"session_id": "a", "user_id": "u"}, {"session_id": "b", "user_id": "u"}, [("default",)], True
    ),
    Tenants("by namespace", {"namespace": ("t", "a")}, {"namespace": ("t", "b")}, [("t", "b")], False),
    Tenants("by prefix", {"under": ("a",)}, {"under": ("ab",)}, [("ab",), ("ab", "x")], False),
    Tenants("from below", {"under": ("t", "a")}, {"namespace": ("t",)}, [("t",)], False),
]


OWNERS_ONLY = {"open", "close", "open_sync", "close_sync"}
"""Operations of the store that no view has."""
FACTS = {
    *("capabilities", "name", "durability", "location", "analyser", "index_definitions", "pipelined_writes"),
    "searches_at_once",
}
"""Attributes of the store's class that are no operations."""


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


def operations(kind: type) -> set[str]:
    return {name for name in public(kind) if not name.endswith("_sync")}


def test_every_public_operation_of_a_view_is_known() -> None:
    assert operations(View) == set(ATTACKS), "write an attack for the new operation"


def test_every_public_operation_of_a_store_is_known() -> None:
    assert public(MemoryStore) - public(View) - {name + "_sync" for name in WHOLE_STORE} <= OWNERS_ONLY | FACTS
    assert not public(View) & OWNERS_ONLY


@pytest.mark.parametrize("kind", [View, MemoryStore], ids=["view", "store"])
def test_every_operation_has_a_twin_that_runs_that_operation(kind: type) -> None:
    for name in operations(kind) - FACTS - OWNERS_ONLY - {"scoped"}:
        method = inspect.getattr_static(kind, name)
        twin = inspect.getattr_static(kind, name + "_sync", None)
        expected = blocking_iterator if name in ("stream", "watch") else blocking
        assert type(twin) is expected, f"{kind.__name__}.{name}_sync is missing"
        assert twin._method.__name__ == name == method.__name__
    assert all(hasattr(MemoryStore, name + "_sync") for name in ("open", "close"))
    extra = {name.removesuffix("_sync") for name in public(kind) if name.endswith("_sync")} - operations(kind)
    assert extra == set(), "a twin without its operation"


# --- the two worlds -----------------------------------------------------------------------------


@asynccontextmanager
async def world(
    make: MakeAt, place: Path, tenants: Tenants, *, with_b: bool
) -> AsyncIterator[tuple[MemoryStore, Any, Loot]]:
    """A store in which A lives, with or without B; the loot is B's in either case."""
    folder = place / ("with" if with_b else "without")
    folder.mkdir()
    clock = ManualClock()
    words = WordEmbedder(dimension=4)
    store = make(folder, clock=clock, feed=True, sweep_interval=None, embedder=words)
    async with store:
        a, b = store.scoped(**tenants.a), store.scoped(**tenants.b)
        await a.put(MemoryItem(id="mine", content="shared word of a"))
        items = [
            MemoryItem(
                id=f"{SECRET}-{i}-{'.'.join(space)}",
                content=f"{SECRET} shared word {i}",
                namespace=space,
                metadata={"pin": SECRET},
                tags=(SECRET,),
                kind=SECRET,
                session_id=tenants.b.get("session_id", "s"),
                importance=0.9,
            )
            for i in range(3)
            for space in tenants.spaces
        ]
        stored = await b.put_many(items)
        token = await start(b, MemoryItem(id=f"{SECRET}-marker", content=SECRET, namespace=tenants.spaces[0]))
        cursor = (await b.list(limit=1)).cursor
        vector = words.vector(f"{SECRET} shared word 0")
        searches = (
            {"query": "shared word", "mode": "text"},
            {"vector": vector},
            {"query": "shared word", "vector": vector},
        )
        found = [(await b.search(**asked, limit=1)).cursor for asked in searches]
        assert None not in found
        export = folder / "b.jsonl"
        await b.export_jsonl(export)
        space = tenants.spaces[0]
        loot = Loot(
            folder,
            space,
            [one.id for one in stored if one.namespace == space],
            stored[0].version,
            cursor,
            found,
            vector,
            token,
            export,
        )
        loot.where = [
            {"user_id": "b"}, {"metadata.pin": SECRET}, {"id": loot.ids[0]}, {"tags": {"$contains": SECRET}}, {"kind": {"$ne": "note"}},
            {"$or": [{"user_id": {"$ne": "nobody"}}, {"session_id": "b"}]}, F.content.startswith(SECRET), {"version": {"$gte": loot.version}},
            {"namespace": list(space)}, {"$not": {"id": "mine"}},
        ]  # fmt: skip
        if not with_b:
            await b.delete_where(None, under=())
        yield store, a, loot


def plain(value: Any) -> Any:
    """A result or error without what differs by nature: versions, tokens, paths, times of the engine."""
    if isinstance(value, BatchError):
        return ["BatchError", [plain(one) for one in value.results]]
    if isinstance(value, MemoryStoreError):
        return [
            type(value).__name__,
            {k: plain(v) for k, v in value.__dict__.items() if k not in ("message", "lines", "_retry")},
        ]
    if isinstance(value, MemoryItem):
        return {name: v for name, v in value.to_dict().items() if name not in ("version", "v")}
    if hasattr(value, "__struct_fields__"):
        skipped = ("cursor", "version", "token", "refused")
        return [
            type(value).__name__,
            {n: plain(getattr(value, n)) for n in value.__struct_fields__ if n not in skipped},
        ]
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return value


def items_in(value: Any) -> list[MemoryItem]:
    """Every item anywhere in a result."""
    if isinstance(value, MemoryItem):
        return [value]
    if isinstance(value, list | tuple):
        return [one for part in value for one in items_in(part)]
    if hasattr(value, "__struct_fields__"):
        return [one for name in value.__struct_fields__ for one in items_in(getattr(value, name))]
    return []


def check_silent(outcome: Any, loot: Loot) -> None:
    """Nothing that A gets to read is B's. A named B's ids itself: they may stand in an error, what they name may not."""
    for item in items_in(outcome):
        assert "pin" not in item.metadata, item
        assert SECRET not in str(item.content) or item.id == "twin", item
    errors = [outcome, *getattr(outcome, "results", [])] if isinstance(outcome, MemoryStoreError) else []
    for error in errors:
        if isinstance(error, MemoryStoreError):
            said = f"{error} {[one for name, one in error.__dict__.items() if name not in ('_retry', 'results')]}"
            for id in loot.ids:
                said = said.replace(id, "")
            assert SECRET not in said, said


def attacks() -> list[Any]:
    """(flavour, kind of tenants, operation): all of them where nothing leaves the process, a choice on each server.

    How tenants are kept apart is decided by the same code for all kinds of them; by hand (``-m full``) all are tried.
    """
    chosen = {"by user", "from below"}
    found = []
    for name in (*ATTACKED, *SEARCHED):
        for tenants in KINDS:
            for attack in sorted(ATTACKS):
                embedded = name in ("in_memory", "sqlite")
                quick = tenants.name in chosen and (name in ATTACKED or attack in READS) and attack not in WHOLE_STORE
                marks = () if embedded or quick else (pytest.mark.full,)
                found.append(pytest.param(name, tenants, attack, marks=marks, id=f"{attack}-{name}-{tenants.name}"))
    return found


READS = {"list", "count", "search", "stream", "get_many"}


@pytest.fixture
def make(flavoured: str) -> MakeAt:
    return flavour(flavoured)


@pytest.mark.parametrize(("flavoured", "tenants", "name"), attacks())
async def test_nothing_of_another_tenant_is_seen_changed_or_told_apart(
    name: str, flavoured: str, make: MakeAt, tenants: Tenants, tmp_path: Path
) -> None:
    outcomes: list[list[Any]] = []
    for with_b in (True, False):
        async with world(make, tmp_path, tenants, with_b=with_b) as (store, a, loot):
            b = store.scoped(**tenants.b)
            before = [one async for batch in b.stream() for one in batch]
            assert bool(before) == with_b
            outcomes.append([])
            async for outcome in ATTACKS[name](a, loot):
                outcomes[-1].append(plain(outcome))
                check_silent(outcome, loot)
            assert [one async for batch in b.stream() for one in batch] == before, "B's memory was changed"
    with_b_, without = outcomes
    assert len(with_b_) == len(without)
    for here, there in zip(with_b_, without, strict=True):
        if tenants.shares_keys and name in ("put", "add", "put_many") and here != there:
            # The one thing a user's view is told by design: a key in its own namespace is taken.
            assert "AlreadyExists" in str(here)
            continue
        assert here == there
