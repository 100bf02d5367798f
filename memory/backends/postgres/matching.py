"""Text candidates: the exact best by the score of `memory.search.text`, out of the GIN index over terms.

One statement finds the newest matches of each term, at most as many as the rule looks at, each with how often it holds
every term; the rule's own code then decides. Only the best are read whole.
"""

from __future__ import annotations

from typing import Any

from memory.backends.postgres.compiling import MARK, Sql, all_of, numbered
from memory.backends.postgres.conditions import visible
from memory.backends.postgres.scanning import Statement
from memory.ops import Match
from memory.search.text import CANDIDATES_PER_TERM

_OCCURRENCES = (
    "ARRAY(SELECT CASE WHEN p IS NULL THEN 0 ELSE coalesce(r.counts[p], 1) END FROM (SELECT array_position(r.terms, w) AS p, "
    "i FROM unnest(@::text[]) WITH ORDINALITY u(w, i)) q ORDER BY q.i)"
).replace("@", MARK)


def newest(op: Match) -> tuple[Statement, bool]:
    """The statement that finds (key, created, occurrences of each query term, length) of the candidates, and whether
    they all satisfy the filter."""
    parts, exact = visible(op.scope, op.now, op.where)
    condition = all_of(parts)
    terms = list(op.terms)
    if len(terms) == 1:
        listed = _list(condition, terms[0])
    else:
        every = [_list(condition, term) for term in terms]
        listed = Sql(" UNION ".join(f"({one.text})" for one in every), sum((one.params for one in every), ()))
    said = Sql(
        f"SELECT r.key, r.created, {_OCCURRENCES}, r.length FROM $records r WHERE r.key IN ({listed.text})",  # noqa: S608 - templates; all values bound
        (terms, *listed.params),
    )
    return (numbered(said), said.params), exact


def _list(condition: Sql, term: str) -> Sql:
    """The keys of the newest matches of one term."""
    return Sql(
        f"SELECT r.key FROM $records r WHERE r.terms @> ARRAY[{MARK}::text] AND {condition.text} "  # noqa: S608 - templates
        f"ORDER BY r.created DESC, r.key LIMIT {CANDIDATES_PER_TERM}",
        (term, *condition.params),
    )


def counted(terms: tuple[str, ...], occurrences: Any) -> dict[str, int]:
    """Term -> occurrences, of those that are there."""
    return {term: count for term, count in zip(terms, occurrences, strict=True) if count}
