"""What of a scope and a filter Firestore is asked for: equalities, and one membership of an array.

All else (ranges, ``ne``, nested or of metadata, ``or``) is left to the base, which evaluates it while paging: each such
comparison would need an index of its own, for metadata one that nobody can foresee.
"""

from __future__ import annotations

import msgspec

from memory.backends.firestore import values
from memory.backends.firestore.filtering import conjuncts
from memory.backends.firestore.queries import Condition
from memory.backends.firestore.v2 import paths
from memory.filters import Compare, Filter
from memory.keys import key_range
from memory.model import path_bytes
from memory.ops import Scope

_FIELDS: dict[tuple[str, ...], str] = {
    ("user_id",): paths.USER,
    ("agent_id",): paths.AGENT,
    ("session_id",): paths.SESSION,
    ("kind",): paths.KIND,
}


class Narrowed(msgspec.Struct, frozen=True):
    """What to ask for. ``exact``: nothing but what is in scope and satisfies the filter comes back, expired ones apart."""

    conditions: tuple[Condition, ...]
    exact: bool
    empty: bool = False
    """Nothing can lie in the scope."""


def narrow(scope: Scope, where: Filter | None, *, by_key: bool, arrays: bool = True) -> Narrowed:
    """The conditions for a scope and a filter.

    ``by_key``: namespaces as a range of keys, for a query in their order. ``arrays`` False: the one membership of an array
    that Firestore allows is taken.
    """
    if not scope.path and not scope.below:
        return Narrowed((), exact=True, empty=True)
    conditions = [*_namespaces(scope, by_key=by_key), *_owner(scope)]
    exact = True
    for part in conjuncts(where):
        said = _say(part)
        if said is None or (said.operator == "contains" and not arrays):
            exact = False
        else:
            conditions.append(said)
            arrays = arrays and said.operator != "contains"
    return Narrowed(tuple(_distinct(conditions)), exact)


def _distinct(conditions: list[Condition]) -> list[Condition]:
    """Each condition once: a view and a filter may ask for the same."""
    return list({(one.path, one.operator, one.value.SerializeToString()): one for one in conditions}.values())


def _namespaces(scope: Scope, *, by_key: bool) -> list[Condition]:
    if not scope.path:
        return []
    if not scope.below and not by_key:
        return [Condition(paths.PATH, "==", values.blob(path_bytes(scope.path)))]
    bounds = key_range(scope)
    assert bounds is not None
    return [
        Condition(paths.KEY, ">=", values.blob(bounds[0])),
        Condition(paths.KEY, "<", values.blob(bounds[1])),
    ]


def _owner(scope: Scope) -> list[Condition]:
    pinned = ((paths.USER, scope.user_id), (paths.AGENT, scope.agent_id), (paths.SESSION, scope.session_id))
    return [Condition(path, "==", values.text(value)) for path, value in pinned if value is not None]


def _say(part: Filter) -> Condition | None:
    if not isinstance(part, Compare):
        return None
    value = part.value
    if part.op == "eq" and part.path in _FIELDS and isinstance(value, str) and value:
        return Condition(_FIELDS[part.path], "==", values.text(value))
    if part.op == "contains" and part.path == ("tags",) and isinstance(value, str):
        return Condition(paths.TAGS, "contains", values.text(value))
    return None
