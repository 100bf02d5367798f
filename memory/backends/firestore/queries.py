"""Queries from a closed list of shapes: every path is a constant of ours, every value is bound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from google.cloud.firestore_v1.types import query as queries

StructuredQuery: Any = queries.StructuredQuery.pb()
_ASCENDING, _DESCENDING = 1, 2
_DOT_PRODUCT = 3
_AND = 1
_IS_NULL = 3
OPERATORS = {"<": 1, "<=": 2, ">": 3, ">=": 4, "==": 5, "contains": 7, "in": 8, "contains_any": 9}

NAME = "__name__"
"""The path of a document's name."""


class Condition(msgspec.Struct, frozen=True):
    """One comparison of a field with a bound value."""

    path: str
    operator: str
    value: Any


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of one collection. ``after``: values of the order's fields; the first document comes behind them, or,
    ``inclusive``, may have them."""

    collection: str
    conditions: tuple[Condition, ...] = ()
    orders: tuple[tuple[str, bool], ...] = ()
    """(path, descending)."""
    after: tuple[Any, ...] = ()
    inclusive: bool = False
    limit: int | None = None
    fields: tuple[str, ...] = ()
    """Paths to read; none: whole documents."""
    near: tuple[str, Any] | None = None
    """The path of a vector, and a unit vector: the nearest by it, ``limit`` of them, the nearest first."""


def message(query: Query, limit: int | None) -> Any:
    """The query as Firestore's own message."""
    made = StructuredQuery()
    made.from_.add(collection_id=query.collection)
    conditions = [_filter(one) for one in query.conditions]
    if len(conditions) == 1:
        made.where.CopyFrom(conditions[0])
    elif conditions:
        made.where.composite_filter.op = _AND
        made.where.composite_filter.filters.extend(conditions)
    for path, descending in query.orders:
        order = made.order_by.add(direction=_DESCENDING if descending else _ASCENDING)
        order.field.field_path = path
    if query.after:
        made.start_at.values.extend(query.after)
        made.start_at.before = query.inclusive
    for path in query.fields:
        made.select.fields.add(field_path=path)
    if query.near is not None:
        path, vector = query.near
        made.find_nearest.vector_field.field_path = path
        made.find_nearest.query_vector.CopyFrom(vector)
        made.find_nearest.distance_measure = _DOT_PRODUCT
        made.find_nearest.limit.value = limit or 1
    elif limit is not None:
        made.limit.value = limit
    return made


def _filter(condition: Condition) -> Any:
    made = StructuredQuery.Filter()
    if condition.value.WhichOneof("value_type") == "null_value":
        made.unary_filter.field.field_path = condition.path
        made.unary_filter.op = _IS_NULL
        return made
    made.field_filter.field.field_path = condition.path
    made.field_filter.op = OPERATORS[condition.operator]
    made.field_filter.value.CopyFrom(condition.value)
    return made


def paths_of(conditions: Sequence[Condition]) -> set[str]:
    """The fields that conditions look at."""
    return {condition.path for condition in conditions}
