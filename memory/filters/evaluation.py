"""What a filter means: the reference evaluator that every backend has to agree with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from operator import ge, gt, le, lt
from typing import Any, Final, TypeAlias

from memory.errors import InvalidFilter
from memory.filters.tree import And, Compare, Filter, Not
from memory.filters.values import equal, instant

Predicate: TypeAlias = Callable[[Any], bool]

_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {"gt": gt, "gte": ge, "lt": lt, "lte": le}


class _Missing:
    """Stands for a field that is not there; equal to nothing but itself."""

    __slots__ = ()


MISSING: Final = _Missing()


def evaluate(tree: Filter | None, item: Any) -> bool:
    """Whether the item satisfies the filter; None is satisfied by all. Never raises for a parsed filter.

    ``item`` is a MemoryItem or anything with its attributes. For many items call ``predicate`` once.
    """
    return predicate(tree)(item)


def predicate(tree: Filter | None) -> Predicate:
    """The filter as a function of an item, compiled once to closures (a fraction of a microsecond a leaf)."""
    if tree is None:
        return lambda item: True
    if isinstance(tree, Compare):
        return _leaf(tree)
    if isinstance(tree, Not):
        inner = predicate(tree.part)
        return lambda item: not inner(item)
    parts = tuple(predicate(part) for part in tree.parts)
    # A plain loop: `all(... for ...)` builds a generator for every item.
    if isinstance(tree, And):

        def every(item: Any) -> bool:
            for part in parts:
                if not part(item):
                    return False
            return True

        return every

    def some(item: Any) -> bool:
        for part in parts:
            if part(item):
                return True
        return False

    return some


def _leaf(leaf: Compare) -> Predicate:
    get = _getter(leaf.path)
    if leaf.op == "exists":
        if leaf.value:
            return lambda item: get(item) is not MISSING
        return lambda item: get(item) is MISSING
    test, wanted = _test(leaf.op, leaf.value)
    if wanted:
        return lambda item: test(get(item))
    return lambda item: not test(get(item))


def _getter(path: tuple[str, ...]) -> Callable[[Any], Any]:
    """A function from an item to the value at the path, or MISSING."""
    root, keys = path[0], path[1:]
    if not keys:
        if root == "content":  # the one field in which None is a value: JSON null
            return lambda item: getattr(item, root, MISSING)

        def unset_is_missing(item: Any) -> Any:
            value = getattr(item, root, None)
            return MISSING if value is None else value

        return unset_is_missing
    if len(keys) == 1:
        key = keys[0]

        def one_down(item: Any) -> Any:
            value = getattr(item, root, None)
            return value.get(key, MISSING) if isinstance(value, dict) else MISSING

        return one_down

    def far_down(item: Any) -> Any:
        value = getattr(item, root, None)
        for key in keys:
            if not isinstance(value, dict):
                return MISSING
            value = value.get(key, MISSING)
        return value

    return far_down


def _test(op: str, operand: Any) -> tuple[Predicate, bool]:
    """A test of a value, and whether it (True) or its opposite (False) is what the operator says."""
    if op in ("eq", "ne"):
        return _equals(operand), op == "eq"
    if op in ("in", "nin"):
        return _among(operand), op == "in"
    if op in _ORDERS:
        return _ordered(_ORDERS[op], operand), True
    if op == "contains":
        return _contains(operand), True
    if op == "startswith":
        return lambda value: isinstance(value, str) and value.startswith(operand), True
    raise InvalidFilter(f"unknown operator {op!r}; trees made by hand go through parse()")


def _equals(operand: Any) -> Predicate:
    if operand is None:
        return lambda value: value is None or value is MISSING
    if isinstance(operand, bool):
        return lambda value: value is operand
    if isinstance(operand, str):
        return lambda value: isinstance(value, str) and value == operand
    if isinstance(operand, int | float):
        # Python compares int with float exactly, whatever their size.
        return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and value == operand
    return lambda value: equal(operand, value)


def _among(operands: tuple[Any, ...]) -> Predicate:
    # Strings and numbers by hash; bools apart, because to a set True is 1.
    plain = frozenset(one for one in operands if isinstance(one, str | int | float) and not isinstance(one, bool))
    tests = [_equals(one) for one in operands if isinstance(one, bool) or not isinstance(one, str | int | float)]

    def among(value: Any) -> bool:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return value in plain
        return any(test(value) for test in tests)

    return among


def _ordered(compare: Callable[[Any, Any], bool], operand: Any) -> Predicate:
    if isinstance(operand, bool):
        return lambda value: False
    if isinstance(operand, str):
        return lambda value: isinstance(value, str) and compare(value, operand)
    if isinstance(operand, int | float):
        return (
            lambda value: isinstance(value, int | float) and not isinstance(value, bool) and compare(value, operand)
        )  # fmt: skip
    if isinstance(operand, datetime):

        def in_time(value: Any) -> bool:
            if not isinstance(value, datetime):
                return False
            moment = value if value.tzinfo is UTC else instant(value)
            return moment is not None and compare(moment, operand)

        return in_time
    return lambda value: False  # null, lists and objects have no order


def _contains(operand: Any) -> Predicate:
    test = _equals(operand)

    def holds(value: Any) -> bool:
        if isinstance(value, list | tuple):
            for part in value:
                if test(part):
                    return True
        return False

    return holds
