"""Every public operation, called by tenant A with everything that belongs to B. Nothing of B may come back, be changed
or be distinguishable from its absence. An operation that this test does not know fails it."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from memory.clock import ManualClock
from memory.errors import BatchError, MemoryStoreError, UnsupportedOperation
from memory.filters import F
from memory.model import MemoryItem
from memory.store import MemoryStore, View
from memory.sync import blocking, blocking_iterator
from memory.testing.__main__ import maker
from memory.testing.contract.feed import start

SECRET = "TOPSECRET"


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
    Tenants("by session", {"session_id": "a", "user_id": "u"}, {"session_id": "b", "user_id": "u"}, [("default",)], True),
    Tenants("by namespace", {"namespace": ("t", "a")}, {"namespace": ("t", "b")}, [("t", "b")], False),
    Tenants("by prefix", {"under": ("a",)}, {"under": ("ab",)}, [("ab",), ("ab", "x")], False),
    Tenants("from below", {"under": ("t", "a")}, {"namespace": ("t",)}, [("t",)], False),
]


@dataclass
class Loot:
    """What A has got hold of."""

    place: Path
    space: tuple[str, ...]
    ids: list[str]
    version: int
    cursor: str
    search_cursor: str
    token: str
    export: Path
    where: list[Any] = field(default_factory=list)


Attack = Callable[[Any, Loot], AsyncIterator[Any]]


async def tried(call: Callable[[], Any]) -> Any:
    """The result of a call, or its error."""
    try:
        result = call()
        return await result if inspect.isawaitable(result) else result
    except MemoryStoreError as error:
        return error


async def drained(iterator: AsyncIterator[Any]) -> list[Any]:
    return [one async for one in iterator]


# --- one attack for each public operation -------------------------------------------------------


async def get(a: Any, loot: Loot) -> AsyncIterator[Any]:
    for id in loot.ids:
        yield await tried(lambda: a.get(id))
        yield await tried(lambda: a.get(id, namespace=loot.space))


async def get_many(a: Any, loot: Loot) -> AsyncIterator[Any]:
    yield await tried(lambda: a.get_many(loot.ids))
    yield await tried(lambda: a.get_many(loot.ids, namespace=loot.space))


async def exists(a: Any, loot: Loot) -> AsyncIterator[Any]:
    for id in loot.ids:
        yield await tried(lambda: a.exists(id))
        yield await tried(lambda: a.exists(id, namespace=loot.space))


def places(loot: Loot) -> list[dict[str, Any]]:
    return [{}, {"namespace": loot.space}, {"under": loot.space}, {"under": loot.space[:1]}, {"under": ()}]


async def list_(a: Any, loot: Loot) -> AsyncIterator[Any]:
    for options in places(loot):
        for where in [None, *loot.where]:
            yield await tried(lambda: a.list(where, **options))
        for order in ("created_at", "-updated_at", "importance"):
            yield await tried(lambda: a.list(order=order, limit=1000, **options))
        for cursor in (loot.cursor, loot.search_cursor, loot.token):
            yield await tried(lambda: a.list(cursor=cursor, limit=1, **options))


async def stream(a: Any, loot: Loot) -> AsyncIterator[Any]:
    for options in places(loot):
        for where in [None, *loot.where]:
            yield await tried(lambda: drained(a.stream(where, **options)))


async def count(a: Any, loot: Loot) -> AsyncIterator[Any]:
    for options in places(loot):
        for where in [None, *loot.where]:
            yield await tried(lambda: a.count(where, **options))


async def namespaces(a: Any, loot: Loot) -> AsyncIterator[Any]:
    for under in (None, loot.space, loot.space[:1], ()):
        yield await tried(lambda: a.namespaces(under=under))


async def search(a: Any, loot: Loot) -> AsyncIterator[Any]:
    for options in places(loot):
        for query in (SECRET, "shared word", f"shared {SECRET}"):
            for neighbours in (0, 2):
                yield await tried(lambda: a.search(query, explain=True, neighbours=neighbours, **options))
        for where in loot.where:
            yield await tried(lambda: a.search("shared", where=where, **options))
        for cursor in (loot.cursor, loot.search_cursor):
            yield await tried(lambda: a.search("shared word", cursor=cursor, limit=1, **options))


def forged(loot: Loot) -> list[MemoryItem]:
    """Items that claim to be B's, or take B's ids."""
    return [
        MemoryItem(id=loot.ids[0], content="x", namespace=loot.space, user_id="b"),
        MemoryItem(id=loot.ids[0], content="x", namespace=loot.space, session_id="b", user_id="u"),
        MemoryItem(id="new", content="x", namespace=loot.space, user_id="b"),
        MemoryItem(id="new", content="x", namespace=(*loot.space, "deep")),
    ]


def colliding(loot: Loot) -> list[MemoryItem]:
    """Items under B's ids that claim nothing."""
    return [MemoryItem(id=id, content=SECRET[:3], namespace=loot.space) for id in loot.ids]


