"""The text index of ``in_memory``: made from the records when a search wants it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from memory.codec import decode
from memory.model import MemoryItem
from memory.ops import Owner, Row, Scope
from memory.store.slicing import SLICE_SECONDS

SortKey = tuple[bytes, bytes]
Accept = Callable[[MemoryItem], bool]
Analyse = Callable[[str], Awaitable[tuple[dict[str, int], int]]]


class Record(msgspec.Struct, gc=False):
    """A row with what its writes and indexes need."""

    row: Row
    owner: Owner
    token: bytes
    digest: bytes
    item: MemoryItem | None = None
    """Decoded at the first filter that looks at it; never handed out, so nobody can change it."""

    def decoded(self) -> MemoryItem:
        """The item, for our own eyes."""
        item = self.item
        if item is None:
            item = self.item = decode(self.row)
        return item

    def answers(self, scope: Scope, accept: Accept | None, now: int) -> bool:
        """Whether it is live, belongs to an owner in scope and satisfies the filter. Its namespace is another matter."""
        return (
            (self.row.expires is None or self.row.expires > now)
            and scope.covers_owner(*self.owner)
            and (accept is None or accept(self.decoded()))
        )


class TermIndex:
    """Term -> keys, brought up to date when a search wants it."""

    def __init__(self) -> None:
        self.stale: set[SortKey] = set()
        self.counts: dict[SortKey, tuple[dict[str, int], int]] = {}
        self.keys: dict[str, set[SortKey]] = {}
        self._lock = asyncio.Lock()

    async def refresh(self, records: Mapping[SortKey, Record], analyse: Analyse) -> None:
        """Index what was written since. Other tasks run in between; what they write waits for the next search."""
        async with self._lock:
            started = time.perf_counter()
            for key in list(self.stale):
                if time.perf_counter() - started > SLICE_SECONDS:
                    await asyncio.sleep(0)
                    started = time.perf_counter()
                self.stale.discard(key)
                for term in self.counts.pop(key, ({}, 0))[0]:
                    self.keys[term].discard(key)
                record = records.get(key)
                if record is None:
                    continue
                counts = await analyse(record.decoded().searchable)
                if records.get(key) is not record:
                    self.stale.add(key)  # written again while a long text was analysed
                    continue
                self.counts[key] = counts
                for term in counts[0]:
                    self.keys.setdefault(term, set()).add(key)

    def holding(self, term: str) -> list[SortKey]:
        """Keys of the records that hold the term, as they are now."""
        return list(self.keys.get(term, ()))
