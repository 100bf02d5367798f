"""From a filter to SQL: fixed templates, every name and value a bound parameter."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from memory.backends.sqlite.schema import LONGEST
from memory.clock import to_micros
from memory.filters import Compare, Filter, Translated, negating, translate
from memory.model import INT_MAX, INT_MIN

Params = tuple[Any, ...]
Fields = Mapping[tuple[str, ...], int]
"""Declared metadata paths, and the number of each one's column."""


class Sql(msgspec.Struct, frozen=True):
    """A condition and its parameters."""

    text: str
    params: Params = ()


NEVER = Sql("0")
_EQUALS = " = ?"
_ORDERS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_TEXT_COLUMNS = {
    "kind": "items.kind",
    "user_id": "items.user",
    "agent_id": "items.agent",
    "session_id": "items.session",
}
_NUMBER_COLUMNS = {"importance": "items.importance", "access_count": "items.count", "version": "items.version"}
_TIME_COLUMNS = {
    "created_at": "items.created",
    "updated_at": "items.updated",
    "accessed_at": "items.accessed",
    "expires_at": "items.expires",
}
_JSON_ROOTS = ("metadata", "content", "source")
_BODY = "CAST(items.body AS TEXT)"


def compile_filter(where: Filter | None, fields: Fields) -> Translated[Sql]:
    """The filter as a condition over ``items``, and whether it is exact."""
    return translate(where, negating(lambda compare: _say(compare, fields), _complement), all_of=_every, any_of=_some)


def tag_condition(tag: str) -> Sql:
    """That a record carries a tag."""
    return Sql("EXISTS (SELECT 1 FROM tags WHERE entry = CAST(? || items.key AS BLOB))", (tag.encode() + b"\0",))


def _complement(positive: Sql) -> Sql:
    return Sql(f"(({positive.text}) IS NOT TRUE)", positive.params)


def _join(word: str) -> Callable[[list[Sql]], Sql]:
    def balanced(texts: list[str]) -> str:
        # SQLite refuses expressions deeper than 1,000: a long row of ORs would be one.
        if len(texts) <= 8:
            return "(" + word.join(f"({text})" for text in texts) + ")"
        middle = len(texts) // 2
        return "(" + balanced(texts[:middle]) + word + balanced(texts[middle:]) + ")"

    def join(parts: list[Sql]) -> Sql:
        return Sql(balanced([part.text for part in parts]), tuple(param for part in parts for param in part.params))

    return join


_conjunction, _disjunction = _join(" AND "), _join(" OR ")


def _every(parts: list[Sql]) -> Sql:
    # A constant among conditions takes the ground from under INDEXED BY, so it never gets into the text.
    return NEVER if NEVER in parts else _conjunction(parts)


def _some(parts: list[Sql]) -> Sql:
    possible = [part for part in parts if part is not NEVER]
    return _disjunction(possible) if len(possible) > 1 else possible[0] if possible else NEVER


def _say(compare: Compare, fields: Fields) -> tuple[Sql, bool] | None:
    path, root = compare.path, compare.path[0]
    if compare.op == "in":
        return _among(compare, fields)
    if len(path) == 1:
        if root in _TEXT_COLUMNS:
            return _text(_TEXT_COLUMNS[root], compare)
        if root in _NUMBER_COLUMNS:
            return _number(_NUMBER_COLUMNS[root], compare)
        if root in _TIME_COLUMNS:
            return _time(_TIME_COLUMNS[root], compare)
        if root == "id":
            return _text("CAST(substr(items.key, length(items.path) + 3) AS TEXT)", compare)
        if root == "tags" and compare.op == "contains":
            if not isinstance(compare.value, str) or "\0" in compare.value:
                return NEVER, True
            return tag_condition(compare.value), True
        if root == "text":
            return _json(compare, "$.text")
        return None
    if path in fields:
        said_of_column = _column(f"items.f{fields[path]}", compare)
        if said_of_column is not None:
            return said_of_column
    if root in _JSON_ROOTS and not any(_unspeakable(part) for part in path[1:]):
        # A label between quotes is taken literally, but there is no way to write these three in one.
        return _json(compare, f"$.{root}" + "".join(f'."{part}"' for part in path[1:]))
    return None


_unspeakable = re.compile('["\\\\\0]').search


def _among(compare: Compare, fields: Fields) -> tuple[Sql, bool] | None:
    """``in``: values that are said alike share one list, which an index can serve."""
    lists: dict[tuple[str, Params], list[Any]] = {}
    others: list[Sql] = []
    all_exact = True
    for value in compare.value:
        said = _say(Compare(compare.path, "eq", value), fields)
        if said is None:
            return None
        sql, exact = said
        all_exact = all_exact and exact
        if sql.text.endswith(_EQUALS):
            lists.setdefault((sql.text[: -len(_EQUALS)], sql.params[:-1]), []).append(sql.params[-1])
        elif sql is not NEVER:
            others.append(sql)
    for (start, params), values in lists.items():
        others.append(Sql(f"{start} IN ({','.join('?' * len(values))})", (*params, *values)))
    return _some(others), all_exact


def _equal_null(expression: str) -> tuple[Sql, bool]:
    return Sql(f"{expression} IS NULL"), True