async def writes(a: Any, loot: Loot, how: str) -> AsyncIterator[Any]:
    call = getattr(a, how)
    for item in forged(loot):
        yield await tried(lambda: call(item))
    for item in colliding(loot):
        for options in ({}, {"dedup": "content"}, {"ttl": 5}):
            yield await tried(lambda: call(item, **options))
        yield await tried(lambda: call(MemoryItem(id=item.id, content="mine")))
    yield await tried(lambda: call(MemoryItem(id="twin", content=f"{SECRET} shared word 0"), dedup="content"))


async def put(a: Any, loot: Loot) -> AsyncIterator[Any]:
    async for outcome in writes(a, loot, "put"):
        yield outcome
    for item in colliding(loot):
        yield await tried(lambda: a.put(item, if_version=loot.version))


async def add(a: Any, loot: Loot) -> AsyncIterator[Any]:
    async for outcome in writes(a, loot, "add"):
        yield outcome


async def put_many(a: Any, loot: Loot) -> AsyncIterator[Any]:
    yield await tried(lambda: a.put_many(forged(loot)))
    for atomic in (False, True):
        for dedup in (None, "content"):
            yield await tried(lambda: a.put_many(colliding(loot), atomic=atomic, dedup=dedup))


async def update(a: Any, loot: Loot) -> AsyncIterator[Any]:
    for id in loot.ids:
        for space in (None, loot.space):
            yield await tried(lambda: a.update(id, namespace=space, content="stolen"))
            yield await tried(lambda: a.update(id, namespace=space, metadata={"x": 1}, if_version=loot.version))
            yield await tried(lambda: a.update(id, namespace=space, user_id="a"))
    yield await tried(lambda: a.update("mine", user_id="b"))
    yield await tried(lambda: a.update("mine", session_id="b"))


async def touch(a: Any, loot: Loot) -> AsyncIterator[Any]:
    for id in loot.ids:
        for space in (None, loot.space):
            for options in ({}, {"ttl": 1}, {"if_version": loot.version}, {"if_version": loot.version + 1}):
                yield await tried(lambda: a.touch(id, namespace=space, **options))


async def delete(a: Any, loot: Loot) -> AsyncIterator[Any]:
    for id in loot.ids:
        for space in (None, loot.space):
            for options in ({}, {"if_version": loot.version}, {"if_version": loot.version + 1}):
                yield await tried(lambda: a.delete(id, namespace=space, **options))


async def delete_many(a: Any, loot: Loot) -> AsyncIterator[Any]:
    yield await tried(lambda: a.delete_many(loot.ids))
    yield await tried(lambda: a.delete_many(loot.ids, namespace=loot.space))


async def delete_where(a: Any, loot: Loot) -> AsyncIterator[Any]:
    for options in places(loot):
        for where in loot.where:
            yield await tried(lambda: a.delete_where(where, **options))
        yield await tried(lambda: a.delete_where(None, **options))


async def watch(a: Any, loot: Loot) -> AsyncIterator[Any]:
    for options in places(loot):
        yield await tried(lambda: drained(a.watch(timeout=0, **options)))
        for token in (loot.token, loot.cursor):
            yield await tried(lambda: drained(a.watch(timeout=0, resume=token, **options)))
            yield await tried(lambda: drained(a.watch(loot.where[0], timeout=0, resume=token, **options)))


