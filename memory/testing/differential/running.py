"""One store that carries out the steps: what each came to, in a form that can be compared between stores.

Versions become ranks (the first, second, ... that was seen of a key), times microseconds, vectors their numbers, errors
their names and facts. Cursors and tokens are kept here, one of each store's own for each step that gave one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from memory.clock import ManualClock
from memory.errors import BatchError, MemoryStoreError
from memory.model import MemoryItem
from memory.store import Hit, MemoryStore
from memory.testing.contract.feed import start
from memory.testing.differential.steps import Step
from memory.testing.embedder import WordEmbedder
from memory.testing.machine import strategies
from memory.testing.machine.model import Key, Pins, micros, numbers
from memory.testing.making import MakeAt

Outcome = Any
HIDDEN = ("message", "_retry", "lines", "results")
"""Facts of an error that are words, or are looked at by themselves."""


class Score(float):
    """A score: compared to 1e-5."""


class Store:
    """A store, what has been seen of it, and its own cursors."""

    def __init__(self, name: str, make: MakeAt, place: Path, clock: ManualClock, *, feed: bool) -> None:
        self.name, self._make, self._place, self._clock, self._feed = name, make, place, clock, feed
        self.versions: dict[Key, list[int]] = {}
        self.cursors: list[tuple[Pins, Any, str, str]] = []
        self.token: str | None = None
        self._begun = False
        self.atomic = True
        self.store: MemoryStore

    async def open(self) -> None:
        """Open a store on this one's data."""
        words = WordEmbedder("one", strategies.DIMENSION)
        options = {"feed": True} if self._feed else {}
        store = self._make(self._place, clock=self._clock, sweep_interval=None, embedder=words, **options)
        self.store = await store.open()
        if self._begun:
            return
        self._begun = True
        # Of one item that no step writes: where versions are counted, those of the steps begin above 1 as everywhere.
        first = MemoryItem(id="first", namespace=("first",), content=None)
        if self._feed:
            self.token = await start(self.store, first)
        else:
            await self.store.put(first)

    async def close(self) -> None:
        """Close it."""
        await self.store.close()

    async def do(self, step: Step) -> Outcome:
        """What a step came to. Any error that is not of this package is raised: nobody should ever see one."""
        try:
            result = await getattr(self, f"_{step.name}")(self._view(step.pins), step, **step.arguments)
        except MemoryStoreError as error:
            return self.plain(error)
        return self.plain(result)

    def _view(self, pins: Pins) -> Any:
        return self.store.scoped(**pins.options()) if pins.options() else self.store

    def _version(self, key: Key, expect: str) -> int | None:
        """None for any version, the newest one that was seen, or an older one."""
        seen = self.versions.get(key, [])
        if expect == "any" or not seen:
            return None
        return seen[-1] if expect == "current" else max(1, seen[0] - (len(seen) == 1))

    # --- in a comparable form --------------------------------------------------------------------

    def rank(self, key: Key, version: int) -> int:
        """Which of the versions seen of a key this is; -1 for one that comes after a higher one had been seen."""
        seen = self.versions.setdefault(key, [])
        place = bisect_left(seen, version)
        if place == len(seen):
            seen.append(version)
        return place if seen[place] == version else -1

    def plain(self, value: Any) -> Outcome:
        """A result or an error without what differs between stores by nature."""
        if isinstance(value, MemoryItem):
            return self._item(value)
        if isinstance(value, MemoryStoreError):
            return self._error(value)
        if isinstance(value, Hit):
            return {
                "item": self.plain(value.item),
                "score": Score(value.score),
                "components": _scores(value.components),
            }
        if isinstance(value, datetime):
            return micros(value)
        if isinstance(value, list | tuple):
            return [self.plain(one) for one in value]
        if isinstance(value, dict):
            return {name: self.plain(one) for name, one in value.items()}
        if isinstance(value, msgspec.Struct):
            return {name: self.plain(getattr(value, name)) for name in value.__struct_fields__}
        return value

    def _item(self, item: MemoryItem) -> Outcome:
        fields = {name: getattr(item, name) for name in item.__struct_fields__ if name not in ("version", "embedding")}
        shown = {name: self.plain(value) for name, value in fields.items()}
        return {**shown, "embedding": numbers(item.embedding), "version": self.rank(item.key, item.version)}

    def _error(self, error: MemoryStoreError) -> Outcome:
        facts = {name: value for name, value in vars(error).items() if name not in HIDDEN}
        key = facts.get("key")
        for name in ("expected", "actual"):
            if key is not None and facts.get(name):
                facts[name] = self.rank(key, facts[name]) if name == "actual" or facts[name] > 1 else facts[name]
        each = {"results": [self.plain(one) for one in error.results]} if isinstance(error, BatchError) else {}
        return {"error": type(error).__name__, **self.plain(facts), **each}

    # --- writing ---------------------------------------------------------------------------------

    async def _put(self, view: Any, step: Step, item: MemoryItem, expect: str, dedup: bool, **more: Any) -> Any:
        wanted = None if dedup else self._version(item.key, expect)
        return await view.put(item, if_version=wanted, dedup="content" if dedup else None, **more)

    async def _add(self, view: Any, step: Step, item: MemoryItem, dedup: bool, **more: Any) -> Any:
        return await view.add(item, dedup="content" if dedup else None, **more)

    async def _put_many(
        self, view: Any, step: Step, items: list[MemoryItem], dedup: bool, atomic: bool, **more: Any
    ) -> Any:
        return await view.put_many(items, dedup="content" if dedup else None, atomic=atomic and self.atomic, **more)

    async def _update(self, view: Any, step: Step, key: Key, expect: str, embed: str, changes: dict[str, Any]) -> Any:
        wanted = self._version(key, expect)
        return await view.update(key[1], namespace=key[0], if_version=wanted, embed=embed, **changes)

    async def _touch(self, view: Any, step: Step, key: Key, expect: str, expiry: str) -> Any:
        choices: dict[str, dict[str, Any]] = {"keep": {}, "never": {"expires_at": None}, "soon": {"ttl": 5}}
        return await view.touch(key[1], namespace=key[0], if_version=self._version(key, expect), **choices[expiry])

    async def _delete(self, view: Any, step: Step, key: Key, expect: str) -> Any:
        return await view.delete(key[1], namespace=key[0], if_version=self._version(key, expect))

    async def _delete_many(self, view: Any, step: Step, path: tuple[str, ...], ids: list[str]) -> Any:
        return await view.delete_many(ids, namespace=path)

    async def _delete_where(self, view: Any, step: Step, where: Any) -> Any:
        return await view.delete_where(where)

    # --- time and upkeep -------------------------------------------------------------------------

    async def _advance(self, view: Any, step: Step, seconds: float) -> Any:
        return None  # the clock is everybody's: see __init__.run

    async def _sweep(self, view: Any, step: Step) -> Any:
        return await self.store.sweep()

    async def _reopen(self, view: Any, step: Step) -> Any:
        if self.store.capabilities.persistent:
            await self.close()
            await self.open()
        return None

    async def _reembed(self, view: Any, step: Step, batch: int) -> Any:
        report = await self.store.reembed(batch=batch)
        self.versions.clear()  # a vector is derived: giving one may raise the version or not
        return report

    async def _verify(self, view: Any, step: Step) -> Any:
        return [problem.what for problem in (await self.store.verify()).problems]

    # --- reading ---------------------------------------------------------------------------------

    async def _get(self, view: Any, step: Step, key: Key) -> Any:
        return [await view.get(key[1], namespace=key[0]), await view.exists(key[1], namespace=key[0])]

    async def _get_many(self, view: Any, step: Step, path: tuple[str, ...], ids: list[str]) -> Any:
        return await view.get_many(ids, namespace=path)

    async def _list(self, view: Any, step: Step, where: Any, order: str, limit: int) -> Any:
        pages: list[Any] = []
        cursor = None
        while True:
            page = await view.list(where, order=order, limit=limit, cursor=cursor)
            pages.append(page.items)
            cursor = page.cursor
            if cursor is None:
                return pages
            self.cursors.append((step.pins, where, order, cursor))

    async def _page_on(self, view: Any, step: Step, number: int, limit: int) -> Any:
        if not self.cursors:
            return None
        pins, where, order, cursor = self.cursors[number % len(self.cursors)]
        page = await self._view(pins).list(where, order=order, limit=limit, cursor=cursor)
        return [page.items, page.cursor is None]

    async def _count(self, view: Any, step: Step, where: Any) -> Any:
        return await view.count(where)

    async def _stream(self, view: Any, step: Step, where: Any) -> Any:
        return [one async for batch in view.stream(where, batch_size=7) for one in batch]

    async def _namespaces(self, view: Any, step: Step) -> Any:
        return await view.namespaces()

    async def _watch(self, view: Any, step: Step) -> Any:
        """Changes of the whole store since the last look, in the order of each key: between keys an engine may choose."""
        if not self._feed:
            return None
        found: dict[str, list[Any]] = {}
        async for change in self.store.watch(timeout=0, resume=self.token):
            self.token = change.token
            found.setdefault(repr(change.key), []).append([change.kind, self.plain(change.item)])
        return found

    async def _search(self, view: Any, step: Step, query: str | None = None, **asked: Any) -> Any:
        pages: list[Any] = []
        cursor = None
        exact = asked.get("mode") != "text"
        while True:
            page = await view.search(query, cursor=cursor, exact=exact, explain=True, **asked)
            pages.append([page.hits, page.complete])
            cursor = page.cursor
            if cursor is None:
                return pages

    async def _damaged(self, view: Any, step: Step, what: str) -> Any:
        return await DAMAGED_CALLS[what](view, self)


