"""What of a filter the index can say: the one head whose entries lead to all records that may satisfy it."""

from __future__ import annotations

from typing import Any, NamedTuple

from memory.backends.redis.entries import Fields, field_head, value_digits
from memory.filters import And, Compare, Filter
from memory.ops import Scope

_LETTERS = {"session_id": b"s", "user_id": b"u", "agent_id": b"r", "kind": b"k"}
_ORDER = (b"s", b"p", b"l", b"u", b"r", b"k")
"""Which heads are likely to lead to the fewest records, by their letters."""


class Lead(NamedTuple):
    """A head of the index. Every record that satisfies the filter has it."""

    head: bytes


def leading(scope: Scope, where: Filter | None, fields: Fields) -> Lead | None:
    """The head that leads, of a scope's owner and a filter's conditions; None when none does."""
    heads = [
        letter + name.encode()
        for letter, name in ((b"s", scope.session_id), (b"u", scope.user_id), (b"r", scope.agent_id))
        if name is not None
    ]
    parts = where.parts if isinstance(where, And) else () if where is None else (where,)
    for part in parts:
        if isinstance(part, Compare):
            head = _head(part, fields)
            if head is not None:
                heads.append(head)
    return Lead(min(heads, key=lambda head: _ORDER.index(head[:1]))) if heads else None


def _head(compare: Compare, fields: Fields) -> bytes | None:
    path, value = compare.path, compare.value
    name: Any = value
    if compare.op == "contains" and path == ("tags",):
        return b"l" + name.encode() if _is_name(value) else None
    if compare.op != "eq":
        return None
    if len(path) == 1 and path[0] in _LETTERS:
        return _LETTERS[path[0]] + name.encode() if _is_name(value) else None
    if path in fields:
        digits = value_digits(value)
        return None if digits is None else field_head(fields[path], digits)
    return None


def _is_name(value: object) -> bool:
    """Whether it can be a name: other values are left to the evaluator, which finds nothing."""
    return isinstance(value, str) and value != "" and "\0" not in value
