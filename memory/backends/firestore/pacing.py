"""Going through documents one at a time: a document takes up to a third of a millisecond, so a slice of many is too long."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

from memory.turns import is_due, pause

T = TypeVar("T")


async def singly(things: Iterable[T]) -> AsyncIterator[T]:
    """The things, letting other tasks run after about each millisecond of work."""
    for thing in things:
        if is_due():
            await pause()
        yield thing
