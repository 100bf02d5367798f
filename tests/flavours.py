"""The flavours of stores that hold the same promise: one line adds one to every test that runs over all of them.

A flavour is what ``memory.testing.making.maker`` takes. A server is started when a test first asks for it.
"""

from __future__ import annotations

from collections.abc import Callable

from servers import server

from memory.testing.making import MakeAt, maker

FLAVOURS: dict[str, Callable[[], MakeAt]] = {
    "in_memory": lambda: maker("in_memory"),
    "sqlite": lambda: maker("sqlite"),
    "postgres": lambda: maker(server("postgres").url),
    "postgres_plain": lambda: maker(server("postgres_plain").url),
    "pgbouncer": lambda: maker(server("pgbouncer").url, pgbouncer=True),
}
SERVERS: dict[str, str] = {"postgres": "postgres", "postgres_plain": "postgres_plain"}
"""Of the flavours those behind a server that a test may kill, pause and put a proxy before -> its name in services."""


def flavour(name: str) -> MakeAt:
    """Makes stores of a flavour, each at a place of its own."""
    return FLAVOURS[name]()
