"""Routes: which member an item belongs to, said by rules that are tried in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from memory.backends.composite.members import Member
from memory.clock import to_micros
from memory.errors import InvalidSetting
from memory.filters import Filter, fields, parse, predicate
from memory.model import Key, MemoryItem, check_name, check_namespace
from memory.ops import Scope

if TYPE_CHECKING:
    from memory.filters import Where
    from memory.store import MemoryStore

BY_KEY = ("namespace", "under")
STAMPED = {"created_at", "updated_at", "accessed_at", "expires_at", "access_count", "version"}


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """When an item leaves its route for the next one whose rule it meets: as soon as one of these holds.

    ``importance`` is at least this, it was accessed so many times, or it is so many seconds old.
    """

    importance: float | None = None
    accesses: int | None = None
    age: float | None = None

    def holds(self, item: MemoryItem, now: int) -> bool:
        """Whether a stored item is to be promoted."""
        return (
            (self.importance is not None and item.importance >= self.importance)
            or (self.accesses is not None and item.access_count >= self.accesses)
            or (self.age is not None and now - to_micros(item.created_at) >= self.age * 1e6)
        )


class Route:
    """A store and the rule of the items that belong into it; without a rule, all that are left.

    ``namespace`` (exactly this), ``under`` (it and everything below), ``kind``, ``tag``, ``larger_than`` (bytes of the encoded
    record), ``holds`` ("vectors" or "text": items with a vector, or without), ``where`` (a filter of what the caller says of
    an item): all that are given have to hold. ``order``: routes whose rules overlap are tried by it, the lowest first.
    ``promote``: see Promotion. Raises InvalidSetting, InvalidFilter, InvalidItem.
    """

    def __init__(
        self,
        store: MemoryStore,
        *,
        namespace: str | tuple[str, ...] | None = None,
        under: str | tuple[str, ...] | None = None,
        kind: str | None = None,
        tag: str | None = None,
        larger_than: int | None = None,
        holds: Literal["vectors", "text"] | None = None,
        where: Where = None,
        order: int | None = None,
        promote: Promotion | None = None,
    ) -> None:
        if holds not in (None, "vectors", "text"):
            raise InvalidSetting(f'holds must be "vectors" or "text", not {holds!r}', setting="holds")
        stamped = sorted({path[0] for path in fields(parse(where))} & STAMPED)
        if stamped:
            raise InvalidSetting(
                f"a route's filter asks for what the caller says of an item, not for {', '.join(stamped)}",
                setting="where",
            )
        self.store, self.order, self.promote = store, order, promote
        self.name = ""
        self.member: Member
        self.rule: dict[str, Any] = {
            "namespace": None if namespace is None else check_namespace(namespace),
            "under": None if under is None else check_namespace(under, "under"),
            "kind": None if kind is None else check_name(kind, "kind"),
            "tag": None if tag is None else check_name(tag, "tag"),
            "larger_than": larger_than,
            "holds": holds,
            "where": parse(where),
        }
        self.rule = {name: value for name, value in self.rule.items() if value is not None}
        self._namespace, self._under = self.rule.get("namespace"), self.rule.get("under")
        self._accept = predicate(self.rule["where"]) if "where" in self.rule else None

    @property
    def by_key(self) -> bool:
        """Whether the key alone says if an item belongs here."""
        return self.promote is None and all(name in BY_KEY for name in self.rule)

    def takes_key(self, key: Key) -> bool:
        """Whether an item of this key may belong here."""
        path, under = key[0], self._under
        if under is not None and path[: len(under)] != under:
            return False
        return self._namespace is None or path == self._namespace

    def takes(self, item: MemoryItem, size: int) -> bool:
        """Whether an item of this many bytes belongs here."""
        rule = self.rule
        return (
            self.takes_key(item.key)
            and rule.get("kind", item.kind) == item.kind
            and ("tag" not in rule or rule["tag"] in item.tags)
            and size > rule.get("larger_than", -1)
            and ("holds" not in rule or (rule["holds"] == "vectors") == (item.embedding is not None))
            and (self._accept is None or self._accept(item))
        )

    def may_hold(self, scope: Scope) -> bool:
        """Whether items in this scope may lie here, by their namespaces."""
        path = self.rule.get("namespace", self.rule.get("under"))
        if path is None or scope.covers_namespace(path):
            return True
        return scope.path[: len(path)] == path and ("under" in self.rule or scope.path == path)

    def said(self) -> str:
        """The rule in words."""
        if not self.rule:
            return "everything else"
        shown = {"where": "a filter", "namespace": None, "under": None}
        return " and ".join(
            f"{name} {'/'.join(value) if name in BY_KEY else shown.get(name, value)}"
            for name, value in self.rule.items()
        )


def in_order(routes: Mapping[str, Route]) -> list[Route]:
    """The routes as they are tried, named; the one without a rule is the last.

    Raises InvalidSetting where an item could belong nowhere, or to two routes of which none comes first.
    """
    for name, route in routes.items():
        route.name = name
    rest = [route for route in routes.values() if not route.rule and route.promote is None]
    if len(rest) != 1:
        raise InvalidSetting(
            "exactly one route must have no rule, for everything that is left; "
            + (f"these have none: {', '.join(route.name for route in rest)}" if rest else "every route has one"),
            setting="routes",
        )
    ruled = [route for route in routes.values() if route is not rest[0]]
    for i, one in enumerate(ruled):
        for other in ruled[i + 1 :]:
            if not disjoint(one, other) and (one.order is None or other.order is None or one.order == other.order):
                raise InvalidSetting(
                    f"an item may belong to the route {one.name!r} ({one.said()}) and to {other.name!r} ({other.said()}); "
                    "say which comes first: give each an order",
                    setting=f"routes.{other.name}.order",
                )
    return [*sorted(ruled, key=lambda route: route.order or 0), rest[0]]


def disjoint(one: Route, other: Route) -> bool:
    """Whether it is certain that no item belongs to both."""
    a, b = one.rule, other.rule
    for name in ("kind", "namespace", "holds"):
        if name in a and name in b and a[name] != b[name]:
            return True
    if "under" in a and "under" in b and not (_below(a["under"], b["under"]) or _below(b["under"], a["under"])):
        return True
    return any(
        "namespace" in left and "under" in right and not _below(left["namespace"], right["under"])
        for left, right in ((a, b), (b, a))
    )


def _below(path: Sequence[str], top: Sequence[str]) -> bool:
    return tuple(path[: len(top)]) == tuple(top)


def by_capability(stores: Mapping[str, MemoryStore]) -> dict[str, Route]:
    """Routes by what the stores declare: items with a vector go to the first that has an index of vectors (a ``recall`` below
    1), the others to the first that indexes terms and is not that one. Raises InvalidSetting where one is missing or left over."""
    vectors = next((name for name, store in stores.items() if store.capabilities.recall < 1.0), None)
    text = next((name for name, store in stores.items() if store.capabilities.indexes_terms and name != vectors), None)
    if vectors is None or text is None:
        what = "has an index of vectors" if vectors is None else "indexes terms"
        raise InvalidSetting(f"none of {', '.join(stores)} declares that it {what}; say the rules", setting="routes")
    over = [name for name in stores if name not in (vectors, text)]
    if over:
        raise InvalidSetting(
            f"{vectors} takes what has a vector and {text} the rest; leave out {', '.join(over)}, or say the rules",
            setting="routes",
        )
    return {vectors: Route(stores[vectors], holds="vectors"), text: Route(stores[text])}


def names_version(where: Filter | None) -> bool:
    """Whether a filter asks for versions, which a member that holds copies or moved records issues differently."""
    return any(path[0] == "version" for path in fields(where))
