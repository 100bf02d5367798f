"""The vectors of ``in_memory``: unit vectors in blocks to score with, where each lies, and the change to another space."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec
from sortedcontainers import SortedDict

from memory.backends.in_memory.terms import Record, SortKey
from memory.filters import Filter, predicate
from memory.model import Key, key_order
from memory.ops import WHOLE, Attach, Nearest, Row, Scope, Space
from memory.store import MemoryStore
from memory.store.embedding import mismatch
from memory.turns import is_due, pause

if TYPE_CHECKING:
    import numpy as np

    Matrix = np.ndarray[Any, np.dtype[np.float32]]

STEP = 256
"""Records of a step of a switch."""
PLACES = 2_048
"""Keys looked up in one step of the loop: half a millisecond."""
TRIES = 3
"""Searches that find vectors changed meanwhile before one is content with what the records hold then."""
BLOCK = 4_096
"""Rows of a block, scored in one step of the loop: about a millisecond. A block never grows, so nothing is copied."""


class VectorIndex:
    """Key -> unit vector, brought up to date when a search wants it.

    Only ``refresh`` moves vectors, so a search that has the lock may pause between blocks.
    """

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        """Held by the search that brings it up to date and looks through it: a composite asks a member several at once."""
        self._blocks: list[Matrix] = []
        self.places: dict[SortKey, int] = {}
        self.stale: set[SortKey] = set()
        self.held: set[SortKey] = set()
        self.owed: set[SortKey] = set()
        self._keys: list[SortKey] = []
        """By place; a place that is free keeps its last."""
        self._free: list[int] = []

    def note(self, key: SortKey, row: Row | None) -> None:
        """What a key's row holds now: a vector, none, or the mark that one is owed."""
        if row is not None and row.embedding is not None:
            self.held.add(key)
        elif key in self.held:
            self.held.discard(key)
        elif row is None or row.embedder is None:
            if self.owed:
                self.owed.discard(key)
            return
        self.stale.add(key)
        if row is not None and row.embedding is None and row.embedder is not None:
            self.owed.add(key)
        elif self.owed:
            self.owed.discard(key)

    async def refresh(self, records: Mapping[SortKey, Record]) -> None:
        """Index what was written until now. Other tasks run in between; what they write is left for the next time."""
        stale, self.stale = self.stale, set()
        try:
            while stale:
                key = stale.pop()
                record = records.get(key)
                self._put(key, None if record is None else record.row.embedding)
                if is_due():
                    await pause()
        finally:
            self.stale |= stale

    def _put(self, key: SortKey, embedding: bytes | None) -> None:
        from memory.search.vectors import unit

        if embedding is None:
            place = self.places.pop(key, None)
            if place is not None:
                self._free.append(place)
            return
        place = self.places.get(key)
        if place is None:
            place = self.places[key] = self._free.pop() if self._free else self._new_place(len(embedding) // 4)
            self._keys[place] = key
        self._blocks[place // BLOCK][place % BLOCK] = unit(embedding)

    def _new_place(self, dimension: int) -> int:
        import numpy as np

        if len(self._keys) == len(self._blocks) * BLOCK:
            self._blocks.append(np.zeros((BLOCK, dimension), dtype=np.float32))
        self._keys.append((b"", b""))
        return len(self._keys) - 1

    async def best(self, query: bytes, keys: Iterable[SortKey], limit: int) -> list[SortKey]:
        """Of these keys, which have vectors, those that may be among the best ``limit`` by cosine: at least so many.

        Other tasks run in between; what they write may or may not be seen. ``keys`` is not changed meanwhile.
        """
        import numpy as np

        from memory.search.vectors import at_least, products, unit

        wanted, keys, chosen = unit(query), iter(keys), np.zeros(len(self._blocks) * BLOCK, dtype=np.bool_)
        while part := list(islice(keys, PLACES)):
            chosen[[place for key in part if (place := self.places.get(key)) is not None]] = True
            await asyncio.sleep(0)
        scores = np.empty(int(chosen.sum()), dtype=np.float32)
        done = 0
        for block, inside in zip(self._blocks, chosen.reshape(-1, BLOCK), strict=True):
            here = np.flatnonzero(inside)
            scores[done : done + len(here)] = (
                products(block, wanted)[here] if 4 * len(here) > BLOCK else products(block[here], wanted)
            )
            done += len(here)
            await asyncio.sleep(0)
        places = np.flatnonzero(chosen)[at_least(scores, limit, len(query) // 4)]
        return [self._keys[place] for place in places.tolist()]


class Vectors(MemoryStore):
    """The part of the store that finds by vector, and gives records other vectors."""

    _records: Any
    _vectors: VectorIndex
    _aside: dict[SortKey, tuple[int, bytes]]
    """Vectors of another space, by key: the version they were made for, and the vector."""
    _aside_space: Space | None
    _changed: set[SortKey] | None
    """What was written since a switch began; None: none is under way."""

    @abstractmethod
    def _check_open(self) -> None: ...

    @abstractmethod
    def _matching(
        self, scope: Scope, where: Filter | None, now: int, after: SortKey | None = None
    ) -> AsyncIterator[list[tuple[SortKey, Record]]]: ...

    @abstractmethod
    def _walk(self, scope: Scope, after: SortKey | None) -> AsyncIterator[list[tuple[SortKey, Record]]]: ...

    def _note(self, key: SortKey, row: Row | None) -> None:
        """Keep the vectors in step with a record that was just written."""
        self._vectors.note(key, row)
        if self._changed is not None:
            self._changed.add(key)

    async def _nearest(self, op: Nearest) -> list[Row]:
        if self._space is None:
            return []
        if not self._space.admits(op.embedder, len(op.vector) // 4):
            raise mismatch(self._space, op.embedder, len(op.vector) // 4)
        accept = None if op.where is None else predicate(op.where)
        vectors, tries = self._vectors, TRIES  # those of the space just looked at, before others run
        held: dict[SortKey, bytes] = {}
        async for records in self._matching(op.scope, op.where, op.now):
            held.update({key: record.row.embedding for key, record in records if record.row.embedding is not None})
        while vectors is self._vectors:
            async with vectors.lock:
                await vectors.refresh(self._records)
                best = await vectors.best(op.vector, held, op.limit)
            self._check_open()
            if vectors is not self._vectors:
                break
            rows: list[Row] = []
            moved = False
            for key in best:
                record = self._records.get(key)
                if record is None or record.row.embedding is None or not record.answers(op.scope, accept, op.now):
                    del held[key]
                    continue
                moved = moved or record.row.embedding != held[key]
                held[key] = record.row.embedding
                rows.append(record.row)
            tries -= 1
            if len(rows) == len(best) and not (moved and tries):
                return rows
            # While others ran, some of these went, or got other vectors than were compared: once more, without those that went.
        return await self._nearest(op)  # all have got vectors of another space

    async def _attach(self, space: Space, ops: Sequence[Attach]) -> int:
        self._check_open()
        aside = self._space is not None and space != self._space
        if aside and space != self._aside_space:
            self._aside, self._aside_space = {}, space
        if not aside:
            self._space = space
        done = 0
        for op in ops:
            key = key_order(op.key)
            record = self._records.get(key)
            if record is None or record.row.version != op.version:
                continue
            done += 1
            if aside:
                self._aside[key] = (op.version, op.embedding)
            else:
                self._records[key] = _with_vector(record, op.embedding, space)
                self._note(key, self._records[key].row)
        return done

    def _aside_for(self, key: SortKey, record: Record, space: Space) -> bytes | None:
        held = self._aside.get(key) if space == self._aside_space else None
        return held[1] if held is not None and held[0] == record.row.version else None

    async def _unattached(self, space: Space, after: Key | None, limit: int) -> list[Row]:
        found: list[Row] = []
        aside = self._space is not None and space != self._space
        async for records in self._walk(WHOLE, None if after is None else key_order(after)):
            for key, record in records:
                if (self._aside_for(key, record, space) if aside else record.row.embedding) is None:
                    found.append(record.row)
            if len(found) >= limit:
                break
        return found[:limit]

    async def _switch(self, space: Space, without: int) -> bool:
        """New records and vectors are made beside the old ones, others running in between; what these write is made
        again in the last step, which swaps."""
        self._check_open()
        records, vectors, lacking = SortedDict(), VectorIndex(), set()

        def take(key: SortKey) -> None:
            record = self._records.get(key)
            lacking.discard(key)
            if record is None:
                records.pop(key, None)
                vectors.note(key, None)
                return
            embedding = self._aside_for(key, record, space)
            if embedding is None:
                lacking.add(key)
            records[key] = _with_vector(record, embedding, space)
            vectors.note(key, records[key].row)

        self._changed = set()
        try:
            async for batch in self._walk(WHOLE, None):
                for key, _ in batch:
                    take(key)
            while len(self._changed) > STEP:
                for _ in range(STEP):
                    take(self._changed.pop())
                await asyncio.sleep(0)
            for key in self._changed:
                take(key)
        finally:
            self._changed = None
        if len(lacking) != without:
            return False
        old, aside = self._records, self._aside
        self._records, self._vectors = records, vectors
        self._space, self._aside, self._aside_space = space, {}, None
        for held in (old, aside):
            while held:  # a step at a time: to free them at once would hold the loop
                for _ in range(min(STEP, len(held))):
                    held.popitem()
                await asyncio.sleep(0)
        return True


def _with_vector(record: Record, embedding: bytes | None, space: Space) -> Record:
    """The record with a vector of this space, or without any. Its text, and so its terms, stay."""
    embedder = space.embedder if embedding is not None else None
    row = msgspec.structs.replace(record.row, embedding=embedding, embedder=embedder)
    return Record(row, record.owner, record.token, record.digest)
