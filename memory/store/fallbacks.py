"""Correct slower answers for the optional hooks, built on ``_scan`` and ``_read`` alone."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from heapq import nsmallest
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING

import msgspec

from memory.codec import decode
from memory.errors import CorruptData, MemoryStoreError
from memory.filters import predicate
from memory.model import INT_MIN, Key, key_order
from memory.ops import (
    Around,
    Attach,
    Candidate,
    Count,
    Match,
    Matched,
    Nearest,
    Order,
    Position,
    Problem,
    Read,
    Row,
    Scan,
    Scope,
    Space,
    Write,
)
from memory.search.text import Found, Matcher, Scorer
from memory.store.embedding import mismatch
from memory.store.settle import apply_all
from memory.store.slicing import row_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from memory.model import MemoryItem
    from memory.store.base import MemoryStore

PAGE = 500
Pairs = list[tuple[Row, "MemoryItem"]]


async def _pages(store: MemoryStore, op: Scan) -> AsyncIterator[Pairs]:
    """All rows with their items, a page at a time, in key order."""
    after: Position | None = None
    while True:
        pairs = await store._filled(Scan(now=op.now, scope=op.scope, where=op.where, after=after, limit=PAGE))
        yield pairs
        if len(pairs) < PAGE:
            return
        after = Position(*pairs[-1][1].key)


async def namespaces(store: MemoryStore, op: Count) -> list[tuple[str, ...]]:
    """Namespaces met in a scan, in key order."""
    found: dict[tuple[str, ...], None] = {}
    async for pairs in _pages(store, Scan(now=op.now, scope=op.scope, where=op.where)):
        found.update(dict.fromkeys(item.namespace for _, item in pairs))
    return list(found)


async def match(store: MemoryStore, op: Match) -> Matched:
    """Analyses every live item in scope; the rule itself is memory.search.text.Matcher."""
    matcher: Matcher[tuple[bytes, bytes]] = Matcher(op.terms)
    async for pairs in _pages(store, Scan(now=op.now, scope=op.scope, where=op.where)):
        async for batch in store._slices(pairs):
            for row, item in batch:
                occurrences, length = await store._counts(item.searchable)
                matcher.feed([(key_order(item.key), row.created, occurrences, length)])
    return await best_candidates(store, op, matcher.df, matcher.candidates())


async def nearest(store: MemoryStore, op: Nearest) -> list[Row]:
    """Scores every vector in scope."""
    from memory.search.vectors import cosines, matrix

    space = store._space
    if space is None:
        return []
    if not space.admits(op.embedder, len(op.vector) // 4):
        raise mismatch(space, op.embedder, len(op.vector) // 4)
    best: list[tuple[float, tuple[bytes, bytes], Row]] = []
    async for pairs in _pages(store, Scan(now=op.now, scope=op.scope, where=op.where)):
        held = [(row, item, row.embedding) for row, item in pairs if row.embedding is not None]
        async for part in store._slices(held):
            scores = cosines(op.vector, matrix([raw for _, _, raw in part], space.dimension)).tolist()
            fresh = [(-score, key_order(item.key), row) for score, (row, item, _) in zip(scores, part, strict=True)]
            best = nsmallest(op.limit, chain(best, fresh), key=itemgetter(0, 1))
    return [row for _, _, row in best]


async def unattached(store: MemoryStore, space: Space, after: Key | None, limit: int) -> list[Row]:
    """Live rows without a vector, for a store whose vectors lie in this space."""
    found: list[Row] = []
    position = None if after is None else Position(*after)
    while len(found) < limit:
        pairs = await store._filled(Scan(now=store._clock(), after=position, limit=PAGE))
        found += [row for row, _ in pairs if row.embedding is None]
        if len(pairs) < PAGE:
            break
        position = Position(*pairs[-1][1].key)
    return found[:limit]


async def attach(store: MemoryStore, space: Space, ops: Sequence[Attach]) -> int:
    """Writes each row again with its vector and with the stamp it had, but for a new version."""
    now = store._clock()
    rows = await store._do_read(Read(keys=tuple(op.key for op in ops), now=now))
    puts: list[Write] = []
    for op, row in zip(ops, rows, strict=True):
        if row is not None and row.version == op.version:
            item = decode(msgspec.structs.replace(row, embedding=op.embedding))
            put = store._privileged(store, item, space.embedder)
            puts.append(msgspec.structs.replace(put, expect=op.version))
    return sum(not isinstance(outcome, MemoryStoreError) for outcome in await apply_all(store, puts))


async def best_candidates(
    store: MemoryStore, op: Match, df: tuple[int, ...], found: list[Found[tuple[bytes, bytes]]]
) -> Matched:
    """Of all candidates the best ``op.limit`` by score, ties by key, with their rows."""
    scorer = Scorer(op.terms, df)
    scored: list[tuple[float, tuple[bytes, bytes], Found[tuple[bytes, bytes]]]] = []
    async for batch in store._slices(found):
        scored += [(-scorer.score(f.counts, f.length), f.key, f) for f in batch]
    scored.sort()
    accept = None if op.where is None else predicate(op.where)
    candidates: list[Candidate] = []
    while scored and len(candidates) < op.limit:
        # What was deleted or changed since it was counted makes room for those that follow.
        wanted = op.limit - len(candidates)
        best, scored = [f for _, _, f in scored[:wanted]], scored[wanted:]
        rows = await store._do_read(Read(keys=tuple(key_of(f.key) for f in best), now=op.now, scope=op.scope))
        candidates += [
            Candidate(row, f.counts, f.length)
            for f, row in zip(best, rows, strict=True)
            if row is not None and (accept is None or accept(decode(row, vector=False)))
        ]
    return Matched(df, candidates)


def key_of(sort_key: tuple[bytes, bytes]) -> Key:
    """The inverse of memory.model.key_order."""
    return (tuple(sort_key[0].decode().split("\0")), sort_key[1].decode())


async def around(store: MemoryStore, op: Around) -> list[tuple[list[Row], list[Row]]]:
    """Reads each anchor's namespace and session in order of creation."""
    lines: dict[tuple[tuple[str, ...], str | None], list[tuple[int, bytes, Row]]] = {}
    for key, session, _ in op.anchors:
        if (key[0], session) not in lines:
            lines[key[0], session] = await _line(store, op, key[0], session)
    sides: list[tuple[list[Row], list[Row]]] = []
    for (namespace, id), session, created in op.anchors:
        line, place = lines[namespace, session], (created, id.encode())
        start, end = (cut(line, place, key=itemgetter(0, 1)) for cut in (bisect_left, bisect_right))
        before, after = line[max(0, start - op.n) : start], line[end : end + op.n]
        sides.append(([row for _, _, row in reversed(before)], [row for _, _, row in after]))
    return sides


