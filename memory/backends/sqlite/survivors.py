"""Which records a scope and filter let through, told by indexes alone: by their rows' numbers, which every index ends in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import apsw

from memory.backends.sqlite.compiling import Fields, Sql
from memory.backends.sqlite.reading import Driver, Filtered, all_of, drivers, key_condition, tag_drivers
from memory.backends.sqlite.scanning import tag_span
from memory.backends.sqlite.statements import listed, scalar
from memory.backends.sqlite.workers import Breather
from memory.keys import key_range
from memory.ops import Nearest

if TYPE_CHECKING:
    from memory.backends.sqlite.codes import Ints

_TAGGED = (
    "tags CROSS JOIN items INDEXED BY items_key ON items.key = substr(tags.entry, ?) "
    "WHERE tags.entry >= ? AND tags.entry < ?"
)
ENOUGH = 256
"""So few are narrowed no further."""


Asked = tuple[tuple[str, tuple[object, ...]], ...]
"""Where to find rows of ``items`` (what follows a FROM), and parameters."""


def indexed(op: Nearest, filtered: Filtered, fields: Fields) -> Asked:
    """For each condition of a scope and filter that an index can tell: the records that satisfy it."""
    span = key_range(op.scope)
    choices = drivers(op.scope, filtered, fields)
    if span is not None and not any(choice.sorted_by_key for choice in choices):
        choices.append(Driver("items_key", Sql("1"), True))
    by_index: dict[str, list[Driver]] = {}
    for choice in choices:
        by_index.setdefault(choice.index, []).append(choice)
    asked: list[tuple[str, tuple[object, ...]]] = []
    for index, together in by_index.items():
        # Both ends of a range. SQLite takes the first bound it meets for each, and the plain ones are narrower.
        parts = sorted((choice.condition for choice in together), key=lambda part: len(part.text))
        narrow = key_condition(span) if any(choice.sorted_by_key for choice in together) else None
        condition = all_of(parts if narrow is None else [*parts, narrow])
        asked.append((f"items INDEXED BY {index} WHERE {condition.text}", condition.params))
    tagged = [(_TAGGED, (len(tag.encode()) + 2, *tag_span(tag, span))) for tag in tag_drivers(op.where)]
    return (*asked, *tagged)


def survivors(db: apsw.Connection, asked: Asked, most: int, wide: set[str], *, patient: bool) -> Ints | None:
    """Rows of ``items`` that satisfy all conditions of which each lets no more than ``most`` through; None
    where there is no such condition. ``wide`` remembers the queries that let more through: the next time these are
    counted first, which takes a third of listing them."""
    import numpy as np

    breather = Breather()
    found: Ints | None = None
    for place, params in asked:
        if place in wide and _count(db, place, (*params, most + 1)) > most:
            continue
        if patient:
            bounded = f"(SELECT items.rowid FROM {place} LIMIT ?)"  # noqa: S608 - templates
            text = scalar(db, f"SELECT group_concat(rowid) FROM {bounded}", (*params, most + 1))  # noqa: S608
        else:  # on the loop time is the limit; a LIMIT makes a third more of it
            text = scalar(db, f"SELECT group_concat(items.rowid) FROM {place}", params)  # noqa: S608 - templates
        if text is not None and text.count(",") >= most:
            wide.add(place)
            continue
        wide.discard(place)
        rows = listed(text, breather)
        found = rows if found is None else np.intersect1d(found, rows, assume_unique=True)
        if len(found) <= ENOUGH:
            break
    return found


def _count(db: apsw.Connection, place: str, params: tuple[object, ...]) -> int:
    return int(scalar(db, f"SELECT count(*) FROM (SELECT 1 FROM {place} LIMIT ?)", params))  # noqa: S608 - templates
