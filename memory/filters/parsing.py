"""From what a caller may write as ``where=`` to the checked tree."""

from __future__ import annotations

from typing import Any, TypeAlias

from memory.errors import InvalidFilter
from memory.filters.builder import Expr, Field, Fields
from memory.filters.check import Budget, check_leaf, check_size, show, split_path, unknown_operator
from memory.filters.tree import OPERATORS, And, Compare, Filter, Not, Or, conjoin, disjoin, dotted, measure

Where: TypeAlias = dict[str, Any] | Expr | Filter | None
"""What every ``where=`` accepts: a Mongo-style dict, a builder expression, a tree, or None for everything."""

_FIELD_OPERATORS = (*OPERATORS, "not")
_LOGICAL = ("and", "or", "not")


def parse(where: Where) -> Filter | None:
    """The checked filter tree, or None when everything matches (None or {}).

    All checking happens here, before any I/O; operands are copied. Raises InvalidFilter, with what to write instead,
    for unknown fields and operators, wrong shapes, values JSON cannot hold, and filters beyond the bounds: 32 levels,
    1,000 nodes, 1,000 values in one ``$in``, 10,000 values and 1 MiB of text in all.
    """
    if where is None:
        return None
    budget = Budget()
    if isinstance(where, dict):
        tree = _object(where, budget, 1) if where else None
    elif isinstance(where, Expr):
        tree = _rebuilt(where.tree, budget, 1)
    elif isinstance(where, Compare | And | Or | Not):
        tree = _rebuilt(where, budget, 1)
    else:
        raise InvalidFilter(_not_a_filter(where))
    if tree is not None:
        check_size(*measure(tree))
    return tree


def _not_a_filter(where: object) -> str:
    advice = 'write a dict such as {"kind": "note"} or an expression such as F.kind == "note"'
    if isinstance(where, Field | Fields):
        return f"a field alone is not a filter; compare it: F.metadata.done == True, F.text.exists(); {advice}"
    if isinstance(where, list | tuple):
        return f'a list is not a filter; {{"$and": [...]}} and {{"$or": [...]}} take lists; or {advice}'
    if isinstance(where, bool):
        return f"a bool is not a filter (was `and`, `or`, `not` or `is` used in building it?); {advice}"
    if callable(where):
        return f"a function cannot be a filter: it could not run inside an engine; {advice}"
    return f"{show(where)} is not a filter; {advice}"


def _object(where: dict[Any, Any], budget: Budget, depth: int) -> Filter:
    """A filter object: field names and $and, $or, $not; all of its entries must hold."""
    check_size(depth)
    parts: list[Filter] = []
    for name, spec in where.items():
        if not isinstance(name, str):
            raise InvalidFilter(f"a filter has the key {show(name)}; keys are field names, as str")
        if not name.startswith("$"):
            parts.append(_field(split_path(budget.text(name, "a field name")), spec, budget, depth))
        elif name == "$not":
            parts.append(Not(_nested(spec, name, budget, depth)))
        elif name in ("$and", "$or"):
            if not isinstance(spec, list | tuple) or not spec:
                raise InvalidFilter(
                    f'"{name}" takes a list of one or more filters: {{"{name}": [{{...}}, {{...}}]}}', operator=name[1:]
                )
            inner = [_nested(one, name, budget, depth) for one in spec]
            parts.append(conjoin(inner) if name == "$and" else disjoin(inner))
        elif name[1:] in OPERATORS:
            raise InvalidFilter(
                f'"{name}" belongs to a field: {{"metadata.x": {{"{name}": ...}}}}', operator=name[1:]
            )  # fmt: skip
        else:
            raise unknown_operator(name, _LOGICAL)
    return conjoin(parts)


def _nested(spec: object, name: str, budget: Budget, depth: int) -> Filter:
    if isinstance(spec, Expr):  # the two spellings mix
        return _rebuilt(spec.tree, budget, depth + 1)
    if not isinstance(spec, dict) or not spec:
        what = "an empty filter" if isinstance(spec, dict) else show(spec)
        where = "a filter" if name == "$not" else "filters"
        raise InvalidFilter(f'"{name}" takes {where} such as {{"kind": "note"}}, not {what}', operator=name[1:])
    return _object(spec, budget, depth + 1)


def _field(path: tuple[str, ...], spec: object, budget: Budget, depth: int) -> Filter:
    """One field's entry: operators, or a plain value to equal."""
    if not isinstance(spec, dict) or not any(isinstance(name, str) and name.startswith("$") for name in spec):
        if isinstance(spec, dict):
            _refuse_nested_operators(path, spec)
        return check_leaf(path, "eq", spec, budget)
    check_size(depth)
    parts: list[Filter] = []
    for written, value in spec.items():
        if not isinstance(written, str) or not written.startswith("$"):
            raise InvalidFilter(
                f'operators and plain keys are mixed ({show(written)}); to equal an object write {{"$eq": {{...}}}}, '
                'to compare a field inside it write the path: "metadata.a.b"'
            )
        op = written[1:]
        if op == "not":
            if not isinstance(value, dict) or not any(isinstance(one, str) and one.startswith("$") for one in value):
                raise InvalidFilter(
                    f'"$not" of a field takes operators: {{"$not": {{"$gt": 3}}}}, not {show(value)}; '
                    'for "not equal" write {"$ne": ...}',
                    operator=op,
                )
            parts.append(Not(_field(path, value, budget, depth + 1)))
        elif op in OPERATORS:
            parts.append(check_leaf(path, op, value, budget))
        elif op in _LOGICAL:
            raise InvalidFilter(
                f'"{written}" goes around fields, not inside one: {{"{written}": [{{"kind": "a"}}, {{"kind": "b"}}]}}',
                operator=op,
            )
        else:
            raise unknown_operator(written, _FIELD_OPERATORS)
    return conjoin(parts)


def _refuse_nested_operators(path: tuple[str, ...], spec: dict[Any, Any]) -> None:
    """{"metadata": {"score": {"$gte": 3}}} would silently equal nothing; ``$eq`` still says such an object."""
    for name, inner in spec.items():
        if isinstance(inner, dict) and isinstance(name, str):
            for written in inner:
                if isinstance(written, str) and written[:1] == "$" and written[1:] in _FIELD_OPERATORS:
                    raise InvalidFilter(
                        f"{show(written)} lies inside an object to equal; to compare the field inside it write the path "
                        f'{show(dotted((*path, name)))}; to equal exactly this object write {{"$eq": {{...}}}}'
                    )


def _rebuilt(tree: object, budget: Budget, depth: int) -> Filter:
    """The same tree, checked again and in normal shape: trees can be made by hand, and operands changed since."""
    check_size(depth)
    if isinstance(tree, Compare):
        if not isinstance(tree.path, tuple | list):
            raise InvalidFilter(f"a path is a tuple of names, not {show(tree.path)}")
        return check_leaf(tree.path, tree.op, tree.value, budget)
    if isinstance(tree, Not):
        return Not(_rebuilt(tree.part, budget, depth + 1))
    if isinstance(tree, And | Or):
        given: object = tree.parts
        if not isinstance(given, tuple | list) or not given:
            raise InvalidFilter(f"{type(tree).__name__} needs one or more parts")
        parts = [_rebuilt(part, budget, depth + 1) for part in given]
        return conjoin(parts) if isinstance(tree, And) else disjoin(parts)
    raise InvalidFilter(f"a filter tree is made of Compare, And, Or and Not, not {show(tree)}")
