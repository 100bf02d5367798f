"""From a filter to SQL: fixed templates, every name and value a bound parameter.

The column ``doc`` holds metadata, content and source as JSONB, made so that JSONB compares as filters do (`records`). A
path is a chain of ``->`` with text on the right, which never looks into a list, as ``#>`` would.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

from memory.backends.postgres.records import escaped, speakable
from memory.clock import to_micros
from memory.filters import Compare, Filter, Translated, negating, translate
from memory.model import INT_MAX, INT_MIN

Params = tuple[Any, ...]
MARK = "\x02"
"""Stands for the next parameter until a statement is complete; no template holds it otherwise."""


class Sql(msgspec.Struct, frozen=True):
    """A condition and its parameters, MARK in the place of each."""

    text: str
    params: Params = ()


NEVER = Sql("false")
_ORDERS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_TEXT_COLUMNS = {"kind": "r.kind", "user_id": "r.user_id", "agent_id": "r.agent_id", "session_id": "r.session_id"}
_ID = "convert_from(substr(r.key, octet_length(r.path) + 3), 'UTF8') COLLATE \"C\""
_NUMBER_COLUMNS = {"access_count": "r.count", "version": "r.version"}
_TIME_COLUMNS = {
    "created_at": "r.created",
    "updated_at": "r.updated",
    "accessed_at": "r.accessed",
    "expires_at": "r.expires",
}
_ROOTS = ("metadata", "content", "source")


def compile_filter(where: Filter | None) -> Translated[Sql]:
    """The filter as a condition over records ``r``, and whether it is exact."""
    return translate(where, negating(_say, _complement), all_of=_join(" AND "), any_of=_join(" OR "))


def numbered(sql: Sql, first: int = 1) -> str:
    """The text with its parameters numbered from ``first``."""
    parts = sql.text.split(MARK)
    return "".join([parts[0], *(f"${first + i}{part}" for i, part in enumerate(parts[1:]))])


def all_of(parts: list[Sql | None]) -> Sql:
    """The conjunction of those that are there."""
    known = [part for part in parts if part is not None]
    return _join(" AND ")(known) if known else Sql("true")


def _complement(positive: Sql) -> Sql:
    return Sql(f"({positive.text}) IS NOT TRUE", positive.params)


def _join(word: str) -> Callable[[list[Sql]], Sql]:
    def join(parts: list[Sql]) -> Sql:
        return Sql(word.join(f"({part.text})" for part in parts), sum((part.params for part in parts), ()))

    return join


def _say(compare: Compare) -> tuple[Sql, bool] | None:
    path, root = compare.path, compare.path[0]
    if compare.op == "in":
        return _among(compare)
    if len(path) > 1:
        return _json(compare) if root in _ROOTS else None
    if root in _TEXT_COLUMNS:
        return _text(_TEXT_COLUMNS[root], compare)
    if root == "id":
        return _text(_ID, compare)
    if root == "importance":
        return _number("r.importance", "float8", compare)
    if root in _NUMBER_COLUMNS:
        return _number(_NUMBER_COLUMNS[root], "numeric", compare)
    if root in _TIME_COLUMNS:
        return _time(_TIME_COLUMNS[root], compare)
    if root == "tags" and compare.op == "contains":
        if not isinstance(compare.value, str) or "\0" in compare.value:
            return NEVER, True
        return _within(("tags",), [compare.value]), True
    return None


def _among(compare: Compare) -> tuple[Sql, bool] | None:
    """``in``: plain strings of a column share one list, which an index can serve."""
    root, values = compare.path[0], compare.value
    if len(compare.path) == 1 and root in _TEXT_COLUMNS and all(type(v) is str and "\0" not in v for v in values):
        return Sql(f"{_TEXT_COLUMNS[root]} = ANY({MARK}::text[])", (list(values),)), True
    said = [_say(Compare(compare.path, "eq", value)) for value in values]
    known = [one for one in said if one is not None]
    if len(known) < len(said):
        return None
    possible = [sql for sql, _ in known if sql is not NEVER]
    if not possible:
        return NEVER, True
    return _join(" OR ")(possible) if len(possible) > 1 else possible[0], all(exact for _, exact in known)


def _text(column: str, compare: Compare) -> tuple[Sql, bool] | None:
    op, value = compare.op, compare.value
    if op == "exists":
        return Sql(f"{column} IS NOT NULL"), True
    if op == "eq" and value is None:
        return Sql(f"{column} IS NULL"), True
    if not isinstance(value, str) or op == "contains":
        return NEVER, True
    if "\0" in value:  # no name holds it, and Postgres has no such text
        return (NEVER, True) if op in ("eq", "startswith") else None
    if op == "startswith":
        return Sql(f"starts_with({column}, {MARK})", (value,)), True
    return Sql(f"{column} {_ORDERS.get(op, '=')} {MARK}::text", (value,)), True


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _exact(value: float) -> Decimal | None:
    """A number as Postgres's exact one: a float that is no integer by its shortest form, as JSONB has it."""
    if isinstance(value, int):
        return Decimal(value)
    if not math.isfinite(value):
        return None
    return Decimal(int(value)) if value.is_integer() else Decimal(repr(value))


