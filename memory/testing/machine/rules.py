"""The state machine: each rule does the same to a store and to the model, and compares what came of it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from hypothesis import note
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition

from memory.clock import ManualClock
from memory.errors import BatchError, MemoryStoreError, VersionConflict
from memory.model import MemoryItem
from memory.store import MemoryStore
from memory.testing.embedder import WordEmbedder
from memory.testing.machine import reference, strategies
from memory.testing.machine.model import (
    SECOND,
    Key,
    Model,
    Pins,
    Refused,
    after,
    agree,
    item_fields,
    merged,
    numbers,
    ordered,
    searchable,
)
from memory.testing.machine.placing import rule, within


class StoreMachine(RuleBasedStateMachine):
    """One random program: two tenants, their views, a clock, and the whole store."""

    def __init__(self, make: Callable[..., MemoryStore], place: Path) -> None:
        super().__init__()
        self.make, self.place = make, place
        self.clock = ManualClock()
        self.model = Model()
        self.model.now = self.clock()
        self.cursors: list[tuple[Pins, Any, str, dict[str, Any], str]] = []
        self.loop: asyncio.AbstractEventLoop | None = None
        self.store: MemoryStore

    @initialize(batch=strategies.batches, embedder=st.sampled_from([None, None, "one"]))
    def begin(self, batch: list[MemoryItem], embedder: str | None) -> None:
        """Open, with or without an embedder, and write what the program begins with."""
        self.place.mkdir(parents=True)
        self.loop = asyncio.new_event_loop()
        self.open(embedder)
        batch = within(self.store.capabilities, batch)
        for item, stored in zip(batch, self.run(self.store.put_many(batch)), strict=True):
            self.took(stored, *self.model.put(Pins(), item))

    def open(self, embedder: str | None) -> None:
        """A store on this program's data."""
        words = None if embedder is None else WordEmbedder(embedder, strategies.DIMENSION, semantic=False)
        self.model.embedder = words
        self.store = self.make(self.place, clock=self.clock, sweep_interval=None, embedder=words)
        self.run(self.store.open())

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine."""
        assert self.loop is not None
        return self.loop.run_until_complete(call)

    def view(self, pins: Pins) -> Any:
        """The store, or a view of it."""
        return self.store.scoped(**pins.options()) if pins.options() else self.store

    def teardown(self) -> None:
        """Close and forget."""
        if self.loop is None:
            return
        self.run(self.store.close())
        self.loop.close()
        shutil.rmtree(self.place, ignore_errors=True)

    def version_of(self, key: Key, which: str) -> int | None:
        """A version to expect: None, the present one, or an old one."""
        record = self.model.records.get(key)
        if which == "any":
            return None
        if which == "current" and record is not None:
            return int(record["version"])
        return max(1, self.model.highest.get(key, 0) - 1)

    def refused(self, expected: Refused, call: Coroutine[Any, Any, Any]) -> None:
        """The store has to raise the error that the model names."""
        try:
            result = self.run(call)
        except MemoryStoreError as error:
            assert type(error).__name__ == expected.error, f"{error!r}, the model says {expected.error}"
            if isinstance(error, VersionConflict):
                assert error.actual == expected.actual
        else:
            raise AssertionError(f"{result!r}, the model says {expected.error}")

    def took(self, found: MemoryItem, record: dict[str, Any], twins: list[dict[str, Any]]) -> None:
        """A write that succeeded: a twin returned instead, or the record stored."""
        if twins:
            agree(found, twins[0])
        else:
            self.model.store(record, found.version)
            agree(found, self.model.records[found.key])

    # --- writing -------------------------------------------------------------------------------

    @rule(place=strategies.placed(), ttl=strategies.ttls, embed=strategies.embeds)
    def put(self, place: tuple[Pins, MemoryItem], ttl: int | None, embed: str) -> None:
        """Write, new or in place of what is there."""
        self._write(place, ttl=ttl, embed=embed)

    @rule(place=strategies.placed(), ttl=strategies.ttls, dedup=st.booleans(), embed=strategies.embeds)
    def add(self, place: tuple[Pins, MemoryItem], ttl: int | None, dedup: bool, embed: str) -> None:
        """Write only what is new."""
        self._write(place, ttl=ttl, wanted=0, dedup=dedup, embed=embed)

    @rule(place=strategies.placed(), which=st.sampled_from(["current", "current", "old"]))
    def compare_and_set(self, place: tuple[Pins, MemoryItem], which: str) -> None:
        """Write only over a version."""
        self._write(place, wanted=self.version_of(place[1].key, which))

    @rule(place=strategies.placed(), data=st.data())
    def put_dedup(self, place: tuple[Pins, MemoryItem], data: st.DataObject) -> None:
        """Write unless the content is there, which it often is."""
        pins, item = place
        self._write((pins, data.draw(strategies.twins(item, self.model.seen(pins)))), dedup=True)

    def _write(
        self,
        place: tuple[Pins, MemoryItem],
        *,
        ttl: int | None = None,
        wanted: int | None = None,
        dedup: bool = False,
        embed: str = "now",
    ) -> None:
        pins, item = place
        view, how = self.view(pins), "content" if dedup else None
        expires = None if ttl is None else self.model.now + ttl * SECOND
        if wanted == 0:
            call = view.add(item, ttl=ttl, dedup=how, embed=embed)
        else:
            call = view.put(item, ttl=ttl, dedup=how, if_version=wanted, embed=embed)
        try:
            record, twins = self.model.put(pins, item, expect=wanted, expires=expires, dedup=dedup, embed=embed)
        except Refused as verdict:
            self.refused(verdict, call)
        else:
            self.took(self.run(call), record, twins)

    @rule(
        pins=strategies.views,
        batch=st.lists(strategies.items(), min_size=1, max_size=5),
        dedup=st.booleans(),
        ttl=strategies.ttls,
        embed=strategies.embeds,
        data=st.data(),
    )
    def put_many(
        self, pins: Pins, batch: list[MemoryItem], dedup: bool, ttl: int | None, embed: str, data: st.DataObject
    ) -> None:
        """A batch, its duplicates in order: of one content, where twins are looked for, as often as not."""
        view = self.view(pins)
        if dedup:
            seen = self.model.seen(pins)
            batch = [data.draw(strategies.twins(item, [*seen, *map(item_fields, batch)])) for item in batch]
        call = view.put_many(batch, dedup="content" if dedup else None, ttl=ttl, embed=embed)
        for item in batch:
            try:
                self.model.put(pins, item)
            except Refused as verdict:
                if verdict.error == "InvalidItem":
                    self.refused(verdict, call)
                    return
        try:
            results = self.run(call)
        except BatchError as error:
            results = list(error.results)
        assert len(results) == len(batch)
        expires = None if ttl is None else self.model.now + ttl * SECOND
        for item, result in zip(batch, results, strict=True):
            try:
                record, twins = self.model.put(pins, item, dedup=dedup, expires=expires, embed=embed)
            except Refused as verdict:
                assert type(result).__name__ == verdict.error
            else:
                assert isinstance(result, MemoryItem), repr(result)
                self.took(result, record, twins)

    @rule(
        pins=strategies.views,
        key=strategies.keys,
        content=st.one_of(st.none(), strategies.patches, strategies.texts),
        data=st.one_of(st.none(), strategies.patches),
        importance=st.sampled_from([None, 0.0, 1.0]),
        vector=st.one_of(st.just("kept"), st.just("kept"), st.none(), strategies.vectors),
        embed=strategies.embeds,
        which=st.sampled_from(["any", "any", "current", "old"]),
    )
    def update(
        self,
        pins: Pins,
        key: Key,
        content: Any,
        data: Any,
        importance: float | None,
        vector: Any,
        embed: str,
        which: str,
    ) -> None:
        """Merge patches and replacements."""
        named = {"content": content, "metadata": data, "importance": importance}
        given = {name: value for name, value in named.items() if value is not None}
        if vector != "kept":
            given["embedding"] = numbers(vector)
        wanted = self.version_of(key, which)
        call = self.view(pins).update(key[1], namespace=key[0], if_version=wanted, embed=embed, **given)
        old = self.model.visible(pins, key)
        if old is None:
            self.refused(Refused("NotFound"), call)
        elif wanted not in (None, old["version"]):
            self.refused(Refused("VersionConflict", old["version"]), call)
        else:
            record: dict[str, Any] = {**old, **given, "updated_at": self.model.now}
            for name in ("content", "metadata"):
                record[name] = merged(old[name], given[name]) if name in given else old[name]
            if vector == "kept" and searchable(record) != searchable(old):
                record["embedding"] = self.model.vector(record, embed)
            self.took(self.run(call), record, [])

    @rule(
        pins=strategies.views,
        key=strategies.keys,
        expiry=st.sampled_from(["keep", "never", "soon"]),
        which=st.sampled_from(["any", "any", "current", "old"]),
    )
    def touch(self, pins: Pins, key: Key, expiry: str, which: str) -> None:
        """Count an access, move the expiry."""
        choices: dict[str, dict[str, Any]] = {"keep": {}, "never": {"expires_at": None}, "soon": {"ttl": 5}}
        asked = choices[expiry]
        wanted = self.version_of(key, which)
        call = self.view(pins).touch(key[1], namespace=key[0], if_version=wanted, **asked)
        old = self.model.visible(pins, key)
        if old is None:
            assert self.run(call) is False
        elif wanted not in (None, old["version"]):
            self.refused(Refused("VersionConflict", old["version"]), call)
        else:
            assert self.run(call) is True
            record = {**old, "accessed_at": self.model.now, "access_count": old["access_count"] + 1}
            if asked:
                record["expires_at"] = None if expiry == "never" else self.model.now + 5 * SECOND
            found = self.run(self.store.get(key[1], namespace=key[0]))
            self.took(found, record, [])

    @rule(pins=strategies.views, key=strategies.keys, which=st.sampled_from(["any", "any", "current", "old"]))
    def delete(self, pins: Pins, key: Key, which: str) -> None:
        """Delete, at any version or at one."""
        wanted = self.version_of(key, which)
        call = self.view(pins).delete(key[1], namespace=key[0], if_version=wanted)
        old = self.model.visible(pins, key)
        if old is None:
            assert self.run(call) is False
        elif wanted not in (None, old["version"]):
            self.refused(Refused("VersionConflict", old["version"]), call)
        else:
            assert self.run(call) is True
            del self.model.records[key]

    @rule(pins=strategies.views, where=strategies.narrow)
    def delete_where(self, pins: Pins, where: Any) -> None:
        """Delete what a filter finds in a view."""
        doomed = self.model.seen(pins, where)
        assert self.run(self.view(pins).delete_where(where)) == len(doomed)
        for record in doomed:
            del self.model.records[record["namespace"], record["id"]]

    @rule(seconds=st.sampled_from([0.000001, 1, 1, 5, 50]))
    def advance(self, seconds: float) -> None:
        """Time passes; what has expired is gone."""
        self.clock.advance(seconds)
        self.model.now = self.clock()

    @precondition(lambda self: self.model.expired())
    @rule()
    def sweep(self) -> None:
        """Reclaim what has expired."""
        assert self.run(self.store.sweep()) == self.model.expired()
        for key in list(self.model.records):
            if self.model.live(key) is None:
                del self.model.records[key]

    @precondition(lambda self: self.store.capabilities.persistent)
    @rule()
    def reopen(self) -> None:
        """Close, and open another store on the same data."""
        self.run(self.store.close())
        self.open(None if self.model.embedder is None else self.model.embedder.name)

    # --- reading -------------------------------------------------------------------------------

    @rule(pins=strategies.views, where=strategies.filters, order=strategies.orders, limit=st.integers(1, 6))
    def list_all(self, pins: Pins, where: Any, order: str, limit: int) -> None:
        """Page through a list; keep one of its cursors for later."""
        expected = ordered(self.model.seen(pins, where), order)
        found: list[MemoryItem] = []
        cursor = None
        while True:
            page = self.run(self.view(pins).list(where, order=order, limit=limit, cursor=cursor))
            found += page.items
            cursor = page.cursor
            if cursor is None:
                break
            assert len(page) == limit
            self.cursors.append((pins, where, order, expected[len(found) - 1], cursor))
        assert [one.key for one in found] == [(one["namespace"], one["id"]) for one in expected]
        for one, record in zip(found, expected, strict=True):
            agree(one, record)

    @precondition(lambda self: self.cursors)
    @rule(data=st.data(), limit=st.integers(1, 6))
    def page_on(self, data: st.DataObject, limit: int) -> None:
        """Go on from an old cursor, whatever was written since."""
        pins, where, order, last, cursor = data.draw(st.sampled_from(self.cursors))
        page = self.run(self.view(pins).list(where, order=order, limit=limit, cursor=cursor))
        later = after(order, last)
        expected = [record for record in ordered(self.model.seen(pins, where), order) if later(record)]
        assert [one.key for one in page] == [(one["namespace"], one["id"]) for one in expected[:limit]]
        assert (page.cursor is None) == (len(expected) <= limit)

    @rule(pins=strategies.views, where=strategies.filters)
    def count(self, pins: Pins, where: Any) -> None:
        """Count, stream and namespaces agree."""
        view, expected = self.view(pins), self.model.seen(pins, where)
        assert self.run(view.count(where)) == len(expected)

        async def streamed() -> list[Key]:
            return [one.key async for batch in view.stream(where, batch_size=3) for one in batch]

        assert self.run(streamed()) == [(one["namespace"], one["id"]) for one in expected]
        paths = dict.fromkeys(one["namespace"] for one in self.model.seen(pins))
        assert self.run(view.namespaces()) == list(paths)

    @rule(pins=strategies.views, key=strategies.keys)
    def get(self, pins: Pins, key: Key) -> None:
        """A point read through a view."""
        found, record = self.run(self.view(pins).get(key[1], namespace=key[0])), self.model.visible(pins, key)
        assert self.run(self.view(pins).exists(key[1], namespace=key[0])) == (record is not None)
        assert (found is None) == (record is None)
        if record is not None:
            agree(found, record)

    @rule(
        pins=strategies.views,
        where=strategies.filters,
        query=st.lists(st.sampled_from(strategies.WORDS), min_size=1, max_size=3).map(" ".join),
        neighbours=st.sampled_from([0, 0, 1, 2]),
        limit=st.integers(1, 15),
    )
    def search(self, pins: Pins, where: Any, query: str, neighbours: int, limit: int) -> None:
        """Scores, order and neighbours, to the bit."""
        asked = reference.Asked(pins=pins, where=where, query=query, neighbours=neighbours)
        expected = reference.search(self.model, asked)
        page = self.run(self.view(pins).search(query, where=where, neighbours=neighbours, limit=limit))
        note(f"expected {expected[:limit]}")
        assert [(hit.item.key, hit.score) for hit in page] == expected[:limit]
        assert (page.cursor is None) == (len(expected) <= limit)
        for hit in page:
            agree(hit.item, self.model.records[hit.item.key], hit=True)

    @invariant()
    def as_many_as_the_model(self) -> None:
        """The whole store holds what the model holds."""
        assert self.run(self.store.count()) == len(self.model.seen(Pins()))
