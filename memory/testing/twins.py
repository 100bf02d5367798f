"""A store seen through its synchronous twins: the same coroutines, each of which calls the twin in another thread.

What it shows: that the twins have the same parameters, results and errors, and that a store lives well on its
private loop. The contract suite runs over it unchanged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

_END: Any = object()


class Twins:
    """Has the public operations of a store or view as coroutines and async iterators; each runs the ``_sync`` twin."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name == "scoped":
            return lambda *args, **kwargs: Twins(self._target.scoped(*args, **kwargs))
        if name in ("stream", "watch"):
            return lambda *args, **kwargs: _each(getattr(self._target, name + "_sync"), args, kwargs)
        twin = getattr(type(self._target), name + "_sync", None)
        if twin is None:
            return getattr(self._target, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            result = await asyncio.to_thread(getattr(self._target, name + "_sync"), *args, **kwargs)
            return self if result is self._target else result

        return call

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self._target.__enter__)
        return self

    async def __aexit__(self, *exc: object) -> None:
        await asyncio.to_thread(self._target.__exit__, *exc)

    def __repr__(self) -> str:
        return f"Twins({self._target!r})"


async def _each(start: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> AsyncIterator[Any]:
    iterator = await asyncio.to_thread(start, *args, **kwargs)
    try:
        while (value := await asyncio.to_thread(next, iterator, _END)) is not _END:
            yield value
    finally:
        await asyncio.to_thread(iterator.close)
