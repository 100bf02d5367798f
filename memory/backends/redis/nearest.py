"""The nearest vectors: rough scores pick whatever can be among the best, records decide."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nsmallest
from typing import TYPE_CHECKING

from memory.backends.redis.filtering import leading
from memory.backends.redis.keys import bounds, split_record
from memory.backends.redis.reading import Found, fetch, row_of
from memory.backends.redis.scanning import PAGE, Cursor, tags_in
from memory.backends.redis.surviving import FEW, Survivors
from memory.backends.redis.vectorcache import TagVectors
from memory.keys import SEPARATOR
from memory.model import path_bytes
from memory.ops import Nearest, Row
from memory.store.embedding import mismatch

if TYPE_CHECKING:
    from memory.backends.redis.backend import RedisStore

MOST_CANDIDATES = 5_000
"""More the query engine is not asked for: then every vector in scope is looked at."""
Best = list[tuple[float, bytes, Row]]
"""(minus cosine, key, row)."""


class SpaceChangedError(Exception):
    """The store changed its space while a search was under way."""


async def nearest(store: RedisStore, op: Nearest) -> list[Row]:
    """See MemoryStore._nearest."""
    while True:
        number = await store.spaces.refresh()
        space = store._space
        if space is None or number == b"0000" or (op.scope.path == () and not op.scope.below):
            return []
        if not space.admits(op.embedder, len(op.vector) // 4):
            raise mismatch(space, op.embedder, len(op.vector) // 4)
        try:
            return await _nearest(store, op, number)
        except SpaceChangedError:
            continue


async def _nearest(store: RedisStore, op: Nearest, number: bytes) -> list[Row]:
    best: Best = []
    if store.has_engine and not op.exact and await _are_many(store, op, number):
        found = await _by_engine(store, op, number)
        if found is not None:
            return [row for _, _, row in found]
    for tag in await tags_in(store, op.scope):
        survivors = Survivors(store, op.scope, op.where, op.now)
        held = await store.cache.of(store, tag, number, len(op.vector) // 4)
        fresh = await (
            _streamed(store, op, tag, number, survivors)
            if held is None
            else _from_cache(store, op, tag, held, survivors)
        )
        best = nsmallest(op.limit, [*best, *fresh], key=_rank)
    return [row for _, _, row in best]


async def _are_many(store: RedisStore, op: Nearest, number: bytes) -> bool:
    """Whether more vectors than are looked through one by one may satisfy scope and filter."""
    lead, total = leading(op.scope, op.where, store.leads), 0
    first, end = bounds(op.scope)
    head = b"v" + number if lead is None else lead.head + b"\0"
    for tag in await tags_in(store, op.scope):
        name = store.names.index(tag)
        total += await store.servers.call(name, "ZLEXCOUNT", name, b"[" + head + first, b"(" + head + end)
        if total > store.engine_above:
            return await store.engine.ready(number, len(op.vector) // 4)
    return False


async def _by_engine(store: RedisStore, op: Nearest, number: bytes) -> Best | None:
    """Candidates of the query engine, more of them until enough pass; None when it fails, or too few do."""
    survivors = Survivors(store, op.scope, op.where, op.now)
    seen: set[bytes] = set()
    best: Best = []
    count = op.limit + 16
    while count <= MOST_CANDIDATES:
        names = await store.engine.nearest(number, op.scope, op.vector, count)
        if names is None:
            return None
        by_tag: dict[bytes, list[bytes]] = {}
        for name in names:
            tag, key = split_record(name)
            if name not in seen and key:
                by_tag.setdefault(tag, []).append(key)
        seen.update(names)
        for tag, keys in by_tag.items():
            records = [one for one in await fetch(store, tag, keys, "hbv") if one is not None and _lies_within(one, op)]
            best += await _measured(store, op, records, number, survivors)
        if len(best) >= op.limit or len(names) < count:
            return nsmallest(op.limit, best, key=_rank)
        count *= 4
    return None


def _lies_within(one: Found, op: Nearest) -> bool:
    first, end = bounds(op.scope)
    return first <= one.key < end


def _rank(entry: tuple[float, bytes, Row]) -> tuple[float, bytes]:
    return entry[:2]


async def _measured(
    store: RedisStore, op: Nearest, records: Sequence[Found | None], number: bytes, survivors: Survivors
) -> Best:
    """The cosines of those that have a vector, are live, in scope, and satisfy the filter."""
    from memory.search.vectors import cosines, matrix

    found: Best = []
    async for part in store.slices(records):
        rows: list[tuple[bytes, Row]] = []
        for one in part:
            if one is None or not one.live(op.scope, op.now):
                continue
            if one.number != number:
                raise SpaceChangedError
            if one.vector is not None:
                row = row_of(store, one)
                if survivors.accepts(row):
                    rows.append((one.key, row))
        if rows:
            scores = cosines(op.vector, matrix([row.embedding or b"" for _, row in rows], len(op.vector) // 4)).tolist()
            found += [(-score, key, row) for score, (key, row) in zip(scores, rows, strict=True)]
    return found


async def _from_cache(store: RedisStore, op: Nearest, tag: bytes, held: TagVectors, survivors: Survivors) -> Best:
    import numpy as np

    from memory.search.vectors import slack, unit

    scores = await held.scores(unit(op.vector))
    places = await _places(store, op, tag, held, survivors)
    if places is not None:
        scores = scores[places]
    margin = 2 * slack(len(op.vector) // 4)
    order = np.argsort(-scores, kind="stable")
    found: Best = []
    least: list[float] = []
    at, step = 0, op.limit + 8
    while at < len(order):
        if len(least) >= op.limit:
            least = sorted(least, reverse=True)[: op.limit]
            if scores[order[at]] < least[-1] - margin:
                break
        some, at, step = order[at : at + step].tolist(), at + step, min(PAGE, step * 2)
        keys = [held.keys[place if places is None else places[place]] for place in some]
        records = await fetch(store, tag, keys, "hbv")
        held.gone.update(key for key, one in zip(keys, records, strict=True) if one is None or one.vector is None)
        fresh = await _measured(store, op, records, held.number, survivors)
        found += fresh
        least += [-score for score, _, _ in fresh]
    return nsmallest(op.limit, found, key=_rank)


async def _places(
    store: RedisStore, op: Nearest, tag: bytes, held: TagVectors, survivors: Survivors
) -> list[int] | None:
    """The places that scope and filter leave, as far as an index tells; None: all."""
    lead = leading(op.scope, op.where, store.leads)
    first, end = bounds(op.scope)
    if lead is not None:
        head, name = lead.head + b"\0", store.names.index(tag)
        cursor = Cursor(store, tag, name, b"[" + head + first, b"(" + head + end, strip=len(head))
        while not cursor.done and len(cursor.entries) < FEW:
            await cursor.more(1_000)
        if cursor.done:
            return [held.places[key] for entry in cursor.take() if (key := cursor.key(entry)) in held.places]
    if len(op.scope.path) > 1 or not op.scope.below:
        prefix = path_bytes(op.scope.path) + (b"\0" if op.scope.below else SEPARATOR)
        places: list[int] = []
        async for part in store.slices(range(len(held.keys))):
            places += [place for place in part if held.keys[place].startswith(prefix)]
        return places
    return None


async def _streamed(store: RedisStore, op: Nearest, tag: bytes, number: bytes, survivors: Survivors) -> Best:
    """Every vector in scope, a page at a time: for a tag that is too large to be held."""
    lead = leading(op.scope, op.where, store.leads)
    head = b"v" + number if lead is None else lead.head + b"\0"
    first, end = bounds(op.scope)
    cursor = Cursor(store, tag, store.names.index(tag), b"[" + head + first, b"(" + head + end, strip=len(head))
    best: Best = []
    while not cursor.done:
        await cursor.more(PAGE)
        keys = [cursor.key(entry) for entry in cursor.take()]
        records = await fetch(store, tag, keys, "hbv")
        best = nsmallest(op.limit, [*best, *await _measured(store, op, records, number, survivors)], key=_rank)
    return best
