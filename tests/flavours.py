"""The flavours of stores that hold the same promise: one line adds one to every test that runs over all of them.

A server is started when a test first asks for it. Tests take ``FLAVOURS`` (all of them), ``ATTACKED`` and
``SEARCHED`` (tests of tenants) or ``SERVERS`` (those behind a server that a test may kill, pause and put a proxy before), and make stores with
``flavour(name)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from composites import COMPOSITIONS, Faults
from servers import server

from memory.registry import named
from memory.testing.making import MakeAt, maker, name_of


def on(name: str, **fixed: Any) -> Callable[[], MakeAt]:
    """Stores on a server of this run, by its address."""
    return lambda: maker(server(name).url, **fixed)


def on_firestore(name: str) -> MakeAt:
    """Stores on the emulator of this run; each place is a project of its own, which the emulator keeps apart."""
    kind, emulator = named(name), server("firestore").url
    return lambda place, **options: kind(**{"project_id": name_of(place), "emulator": emulator, **options})


FLAVOURS: dict[str, Callable[[], MakeAt]] = {
    "in_memory": lambda: maker("in_memory"),
    "sqlite": lambda: maker("sqlite"),
    "faiss": lambda: maker("faiss", embedder=None, exact=0),
    "redis": on("redis"),
    "redis_stack": on("redis_stack"),
    "redis_cluster": on("redis_cluster"),
    "postgres": on("postgres"),
    "postgres_plain": on("postgres_plain"),
    "pgbouncer": on("pgbouncer", pgbouncer=True),
    "firestore_v2": lambda: on_firestore("firestore_v2"),
}
COMPOSITES: dict[str, Callable[[], MakeAt]] = {
    name: lambda name=name: lambda place, **options: COMPOSITIONS[name](place, Faults(), **options)  # type: ignore[misc]
    for name in ("tiered", "mirrored")
}
"""Compositions of local stores, for the tests that say so: what they are made of is in FLAVOURS by itself."""
LEGACY: dict[str, Callable[[], MakeAt]] = {"firestore_v1": lambda: on_firestore("firestore_v1")}
"""Those that hold only a part of what the others do."""
VARIANTS = {"faiss", "redis_stack", "redis_cluster", "postgres_plain", "pgbouncer"}
"""Other servers of a backend that is above already, or another index of its vectors: where tests run over pairs of flavours, theirs are `full`."""
ATTACKED = ["in_memory", "sqlite", "redis", "postgres"]
"""Those on which each operation is attacked with what belongs to another tenant."""
SEARCHED = ["faiss", "redis_stack", "postgres_plain", "tiered", "mirrored"]
"""Those that differ from the ones above in how they search or read: only what reads is attacked."""
SERVERS = ["redis", "redis_stack", "postgres", "postgres_plain"]
"""Names in memory.testing.services; each is started anew, with its data synced to disk, for the test that kills it."""


def flavour(name: str) -> MakeAt:
    """Makes stores of a flavour, each at a place of its own."""
    return (FLAVOURS | COMPOSITES | LEGACY)[name]()
