"""Several calls at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def all_of(calls: Sequence[Awaitable[T]]) -> list[T]:
    """The answers of all, asked together. When one fails the others are cancelled, and its error is raised once they have ended.

    No TaskGroup: before Python 3.13 it loses a cancellation that comes while one of its tasks fails. Whoever then waits for
    the end of what was cancelled, as a store that is closed does for its followers, waits for ever.
    """
    if len(calls) == 1:
        return [await calls[0]]
    if not calls:
        return []
    tasks = [asyncio.ensure_future(call) for call in calls]
    pending, ending = set(tasks), False
    cancellation: asyncio.CancelledError | None = None
    while pending:
        try:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
        except asyncio.CancelledError as cancelled:
            cancellation = cancelled
        if not ending:  # once: a second time would cut short how they end
            for task in pending:
                task.cancel()
        ending = True
    errors = [error for task in tasks if not task.cancelled() and (error := task.exception()) is not None]
    if cancellation is not None:
        raise cancellation
    if errors:
        raise errors[0]
    return [task.result() for task in tasks]
