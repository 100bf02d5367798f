"""``in_memory``: everything in this process, gone when it closes. The reference the other backends are held to."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from heapq import nsmallest
from itertools import chain, islice
from operator import attrgetter, itemgetter
from typing import Any, ClassVar

import msgspec
from sortedcontainers import SortedDict

from memory.backends.in_memory.terms import Record, SortKey, TermIndex
from memory.backends.in_memory.vectors import VectorIndex, Vectors
from memory.filters import Filter, predicate
from memory.model import key_order, path_bytes
from memory.ops import (
    WHOLE,
    Around,
    Count,
    Event,
    Events,
    FeedRead,
    Match,
    Matched,
    Order,
    Owner,
    Page,
    Put,
    Read,
    Remove,
    Result,
    Row,
    Scan,
    Scope,
    Space,
    Status,
    Touch,
    Write,
    counted,
    refusal,
)
from memory.search.text import Matcher
from memory.store import Capabilities
from memory.store.embedding import mismatch
from memory.store.fallbacks import best_candidates, key_of
from memory.store.types import Durability

STEP = 64
GRAVE_MICROS = 86_400_000_000


class InMemoryStore(Vectors):
    """Records in a dict sorted by key; writes are single steps of the event loop. Terms are indexed at a search."""

    name = "in_memory"
    capabilities: ClassVar[Capabilities] = Capabilities(
        persistent=False, shared=False, atomic_batches=True, feed=True, indexes_terms=False, reembeds=True
    )

    searches_at_once: ClassVar[int] = 1

    @property
    def durability(self) -> Durability:
        """Nothing survives."""
        return "none"

    async def _open(self) -> None:
        self._records: Any = SortedDict()  # SortKey -> Record; the library has no types
        self._graves: dict[SortKey, tuple[int, bytes, int]] = {}
        self._digests: dict[bytes, dict[SortKey, None]] = {}
        self._events: list[Event] = []
        self._last_event = 0
        self._version = 0
        self._terms = TermIndex()
        self._vectors = VectorIndex()
        self._space = None
        self._aside, self._aside_space, self._changed = {}, None, None

    async def _close(self) -> None:
        if not hasattr(self, "_terms"):
            return
        # A step at a time: to free a hundred thousand records at once would hold the loop.
        terms = (self._terms.counted, self._terms.numbers, self._terms.holding)
        vectors = (self._vectors.places, self._vectors.held, self._vectors.stale, self._aside)
        for held in (self._records, self._graves, self._digests, *terms, *vectors):
            while held:
                for _ in range(min(STEP, len(held))):
                    held.pop() if isinstance(held, set) else held.popitem()
                await asyncio.sleep(0)
        self._events.clear()

    def _check_open(self) -> None:
        """Raises Closed in an operation that was under way when the store closed: no partial answers."""
        if self._loop is None:
            self._refuse()

    # --- writing -------------------------------------------------------------------------------

    async def _write(self, ops: Sequence[Write], atomic: bool) -> list[Result]:
        self._check_open()
        if not atomic:
            results = [self._apply(op) for op in ops[:STEP]]
            for start in range(STEP, len(ops), STEP):
                await asyncio.sleep(0)
                self._check_open()
                results += [self._apply(op) for op in ops[start : start + STEP]]
            return results
        saved = [(key, self._records.get(key), self._graves.get(key)) for key in {key_order(op.key) for op in ops}]
        events, space = len(self._events), self._space
        results = [self._apply(op) for op in ops]
        if all(result.status in (Status.DONE, Status.DUPLICATE) for result in results):
            return results
        for key, record, grave in saved:
            self._place(key, record)
            if grave is not None:
                self._graves[key] = grave
        self._space = space
        self._last_event -= len(self._events) - events  # nobody has seen these numbers: nothing was awaited
        del self._events[events:]
        applied = (Status.DONE, Status.DUPLICATE)
        return [Result(Status.SKIPPED) if result.status in applied else result for result in results]

    def _apply(self, op: Write) -> Result:
        key = key_order(op.key)
        record = self._records.get(key)
        if op.floor is not None:
            repeated = self._repeat(op, key, record)
            if repeated is not None:
                return repeated
        live = record is not None and (record.row.expires is None or record.row.expires > op.now)
        if type(op) is Remove and op.expired:
            live = record is not None
        old = record if live else None
        refused = refusal(op) if old is None else refusal(op, old.row.version, old.owner)
        if refused is not None:
            return Result(refused, old.row if old is not None and refused is Status.CONFLICT else None)
        if type(op) is Put:
            return self._put(op, key, old)
        assert old is not None  # a Remove or Touch of an absent row has returned MISSING
        self._version += 1
        if type(op) is Touch:
            row = msgspec.structs.replace(
                old.row,
                version=self._version,
                accessed=op.now if op.accesses else old.row.accessed,
                count=counted(old.row.count, op.accesses),
                expires=op.expires if op.set_expiry else old.row.expires,
            )
            self._records[key] = Record(row, old.owner, op.token, old.digest)
            self._note(key, row)
            self._log(op, removed=False, owner=old.owner, was=old.owner)
            return Result(Status.DONE, row)
        self._place(key, None)
        self._graves[key] = (self._version, op.token, op.now)
        self._log(op, removed=True, owner=None, was=old.owner)
        return Result(Status.DONE, msgspec.structs.replace(old.row, version=self._version))

    def _repeat(self, op: Write, key: SortKey, record: Record | None) -> Result | None:
        """What a repeat of a write finds: its own first result, an undecidable state, or None: it may be applied."""
        version, token = (0, b"") if record is None else (record.row.version, record.token)
        if record is None and key in self._graves:
            version, token, _ = self._graves[key]
        if token == op.token:
            return Result(Status.DONE, None if record is None else record.row)
        return Result(Status.UNKNOWN) if version > (op.floor or 0) else None

    def _put(self, op: Put, key: SortKey, old: Record | None) -> Result:
        if op.dedup:
            for twin in sorted(self._digests.get(op.digest, ())):
                row = self._records[twin].row
                if row.expires is None or row.expires > op.now:
                    return Result(Status.DUPLICATE, row)
        embedder = op.embedder
        if op.embedding is not None:
            dimension = len(op.embedding) // 4
            if self._space is None:
                self._space = Space(embedder, dimension)
            elif not self._space.admits(embedder, dimension):
                return Result(Status.FAILED, error=mismatch(self._space, embedder, dimension))
            embedder = self._space.embedder
        self._version += 1
        now, item = op.now, op.item
        row = Row(
            body=op.body,
            version=self._version,
            created=now if op.created is None else op.created,
            updated=now,
            accessed=now,
            expires=op.expires,
            embedding=op.embedding,
            embedder=embedder,
        )
        if op.keep is not None:
            row.updated, row.accessed, row.count = op.keep.updated, op.keep.accessed, op.keep.count
        elif old is not None:
            row.created, row.accessed, row.count = old.row.created, old.row.accessed, old.row.count
        owner = (item.user_id, item.agent_id, item.session_id)
        self._place(key, Record(row, owner, op.token, op.digest))
        if self.feed:
            self._log(op, removed=False, owner=owner, was=None if old is None else old.owner)
        return Result(Status.DONE, row)

    def _place(self, key: SortKey, record: Record | None) -> None:
        """Put a record (or nothing) under a key, and keep the digests and the list of terms to index in step."""
        before = self._records.get(key)
        if before is not None and (record is None or record.digest != before.digest):
            keys = self._digests[before.digest]
            keys.pop(key, None)
            if not keys:
                del self._digests[before.digest]
        if record is None:
            self._records.pop(key, None)
        else:
            self._records[key] = record
            self._digests.setdefault(record.digest, {})[key] = None
            if self._graves:
                self._graves.pop(key, None)
        self._terms.stale.add(key)
        self._note(key, None if record is None else record.row)

    def _log(self, op: Write, *, removed: bool, owner: Owner | None, was: Owner | None) -> None:
        if self.feed:
            self._last_event += 1
            self._events.append(Event(self._last_event, op.key, self._version, op.now, removed, owner, was))

    async def _sweep(self, now: int) -> int:
        removed = 0
        async for records in self._walk(WHOLE, None):
            for key, record in records:
                if record.row.expires is not None and record.row.expires <= now:
                    op = Remove(key=key_of(key), token=b"", now=now, expect=record.row.version, expired=True)
                    removed += self._apply(op).status is Status.DONE
        self._graves = {key: grave for key, grave in self._graves.items() if grave[2] > now - GRAVE_MICROS}
        oldest = now - round(self.feed_retention * 1_000_000)
        self._events = [event for event in self._events if event.at > oldest]
        return removed

    async def _feed(self, op: FeedRead) -> Events:
        oldest = self._events[0].seq if self._events else self._last_event + 1
        if op.after is None:
            return Events([], self._last_event, oldest)
        start = bisect_right(self._events, op.after, key=attrgetter("seq"))
        return Events(self._events[start : start + op.limit], self._last_event, oldest)

    # --- reading -------------------------------------------------------------------------------

    async def _read(self, op: Read) -> list[Row | None]:
        rows: list[Row | None] = []
        for namespace, id in op.keys:
            record = self._records.get((path_bytes(namespace), id.encode()))
            if record is None or (record.row.expires is not None and record.row.expires <= op.now):
                rows.append(None)
            elif op.scope is WHOLE or (op.scope.covers_namespace(namespace) and op.scope.covers_owner(*record.owner)):
                rows.append(record.row)
            else:
                rows.append(None)
        return rows

    async def _walk(self, scope: Scope, after: SortKey | None) -> AsyncIterator[list[tuple[SortKey, Record]]]:
        """Records in the scope's namespaces in key order, a step at a time, other tasks running in between."""
        path = path_bytes(scope.path)
        start, inclusive = ((path, b""), True) if after is None else (after, False)
        below = path + b"\0" if path else b""
        while True:
            keys = list(islice(self._records.irange(start, None, (inclusive, False)), STEP))
            inside = [key for key in keys if key[0] == path or (scope.below and key[0].startswith(below))]
            yield [(key, self._records[key]) for key in inside]
            if len(inside) < STEP:
                return
            start, inclusive = keys[-1], False
            await asyncio.sleep(0)
            self._check_open()

    async def _matching(
        self, scope: Scope, where: Filter | None, now: int, after: SortKey | None = None
    ) -> AsyncIterator[list[tuple[SortKey, Record]]]:
        """Live records in scope that satisfy the filter, a step at a time."""
        accept = None if where is None else predicate(where)
        async for records in self._walk(scope, after):
            yield [(key, record) for key, record in records if record.answers(scope, accept, now)]

    async def _scan(self, op: Scan) -> Page:
        if op.order == Order():
            after = None if op.after is None else key_order((op.after.namespace, op.after.id))
            rows: list[Row] = []
            async for records in self._matching(op.scope, op.where, op.now, after):
                rows += [record.row for _, record in records]
                if len(rows) >= op.limit:
                    break
            return Page(rows[: op.limit], exact=True, more=len(rows) >= op.limit)
        if op.order.field == "key":
            before = None if op.after is None else key_order((op.after.namespace, op.after.id))
            last: deque[Row] = deque(maxlen=op.limit)
            async for records in self._matching(op.scope, op.where, op.now):
                last.extend([record.row for key, record in records if before is None or key < before])
            return Page(list(reversed(last)), exact=True, more=len(last) == op.limit)
        value, sign = _VALUES[op.order.field], -1 if op.order.descending else 1
        start = None
        if op.after is not None:
            start = (sign * (op.after.value or 0), key_order((op.after.namespace, op.after.id)))
        best: list[tuple[float, SortKey, Record]] = []
        async for records in self._matching(op.scope, op.where, op.now):
            fresh = [(sign * value(record), key, record) for key, record in records]
            fresh = [entry for entry in fresh if start is None or entry[:2] > start]
            best = nsmallest(op.limit, chain(best, fresh), key=itemgetter(0, 1))
        return Page([record.row for _, _, record in best], exact=True, more=len(best) == op.limit)

    async def _count(self, op: Count) -> int:
        return sum([len(records) async for records in self._matching(op.scope, op.where, op.now)])

    async def _namespaces(self, op: Count) -> list[tuple[str, ...]]:
        found: dict[bytes, None] = {}
        async for records in self._matching(op.scope, op.where, op.now):
            found.update(dict.fromkeys(key[0] for key, _ in records))
        return [tuple(path.decode().split("\0")) for path in found]

    async def _match(self, op: Match) -> Matched:
        await self._terms.refresh(self._records, self._counts)
        matcher: Matcher[SortKey] = Matcher(op.terms)
        accept, path = None if op.where is None else predicate(op.where), path_bytes(op.scope.path)
        below = path + b"\0" if path else b""
        seen: set[int] = set()  # made in slices: to unite the terms' records at once would hold the loop
        for term in op.terms:
            async for numbers in self._slices(list(self._terms.holding.get(term, ()))):
                for number in numbers:
                    if number in seen:
                        continue
                    seen.add(number)
                    counted = self._terms.counted.get(number)
                    if counted is None:
                        continue  # deleted meanwhile
                    key = counted.key
                    record = self._records.get(key)
                    if (
                        record is not None
                        and (key[0] == path or (op.scope.below and key[0].startswith(below)))
                        and record.answers(op.scope, accept, op.now)
                    ):
                        matcher.feed([(key, record.row.created, counted.terms, counted.length)])
        matched = await best_candidates(self, op, matcher.df, matcher.candidates())
        self._check_open()
        return matched

    async def _around(self, op: Around) -> list[tuple[list[Row], list[Row]]]:
        lines: dict[tuple[bytes, str | None], list[tuple[int, bytes, Row]]] = {
            (path_bytes(key[0]), session): [] for key, session, _ in op.anchors
        }
        for namespace in {key[0] for key, _, _ in op.anchors}:
            path, scope = path_bytes(namespace), msgspec.structs.replace(op.scope, path=namespace, below=False)
            async for records in self._matching(scope, None, op.now):
                for key, record in records:
                    line = lines.get((path, record.owner[2]))
                    if line is not None:
                        line.append((record.row.created, key[1], record.row))
        sides: list[tuple[list[Row], list[Row]]] = []
        for line in lines.values():
            line.sort(key=itemgetter(0, 1))
        for (namespace, id), session, created in op.anchors:
            line = lines[path_bytes(namespace), session]
            place = (created, id.encode())
            start, end = (cut(line, place, key=itemgetter(0, 1)) for cut in (bisect_left, bisect_right))
            before, after = line[max(0, start - op.n) : start], line[end : end + op.n]
            sides.append(([row for _, _, row in reversed(before)], [row for _, _, row in after]))
        return sides

    async def _health(self) -> dict[str, Any]:
        vectors = self._vectors
        return {"records": len(self._records), "vectors": len(vectors.held), "vectors_owed": len(vectors.owed)}


_VALUES: dict[str, Callable[[Record], float]] = {
    "created_at": lambda record: record.row.created,
    "updated_at": lambda record: record.row.updated,
    "accessed_at": lambda record: record.row.accessed,
    "importance": lambda record: record.decoded().importance,
}
