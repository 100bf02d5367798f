"""Python work on the loop, in slices of half a millisecond: going through many things, and analysing texts."""

from __future__ import annotations

import asyncio
import importlib
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, ClassVar, TypeVar

import msgspec

from memory.errors import InvalidItem
from memory.model import MAX_DISTINCT_TERMS, MemoryItem
from memory.ops import Put, Write
from memory.search.analysis import SLICE

if TYPE_CHECKING:
    from memory.search.analysis import Analyser
    from memory.store.types import Capabilities

T = TypeVar("T")
SLICE_ITEMS = 32
SLICE_TEXTS = 8
"""Things of which each has a text to be analysed."""
SLICE_SECONDS = 0.0005
"""Several tasks of a store may compute in one turn of the loop, each for so long."""
_force = msgspec.structs.force_setattr
_resumed: ContextVar[float] = ContextVar("resumed", default=0.0)


def is_due() -> bool:
    """Whether this task has computed for a slice since it last let others run, however many steps that were."""
    return time.perf_counter() - _resumed.get() > SLICE_SECONDS


def rested() -> None:
    """Say that this task has just waited for an answer: others have run meanwhile."""
    _resumed.set(time.perf_counter())


async def pause() -> None:
    """Let other tasks run."""
    await asyncio.sleep(0)
    rested()


class Slicing:
    """The part of a store that computes."""

    capabilities: ClassVar[Capabilities]
    language: str
    _analyser: Analyser | None
    _turn_began: float | None = None
    """When the first computed in the present turn of the loop; None: nobody has yet."""

    async def _own_turn(self) -> None:
        """Before a task computes: where tasks of this store have had a slice of this turn of the loop, wait for the next.

        What each computes does then not add up, however many become ready at once.
        """
        now = time.perf_counter()
        if self._turn_began is None:
            self._turn_began = now
            asyncio.get_running_loop().call_soon(self._end_turn)
        elif now - self._turn_began > SLICE_SECONDS:
            # Without a word in the task's context: a collection of garbage would walk through that too.
            await asyncio.sleep(0)

    def _end_turn(self) -> None:
        self._turn_began = None

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

    async def _slices(self, things: Sequence[T] | list[T], size: int = SLICE_ITEMS) -> AsyncIterator[Sequence[T]]:
        """The things in pieces, letting other tasks run after each half millisecond of this task's work."""
        for start in range(0, len(things), size):
            if is_due():
                await pause()
            yield things[start : start + size]

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
        for op in ops:
            if type(op) is not Put or op.terms is not None:
                continue
            counts, length = await self._check_terms(op.item)
            # Nobody else has seen the operation yet.
            _force(op, "terms", counts)
            _force(op, "length", length)
            if is_due():
                await pause()
