"""Text candidates: the exact best by the score of `memory.search.text`, out of the postings and few records.

A posting holds when its item was made, its key and owner, how often it has the term, and the text's length, so scores
are computed before a record is read. A term with more items than the rule looks at (1,000) weighs next to nothing; how
often it occurs in an item that is not among its newest is read from the record, and only where it can matter (the idea of
MaxScore: Turtle and Flood 1995).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from memory.backends.redis.entries import counts_of
from memory.backends.redis.reading import fetch, row_of, unpack_texts
from memory.backends.redis.records import name_bytes
from memory.backends.redis.scanning import tags_in
from memory.backends.redis.scripts import POSTINGS
from memory.backends.redis.surviving import Survivors
from memory.keys import SEPARATOR
from memory.model import path_bytes
from memory.ops import Candidate, Match, Matched
from memory.search.text import CANDIDATES_PER_TERM, Scorer, upper_bound
from memory.store.together import all_of

if TYPE_CHECKING:
    from memory.backends.redis.backend import RedisStore

SLACK = 1e-9
"""A bound is a sum in another order than the score it bounds."""
LOOKED_AT = 4_000
"""Postings that one call of the script looks at: about a millisecond and a half."""
Listing = list[tuple[bytes, int, int, bytes]]
"""Postings of a term, the newest first: inverted time and key, how often, length of the text, tag."""


async def match(store: RedisStore, op: Match) -> Matched:
    """See MemoryStore._match."""
    await store.numpy_ready()
    if op.scope.path == () and not op.scope.below:
        return Matched((0,) * len(op.terms), [])
    tags = await tags_in(store, op.scope)
    survivors = Survivors(store, op.scope, op.where, op.now)
    lists: list[Listing] = [[] for _ in op.terms]

    asked = [(place, tag) for place in range(len(op.terms)) for tag in tags]
    # Only asking is done side by side: many tasks that compute would hold the loop together.
    first = await all_of(
        [_ask(store, op, op.terms[place].encode(), tag, b"", CANDIDATES_PER_TERM) for place, tag in asked]
    )
    for (place, tag), found in zip(asked, first, strict=True):
        lists[place] += await _postings(store, op, op.terms[place].encode(), tag, survivors, found)
    if len(tags) > 1:
        for listing in lists:
            listing.sort()
            del listing[CANDIDATES_PER_TERM:]
    return await _Search(store, op, lists, survivors).run()


async def _ask(store: RedisStore, op: Match, term: bytes, tag: bytes, after: bytes, wanted: int) -> bytes:
    scope = op.scope
    prefix = b"" if not scope.path else path_bytes(scope.path) + (b"\0" if scope.below else SEPARATOR)
    pins = [name_bytes(name) for name in (scope.user_id, scope.agent_id, scope.session_id)]
    blob: bytes = await store.servers.run(
        POSTINGS, [store.names.terms(tag)], term, after, prefix, wanted, LOOKED_AT, *pins
    )
    return blob


async def _postings(
    store: RedisStore, op: Match, term: bytes, tag: bytes, survivors: Survivors, blob: bytes
) -> Listing:
    """The newest postings of a term in one tag that are in scope, live and satisfy the filter. ``blob``: the first
    of them that are in scope, as they were read."""
    found: Listing = []
    while True:
        start = 4 + int.from_bytes(blob[:4], "big")
        after = blob[4:start]
        fresh: Listing = []
        async for part in store.slices(unpack_texts(blob, start)):
            for posting in part:
                newest, times, length, *_ = posting.rsplit(b"\0", 5)
                fresh.append((newest, int(times), int(length), tag))
        passing = await survivors.among(tag, [newest[18:] for newest, *_ in fresh])
        found += fresh if passing is None else [one for one in fresh if one[0][18:] in passing]
        if not after or len(found) >= CANDIDATES_PER_TERM:
            return found
        blob = await _ask(store, op, term, tag, after, CANDIDATES_PER_TERM - len(found))


class _Search:
    """The scores of one search."""

    def __init__(self, store: RedisStore, op: Match, lists: list[Listing], survivors: Survivors) -> None:
        import numpy as np

        self.np: Any = np
        self.store, self.op, self.lists, self.survivors = store, op, lists, survivors
        self.df = tuple(len(listing) for listing in lists)
        self.scorer = Scorer(op.terms, self.df)
        self.capped = [i for i, n in enumerate(self.df) if n >= CANDIDATES_PER_TERM]

    async def run(self) -> Matched:
        np, op = self.np, self.op
        items: dict[bytes, int] = {}
        tags: list[bytes] = []
        lengths: list[int] = []
        places: list[list[int]] = []
        for listing in self.lists:
            mine: list[int] = []
            async for part in self.store.slices(listing):
                for newest, _, length, tag in part:
                    place = items.get(newest)
                    if place is None:
                        place = items[newest] = len(lengths)
                        lengths.append(length)
                        tags.append(tag)
                    mine.append(place)
            places.append(mine)
        if not items:
            return Matched(self.df, [])
        counts = np.zeros((len(op.terms), len(items)), dtype=np.int64)
        for i, mine in enumerate(places):
            counts[i, mine] = [times for _, times, _, _ in self.lists[i]]
        scores = self._scores(counts, np.array(lengths))
        bounds = scores
        for i in self.capped:
            bounds = bounds + np.where(counts[i] == 0, upper_bound(self.scorer.weights[i]) + SLACK, 0.0)
        keys = list(items)
        return await self._best(keys, tags, lengths, counts, scores, bounds)

    def _scores(self, counts: Any, lengths: Any) -> Any:
        """Scorer.score over arrays: the same operations in the same order, so the same bits."""
        np = self.np
        norm = 1.2 * (0.25 + 0.75 * lengths / 32)
        total = np.zeros(len(lengths))
        for i in self.scorer.rarest_first:
            tf = counts[i]
            if tf.any():
                total += np.where(tf > 0, self.scorer.weights[i] * tf * 2.2 / (tf + norm), 0.0)
        return total

    async def _best(
        self, keys: list[bytes], tags: list[bytes], lengths: list[int], counts: Any, scores: Any, bounds: Any
    ) -> Matched:
        """Read records until the best are known: in the order of what each can score at most."""
        np, op = self.np, self.op
        order = np.argsort(-bounds, kind="stable").tolist()
        found: list[tuple[float, bytes, Candidate]] = []
        step, at = op.limit + 8, 0
        while at < len(order):
            if len(found) >= op.limit:
                found.sort(key=_rank)
                del found[op.limit :]
                if bounds[order[at]] < -found[-1][0]:
                    break
            some, at = order[at : at + step], at + step
            found += await self._read(some, keys, tags, lengths, counts)
        found.sort(key=_rank)
        return Matched(self.df, [candidate for _, _, candidate in found[: op.limit]])

    async def _read(
        self, places: list[int], keys: list[bytes], tags: list[bytes], lengths: list[int], counts: Any
    ) -> list[tuple[float, bytes, Candidate]]:
        op, store = self.op, self.store
        wanted = "hb" + ("v" if op.vectors else "") + ("e" if self.capped else "")
        by_tag: dict[bytes, list[int]] = {}
        for place in places:
            by_tag.setdefault(tags[place], []).append(place)
        found: list[tuple[float, bytes, Candidate]] = []
        for tag, some in by_tag.items():
            records = await fetch(store, tag, [keys[place][18:] for place in some], wanted)
            async for part in store.slices(list(zip(some, records, strict=True))):
                for place, record in part:
                    if record is None or not record.live(op.scope, op.now):
                        continue
                    row = row_of(store, record)
                    if not self.survivors.accepts(row):
                        continue
                    held = counts[:, place].tolist()
                    if any(not held[i] for i in self.capped):
                        stored = counts_of(record.heads or b"")
                        for i in self.capped:
                            held[i] = stored.get(op.terms[i], 0)
                    score = self.scorer.score(held, lengths[place])
                    found.append((-score, record.key, Candidate(row, tuple(held), lengths[place])))
        return found


def _rank(entry: tuple[float, bytes, Candidate]) -> tuple[float, bytes]:
    return entry[:2]
