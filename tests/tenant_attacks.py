"""One attack for each public operation: tenant A calls it with everything that belongs to B."""
# ruff: noqa: B023 - every lambda is called at once

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest

from memory.errors import MemoryStoreError, UnsupportedOperation
from memory.model import MemoryItem
from memory.store import View

SECRET = "TOPSECRET"


@dataclass
class Loot:
    """What A has got hold of."""

    place: Path
    space: tuple[str, ...]
    ids: list[str]
    version: int
    cursor: str
    search_cursors: list[str]
    """Of searches by text, by vector and by both."""
    vector: Any
    """Of an item of B's."""
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
        for cursor in (loot.cursor, *loot.search_cursors, loot.token):
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
        async for outcome in searches(a, loot, options):
            yield outcome


async def searches(a: Any, loot: Loot, options: dict[str, Any] | None = None) -> AsyncIterator[Any]:
    options = options or {}
    near = {"vector": loot.vector}
    for query in (SECRET, "shared word", f"shared {SECRET}"):
        for mode in ("text", "auto"):
            for neighbours in (0, 2):
                yield await tried(lambda: a.search(query, mode=mode, explain=True, neighbours=neighbours, **options))
    for where in loot.where:
        yield await tried(lambda: a.search("shared", where=where, **options))
        yield await tried(lambda: a.search(where=where, **near, **options))
    for how in (
        {}, {"exact": True}, {"min_vector": 0.9}, {"neighbours": 2}, {"order": "composite"}, {"mmr": 0.5}, {"mmr": 0.0, "limit": 1},
        {"query": SECRET, "explain": True}, {"query": "shared", "min_text": 0.1}, {"query": SECRET, "neighbours": 2, "order": "composite"},
        {"limit": 200}, {"vector": -loot.vector}, {"vector": loot.vector[:2]},
    ):  # fmt: skip
        yield await tried(lambda: a.search(**{**near, **how}, **options))
    for cursor in (loot.cursor, *loot.search_cursors):
        yield await tried(lambda: a.search("shared word", cursor=cursor, limit=1, **options))
        yield await tried(lambda: a.search(cursor=cursor, limit=1, **near, **options))
        yield await tried(lambda: a.search("shared word", cursor=cursor, limit=1, **near, **options))


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
        for options in ({}, {"dedup": "content"}, {"ttl": 5}, {"embed": "later"}):
            yield await tried(lambda: call(item, **options))
        yield await tried(lambda: call(msgspec.structs.replace(item, embedding=loot.vector)))
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
            for embed in ("now", "later"):
                yield await tried(lambda: a.put_many(colliding(loot), atomic=atomic, dedup=dedup, embed=embed))


async def update(a: Any, loot: Loot) -> AsyncIterator[Any]:
    for id in loot.ids:
        for space in (None, loot.space):
            yield await tried(lambda: a.update(id, namespace=space, content="stolen"))
            yield await tried(lambda: a.update(id, namespace=space, metadata={"x": 1}, if_version=loot.version))
            yield await tried(lambda: a.update(id, namespace=space, user_id="a"))
            yield await tried(lambda: a.update(id, namespace=space, embedding=loot.vector))
            yield await tried(lambda: a.update(id, namespace=space, embedding=None, content="x", embed="later"))
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
        for vectors in ("keep", "drop"):
            outcome = await tried(lambda: a.import_jsonl(loot.export, on_error=how, vectors=vectors))
            yield outcome
            assert getattr(outcome, "imported", 0) == 0


async def scoped(a: Any, loot: Loot) -> AsyncIterator[Any]:
    for pins in (
        {}, {"under": ()}, {"namespace": loot.space}, {"under": loot.space}, {"user_id": "b"}, {"session_id": "b"},
        {"namespace": loot.space, "user_id": "b"}, {"source": {"by": "b"}},
    ):  # fmt: skip
        view = await tried(lambda: a.scoped(**pins))
        if isinstance(view, View):
            for attack in (get, list_, count, searches, stream, delete, namespaces):
                async for outcome in attack(view, loot):
                    yield outcome
        else:
            yield view


async def health(a: Any, loot: Loot) -> AsyncIterator[Any]:
    yield await tried(a.health)


def whole_store(name: str) -> Attack:
    async def refused(a: Any, loot: Loot) -> AsyncIterator[Any]:
        for arguments in ((), (loot.export,), (loot.place / "whole",)):
            with pytest.raises(UnsupportedOperation):
                await getattr(a, name)(*arguments)
        yield None

    return refused


WHOLE_STORE = ("stats", "verify", "repair", "sweep", "backup", "restore", "reembed")
ATTACKS: dict[str, Attack] = {
    "get": get, "get_many": get_many, "exists": exists, "list": list_, "stream": stream, "count": count, "namespaces": namespaces,
    "search": search, "put": put, "add": add, "put_many": put_many, "update": update, "touch": touch, "delete": delete,
    "delete_many": delete_many, "delete_where": delete_where, "watch": watch, "export_jsonl": export_jsonl,
    "import_jsonl": import_jsonl, "scoped": scoped, "health": health, **{name: whole_store(name) for name in WHOLE_STORE},
}  # fmt: skip
