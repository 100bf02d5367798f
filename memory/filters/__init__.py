"""Filters: one tree with two spellings, one meaning, and one way to become an engine's own query.

A filter is said as a Mongo-style dict or with the builder ``F``; ``parse`` turns either into the same immutable tree
and does all the checking. ``predicate`` is what the tree means. An engine uses ``translate`` to turn as much of it as
it can into its own predicate, and the store evaluates the rest.

The rules (two-valued logic, the same on every backend):

- ``ne`` is exactly not-``eq``, so a missing field satisfies ``ne``. ``eq None`` matches missing or null.
- An order comparison is true only between two numbers, two strings or two times; with anything else it is false.
- A bool is not a number and has no order. 1 equals 1.0; ints and floats compare exactly. Strings order by code point.
- A list equals only an equal list, an object only an equal object. ``in`` / ``nin``: any / none of ``eq``.
- ``contains`` is membership of a list by ``eq``; ``startswith`` is for strings; on anything else both are false.
- ``exists``: the field is there; null inside JSON is there, an unset optional field (``text``, ``user_id``...) is not.
- Paths go below ``content``, ``metadata`` and ``source``, through objects only.
"""

from __future__ import annotations

from memory.filters.builder import Expr, F, Field, JsonField
from memory.filters.compiling import Leaf, Translated, negating, nnf, translate
from memory.filters.digest import digest_form
from memory.filters.evaluation import evaluate, predicate
from memory.filters.parsing import Where, parse
from memory.filters.tree import (
    JSON_ROOTS,
    LIST_ROOTS,
    OPERATORS,
    ROOTS,
    TIME_ROOTS,
    And,
    Compare,
    Filter,
    Not,
    Or,
    dotted,
    fields,
)
from memory.filters.values import equal

__all__ = [
    "JSON_ROOTS",
    "LIST_ROOTS",
    "OPERATORS",
    "ROOTS",
    "TIME_ROOTS",
    "And",
    "Compare",
    "Expr",
    "F",
    "Field",
    "Filter",
    "JsonField",
    "Leaf",
    "Not",
    "Or",
    "Translated",
    "Where",
    "digest_form",
    "dotted",
    "equal",
    "evaluate",
    "fields",
    "negating",
    "nnf",
    "parse",
    "predicate",
    "translate",
]
