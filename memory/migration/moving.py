"""Writing into the target: each item only over what was seen there, said in the journal before and after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from memory.errors import AlreadyExists, MemoryStoreError, UnknownOutcome, VersionConflict
from memory.migration.deciding import CHANGED, Decision, Do, decide
from memory.migration.journal import Done, Intent, Journal, Line, What
from memory.migration.records import Pair, Vectors, expected, fingerprint
from memory.migration.report import Finding, OnConflict
from memory.model import MemoryItem
from memory.ops import Put, Read, Remove
from memory.store.embedding import add_vectors
from memory.store.settle import apply_all, new_token

if TYPE_CHECKING:
    from memory.migration.putting import Putting
    from memory.migration.state import State
    from memory.model import Key
    from memory.ops import Row, Write
    from memory.store import MemoryStore

TRIES = 3
"""How often an item is looked at again that somebody writes meanwhile, and an unknown outcome asked for."""
_WRITES: dict[Do, What] = {
    Do.CREATE: "create",
    Do.UPDATE: "update",
    Do.REPLACE: "replace",
    Do.REMOVE: "remove",
}


class Entry(NamedTuple):
    """One key, and what both sides hold."""

    key: Key
    pair: Pair | None
    held: Row | None


class Left(NamedTuple):
    """An item that was not written, and why."""

    entry: Entry
    kind: Literal["refused", "conflict"]
    why: str


class Planned(NamedTuple):
    """One write of a batch."""

    entry: Entry
    op: Write
    intent: Intent


class Batch(NamedTuple):
    """Writes made ready, and what is not to be written though it differs."""

    planned: list[Planned]
    left: list[Left]
    comparing: bool


class Throttle:
    """At most so many items a second."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._due = time.monotonic()

    async def spend(self, items: int) -> None:
        """Wait until so many more may be written."""
        if self._rate is None:
            return
        now = time.monotonic()
        if self._due > now:
            await asyncio.sleep(self._due - now)
        self._due = max(self._due, now) + items / self._rate


