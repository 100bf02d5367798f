"""What surrounds every call of a hook: deadlines, slow-call logs, metrics, traces. Costs nothing when off.

A layer is a function (operation name, hook) -> hook. The store wraps its hooks once, when it opens, from the
first layer outside to the last inside; without layers the hook itself is called.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from memory.errors import DeadlineExceeded
from memory.ops import Result, Status

Hook = Callable[..., Awaitable[Any]]
Layer = Callable[[str, Hook], Hook]
Observer = Callable[[str, float, BaseException | None], None]
"""Called after each operation with (name, seconds, error or None)."""


def wrap(name: str, hook: Hook, layers: Sequence[Layer]) -> Hook:
    """The hook with all layers around it; the hook itself when there are none."""
    for layer in reversed(layers):
        hook = layer(name, hook)
    return hook


def deadline(seconds: float) -> Layer:
    """Bounds every operation. A read raises DeadlineExceeded; a write may have happened, so its results say UNKNOWN."""

    def layer(name: str, hook: Hook) -> Hook:
        async def bounded(*args: Any) -> Any:
            scope = asyncio.timeout(seconds)
            try:
                async with scope:
                    return await hook(*args)
            except TimeoutError:
                if not scope.expired():
                    raise
                if name == "write":
                    return [Result(Status.UNKNOWN) for _ in args[0]]
                raise DeadlineExceeded(
                    f"{name} took longer than {seconds:g} s and was stopped; nothing was changed", seconds=seconds
                ) from None

        return bounded

    return layer


def observe(observer: Observer) -> Layer:
    """Reports each operation's name, duration and error: the seam for metrics, traces and slow-call logs."""

    def layer(name: str, hook: Hook) -> Hook:
        async def observed(*args: Any) -> Any:
            start = time.perf_counter()
            try:
                result = await hook(*args)
            except BaseException as error:
                observer(name, time.perf_counter() - start, error)
                raise
            observer(name, time.perf_counter() - start, None)
            return result

        return observed

    return layer
