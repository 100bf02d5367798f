"""Where a program's items lie: as they were drawn, or, for a store that declares less, in the namespace and under the ids that it
can hold."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import msgspec
from hypothesis import stateful

from memory.model import DEFAULT_NAMESPACE, MemoryItem
from memory.store import Capabilities
from memory.testing.machine.model import Pins

PLACED = ("pins", "key", "place", "item", "batch")
"""Arguments of rules that say where something lies."""


def within(limits: Capabilities, drawn: Any) -> Any:
    """What was drawn (a key, an item, a view, several of these), moved to where the store can hold it."""
    if limits.namespaces and not limits.forbidden_ids:
        return drawn
    if isinstance(drawn, Pins):
        return msgspec.structs.replace(drawn, path=_path(limits, drawn.path)) if drawn.path else drawn
    if isinstance(drawn, MemoryItem):
        path, id = _path(limits, drawn.namespace), _id(limits, drawn.id)
        return msgspec.structs.replace(drawn, namespace=path, id=id)
    if isinstance(drawn, tuple) and isinstance(drawn[-1], str):
        return (_path(limits, drawn[0]), _id(limits, drawn[1]))
    return type(drawn)(within(limits, one) for one in drawn) if isinstance(drawn, list | tuple) else drawn


def _path(limits: Capabilities, path: tuple[str, ...]) -> tuple[str, ...]:
    return path if limits.namespaces else DEFAULT_NAMESPACE


def _id(limits: Capabilities, id: str) -> str:
    forbidden = limits.forbidden_ids
    return "held" if forbidden and re.fullmatch(forbidden, id) else id


def rule(**drawn: Any) -> Callable[[Any], Any]:
    """A rule of the machine, its arguments within what the store can hold."""

    def decorate(method: Any) -> Any:
        @functools.wraps(method)
        def placed(self: Any, **given: Any) -> Any:
            limits = self.store.capabilities
            held = {name: within(limits, one) if name in PLACED else one for name, one in given.items()}
            return method(self, **held)

        ruled: Any = stateful.rule(**drawn)
        return ruled(placed)

    return decorate
