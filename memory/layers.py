"""What surrounds every call of a hook: deadlines, slow-call logs, metrics, traces. Costs nothing when off.

A layer is a function (operation name, hook) -> hook. The store wraps its hooks once, when it opens, from the
first layer outside to the last inside; without layers the hook itself is called.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
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
            call = hook(*args).__await__()
            try:
                waits = next(call)
            except StopIteration as done:
                return done.value  # most point reads never wait: a timer would cost as much as they do
            scope = asyncio.timeout(seconds)
            try:
                async with scope:
                    return await _Begun(call, waits)
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


class _Begun:
    """The rest of a call that has run up to its first wait."""

    __slots__ = ("_call", "_waits")

    def __init__(self, call: Generator[Any, None, Any], waits: Any) -> None:
        self._call = call
        self._waits = waits

    def __await__(self) -> Generator[Any, None, Any]:
        waits = self._waits
        try:
            while True:
                try:
                    yield waits
                except BaseException as error:  # noqa: BLE001 - meant for the call: a cancellation, say
                    waits = self._call.throw(error)
                else:
                    waits = next(self._call)
        except StopIteration as done:
            return done.value


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
