"""One answer of several: pages, counts, candidates and neighbours of members that hold different items."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from memory.codec import decode
from memory.model import key_order, path_bytes
from memory.ops import Around, Candidate, Matched, Order, Page, Row, Scan
from memory.search.text import Matcher
from memory.store.reads import position_of
from memory.store.slicing import Slicing

SortKey = tuple[bytes, bytes]


async def merged_page(store: Slicing, op: Scan, pages: Sequence[Page]) -> Page:
    """The first ``op.limit`` rows of all. Each page has as many, or all that its member has."""
    full = [page for page in pages if page.rows]
    if len(full) <= 1:
        return full[0] if full else Page([], exact=True, more=False)
    rows: list[tuple[Any, SortKey, Row]] = []
    sign = -1 if op.order.descending else 1
    for page in full:
        async for part in store._slices(page.rows):
            for row in part:
                item = decode(row, vector=False)
                value = position_of(item, row, op.order).value
                rows.append((0 if value is None else sign * value, key_order(item.key), row))
    if op.order == Order("key", descending=True):
        rows.sort(key=itemgetter(1), reverse=True)
    else:
        rows.sort(key=itemgetter(0, 1))
    more = len(rows) > op.limit or any(page.more for page in pages)
    return Page([row for _, _, row in rows[: op.limit]], all(page.exact for page in pages), more)


def merged_namespaces(found: Sequence[list[tuple[str, ...]]]) -> list[tuple[str, ...]]:
    """All namespaces, in order."""
    return sorted({namespace for part in found for namespace in part}, key=path_bytes)


def merged_matches(terms: tuple[str, ...], found: Sequence[Matched]) -> Matched:
    """The candidates by the rule of memory.search.text over all of them: each part has every candidate of its member."""
    matcher: Matcher[tuple[SortKey, int]] = Matcher(terms)
    rows: list[Candidate] = []
    for matched in found:
        for candidate in matched.candidates:
            key = key_order(decode(candidate.row, vector=False).key)
            occurrences = dict(zip(terms, candidate.counts, strict=True))
            matcher.feed([((key, len(rows)), candidate.row.created, occurrences, candidate.length)])
            rows.append(candidate)
    return Matched(matcher.df, [rows[one.key[1]] for one in matcher.candidates()])


def merged_sides(op: Around, found: Sequence[list[tuple[list[Row], list[Row]]]]) -> list[tuple[list[Row], list[Row]]]:
    """The nearest on either side of each anchor."""
    return [
        (_nearest([one[i][0] for one in found], op.n, reverse=True), _nearest([one[i][1] for one in found], op.n))
        for i in range(len(op.anchors))
    ]


def _nearest(parts: Sequence[list[Row]], n: int, *, reverse: bool = False) -> list[Row]:
    if sum(bool(part) for part in parts) <= 1:
        return next((part for part in parts if part), [])
    rows = [row for part in parts for row in part]
    return sorted(rows, key=lambda row: (row.created, decode(row, vector=False).id.encode()), reverse=reverse)[:n]
