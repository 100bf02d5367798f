"""The one place where paths, operators and operands are checked, whichever way a filter was spelled."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable
from datetime import date, datetime
from typing import Any

from memory.errors import InvalidFilter
from memory.filters.tree import (
    JSON_ROOTS,
    MAX_CHOICES,
    MAX_DEPTH,
    MAX_NAME,
    MAX_NODES,
    MAX_SEGMENTS,
    MAX_TEXT,
    MAX_VALUES,
    OPERATORS,
    ORDERS,
    ROOTS,
    TIME_ROOTS,
    Compare,
    dotted,
)
from memory.filters.values import instant
from memory.model import INT_MAX, INT_MIN, MAX_JSON_DEPTH

# Deliberately one shape: what `datetime.fromisoformat` accepts differs between Python versions.
_ISO = re.compile(
    r"\d{4}-\d\d-\d\d[Tt ](?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?(?:[Zz]|[+-]\d\d:?\d\d)", re.ASCII
)

_HINTS = {
    "regex": '"$startswith" (patterns are not supported)',
    "like": '"$startswith" (patterns are not supported)',
    "all": '"$and" of several "$contains"',
    "elemmatch": '"$contains"',
    "nor": '"$not" around an "$or"',
    "size": '"$eq" with the whole list',
    "isnull": '{"$eq": None}',
}


def show(value: object, limit: int = 60) -> str:
    """A value for a message: strings quoted and shortened, anything else by its type, so no foreign code runs."""
    if type(value) is str:
        return repr(value if len(value) <= limit else value[:limit] + "...")
    if value is None or type(value) in (bool, int, float):
        text = repr(value) if type(value) is not int or value.bit_length() < 256 else "an int of many digits"
        return text if len(text) <= limit else text[:limit] + "..."
    return f"a {type(value).__name__}"


class Budget:
    """What one filter may still hold. Raises InvalidFilter when it is used up."""

    __slots__ = ("leaves", "size", "values")

    def __init__(self) -> None:
        self.leaves = self.values = self.size = 0

    def text(self, value: str, what: str) -> str:
        """The string as a plain str, refused when it is not text (lone surrogates)."""
        if type(value) is not str:
            value = str.__str__(value)  # a StrEnum member becomes its plain value
        try:
            self.size += len(value) if value.isascii() else len(value.encode())
        except UnicodeEncodeError:
            raise InvalidFilter(f"{what} holds a lone surrogate; it is not text and cannot match anything") from None
        if self.size > MAX_TEXT:
            raise InvalidFilter(f"the filter holds more than {MAX_TEXT:,} bytes of text; split it into several calls")
        return value

    def value(self) -> None:
        """Count one JSON value."""
        self.values += 1
        if self.values > MAX_VALUES:
            raise InvalidFilter(f"the filter holds more than {MAX_VALUES:,} values; split it into several calls")

    def leaf(self) -> None:
        """Count one comparison."""
        self.leaves += 1
        if self.leaves > MAX_NODES:
            raise InvalidFilter(f"the filter has more than {MAX_NODES:,} nodes; {_WIDE}")


_WIDE = 'use "$in" for many values of one field, or split it into several calls'


def check_size(depth: int, nodes: int = 0) -> None:
    """Refuse a tree beyond the bounds."""
    if depth > MAX_DEPTH:
        raise InvalidFilter(f'the filter is nested deeper than {MAX_DEPTH} levels; "$and" and "$or" take long lists')
    if nodes > MAX_NODES:
        raise InvalidFilter(f"the filter has more than {MAX_NODES:,} nodes; {_WIDE}")


def split_path(name: str) -> tuple[str, ...]:
    r"""The segments of a dotted name; ``\.`` is a literal dot, ``\\`` a literal backslash."""
    if len(name) > MAX_NAME:
        raise InvalidFilter(f"a field name has {len(name):,} characters; the limit is {MAX_NAME:,}")
    if "\\" not in name:
        return tuple(name.split("."))
    segments: list[str] = []
    current: list[str] = []
    letters = iter(name)
    for letter in letters:
        if letter == "\\":
            escaped = next(letters, "")
            if escaped not in (".", "\\"):
                raise InvalidFilter(
                    f"{show(name)} holds a backslash that escapes nothing; "
                    r"write \\ for a literal backslash and \. for a literal dot (each backslash doubled in Python or JSON)"
                )
            current.append(escaped)
        elif letter == ".":
            segments.append("".join(current))
            current = []
        else:
            current.append(letter)
    return (*segments, "".join(current))


def check_path(segments: Iterable[object], budget: Budget) -> tuple[str, ...]:
    """A path whose root is a field of ROOTS and which goes below it only where JSON is. Raises InvalidFilter."""
    path: list[str] = []
    for segment in segments:
        if not isinstance(segment, str):
            hint = "; lists have no paths, use contains" if isinstance(segment, int) else ""
            raise InvalidFilter(f"a path segment must be a str, not {show(segment)}{hint}")
        if not segment:
            raise InvalidFilter(
                f"the path {show(dotted(path) + '.')} has an empty segment; write one dot between two names"
            )
        path.append(budget.text(segment, "a field name"))
        if len(path) > MAX_SEGMENTS:
            raise InvalidFilter(f"a path has more than {MAX_SEGMENTS} segments; no stored value is nested that deep")
    if not path:
        raise InvalidFilter('a path needs a field to start from, such as "kind" or "metadata.score"')
    root = path[0]
    if root not in ROOTS:
        raise InvalidFilter(_unknown_root(path), field=root)
    if len(path) > 1 and root not in JSON_ROOTS:
        hint = f'; for membership write {{"{root}": {{"$contains": ...}}}}' if root in ("tags", "namespace") else ""
        raise InvalidFilter(
            f"{show(dotted(path))}: nothing lies below {root!r}; paths go below content, metadata and source only{hint}",
            field=root,
        )
    return tuple(path)


def _unknown_root(path: list[str]) -> str:
    written = dotted(path)
    if path[0] == "embedding":
        return "embeddings cannot be filtered on; use search(vector=...)"
    name = path[0][:64].lower()
    near = [root for root in ROOTS if root.startswith(name)] or difflib.get_close_matches(name, ROOTS, n=1, cutoff=0.75)
    guesses = [repr(near[0])] if near else []
    guesses.append(show("metadata." + written))
    return f"there is no field {show(written)}. Did you mean {' or '.join(guesses)}? Fields: {', '.join(ROOTS)}"


def unknown_operator(written: str, known: Iterable[str]) -> InvalidFilter:
    """The error for a ``$`` name that is no operator (here), with the nearest one that is."""
    name = written[1:65]
    folded = name.lower()
    near = difflib.get_close_matches(folded, list(known), n=1, cutoff=0.5)
    guess = _HINTS.get(folded) or (f'"${near[0]}"' if near else None)
    return InvalidFilter(
        f"unknown operator {show(written)}." + (f" Did you mean {guess}?" if guess else "")
        + f" Operators here: {', '.join('$' + one for one in known)}",
        operator=name,
    )  # fmt: skip


def normal(value: object, budget: Budget, depth: int = 0) -> Any:
    """A private copy of an operand in plain JSON types (a tuple becomes a list) or a UTC datetime."""
    budget.value()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return budget.text(value, "a value")
    if isinstance(value, int):
        value = int.__int__(value)
        if not INT_MIN <= value <= INT_MAX:
            raise InvalidFilter(f"{show(value)} does not fit in 64 bits; such numbers are stored as strings")
        return value
    if isinstance(value, float):
        value = float.__float__(value)
        if not math.isfinite(value):
            raise InvalidFilter(f"{value!r} is not a JSON number; no stored value equals it or has an order with it")
        return value
    if isinstance(value, datetime):
        if depth:
            raise InvalidFilter("a datetime inside a list or object cannot match: JSON has no times; compare a string")
        moment = instant(value)
        if moment is None:
            raise InvalidFilter("a datetime needs a time zone: datetime(2026, 1, 31, tzinfo=UTC), datetime.now(UTC)")
        return moment
    if isinstance(value, list | tuple | dict):
        if depth >= MAX_JSON_DEPTH:
            raise InvalidFilter(f"a value is nested deeper than {MAX_JSON_DEPTH} levels; nothing stored is that deep")
        if not isinstance(value, dict):
            return [normal(part, budget, depth + 1) for part in value]
        copy: dict[str, Any] = {}
        for name, part in value.items():
            if not isinstance(name, str):
                raise InvalidFilter(f"an object has the key {show(name)}; JSON keys are str")
            copy[budget.text(name, "a key")] = normal(part, budget, depth + 1)
        return copy
    raise InvalidFilter(_no_value(value))


def _no_value(value: object) -> str:
    allowed = "write None, a bool, int, float, str, list, dict or an aware datetime"
    if isinstance(value, set | frozenset):
        return "a set has no order, so the filter's cursors would not survive a restart; write a list: sorted(...)"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"bytes are not a JSON value; {allowed}"
    if isinstance(value, date):
        return "a date is not a time; write datetime(year, month, day, tzinfo=UTC)"
    if type(value).__module__ == "memory.filters.builder":
        return f"a field or an expression cannot be an operand, only values can; {allowed}"
    if callable(value):
        return f"a function or class is not a value and is never called; {allowed}"
    return f"{show(value)} is not a JSON value; {allowed}"


def _as_time(root: str, value: Any) -> Any:
    """Strings compared with a time field are times, in ISO-8601; other types stay and are simply never equal."""
    if type(value) is not str:
        return value
    moment = None
    if _ISO.fullmatch(value):
        try:
            moment = instant(datetime.fromisoformat(value.upper()))
        except ValueError:
            moment = None
    if moment is None:
        raise InvalidFilter(
            f"{root} is a time: write an aware datetime or an ISO-8601 string with an offset, down to microseconds, "
            f'such as "2026-01-31T12:00:00Z", not {show(value)}',
            field=root,
        )
    return moment


def check_leaf(path: Iterable[object], op: object, value: object, budget: Budget) -> Compare:
    """A checked comparison with a private copy of its operand. Raises InvalidFilter."""
    budget.leaf()
    place = check_path(path, budget)
    root = place[0]
    if not isinstance(op, str) or op not in OPERATORS:
        raise unknown_operator("$" + op if isinstance(op, str) else f"${type(op).__name__}", OPERATORS)
    if op in ("in", "nin"):
        if not isinstance(value, list | tuple):
            extra = " " + _no_value(value) if isinstance(value, set | frozenset) else ""
            raise InvalidFilter(f'"${op}" takes a list of values, not {show(value)}.{extra}', operator=op)
        if len(value) > MAX_CHOICES:
            raise InvalidFilter(
                f'"${op}" has {len(value):,} values; the limit is {MAX_CHOICES:,}: split it into several calls',
                operator=op,
            )
        choices = [normal(part, budget) for part in value]
        if root in TIME_ROOTS:
            choices = [_as_time(root, part) for part in choices]
        return Compare(place, op, tuple(choices))
    if op == "exists":
        if not isinstance(value, bool):
            raise InvalidFilter(f'"$exists" takes True or False, not {show(value)}', operator=op)
        return Compare(place, op, value)
    operand = normal(value, budget)
    if op == "startswith" and type(operand) is not str:
        raise InvalidFilter(f'"$startswith" takes a str, not {show(value)}', operator=op)
    if root in TIME_ROOTS and (op in ("eq", "ne") or op in ORDERS):
        operand = _as_time(root, operand)
    return Compare(place, op, operand)