async def _line(
    store: MemoryStore, op: Around, namespace: tuple[str, ...], session: str | None
) -> list[tuple[int, bytes, Row]]:
    held = op.scope
    scope = Scope(namespace, False, held.user_id, held.agent_id, held.session_id if session is None else session)
    line: list[tuple[int, bytes, Row]] = []
    after: Position | None = None
    while True:
        scan = Scan(now=op.now, scope=scope, order=Order("created_at"), after=after, limit=PAGE)
        pairs = await store._filled(scan)
        line += [(row.created, item.id.encode(), row) for row, item in pairs if item.session_id == session]
        if len(pairs) < PAGE:
            return line
        row, item = pairs[-1]
        after = Position(item.namespace, item.id, row.created)


async def verify(store: MemoryStore) -> tuple[int, list[Problem]]:
    """Decodes every record, expired ones too, as long as they are stored."""
    checked, problems = 0, []
    after: Position | None = None
    while True:
        page = await store._scan(Scan(now=INT_MIN, after=after, limit=PAGE))
        async for batch in store._slices(page.rows, weigh=row_bytes):
            for row in batch:
                checked += 1
                try:
                    item = decode(row)
                except CorruptData as error:
                    problems.append(Problem("damaged record", detail=str(error)))
                    continue
                after = Position(item.namespace, item.id)
        if not page.more:
            return checked, problems