def after_prefix(prefix: str) -> str | None:
    """The least string above every string with this prefix, by code point; None when there is none."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            return prefix[:-1] + chr(0xE000 if last == 0xD7FF else last + 1)
        prefix = prefix[:-1]
    return None


def _text(column: str, compare: Compare) -> tuple[Sql, bool] | None:
    op, value = compare.op, compare.value
    if op == "exists":
        return Sql(f"{column} IS NOT NULL"), True
    if op == "eq" and value is None:
        return _equal_null(column)
    if not isinstance(value, str):
        return NEVER, True
    if op == "eq":
        return Sql(f"{column} = ?", (value,)), True
    if op in _ORDERS:
        return Sql(f"{column} {_ORDERS[op]} ?", (value,)), True
    if op == "startswith":
        return _prefixed(column, value)
    return NEVER, True  # contains: not a list


def _prefixed(column: str, value: str) -> tuple[Sql, bool]:
    above = after_prefix(value)
    if not value:
        return Sql(f"{column} >= ''"), True
    if above is None:
        return Sql(f"{column} >= ?", (value,)), True
    return Sql(f"({column} >= ? AND {column} < ?)", (value, above)), True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(column: str, compare: Compare) -> tuple[Sql, bool] | None:
    op, value = compare.op, compare.value
    if op == "exists":
        return Sql(f"{column} IS NOT NULL"), True
    if op == "eq" and value is None:
        return _equal_null(column)
    if not _is_number(value) or op not in ("eq", *_ORDERS):
        return NEVER, True
    if isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
        return None
    return Sql(f"{column} {_ORDERS.get(op, '=')} ?", (value,)), True


def _time(column: str, compare: Compare) -> tuple[Sql, bool] | None:
    op, value = compare.op, compare.value
    if op == "exists":
        return Sql(f"{column} IS NOT NULL"), True
    if op == "eq" and value is None:
        return _equal_null(column)
    if not isinstance(value, datetime) or op not in ("eq", *_ORDERS):
        return NEVER, True
    return Sql(f"{column} {_ORDERS.get(op, '=')} ?", (to_micros(value),)), True


def _column(column: str, compare: Compare) -> tuple[Sql, bool] | None:
    """A declared field. Its column holds numbers and strings (beyond 256 characters their beginning), bools as a
    byte, NULL for the rest; an operand it cannot decide is left to the body."""
    op, value = compare.op, compare.value
    if op in ("exists", "contains"):
        return None
    if isinstance(value, bool):
        if op != "eq":
            return NEVER, True
        return Sql(f"{column} = ?", (b"\1" if value else b"\0",)), True
    if _is_number(value):
        if isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
            return None
        if op == "eq":
            return Sql(f"{column} = ?", (value,)), True
        if op in ("gt", "gte"):
            return Sql(f"({column} {_ORDERS[op]} ? AND {column} < '')", (value,)), True
        if op in ("lt", "lte"):
            return Sql(f"{column} {_ORDERS[op]} ?", (value,)), True
    if isinstance(value, str) and len(value) <= LONGEST:
        if op == "eq":
            return Sql(f"{column} = ?", (value,)), True
        if op in ("gt", "gte"):
            return Sql(f"({column} {_ORDERS[op]} ? AND {column} < x'')", (value,)), True
        if op in ("lt", "lte"):
            return Sql(f"({column} {_ORDERS[op]} ? AND {column} >= '')", (value,)), True
        if op == "startswith":
            above = after_prefix(value)
            if value and above is not None:
                return Sql(f"({column} >= ? AND {column} < ?)", (value, above)), True
            return Sql(f"({column} >= ? AND {column} < x'')", (value,)), True
    return None


def _json(compare: Compare, where: str) -> tuple[Sql, bool] | None:
    """A path of the body. The JSON type is asked first: SQLite gives true as 1 and a list as text."""
    op, value = compare.op, compare.value
    kind, found = f"json_type({_BODY}, ?)", f"json_extract({_BODY}, ?)"
    if op == "exists":
        return Sql(f"{kind} IS NOT NULL", (where,)), True
    if op == "contains":
        return _json_contains(value, where)
    if value is None:
        return (Sql(f"coalesce({kind}, 'null') = 'null'", (where,)), True) if op == "eq" else (NEVER, True)
    if isinstance(value, bool):
        return (Sql(f"{kind} = ?", (where, "true" if value else "false")), True) if op == "eq" else (NEVER, True)
    if _is_number(value):
        if isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
            return None
        if op not in ("eq", *_ORDERS):
            return NEVER, True
        return (
            Sql(f"{kind} IN ('integer', 'real') AND {found} {_ORDERS.get(op, '=')} ?", (where, where, value)),
            True,
        )
    if isinstance(value, str):
        if op == "startswith":
            inner, _ = _prefixed(found, value)
            params = tuple(part for given in inner.params for part in (where, given)) or (where,)
            return Sql(f"({kind} = 'text' AND {inner.text})", (where, *params)), True
        if op not in ("eq", *_ORDERS):
            return NEVER, True
        return Sql(f"{kind} = 'text' AND {found} {_ORDERS.get(op, '=')} ?", (where, where, value)), True
    if op == "eq" and isinstance(value, list | tuple | dict):
        # The whole comparison is left to the reference; only the right kind of value can pass it.
        return Sql(f"{kind} = ?", (where, "object" if isinstance(value, dict) else "array")), False
    return NEVER, True


def _json_contains(value: Any, where: str) -> tuple[Sql, bool] | None:
    each = f"json_type({_BODY}, ?) = 'array' AND EXISTS (SELECT 1 FROM json_each({_BODY}, ?) e WHERE "  # noqa: S608 - our own text
    if value is None:
        return Sql(f"({each}e.type = 'null'))", (where, where)), True
    if isinstance(value, bool):
        return Sql(f"({each}e.type = ?))", (where, where, "true" if value else "false")), True
    if _is_number(value):
        if isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
            return None
        return Sql(f"({each}e.type IN ('integer', 'real') AND e.value = ?))", (where, where, value)), True
    if isinstance(value, str):
        return Sql(f"({each}e.type = 'text' AND e.value = ?))", (where, where, value)), True
    kind = "object" if isinstance(value, dict) else "array"
    return Sql(f"({each}e.type = ?))", (where, where, kind)), False
