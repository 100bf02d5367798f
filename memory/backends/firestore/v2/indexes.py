"""The indexes that the store's queries need, in the form that the Firebase command deploys (firestore.indexes.json).

Firestore joins indexes that end in the same order, so one for each equality and order serves every combination of them.
``python -m memory.backends.firestore.v2.indexes`` writes the file beside this one, for the names that V2 gives by default.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from memory.backends.firestore.store import Collections
from memory.backends.firestore.v2 import paths
from memory.backends.firestore.v2.legacy import VECTOR
from memory.backends.firestore.v2.names import collections
from memory.backends.firestore.v2.nearest import PRE_FILTERS

FILE = Path(__file__).with_name("firestore.indexes.json")
DIMENSION = 384
"""Of the vectors of the file; a store of another dimension prints its own."""
EQUALITIES = (paths.PATH, paths.USER, paths.AGENT, paths.SESSION, paths.KIND, paths.TAGS)
LINES = (paths.PATH, paths.SESSION, paths.USER, paths.AGENT)
"""What neighbours are asked for by."""
BULKY = ("memory.body", "memory.counts", "memory.native", "memory.token", "embedding")
"""Fields that nobody asks for, and whose own indexes would cost more than the rest."""
_ASCENDING, _DESCENDING = "ASCENDING", "DESCENDING"
Fields = tuple[dict[str, Any], ...]


def definitions(names: Collections, dimension: int) -> dict[str, Any]:
    """Index definitions for these collections and vectors of so many numbers."""
    made = [
        {"collectionGroup": names.items, "queryScope": "COLLECTION", "fields": list(fields)}
        for fields in (*_composites(), *_vectors(dimension))
    ]
    overrides: list[dict[str, Any]] = [
        {"collectionGroup": names.items, "fieldPath": path, "indexes": []} for path in BULKY
    ]
    for collection, path in ((names.items, "memory.ttl"), (names.tombstones, "ttl"), (names.locks, "ttl")):
        overrides.append({"collectionGroup": collection, "fieldPath": path, "ttl": True, "indexes": []})
    return {"indexes": made, "fieldOverrides": overrides}


def _composites() -> list[Fields]:
    key, key_down = _field(paths.KEY), _field(paths.KEY, _DESCENDING)
    orders: list[Fields] = [(key,), (key_down,)]
    for path in paths.ORDERS.values():
        if path != paths.KEY:
            orders += [(_field(path), key), (_field(path, _DESCENDING), key)]
    newest = (_field(paths.CREATED, _DESCENDING), key)
    expiring = (_field(paths.EXPIRES), key)
    made: list[Fields] = [order for order in orders if len(order) > 1]
    made.append(expiring)
    for path in EQUALITIES:
        made += [(_equal(path), *order) for order in (*orders, expiring)]
    made += [(_equal(path), _field(paths.CREATED, _DESCENDING), key_down) for path in LINES]
    made += [(_equal(paths.TERMS), *newest), (_equal(paths.DIGEST), key)]
    return made


def _vectors(dimension: int) -> list[Fields]:
    near = {"fieldPath": VECTOR, "vectorConfig": {"dimension": dimension, "flat": {}}}
    first, second = (_equal(path) for path in PRE_FILTERS)
    return [(near,), (first, near), (second, near), (first, second, near)]


def _field(path: str, order: str = _ASCENDING) -> dict[str, Any]:
    return {"fieldPath": path, "order": order}


def _equal(path: str) -> dict[str, Any]:
    if path in (paths.TAGS, paths.TERMS):
        return {"fieldPath": path, "arrayConfig": "CONTAINS"}
    return _field(path)


def text(names: Collections, dimension: int) -> str:
    """The file's text."""
    return json.dumps(definitions(names, dimension), indent=2) + "\n"


def main() -> None:
    """Write the file."""
    FILE.write_text(text(collections("default", "standard", None), DIMENSION), "utf-8")


if __name__ == "__main__":
    main()