async def export_jsonl(a: Any, loot: Loot) -> AsyncIterator[Any]:
    for number, options in enumerate(places(loot)):
        for where in [None, *loot.where]:
            path = loot.place / f"stolen-{number}.jsonl"
            yield await tried(lambda: a.export_jsonl(path, where, **options))
            if await asyncio.to_thread(path.exists):
                text = await asyncio.to_thread(path.read_text)
                yield [MemoryItem.from_dict(json.loads(line)) for line in text.splitlines()]


async def import_jsonl(a: Any, loot: Loot) -> AsyncIterator[Any]:
    for how in ("abort", "skip"):
        outcome = await tried(lambda: a.import_jsonl(loot.export, on_error=how))
        yield outcome
        assert getattr(outcome, "imported", 0) == 0


async def scoped(a: Any, loot: Loot) -> AsyncIterator[Any]:
    for pins in (
        {}, {"under": ()}, {"namespace": loot.space}, {"under": loot.space}, {"user_id": "b"}, {"session_id": "b"},
        {"namespace": loot.space, "user_id": "b"}, {"source": {"by": "b"}},
    ):  # fmt: skip
        view = await tried(lambda: a.scoped(**pins))
        if isinstance(view, View):
            for attack in (get, list_, count, search, stream, delete, namespaces):
                async for outcome in attack(view, loot):
                    yield outcome
        else:
            yield view


async def health(a: Any, loot: Loot) -> AsyncIterator[Any]:
    yield await tried(lambda: a.health())


def whole_store(name: str) -> Attack:
    async def refused(a: Any, loot: Loot) -> AsyncIterator[Any]:
        for arguments in ((), (loot.export,), (loot.place / "whole",)):
            with pytest.raises(UnsupportedOperation):
                await getattr(a, name)(*arguments)
        yield None

    return refused


WHOLE_STORE = ("stats", "verify", "repair", "sweep", "backup", "restore")
ATTACKS: dict[str, Attack] = {
    "get": get, "get_many": get_many, "exists": exists, "list": list_, "stream": stream, "count": count, "namespaces": namespaces,
    "search": search, "put": put, "add": add, "put_many": put_many, "update": update, "touch": touch, "delete": delete,
    "delete_many": delete_many, "delete_where": delete_where, "watch": watch, "export_jsonl": export_jsonl,
    "import_jsonl": import_jsonl, "scoped": scoped, "health": health, **{name: whole_store(name) for name in WHOLE_STORE},
}  # fmt: skip
OWNERS_ONLY = {"open", "close", "open_sync", "close_sync"}
"""Operations of the store that no view has."""
FACTS = {"capabilities", "name", "durability", "analyser", "pipelined_writes"}
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
async def world(backend: str, place: Path, tenants: Tenants, *, with_b: bool) -> AsyncIterator[tuple[MemoryStore, Any, Loot]]:
    """A store in which A lives, with or without B; the loot is B's in either case."""
    folder = place / ("with" if with_b else "without")
    folder.mkdir()
    clock = ManualClock()
    store = maker(backend)(folder, clock=clock, feed=True, sweep_interval=None)
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
        found = (await b.search("shared word", limit=1)).cursor
        export = folder / "b.jsonl"
        await b.export_jsonl(export)
        space = tenants.spaces[0]
        loot = Loot(
            folder, space, [one.id for one in stored if one.namespace == space], stored[0].version, cursor, found, token, export
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
        return [type(value).__name__, {k: plain(v) for k, v in value.__dict__.items() if k not in ("message", "lines", "_retry")}]
    if isinstance(value, MemoryItem):
        return {name: v for name, v in value.to_dict().items() if name not in ("version", "v")}
    if hasattr(value, "__struct_fields__"):
        skipped = ("cursor", "version", "token", "refused")
        return [type(value).__name__, {n: plain(getattr(value, n)) for n in value.__struct_fields__ if n not in skipped}]
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


@pytest.mark.parametrize("tenants", KINDS, ids=lambda tenants: tenants.name)
@pytest.mark.parametrize("backend", ["in_memory", "sqlite"])
@pytest.mark.parametrize("name", sorted(ATTACKS))
async def test_nothing_of_another_tenant_is_seen_changed_or_told_apart(
    name: str, backend: str, tenants: Tenants, tmp_path: Path
) -> None:
    outcomes: list[list[Any]] = []
    for with_b in (True, False):
        async with world(backend, tmp_path, tenants, with_b=with_b) as (store, a, loot):
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

