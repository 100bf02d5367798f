"""Writing into the target: each item only over what was seen there, said in the journal before and after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

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
        self.putting, self.policy, self.throttle = putting, policy, throttle

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
        written = self.state.index.find(entry.key)
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
        acted: list[Key] = []
        left: list[Left] = []
        todo = list(entries)
        for _ in range(TRIES):
            done, again = await self._write(todo, left, comparing)
            acted += done
            if not again:
                return acted, left
            rows = await self.held([entry.key for entry in again])
            todo = [entry._replace(held=row) for entry, row in zip(again, rows, strict=True)]
        return acted, left + [Left(entry, "conflict", CHANGED) for entry in todo]

    async def _write(
        self, entries: Sequence[Entry], left: list[Left], comparing: bool
    ) -> tuple[list[Key], list[Entry]]:
        """One attempt: the keys that were written, and the entries that somebody else was writing."""
        planned = await self._planned(entries, left, comparing)
        if not planned:
            return [], []
        await self.throttle.spend(len(planned))
        places: list[tuple[int, Intent]] = []
        async for part in self.target._slices(planned):
            places += [(self.journal.hold(one.intent), one.intent) for one in part]
        await self.journal.sync()  # what is about to be written is known from now on, come what may
        for place, intent in places:
            self.state.take(place, intent)
        outcomes = await apply_all(self.target, [one.op for one in planned])
        versions: list[tuple[int, int]] = []
        acted: list[Key] = []
        again: list[Planned] = []
        failed: list[MemoryStoreError] = []
        for one, outcome in zip(planned, outcomes, strict=True):
            if isinstance(outcome, UnknownOutcome):
                outcome = await asked_again(outcome)
            if isinstance(outcome, AlreadyExists | VersionConflict):
                again.append(one)
            elif isinstance(outcome, MemoryStoreError):
                failed.append(outcome)
            elif outcome is not False:
                versions.append((one.intent.n, outcome.version if isinstance(outcome, MemoryItem) else -one.op.expect))
                acted.append(one.entry.key)
        unsure = any(isinstance(error, UnknownOutcome) for error in failed)
        if again and not unsure:
            landed = await self._landed(again)
            versions += [(one.intent.n, version) for one, version in landed]
            acted += [one.entry.key for one, _ in landed]
            taken = {one.entry.key for one, _ in landed}
            again = [one for one in again if one.entry.key not in taken]
        if not unsure:  # else the intents stay open, and the next run asks the target what became of them
            self.journal.hold(Done(versions=versions))
            async for settled in self.target._slices(versions):
                self.state.took_effect(settled)
            self.state.settled()
        if failed:
            raise failed[0]
        await self.state.index.settle()
        return acted, [one.entry for one in again]

    async def _landed(self, again: list[Planned]) -> list[tuple[Planned, int]]:
        """Of writes that found the key taken, those that find there the very record they were to write: an earlier attempt
        of theirs, whose process died, reached the target late."""
        rows = await self.held([one.entry.key for one in again])
        landed: list[tuple[Planned, int]] = []
        async for part in self.target._slices(list(zip(again, rows, strict=True))):
            for one, row in part:
                if row is not None and one.intent.after == fingerprint(row, self.vectors):
                    landed.append((one, row.version))
        return landed

    async def _planned(self, entries: Sequence[Entry], left: list[Left], comparing: bool) -> list[Planned]:
        planned: list[Planned] = []
        now, n = self.target._clock(), self.state.next
        async for part in self.target._slices(entries):
            for entry in part:
                decision = self.decide(entry, comparing=comparing)
                what = _WRITES.get(decision.do)
                if decision.do is Do.CONFLICT:
                    left.append(Left(entry, "conflict", decision.why))
                if what is None:
                    continue
                op: Write
                if entry.pair is None:
                    assert entry.held is not None  # else there is nothing to remove
                    op = Remove(key=entry.key, token=new_token(), now=now, expect=entry.held.version)
                    intent = Intent(n=n, key=entry.key, what=what, before=entry.held)
                else:
                    try:
                        op = await self.putting.put(entry.pair, entry.held)
                    except MemoryStoreError as error:
                        left.append(Left(entry, "refused", error.message))
                        continue
                    wanted = self.wanted(entry)
                    assert wanted is not None  # the source has it
                    intent = Intent(
                        n=n,
                        key=entry.key,
                        what=what,
                        source=entry.pair[0].version,
                        after=fingerprint(wanted, self.vectors),
                        before=entry.held,
                    )
                planned.append(Planned(entry, op, intent))
                n += 1
        puts = [one.op for one in planned if isinstance(one.op, Put)]
        if self.vectors == "reembed" and puts:
            await add_vectors(self.target, puts, True)
        return planned


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
