"""From a filter tree to an engine's own predicate: as much as the engine can say, and whether that is all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeAlias, TypeVar

import msgspec

from memory.filters.tree import And, Compare, Filter, Not, Or, conjoin, disjoin

P = TypeVar("P")

Leaf: TypeAlias = Callable[[Compare, bool], tuple[P, bool] | None]
"""An engine's word for one comparison: (comparison, negated) -> (predicate, exact), or None when it has no word."""

_OPPOSITE = {"ne": "eq", "nin": "in"}


class Translated(msgspec.Struct, Generic[P], frozen=True):
    """What an engine can say of a filter.

    ``predicate`` selects at least every row that satisfies the filter; None selects every row. ``exact``: it selects
    no other row either. When not exact, each row still has to pass ``predicate(filter)`` of the reference evaluator.
    """

    predicate: P | None
    exact: bool


def nnf(tree: Filter) -> Filter:
    """The same meaning in negation normal form: Not only ever wraps a single Compare.

    Its comparisons use the positive operators only: ``ne`` becomes not-``eq``, ``nin`` not-``in``, ``exists False``
    not-``exists True``, so an engine has nine operators to say and one way to negate.
    """
    return _nnf(tree, negated=False)


def _nnf(tree: Filter, *, negated: bool) -> Filter:
    if isinstance(tree, Not):
        return _nnf(tree.part, negated=not negated)
    if isinstance(tree, Compare):
        if tree.op in _OPPOSITE:
            tree, negated = msgspec.structs.replace(tree, op=_OPPOSITE[tree.op]), not negated
        elif tree.op == "exists" and not tree.value:
            tree, negated = msgspec.structs.replace(tree, value=True), not negated
        return Not(tree) if negated else tree
    parts = [_nnf(part, negated=negated) for part in tree.parts]
    # De Morgan: the complement of an And is the Or of the complements, and the reverse.
    return conjoin(parts) if isinstance(tree, And) is not negated else disjoin(parts)


def translate(
    tree: Filter | None,
    leaf: Leaf[P],
    *,
    all_of: Callable[[list[P]], P],
    any_of: Callable[[list[P]], P],
) -> Translated[P]:
    """The filter in an engine's own predicates. Call it again with another ``leaf`` for another index or engine.

    ``leaf(compare, negated)`` says one comparison (operators as in ``nnf``) or, when ``negated``, its complement; it
    returns the predicate and whether it is exact, or None. Its predicate must select every row the comparison does:
    an inexact one may select more, never fewer. The complement of an inexact predicate would lose rows, so wrap a
    leaf that only knows the positive form with ``negating``. ``all_of`` and ``any_of`` get two or more predicates.

    An And drops parts without a predicate and is then inexact; an Or with such a part has no predicate at all.

    >>> from memory.filters import F, parse
    >>> def sql(compare, negated):
    ...     if compare.path == ("kind",) and compare.op == "eq" and compare.value is not None:
    ...         return ("kind <> ?" if negated else "kind = ?", [compare.value]), True
    >>> def joined(word):
    ...     return lambda parts: (f" {word} ".join(f"({text})" for text, _ in parts), sum((b for _, b in parts), []))
    >>> where = parse((F.kind == "note") & ~(F.kind == "skill") & (F.metadata.score >= 3))
    >>> translate(where, sql, all_of=joined("AND"), any_of=joined("OR"))
    Translated(predicate=('(kind = ?) AND (kind <> ?)', ['note', 'skill']), exact=False)
    """
    if tree is None:
        return Translated(None, exact=True)
    return _translate(nnf(tree), leaf, all_of, any_of)


def _translate(
    tree: Filter, leaf: Leaf[P], all_of: Callable[[list[P]], P], any_of: Callable[[list[P]], P]
) -> Translated[P]:
    if isinstance(tree, And | Or):
        done = [_translate(part, leaf, all_of, any_of) for part in tree.parts]
        known = [part.predicate for part in done if part.predicate is not None]
        if not known or (isinstance(tree, Or) and len(known) < len(done)):
            return Translated(None, exact=False)
        join = all_of if isinstance(tree, And) else any_of
        return Translated(known[0] if len(known) == 1 else join(known), exact=all(part.exact for part in done))
    said = leaf(tree.part, True) if isinstance(tree, Not) and isinstance(tree.part, Compare) else None
    if isinstance(tree, Compare):
        said = leaf(tree, False)
    return Translated(None, exact=False) if said is None else Translated(*said)


def negating(say: Callable[[Compare], tuple[P, bool] | None], complement: Callable[[P], P]) -> Leaf[P]:
    """A leaf made from one that says positive comparisons only: it negates exact predicates, and no others.

    ``complement`` must be two-valued: in SQL ``NOT coalesce(p, false)`` or ``(p) IS NOT TRUE``, never a bare NOT,
    which loses the rows where p is NULL.
    """

    def leaf(compare: Compare, negated: bool) -> tuple[P, bool] | None:
        said = say(compare)
        if said is None or not negated:
            return said
        positive, exact = said
        return (complement(positive), True) if exact else None

    return leaf
