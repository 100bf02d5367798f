"""What of a scope and a filter Firestore is asked for: equalities of what V1 has a field for, and of whose agent an item is.

A document that lacks a field is not found by it, so nothing is asked for that such a document could satisfy.
"""

from __future__ import annotations

from memory.backends.firestore import values
from memory.backends.firestore.filtering import conjuncts
from memory.backends.firestore.queries import Condition
from memory.backends.firestore.v1.natives import AGENTS, ITEMS, KIND, KIND_FIELD
from memory.filters import Compare, Filter
from memory.model import DEFAULT_NAMESPACE
from memory.ops import Scope

AGENT = "memory.agent"
"""The agent of an item that belongs to a user or a session too."""
_OWNERS = {
    "user_id": {ITEMS: "user_id"},
    "session_id": {ITEMS: "session_id"},
    "agent_id": {ITEMS: AGENT, AGENTS: "agent_id"},
}

Conditions = tuple[Condition, ...]


def narrow(scope: Scope, where: Filter | None) -> dict[str, Conditions]:
    """For each collection that may hold something, the conditions to ask it with. What comes back is a superset."""
    if not scope.covers_namespace(DEFAULT_NAMESPACE):
        return {}
    wanted: list[dict[str, Condition | None]] = []
    for field, value in (("user_id", scope.user_id), ("agent_id", scope.agent_id), ("session_id", scope.session_id)):
        if value is not None:
            wanted.append(_say(field, value))
    wanted += [
        _say(part.path[0], part.value)
        for part in conjuncts(where)
        if isinstance(part, Compare) and part.op == "eq" and len(part.path) == 1 and isinstance(part.value, str)
    ]
    asked: dict[str, Conditions] = {}
    for collection in (ITEMS, AGENTS):
        said = [one[collection] for one in wanted if collection in one]
        if None not in said:
            found = [one for one in said if one is not None]
            asked[collection] = tuple({(one.path, one.value.string_value): one for one in found}.values())
    return asked


def _say(field: str, value: str) -> dict[str, Condition | None]:
    """For a collection its condition; None: nothing in it can satisfy this. Left out: it cannot be asked."""
    if field == "kind" and value and value != KIND:
        return {name: Condition(path, "==", values.text(value)) for name, path in KIND_FIELD.items()}
    if field not in _OWNERS or not value:
        return {}
    paths = _OWNERS[field]
    return {
        name: Condition(paths[name], "==", values.text(value)) if name in paths else None for name in (ITEMS, AGENTS)
    }
