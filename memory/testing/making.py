"""How a tool gets stores of a backend that somebody names: each at a place of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from memory.registry import accepted, resolve
from memory.store import MemoryStore

MakeAt = Callable[..., MemoryStore]
"""``make(place, **options)``: a store, not opened, whose data is at the place; the same place means the same data."""


def maker(backend: str | type[MemoryStore], **fixed: Any) -> MakeAt:
    """Makes stores of a backend: a name, a server's URL, ``module:Class`` or a class. ``fixed``: options of all of them.

    A file lies in the place; on a server each place has a schema, or a prefix of keys, with a name made from the place.
    """
    found, told = resolve(backend)
    kind: Callable[..., MemoryStore] = found
    known = accepted(found)
    # What is shown here does not depend on fsync; the proofs under memory.testing.faults do.
    fast = {"synchronous": "off"} if "path" in known and "synchronous" in known else {}

    def make(place: Path, **options: Any) -> MemoryStore:
        options = {**fast, **told, **fixed, **options}
        if "path" in known:
            return kind(**{"path": place / "memory.db", **options})
        own = [name for name in ("schema", "prefix") if name in known][:1]
        return kind(**{**dict.fromkeys(own, name_of(place)), **options})

    return make


def name_of(place: Path) -> str:
    """A name for what belongs to a place on a server: a letter and digits."""
    return "t" + hashlib.blake2b(str(place).encode(), digest_size=8).hexdigest()
