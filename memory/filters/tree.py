"""The filter tree: four immutable nodes, the fields and operators they may name, and how a path is spelled."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

import msgspec

from memory.filters.values import equal

ROOTS: tuple[str, ...] = (
    "id",
    "namespace",
    "kind",
    "content",
    "text",
    "metadata",
    "tags",
    "user_id",
    "agent_id",
    "session_id",
    "importance",
    "created_at",
    "updated_at",
    "accessed_at",
    "expires_at",
    "access_count",
    "version",
    "source",
)
"""The fields of an item that a filter may name."""

JSON_ROOTS = frozenset({"content", "metadata", "source"})
"""The fields that hold any JSON; a path may go below these."""

TIME_ROOTS = frozenset({"created_at", "updated_at", "accessed_at", "expires_at"})
"""The fields that hold a time."""

LIST_ROOTS = frozenset({"namespace", "tags"})
"""The fields that behave as a list of strings."""

ORDERS = frozenset({"gt", "gte", "lt", "lte"})

OPERATORS: tuple[str, ...] = ("eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "exists", "contains", "startswith")
"""Every operator a Compare may hold. After ``nnf`` only the positive ones are left: no ``ne``, no ``nin``."""

MAX_DEPTH = 32
MAX_NODES = 1_000
MAX_CHOICES = 1_000  # values in one `in` or `nin`
MAX_VALUES = 10_000  # JSON values in all operands together
MAX_TEXT = 1024 * 1024  # UTF-8 bytes of all paths, keys and strings together
MAX_NAME = 64 * 1024  # characters of one dotted name
MAX_SEGMENTS = 32  # stored JSON is at most 20 deep


class Compare(msgspec.Struct, frozen=True, eq=False):
    """One comparison: the field at ``path`` (root first), an operator of OPERATORS, and the operand.

    ``value`` is a JSON value or a UTC datetime; for ``in`` and ``nin`` a tuple of these, for ``exists`` a bool, for
    ``startswith`` a str. Equality follows the filter's own rules: operands 1 and 1.0 are equal, 1 and True are not.
    """

    path: tuple[str, ...]
    op: str
    value: Any

    def __eq__(self, other: object) -> bool:
        if type(other) is not Compare:
            return NotImplemented
        return self.path == other.path and self.op == other.op and equal(self.value, other.value)

    def __hash__(self) -> int:
        return hash((self.path, self.op))  # not the operand: it may be a list


class And(msgspec.Struct, frozen=True):
    """True when every part is."""

    parts: tuple[Filter, ...]


class Or(msgspec.Struct, frozen=True):
    """True when any part is."""

    parts: tuple[Filter, ...]


class Not(msgspec.Struct, frozen=True):
    """True exactly when the part is false."""

    part: Filter


Filter: TypeAlias = Compare | And | Or | Not


def conjoin(parts: Iterable[Filter]) -> Filter:
    """The conjunction in its one normal shape: no And directly inside an And, none around a single part."""
    flat: list[Filter] = []
    for part in parts:
        if isinstance(part, And):
            flat.extend(part.parts)
        else:
            flat.append(part)
    return flat[0] if len(flat) == 1 else And(tuple(flat))


def disjoin(parts: Iterable[Filter]) -> Filter:
    """The disjunction in its one normal shape: no Or directly inside an Or, none around a single part."""
    flat: list[Filter] = []
    for part in parts:
        if isinstance(part, Or):
            flat.extend(part.parts)
        else:
            flat.append(part)
    return flat[0] if len(flat) == 1 else Or(tuple(flat))


def measure(tree: Filter) -> tuple[int, int]:
    """(depth, number of nodes); a single comparison is (1, 1)."""
    if isinstance(tree, Compare):
        return 1, 1
    sizes = [measure(part) for part in ((tree.part,) if isinstance(tree, Not) else tree.parts)]
    return 1 + max((depth for depth, _ in sizes), default=0), 1 + sum(nodes for _, nodes in sizes)


def fields(tree: Filter | None) -> frozenset[tuple[str, ...]]:
    """Every path the filter looks at, root first, e.g. {("kind",), ("metadata", "score")}: for choosing an index."""
    found: set[tuple[str, ...]] = set()
    pending: list[Filter] = [] if tree is None else [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, Compare):
            found.add(node.path)
        elif isinstance(node, Not):
            pending.append(node.part)
        else:
            pending.extend(node.parts)
    return frozenset(found)


def dotted(path: Iterable[str]) -> str:
    """A path as it is written in a dict filter: joined by dots, a literal dot or backslash escaped."""
    return ".".join(segment.replace("\\", "\\\\").replace(".", "\\.") for segment in path)