class Mover:
    """Brings items of the target to where the source is."""

    def __init__(
        self,
        target: MemoryStore,
        journal: Journal,
        state: State,
        putting: Putting,
        policy: OnConflict,
        throttle: Throttle,
    ) -> None:
        self.target, self.journal, self.state = target, journal, state
        self.putting, self.throttle = putting, throttle
        self.policy: OnConflict = policy
        self.fresh = False
        """Nothing was written before, and every key comes once: what this migration wrote need not be looked up."""

    @property
    def vectors(self) -> Vectors:
        """What becomes of vectors."""
        return self.putting.vectors

    async def held(self, keys: Sequence[Key]) -> list[Row | None]:
        """What the target holds under these keys."""
        if not keys:
            return []
        read = Read(keys=tuple(keys), now=self.target._clock())
        rows: list[Row | None] = await self.target._do_read(read)
        return rows

    def wanted(self, entry: Entry) -> Row | None:
        """What the target should hold."""
        return None if entry.pair is None else expected(entry.pair, self.vectors, self.putting.embedder)

    def decide(self, entry: Entry, *, comparing: bool = False) -> Decision:
        """What is to be done about an item."""
        written = None if self.fresh else self.state.index.find(entry.key)
        return decide(self.wanted(entry), entry.held, written, self.policy, self.vectors, comparing=comparing)

    def note(self, line: Line) -> None:
        """Tell the journal, with its next sync, and take it in."""
        self.state.take(self.journal.hold(line), line)

    def find(
        self, kind: Literal["refused", "conflict", "difference"], key: Key, why: str, fields: tuple[str, ...] = ()
    ) -> None:
        """Tell the journal of a finding."""
        self.note(Finding(kind=kind, key=key, why=why, fields=fields))

    async def settle(self, entries: Sequence[Entry], *, comparing: bool = False) -> tuple[list[Key], list[Left]]:
        """Write what has to be written; returns the keys that were, and what was not written though it differs.

        What somebody writes at the target meanwhile is looked at again. Raises what the target raises when it cannot write.
        """
        return await self.write(await self.prepare(entries, comparing=comparing))

    async def prepare(self, entries: Sequence[Entry], *, comparing: bool = False) -> Batch:
        """Decide, and make the writes with their terms and vectors. Another batch may be written meanwhile."""
        batch = Batch([], [], comparing)
        now = self.target._clock()
        async for part in self.target._slices(entries):
            for entry in part:
                decision = self.decide(entry, comparing=comparing)
                what = _WRITES.get(decision.do)
                if decision.do is Do.CONFLICT:
                    batch.left.append(Left(entry, "conflict", decision.why))
                if what is None:
                    continue
                try:
                    batch.planned.append(await self._planned(entry, what, now))
                except MemoryStoreError as error:
                    batch.left.append(Left(entry, "refused", error.message))
        puts = [one.op for one in batch.planned if isinstance(one.op, Put)]
        await self.target._add_terms(puts)
        if self.vectors == "reembed" and puts:
            await add_vectors(self.target, puts, True)
        return batch

    async def write(self, batch: Batch) -> tuple[list[Key], list[Left]]:
        """Write a batch; as ``settle``."""
        acted: list[Key] = []
        left = list(batch.left)
        todo: list[Entry] = []
        for _ in range(TRIES):
            if not batch.planned:
                return acted, left
            done, again = await self._write(batch.planned)
            acted += done
            if not again:
                return acted, left
            rows = await self.held([entry.key for entry in again])
            todo = [entry._replace(held=row) for entry, row in zip(again, rows, strict=True)]
            batch = await self.prepare(todo, comparing=batch.comparing)
            left += batch.left
        return acted, left + [Left(one.entry, "conflict", CHANGED) for one in batch.planned]

    async def _write(self, planned: list[Planned]) -> tuple[list[Key], list[Entry]]:
        """One attempt: the keys that were written, and the entries that somebody else was writing."""
        await self.throttle.spend(len(planned))
        intents: list[tuple[int, Intent]] = []
        async for part in self.target._slices(planned):
            for one in part:
                intent = msgspec.structs.replace(one.intent, n=self.state.next + len(intents))
                intents.append((self.journal.hold(intent), intent))
        await self.journal.sync()  # what is about to be written is known from now on, come what may
        for place, intent in intents:
            self.state.take(place, intent)
        outcomes = await apply_all(self.target, [one.op for one in planned])
        versions: list[tuple[int, int]] = []
        acted: list[Key] = []
        again: list[tuple[Planned, int]] = []
        failed: list[MemoryStoreError] = []
        for one, (_, intent), outcome in zip(planned, intents, outcomes, strict=True):
            if isinstance(outcome, UnknownOutcome):
                outcome = await asked_again(outcome)
            if isinstance(outcome, AlreadyExists | VersionConflict):
                again.append((one, intent.n))
            elif isinstance(outcome, MemoryStoreError):
                failed.append(outcome)
            elif outcome is not False:
                versions.append((intent.n, outcome.version if isinstance(outcome, MemoryItem) else -one.op.expect))
                acted.append(one.entry.key)
        for error in failed:
            if isinstance(error, UnknownOutcome):
                raise error  # the intents stay open, and the next run asks the target what became of them
        landed = await self._landed(again)
        versions += landed.values()
        acted += landed
        self.journal.hold(Done(versions=versions))
        async for settled in self.target._slices(versions):
            self.state.took_effect(settled)
        self.state.settled()
        if failed:
            raise failed[0]
        await self.state.index.settle()
        return acted, [one.entry for one, _ in again if one.entry.key not in landed]

    async def _landed(self, again: list[tuple[Planned, int]]) -> dict[Key, tuple[int, int]]:
        """Of writes that found the key taken, those that find there the very record they were to write: an earlier attempt
        of theirs, whose process died, reached the target late. Key -> (number of the intent, version)."""
        rows = await self.held([one.entry.key for one, _ in again])
        landed: dict[Key, tuple[int, int]] = {}
        async for part in self.target._slices(list(zip(again, rows, strict=True))):
            for (one, n), row in part:
                if row is not None and one.intent.after == fingerprint(row, self.vectors):
                    landed[one.entry.key] = (n, row.version)
        return landed

    async def _planned(self, entry: Entry, what: What, now: int) -> Planned:
        """One write and its intent, which gets its number when it is written."""
        wanted, held = self.wanted(entry), entry.held
        if entry.pair is None or wanted is None:
            assert held is not None  # else there is nothing to remove
            remove = Remove(key=entry.key, token=new_token(), now=now, expect=held.version)
            return Planned(entry, remove, Intent(n=0, key=entry.key, what=what, before=held))
        op = await self.putting.put(entry.pair, held)
        after = fingerprint(wanted, self.vectors)
        return Planned(
            entry, op, Intent(n=0, key=entry.key, what=what, source=wanted.version, after=after, before=held)
        )


async def asked_again(unknown: UnknownOutcome) -> Any:
    """The outcome of a write after all, or the error that says that it cannot be known now."""
    error: MemoryStoreError = unknown
    for _ in range(TRIES):
        try:
            return await unknown.retry()
        except UnknownOutcome as still:
            error = unknown = still
        except MemoryStoreError as known:
            return known
    return error


async def resolve(target: MemoryStore, journal: Journal, state: State, vectors: Vectors) -> None:
    """Find out what became of the writes that were under way when an earlier run ended, by looking at the target.

    A record that is equal, times to the microsecond, and at another version than before is the one that was written.
    """
    if not state.pending:
        return
    intents = [intent for _, intent in state.pending.values()]
    keys = tuple(intent.key for intent in intents)
    rows: list[Row | None] = await target._do_read(Read(keys=keys, now=target._clock()))
    versions: list[tuple[int, int]] = []
    for intent, row in zip(intents, rows, strict=True):
        before = None if intent.before is None else intent.before.version
        if intent.what == "remove":
            if row is None and before is not None:
                versions.append((intent.n, -before))
        elif row is not None and row.version != before and fingerprint(row, vectors) == intent.after:
            versions.append((intent.n, row.version))
    line = Done(versions=versions)
    state.take(journal.hold(line), line)
    await journal.sync()
