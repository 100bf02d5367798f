"""The text index of ``in_memory``: made from the records when a search wants it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from memory.codec import decode
from memory.model import MemoryItem
from memory.ops import Owner, Row, Scope
from memory.turns import is_due, pause

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

    def text(self) -> str:
        """What is searched. An item that no filter has looked at is not kept for it."""
        return (self.item or decode(self.row, vector=False)).searchable

    def answers(self, scope: Scope, accept: Accept | None, now: int) -> bool:
        """Whether it is live, belongs to an owner in scope and satisfies the filter. Its namespace is another matter."""
        return (
            (self.row.expires is None or self.row.expires > now)
            and scope.covers_owner(*self.owner)
            and (accept is None or accept(self.decoded()))
        )


class Counted(msgspec.Struct, frozen=True, gc=False):
    """What of a record's text is indexed: how often each term occurs, and the length."""

    key: SortKey
    terms: dict[str, int]
    length: int


class TermIndex:
    """Term -> records, brought up to date when a search wants it.

    Records go by numbers, since the garbage collector walks through every set, and through a dict unless all it holds are
    numbers and text: half a million keys in the sets of 20,000 records held the loop for 100 ms.
    """

    def __init__(self) -> None:
        self.stale: set[SortKey] = set()
        self.counted: dict[int, Counted] = {}
        """By number, which a record keeps while it is there."""
        self.numbers: dict[SortKey, int] = {}
        self.holding: dict[str, dict[int, None]] = {}
        self._last = 0
        self._lock = asyncio.Lock()

    async def refresh(self, records: Mapping[SortKey, Record], analyse: Analyse) -> None:
        """Index what was written since. Other tasks run in between; what they write waits for the next search."""
        async with self._lock:
            for key in list(self.stale):
                if is_due():
                    await pause()
                self.stale.discard(key)
                record = records.get(key)
                counts = None if record is None else await analyse(record.text())
                if records.get(key) is record:
                    self._put(key, counts)
                else:
                    self.stale.add(key)  # written again while a long text was analysed

    def _put(self, key: SortKey, counts: tuple[dict[str, int], int] | None) -> None:
        """In one step, so that a search which goes on meanwhile finds the record by its old terms or its new ones."""
        number = self.numbers.get(key)
        if number is not None:
            for term in self.counted.pop(number).terms:
                held = self.holding[term]
                del held[number]
                if not held:
                    del self.holding[term]
        if counts is None:
            self.numbers.pop(key, None)
            return
        if number is None:
            number = self.numbers[key] = self._last = self._last + 1
        self.counted[number] = Counted(key, *counts)
        for term in counts[0]:
            held_by = self.holding.get(term)
            if held_by is None:
                self.holding[term] = {number: None}
            else:
                held_by[number] = None
