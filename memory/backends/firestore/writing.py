"""Applying a batch: read what is there, decide, commit with preconditions, and again for those that lost a race."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memory.backends.firestore.deciding import Change
from memory.backends.firestore.document import Document
from memory.backends.firestore.faults import CALL_ERRORS, is_conflict, is_refusal, translate
from memory.backends.firestore.lanes import Known
from memory.backends.firestore.locks import digest_lock, lock_names
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.pacing import singly
from memory.backends.firestore.records import Record
from memory.backends.firestore.spaces import read_space, space_write
from memory.errors import DeadlineExceeded, MemoryStoreError
from memory.ops import Put, Remove, Result, Row, Status
from memory.ops import Write as Op
from memory.store.together import all_of

if TYPE_CHECKING:
    from memory.backends.firestore.store import FirestoreStore

MOST_WRITES = 500
"""Of one commit: what Firestore takes."""
MOST_BYTES = 400_000
"""Of one commit, but for a document that is larger by itself. Firestore would take 10 MiB; to encode as much at once would
hold the loop."""
AT_ONCE = 4
"""Commits of one batch that are under way together."""


class Batch:
    """One call of ``_write``."""

    def __init__(self, store: FirestoreStore[Any], ops: Sequence[Op]) -> None:
        self.store, self.ops = store, ops
        self.connection = store._connected()
        self.names = [store.document_id(op.key) for op in ops]
        self.locks = lock_names(ops)
        self.results: list[Result | None] = [None] * len(ops)
        self.tombstones: Known = {}
        self.size = MOST_WRITES
        """Writes to commit together; halved after a lost race, so that one hot document does not hold up the others."""
        self.gate = asyncio.Semaphore(AT_ONCE)
        self.space_known = True
        """False: another store may have made the space meanwhile."""
        self.meter = Meter()
        self.deadline = asyncio.get_running_loop().time() + store.timeout

    async def run(self, known: Known | None = None) -> list[Result]:
        """The result of every write, in order. ``known``: documents that were read just now."""
        async with self.store._lanes.hold([*self.names, *filter(None, self.locks)]) as held:
            if known:
                held.update(known)
            try:
                while pending := [i for i, result in enumerate(self.results) if result is None]:
                    await self._round(pending, held)
            except MemoryStoreError as error:
                # What is not decided yet was not sent.
                for i, result in enumerate(self.results):
                    if result is None:
                        self.results[i] = Result(Status.FAILED, error=error)
        return [result for result in self.results if result is not None]

    async def _round(self, pending: list[int], held: Known) -> None:
        """One write for each document, in order; the others wait for the next round."""
        chosen: list[int] = []
        taken: set[str] = set()
        for i in pending:
            names = {self.names[i]} | ({lock} if (lock := self.locks[i]) else set())
            if not names & taken:
                chosen.append(i)
            taken |= names
        await self._learn(chosen, held)
        changes = await self._decide(pending, set(chosen), held)
        parts = self._parts(changes)
        if parts and asyncio.get_running_loop().time() > self.deadline:
            raise DeadlineExceeded(
                f"writes contended for {self.store.timeout:g} s; this one was not applied", seconds=self.store.timeout
            )
        await all_of([self._commit(part, held) for part in parts])

    async def _learn(self, chosen: list[int], held: Known) -> None:
        """Read the documents that are not known."""
        store, connection = self.store, self.connection
        if not self.space_known:
            await read_space(store, self.meter)
            self.space_known = True
        unknown = [self.names[i] for i in chosen if self.names[i] not in held]
        if unknown:
            held.update(await store._fetch(unknown, self.meter))
        repeated = [
            self.names[i] for i in chosen if self.ops[i].floor is not None and self.names[i] not in self.tombstones
        ]
        if repeated:
            found = await connection.get(store.names.tombstones, repeated, self.meter)
            self.tombstones.update({name: found.get(name) for name in repeated})
        locks = [lock for i in chosen if (lock := self.locks[i]) and lock not in held]
        if locks:
            found = await connection.get(store.names.locks, [lock.partition("/")[2] for lock in locks], self.meter)
            held.update({lock: found.get(lock.partition("/")[2]) for lock in locks})

    async def _decide(self, pending: list[int], chosen: set[int], held: Known) -> list[tuple[int, Change]]:
        """What becomes of the chosen writes. One that might see, or let a put that waits see, the twins of another turn waits
        for the next round too."""
        store = self.store
        puts = [op for i in pending if i in chosen and self.locks[i] and type(op := self.ops[i]) is Put]
        twins = await store._twins(puts, self.meter) if puts else {}
        changes: list[tuple[int, Change]] = []
        written: set[str] = set()
        stored: set[bytes] = set()
        waiting: set[str] = set()
        sought: set[bytes] = set()
        async for i in singly(pending):
            op, name = self.ops[i], self.names[i]
            digest = op.digest if type(op) is Put else b""
            unique = self.locks[i] is not None
            verdict: Result | Change | None = None  # not yet
            if i in chosen and not (sought and (digest in sought or self._may_be(held[name], sought))):
                try:
                    verdict = store._decide(op, held[name], self.tombstones.get(name))
                except MemoryStoreError as error:
                    verdict = Result(Status.FAILED, error=error)
                if isinstance(verdict, Change) and type(op) is Put and unique:
                    twin = twins.get(digest)
                    if twin is not None:
                        moves = twin[0] in written or twin[0] in waiting
                        verdict = None if moves else Result(Status.DUPLICATE, twin[1])
                    elif digest in stored:
                        verdict = None
                    else:
                        verdict.lock = len(verdict.writes)
                        verdict.writes.append(digest_lock(store, op, held[self.locks[i] or ""]))
            if verdict is None:
                waiting.add(name)
                if unique:
                    sought.add(digest)
            elif isinstance(verdict, Result):
                self.results[i] = verdict
            else:
                written.add(name)
                stored.add(digest)
                changes.append((i, verdict))
        return changes

    @staticmethod
    def _may_be(found: Document | None, digests: set[bytes]) -> bool:
        """Whether a document may hold the content of one of these digests."""
        return isinstance(found, Record) and (found.changed or found.part("digest") in digests)

    def _parts(self, changes: list[tuple[int, Change]]) -> list[list[tuple[int, Change]]]:
        """The changes in commits of few enough writes and bytes. The first vector of a store is committed alone, with
        the space it makes; what else has one then waits for the next round."""
        makers = [pair for pair in changes if pair[1].makes_space is not None]
        if makers:
            first = makers[0]
            first[1].writes.append(space_write(self.connection, self.store, first[1].makes_space))
            changes = [first, *(pair for pair in changes if pair[1].makes_space is None)]
        parts: list[list[tuple[int, Change]]] = []
        writes = size = 0
        for pair in changes:
            count, weight = len(pair[1].writes), pair[1].size()
            alone = pair[1].makes_space is not None
            if not parts or alone or writes + count > self.size or size + weight > MOST_BYTES:
                parts.append([])
                writes = size = 0
            parts[-1].append(pair)
            writes, size = writes + count, size + weight
            if alone:
                writes = MOST_WRITES
        return parts

    async def _commit(self, part: list[tuple[int, Change]], held: Known) -> None:
        """Commit some changes. Those that lost a race, or whose batch did, stay without a result."""
        writes = [write for _, change in part for write in change.writes]
        try:
            async with self.gate:
                versions = await self.connection.commit(writes)
        except MemoryStoreError as error:  # by the breaker, or the store is closing: nothing was sent
            for i, _ in part:
                self.results[i] = Result(Status.FAILED, error=error)
            return
        except CALL_ERRORS as error:
            self._forget(part, held)
            if not is_refusal(error):
                for i, _ in part:
                    self.results[i] = Result(Status.UNKNOWN)
            elif not is_conflict(error) and len(part) == 1:
                told = translate(error, self.connection.place.address, self.store.timeout)
                self.results[part[0][0]] = Result(Status.FAILED, error=told)
            else:
                self.size = max(1, len(writes) // 2)
                self.space_known = not any(change.makes_space for _, change in part)
            return
        at = 0
        for i, change in part:
            version = versions[at]
            self._done(i, change, version, held)
            lock = self.locks[i]
            if lock and change.lock is not None:
                held[lock] = Document(lock, {}, versions[at + change.lock])
            at += len(change.writes)
        self.size = min(MOST_WRITES, self.size * 2)

    def _done(self, i: int, change: Change, version: int, held: Known) -> None:
        name = self.names[i]
        row: Row = change.row
        row.version = version
        self.results[i] = Result(Status.DONE, row)
        held[name] = change.after
        if type(self.ops[i]) is Remove:
            self.tombstones.pop(name, None)
        elif change.after is not None:
            change.after.version = version
        if change.makes_space is not None:
            self.store._space = change.makes_space

    def _forget(self, part: list[tuple[int, Change]], held: Known) -> None:
        for i, _ in part:
            held.pop(self.names[i], None)
            held.pop(self.locks[i] or "", None)
