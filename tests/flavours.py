"""The flavours of stores that hold the same promise: one line adds one to every test that runs over all of them.

A flavour is what ``memory.testing.making.maker`` takes. A server is started when a test first asks for it.
"""

from __future__ import annotations

from collections.abc import Callable

from memory.testing.making import MakeAt, maker

FLAVOURS: dict[str, Callable[[], MakeAt]] = {
    "in_memory": lambda: maker("in_memory"),
    "sqlite": lambda: maker("sqlite"),
}
SERVERS: dict[str, str] = {}
"""Of the flavours those behind a server that a test may kill, pause and put a proxy before -> its name in services."""


def flavour(name: str) -> MakeAt:
    """Makes stores of a flavour, each at a place of its own."""
    return FLAVOURS[name]()
