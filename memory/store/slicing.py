"""What a store computes on the loop, in slices: going through many things, and analysing texts."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, TypeVar

import msgspec

from memory.codec import decode
from memory.errors import InvalidItem
from memory.model import MAX_DISTINCT_TERMS, MemoryItem
from memory.ops import Put, Row, Write
from memory.search.analysis import SLICE
from memory.turns import is_due, pause

if TYPE_CHECKING:
    from memory.search.analysis import Analyser
    from memory.store.types import Capabilities

T = TypeVar("T")
SLICE_ITEMS = 32
SLICE_TEXTS = 8
"""Things of which each has a text to be analysed."""
SLICE_BYTES = 32 * 1024
"""Of records to be decoded: a millisecond where they are full of small numbers. A record may have eight times as many."""
_force = msgspec.structs.force_setattr


def row_bytes(row: Row | None) -> int:
    """How much there is to decode."""
    return 0 if row is None else len(row.body)


def pieces(
    things: Sequence[T], size: int = SLICE_ITEMS, weigh: Callable[[T], int] | None = None
) -> Iterator[Sequence[T]]:
    """The things a few at a time, so that between two a task can `pause` if that `is_due`.

    ``weigh`` tells how many bytes of a thing there are to go through: a piece ends with what makes it heavy.
    """
    start = 0
    while start < len(things):
        end = start + size
        if weigh is not None:
            end = _heavy_end(things, start, min(end, len(things)), weigh)
        yield things[start:end]
        start = end


def _heavy_end(things: Sequence[T], start: int, end: int, weigh: Callable[[T], int]) -> int:
    total = 0
    for place in range(start, end):
        total += weigh(things[place])
        if total > SLICE_BYTES:
            return place + 1
    return end


async def decoded(rows: Sequence[Row], *, vector: bool = True) -> list[MemoryItem]:
    """The items of rows, with their vectors if asked. Others may run after each half millisecond of work. Raises CorruptData.

    Not by `pieces`, nor as an asynchronous generator, of which asyncio keeps account: either costs a short page as much as two records.
    """
    items: list[MemoryItem] = []
    weight = 0
    for row in rows:
        if (len(items) % SLICE_ITEMS == 0 or weight > SLICE_BYTES) and is_due():
            await pause()
            weight = 0
        weight += len(row.body)
        items.append(decode(row, vector=vector))
    return items


class Slicing:
    """The part of a store that computes."""

    capabilities: ClassVar[Capabilities]
    language: str
    _analyser: Analyser | None

    @property
    def analyser(self) -> Analyser:
        """The text analyser, made at first use. Raises InvalidSetting for an unknown language."""
        if self._analyser is None:
            from memory.search.analysis import Analyser

            self._analyser = Analyser(self.language)
        return self._analyser

    async def _vectors_ready(self) -> None:
        """Load numpy in a thread before the first vector, since its import takes longer than the loop may be held."""
        if "numpy" not in sys.modules:
            await asyncio.to_thread(importlib.import_module, "numpy")

    async def _slices(
        self, things: Sequence[T] | list[T], size: int = SLICE_ITEMS, weigh: Callable[[T], int] | None = None
    ) -> AsyncIterator[Sequence[T]]:
        """The things in `pieces`, letting other tasks run after each half millisecond of work."""
        for piece in pieces(things, size, weigh):
            if is_due():
                await pause()
            yield piece

    async def _counts(self, text: str) -> tuple[dict[str, int], int]:
        """Terms of a text with their occurrences, and how many in all; a long text in slices."""
        if len(text) <= SLICE:
            return self.analyser.counts(text)
        result: tuple[dict[str, int], int] = ({}, 0)
        for so_far in self.analyser.iter_counts(text):
            result = so_far
            await asyncio.sleep(0)
        return result

    async def _check_terms(self, item: MemoryItem) -> tuple[dict[str, int], int]:
        """Terms of an item's text with their occurrences, and how many in all. Raises InvalidItem beyond 5,000."""
        text = item.searchable
        counts, length = self.analyser.counts(text) if len(text) <= SLICE else await self._counts(text)
        if len(counts) > MAX_DISTINCT_TERMS:
            raise InvalidItem(
                f"item {item.id!r} has {len(counts):,} distinct terms; the limit is {MAX_DISTINCT_TERMS:,}. "
                "Split it, or give a shorter text= to search by",
                field="text",
            )
        return counts, length

    async def _add_terms(self, ops: Iterable[Write]) -> None:
        """Give puts their terms where the backend wants them. Raises InvalidItem beyond 5,000 distinct terms."""
        if not self.capabilities.indexes_terms:
            return
        several = False
        for op in ops:
            if type(op) is not Put or op.terms is not None:
                continue
            if several and is_due():
                await pause()
            several = True
            counts, length = await self._check_terms(op.item)
            # Nobody else has seen the operation yet.
            _force(op, "terms", counts)
            _force(op, "length", length)
