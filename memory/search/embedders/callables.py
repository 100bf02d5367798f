"""Any function as an embedder."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from memory.errors import InvalidSetting


class CallableEmbedder:
    """A function, plain or async, that takes a list of texts and returns as many vectors (lists, an array).

    ``name`` is the identity kept with each vector; without one it is the function's module and qualified name. A
    lambda, a local function and a callable object have no name of their own that would still be right tomorrow.
    ``semantic`` False says that it only compares words. ``dimension`` None: known from the first answer.

    Raises InvalidSetting: not callable, no name, a dimension below 1.
    """

    def __init__(
        self,
        function: Callable[[Sequence[str]], Any],
        *,
        name: str | None = None,
        semantic: bool = True,
        dimension: int | None = None,
    ) -> None:
        if not callable(function):
            raise InvalidSetting(f"an embedder must be callable, not {type(function).__name__}", setting="embedder")
        self.name = _name_of(function) if name is None else name
        if not _is_name(self.name):
            raise InvalidSetting(
                f"an embedder's name must be 1 to 256 characters without NUL, not {self.name!r}", setting="embedder"
            )
        if not isinstance(semantic, bool):
            raise InvalidSetting(f"semantic must be True or False, not {semantic!r}", setting="embedder")
        if not (dimension is None or (type(dimension) is int and dimension > 0)):
            raise InvalidSetting(f"an embedder's dimension must be 1 or more, not {dimension!r}", setting="embedder")
        self.semantic = semantic
        self.dimension = dimension
        # An object whose call is async looks plain from outside.
        call = function if inspect.isroutine(function) else getattr(type(function), "__call__", function)  # noqa: B004
        self._function = function
        self.embed: Callable[[Sequence[str]], Any] = self._await if inspect.iscoroutinefunction(call) else function

    def __repr__(self) -> str:
        return f"CallableEmbedder({self.name!r})"

    async def _await(self, texts: Sequence[str]) -> Any:
        return await self._function(texts)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name.strip()) and "\0" not in name and len(name) <= 256


def _name_of(function: Callable[..., Any]) -> str:
    name = getattr(function, "__qualname__", None)
    owner = getattr(function, "__self__", None)
    if not isinstance(name, str) or "<" in name or not (owner is None or inspect.ismodule(owner)):
        raise InvalidSetting(
            "this embedder has no name that could be kept with its vectors; give it one: name='my-embedder-1'",
            setting="embedder",
        )
    return f"{function.__module__}:{name}"