def _scores(value: Any) -> Any:
    """The components of a score, in which every float is one."""
    if isinstance(value, float):
        return Score(value)
    if isinstance(value, dict):
        return {name: _scores(one) for name, one in value.items()}
    return [_scores(one) for one in value] if isinstance(value, list | tuple) else value


async def _foreign_cursor(view: Any, mine: Store) -> Any:
    """A cursor of another question."""
    page = await mine.store.list({"id": {"$ne": "nobody"}}, limit=1)
    return await view.list({"id": {"$ne": "somebody"}}, cursor=page.cursor or "none")


async def _resume(view: Any, mine: Store) -> Any:
    return [change async for change in view.watch(timeout=0, resume="token")] if mine._feed else None


GOOD = MemoryItem(id="a", namespace=("n",), content="good")
DAMAGED_CALLS: dict[str, Callable[[Any, Store], Any]] = {
    "filter operator": lambda view, _: view.list({"metadata.x": {"$where": "1"}}),
    "filter shape": lambda view, _: view.count({"$or": {"id": "a"}}),
    "limit": lambda view, _: view.list(limit=0),
    "order": lambda view, _: view.list(order="content"),
    "cursor": lambda view, _: view.list(cursor="'; DROP TABLE items; --"),
    "foreign cursor": _foreign_cursor,
    "id": lambda view, _: view.get("x" * 513),
    "namespace": lambda view, _: view.delete("a", namespace=("n", "")),
    "number": lambda view, _: view.put(msgspec.structs.replace(GOOD, content=float("nan"))),
    "vector": lambda view, _: view.put(msgspec.structs.replace(GOOD, embedding=[1.0, float("inf"), 0.0, 0.0])),
    "dimension": lambda view, _: view.search(vector=[1.0, 2.0]),
    "search for nothing": lambda view, _: view.search(),
    "cut": lambda view, _: view.search("marmot", mode="text", min_vector=0.5),
    "owner": lambda view, _: view.put(msgspec.structs.replace(GOOD, user_id="")),
    "token": _resume,
    "batch": lambda view, _: view.put_many([GOOD, msgspec.structs.replace(GOOD, id="x\0")]),
    "delete all": lambda view, _: view.delete_where(None),
    "ttl": lambda view, _: view.touch("a", ttl=-1.0),
    "patch": lambda view, _: view.update("a", namespace=("n",), metadata=5),
    "twice": lambda view, _: view.put(GOOD, ttl=1.0, if_version=0),
}  # fmt: skip