def _number(column: str, kind: str, compare: Compare) -> tuple[Sql, bool] | None:
    op, value = compare.op, compare.value
    if op == "exists":
        return Sql(f"{column} IS NOT NULL"), True
    if op == "eq" and value is None:
        return Sql(f"{column} IS NULL"), True
    if not _is_number(value) or op not in ("eq", *_ORDERS):
        return NEVER, True
    if isinstance(value, int) and not INT_MIN <= value <= INT_MAX:
        return None
    operand = float(value) if kind == "float8" else _exact(value)
    if operand is None:
        return None
    if isinstance(operand, Decimal) and isinstance(value, int):
        return Sql(f"{column} {_ORDERS.get(op, '=')} {MARK}::int8", (value,)), True
    return Sql(f"{column} {_ORDERS.get(op, '=')} {MARK}::{kind}", (operand,)), True


def _time(column: str, compare: Compare) -> tuple[Sql, bool] | None:
    op, value = compare.op, compare.value
    if op == "exists":
        return Sql(f"{column} IS NOT NULL"), True
    if op == "eq" and value is None:
        return Sql(f"{column} IS NULL"), True
    if not isinstance(value, datetime) or op not in ("eq", *_ORDERS):
        return NEVER, True
    return Sql(f"{column} {_ORDERS.get(op, '=')} {MARK}::int8", (to_micros(value),)), True


# --- JSON --------------------------------------------------------------------------------------


def _encoded(value: Any) -> str | None:
    """A JSON value as an operand; None where JSON cannot say it."""
    try:
        return msgspec.json.encode(speakable(value)).decode()
    except (TypeError, ValueError, OverflowError, UnicodeEncodeError):
        return None


def _within(path: tuple[str, ...], value: Any) -> Sql:
    """That ``doc`` contains the value at the path: what its GIN index answers."""
    for part in reversed(path):
        value = {part: value}
    return Sql(f"r.doc @> {MARK}::jsonb", (_encoded(value),))


def _json(compare: Compare) -> tuple[Sql, bool] | None:
    op, value, path = compare.op, compare.value, compare.path
    try:
        names = tuple(escaped(part) for part in path)
        "".join(names).encode()
    except UnicodeEncodeError:
        return NEVER if op != "eq" or value is not None else Sql("true"), True
    at = "r.doc" + f" -> {MARK}::text" * len(names)
    if op == "exists":
        return Sql(f"({at}) IS NOT NULL", names), True
    if op == "contains":
        return _contains(compare)
    if value is None:
        return (Sql(f"coalesce(jsonb_typeof({at}), 'null') = 'null'", names), True) if op == "eq" else (NEVER, True)
    if isinstance(value, datetime):
        return NEVER, True
    if isinstance(value, list | tuple | dict):
        encoded = _encoded(value)
        if op != "eq":
            return NEVER, True
        return None if encoded is None else (Sql(f"({at}) = {MARK}::jsonb", (*names, encoded)), True)
    if isinstance(value, bool) or op == "eq":
        if isinstance(value, float) and not math.isfinite(value):
            return NEVER, True
        if op != "eq" or _encoded(value) is None:
            return NEVER, True
        return _within(path, value), True
    if _is_number(value):
        operand = _exact(value)
        if operand is None:
            return None
        if op not in _ORDERS:
            return NEVER, True
        return Sql(
            f"jsonb_typeof({at}) = 'number' AND ({at}) {_ORDERS[op]} {MARK}::text::jsonb",
            (*names, *names, f"{operand:f}"),
        ), True
    if isinstance(value, str):
        text = f"jsonb_typeof({at}) = 'string' AND "
        if op == "startswith":
            return Sql(f"{text}starts_with(({at}) #>> '{{}}', {MARK})", (*names, *names, escaped(value))), True
        if op in _ORDERS:
            return (
                Sql(f"{text}(({at}) #>> '{{}}') COLLATE \"C\" {_ORDERS[op]} {MARK}", (*names, *names, escaped(value))),
                True,
            )
    return NEVER, True


def _contains(compare: Compare) -> tuple[Sql, bool] | None:
    value = compare.value
    if isinstance(value, datetime) or (isinstance(value, float) and not math.isfinite(value)):
        return NEVER, True
    if isinstance(value, list | tuple | dict):
        # Containment asks less than equality of what lies inside; the reference decides.
        return None if _encoded(value) is None else (_within(compare.path, [value]), False)
    return (NEVER if _encoded(value) is None else _within(compare.path, [value])), True
