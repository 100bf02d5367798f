"""The typed spelling of filters: ``(F.kind == "episodic") & (F.metadata.score >= 3)``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Final, NoReturn, TypeAlias

from memory.errors import InvalidFilter
from memory.filters.check import Budget, check_leaf, check_path, check_size, show, split_path
from memory.filters.tree import And, Filter, Not, Or, conjoin, disjoin, measure

Ordered: TypeAlias = str | int | float | datetime
"""What can stand in an order comparison; for a time field, an aware datetime or an ISO-8601 string."""


class Expr:
    """A filter under construction. Combine with ``&``, ``|`` and ``~``; give it to any ``where=``.

    ``tree`` is the filter tree, equal to the one the dict spelling gives. Raises InvalidFilter when it grows too large.
    """

    __slots__ = ("_depth", "_nodes", "tree")

    tree: Filter
    _depth: int
    _nodes: int

    def __init__(self, tree: Filter, size: tuple[int, int] | None = None) -> None:
        self.tree = tree
        self._depth, self._nodes = size or measure(tree)
        check_size(self._depth, self._nodes)

    def __and__(self, other: Expr) -> Expr:
        if not isinstance(other, Expr):
            return NotImplemented
        return Expr(conjoin((self.tree, other.tree)), self._joined(other, And))

    def __or__(self, other: Expr) -> Expr:
        if not isinstance(other, Expr):
            return NotImplemented
        return Expr(disjoin((self.tree, other.tree)), self._joined(other, Or))

    def __invert__(self) -> Expr:
        return Expr(Not(self.tree), (self._depth + 1, self._nodes + 1))

    def _joined(self, other: Expr, group: type[And | Or]) -> tuple[int, int]:
        # Kept as a running sum, so that joining n expressions one by one does not measure n trees.
        depth, nodes = 0, 1
        for one in (self, other):
            inside = isinstance(one.tree, group)  # its parts become ours: the group itself goes away
            depth = max(depth, one._depth - inside)
            nodes += one._nodes - inside
        return depth + 1, nodes

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "a filter expression has no truth value: write & | ~ instead of and, or, not (each comparison in "
            "parentheses), (F.x > 1) & (F.x < 5) instead of 1 < F.x < 5, and F.x.in_([...]) or F.x.contains(y) for `in`"
        )

    def __repr__(self) -> str:
        return f"Expr({self.tree!r})"


def _leaf(path: tuple[str, ...], op: str, value: object) -> Expr:
    return Expr(check_leaf(path, op, value, Budget()), (1, 1))


class Field:
    """A field to compare. Every comparison gives an Expr; a wrong operand raises InvalidFilter at once."""

    __slots__ = ("_path",)

    _path: tuple[str, ...]

    def __init__(self, path: tuple[str, ...]) -> None:
        self._path = path

    # `==` gives an Expr, not a bool: the one liberty a query builder takes with the language.
    def __eq__(self, value: object) -> Expr:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return _leaf(self._path, "eq", value)

    def __ne__(self, value: object) -> Expr:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]
        return _leaf(self._path, "ne", value)

    __hash__ = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

    def __gt__(self, value: Ordered) -> Expr:
        return _leaf(self._path, "gt", value)

    def __ge__(self, value: Ordered) -> Expr:
        return _leaf(self._path, "gte", value)

    def __lt__(self, value: Ordered) -> Expr:
        return _leaf(self._path, "lt", value)

    def __le__(self, value: Ordered) -> Expr:
        return _leaf(self._path, "lte", value)

    def in_(self, values: Sequence[object]) -> Expr:
        """Equal to any of the values (a list, at most 1,000)."""
        return _leaf(self._path, "in", values)

    def not_in(self, values: Sequence[object]) -> Expr:
        """Equal to none of the values; true of a missing field unless None is among them."""
        return _leaf(self._path, "nin", values)

    def exists(self, present: bool = True) -> Expr:
        """The field is there (null inside JSON counts); ``exists(False)``: it is not."""
        return _leaf(self._path, "exists", present)

    def contains(self, value: object) -> Expr:
        """The field is a list and one of its elements equals the value."""
        return _leaf(self._path, "contains", value)

    def startswith(self, prefix: str) -> Expr:
        """The field is a string that begins with the prefix, code point by code point."""
        return _leaf(self._path, "startswith", prefix)

    def __bool__(self) -> NoReturn:
        raise TypeError("a field has no truth value: compare it, as in F.kind == 'note' or F.metadata.x.exists()")

    def __contains__(self, value: object) -> NoReturn:
        raise TypeError("write F.tags.contains(value) instead of `value in F.tags`")

    __iter__ = None  # no iteration: without this, indexing would be tried for ever

    def _misplaced(self, *_: object) -> NoReturn:
        raise TypeError("put each comparison in parentheses: (F.a == 1) & (F.b == 2); & | ~ bind tighter than ==")

    if not TYPE_CHECKING:  # a type checker reports these by itself
        __and__ = __rand__ = __or__ = __ror__ = __invert__ = _misplaced

    def __repr__(self) -> str:
        return f"F{list(self._path)!r}"


class JsonField(Field):
    """A field that may hold any JSON: attributes and indexing lead below it.

    ``F.metadata.score`` and ``F.metadata["score"]`` are the same; indexing takes one literal name, so it also says
    names with dots, names that begin with an underscore, and names that are methods here (``contains``...).
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> JsonField:
        if name.startswith("_"):  # Python's own protocols probe such names
            raise AttributeError(f"a name that begins with an underscore is written in brackets: [{show(name)}]")
        return self[name]

    def __getitem__(self, name: str) -> JsonField:
        return JsonField(check_path((*self._path, name), Budget()))


class Fields:
    """The fields of an item, as attributes: the type of ``F``. ``F["metadata.a\\\\.b"]`` takes a dotted path."""

    __slots__ = ()

    if TYPE_CHECKING:
        id: Field
        namespace: Field
        kind: Field
        content: JsonField
        text: Field
        metadata: JsonField
        tags: Field
        user_id: Field
        agent_id: Field
        session_id: Field
        importance: Field
        created_at: Field
        updated_at: Field
        accessed_at: Field
        expires_at: Field
        access_count: Field
        version: Field
        source: JsonField
    else:

        def __getattr__(self, name: str) -> JsonField:
            if name.startswith("_"):
                raise AttributeError(name)
            return JsonField(check_path((name,), Budget()))

    def __getitem__(self, name: str) -> JsonField:
        if not isinstance(name, str):
            raise InvalidFilter(f'F takes a dotted path as a str, such as F["metadata.score"], not {show(name)}')
        return JsonField(check_path(split_path(name), Budget()))

    def __repr__(self) -> str:
        return "F"


F: Final = Fields()
"""Where every built filter starts: ``F.kind == "note"``, ``F.metadata.score >= 3``, ``F["metadata.a.b"]``."""
