"""The record of a workload, intents before and acknowledgements after, and what a store may hold afterwards.

Pure: no I/O, no clock. ``start`` and ``end`` of an operation are positions on one line of time (nanoseconds of the
monotonic clock across processes, or positions in a recorded log); only their order matters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

Name = str
"""Short name of an item in the workload, e.g. ``shared/07``; see workload.key_of."""
By = tuple[int, int]
"""(writer, serial): which operation wrote an item."""
Kind = Literal["put", "add", "cas", "update", "delete", "delete_cas", "batch", "atomic", "delete_batch"]
DELETES = ("delete", "delete_cas", "delete_batch")
LOST, PHANTOM, WRONG, UNEXPECTED = "lost", "phantom", "wrong", "unexpected"


class Intent(msgspec.Struct, array_like=True, tag="i"):
    """Written before an operation starts."""

    writer: int
    serial: int
    at: int
    kind: Kind
    names: list[Name]
    expect: int = 0
    """The version a compare-and-set was given; 0 for the others."""


class Ack(msgspec.Struct, array_like=True, tag="a"):
    """Written after an operation has returned. One result a name, in order.

    A result above 0: applied (the version for a write, 1 for a delete); 0: certainly not applied; -1: not known.
    """

    writer: int
    serial: int
    at: int
    results: list[int]
    error: str = ""
    """Name and message of an error that the workload did not expect."""


class State(msgspec.Struct, frozen=True, array_like=True):
    """What a store holds under one name: who wrote it, on top of what, and its version."""

    version: int
    by: By
    born: By
    """The put that the later updates changed."""
    trail: frozenset[By] = frozenset()
    """The updates since that put."""


class Violation(msgspec.Struct, frozen=True, array_like=True):
    """One broken promise. ``what``: lost, phantom, wrong or unexpected."""

    what: str
    name: Name
    detail: str

    def __str__(self) -> str:
        return f"{self.what} {self.name}: {self.detail}"


class Step(msgspec.Struct):
    """One operation on one name."""

    kind: Kind
    by: By
    start: int
    expect: int = 0
    end: int | None = None
    """None: not acknowledged."""
    result: int = -1

    @property
    def deletes(self) -> bool:
        return self.kind in DELETES

    @property
    def applied(self) -> bool:
        """Acknowledged as applied."""
        return self.result > 0

    @property
    def possible(self) -> bool:
        """It may have been applied."""
        return self.result != 0


class History:
    """Everything intended and acknowledged since a known base state."""

    def __init__(self, base: Mapping[Name, State] | None = None) -> None:
        self.base: dict[Name, State] = dict(base or {})
        self.intents: dict[By, Intent] = {}
        self.acks: dict[By, Ack] = {}

    def add(self, line: Intent | Ack) -> None:
        """Take one line of the record."""
        if isinstance(line, Intent):
            self.intents[line.writer, line.serial] = line
        else:
            self.acks[line.writer, line.serial] = line

    def until(self, position: int) -> History:
        """The history as it was known at a position of its line of time."""
        part = History(self.base)
        part.intents = {by: intent for by, intent in self.intents.items() if intent.at < position}
        part.acks = {by: ack for by, ack in self.acks.items() if ack.at < position}
        return part

    def outstanding(self, writer: int) -> int:
        """How many operations of a writer were begun and not acknowledged."""
        return sum(1 for by in self.intents if by[0] == writer and by not in self.acks)

    def acknowledged(self) -> int:
        """How many single writes were acknowledged as applied."""
        return sum(sum(1 for result in ack.results if result > 0) for ack in self.acks.values())

    def steps(self) -> dict[Name, list[Step]]:
        """The operations on each name."""
        found: dict[Name, list[Step]] = defaultdict(list)
        for by, intent in self.intents.items():
            ack = self.acks.get(by)
            for place, name in enumerate(intent.names):
                step = Step(intent.kind, by, intent.at, intent.expect)
                if ack is not None:
                    step.end, step.result = ack.at, ack.results[place]
                found[name].append(step)
        return found

    def check(self, found: Mapping[Name, State], *, lossy: bool = False) -> list[Violation]:
        """Compare what a store holds with what it may hold. ``lossy``: the newest acknowledged writes may be missing.

        Every check is sound under concurrency (it never accuses a correct store); on a name that one task writes
        alone it is exact.
        """
        steps = self.steps()
        violations: list[Violation] = []
        for name in {*self.base, *steps, *found}:
            check = _NameCheck(name, self.base.get(name), steps.get(name, []), found.get(name))
            check.run(lossy)
            violations += check.violations
        violations += self._torn_batches(found)
        for ack in self.acks.values():
            if ack.error:
                intent = self.intents[ack.writer, ack.serial]
                violations.append(Violation(UNEXPECTED, intent.names[0], f"{intent.kind} ended with {ack.error}"))
        return violations

    def _torn_batches(self, found: Mapping[Name, State]) -> Iterable[Violation]:
        """An atomic batch that is there in part. The names of one are written by one task, one operation at a time."""
        for by, intent in self.intents.items():
            if intent.kind == "atomic" and by not in self.acks:
                there = [name in found and found[name].by == by for name in intent.names]
                if any(there) and not all(there):
                    yield Violation(WRONG, intent.names[0], f"atomic batch {by} is there in part: {there}")


class _NameCheck:
    """The rules for one name."""

    def __init__(self, name: Name, base: State | None, steps: Sequence[Step], state: State | None) -> None:
        self.name, self.base, self.state = name, base, state
        self.writes = {step.by: step for step in steps if not step.deletes}
        self.deletes = [step for step in steps if step.deletes and step.possible]
        self.acked = sorted((step for step in self.writes.values() if step.applied), key=lambda step: step.result)
        self.open = [step for step in self.writes.values() if step.result < 0]
        self.read = max((step.expect for step in steps), default=0)
        """The highest version that somebody read: what was seen may not be taken back."""
        self.violations: list[Violation] = []

    def blame(self, what: str, detail: str) -> None:
        self.violations.append(Violation(what, self.name, detail))

    def run(self, lossy: bool) -> None:
        self.versions()
        if self.state is None:
            if not lossy:
                self.absent()
        else:
            self.live(self.state, lossy)
            if not any(violation.what == PHANTOM for violation in self.violations):
                self.trail(self.state)

    def versions(self) -> None:
        """Versions grow in the order of real time; a compare-and-set applies only on the version it names."""
        known = {step.result for step in self.acked}
        floor = 0
        if self.base is not None:
            known.add(self.base.version)
            floor = self.base.version
        if len(known) != len(self.acked) + (self.base is not None):
            self.blame(WRONG, f"one version was given out twice: {[step.result for step in self.acked]}")
        if self.acked and self.acked[0].result <= floor:
            self.blame(WRONG, f"version {self.acked[0].result} was given out after {floor}")
        first_end: int | None = None
        for step in reversed(self.acked):
            # Going down in version: a higher one may not have been returned before a lower one began.
            if first_end is not None and step.start > first_end:
                self.blame(WRONG, f"version {step.result} of {step.by} began after a higher version had been returned")
            if step.end is not None:
                first_end = step.end if first_end is None else min(first_end, step.end)
        used: dict[int, By] = {}
        for step in self.acked:
            if step.kind != "cas":
                continue
            if step.expect in used:
                self.blame(LOST, f"two compare-and-sets on version {step.expect} were acknowledged: a lost update")
            used[step.expect] = step.by
            between = [v for v in known if step.expect < v < step.result]
            if between:
                self.blame(LOST, f"compare-and-set {step.by} on version {step.expect} overwrote version {between[0]}")

    def absent(self) -> None:
        """Nothing is there: a delete must be able to explain it."""
        if not self.acked and self.base is None:
            return
        if self.acked:
            version, since = self.acked[-1].result, self.acked[-1].start
        else:
            assert self.base is not None
            version, since = self.base.version, -1
        for step in self.deletes:
            if step.kind == "delete_cas":
                # On this version, or on that of a later write which was not acknowledged.
                if step.expect == version or (step.expect > version and self.open):
                    return
            elif step.end is None or step.end > since or step.result < 0:
                return
        self.blame(LOST, f"version {version} was acknowledged and is not there")

    def live(self, state: State, lossy: bool) -> None:
        """Something is there: it must have been meant, and be the newest."""
        top = self.acked[-1].result if self.acked else 0
        seen = max(top, self.read)
        if self.base is not None and state.by == self.base.by:
            if state.version != self.base.version:
                self.blame(WRONG, f"{state.by} is at version {state.version}, not {self.base.version}")
            if seen > state.version and not lossy:
                self.blame(LOST, f"version {seen} was acknowledged or read, and {state.version} is there")
            since: int | None = -1
        else:
            step = self.writes.get(state.by)
            if step is None or not step.possible:
                how = "was never meant" if step is None else "was refused"
                self.blame(PHANTOM, f"{state.by} at version {state.version} {how}")
                return
            if step.applied and step.result != state.version:
                self.blame(WRONG, f"{state.by} is at version {state.version}, acknowledged was {step.result}")
            if seen > state.version and not lossy:
                self.blame(LOST, f"version {seen} was acknowledged or read, and {state.version} is there")
            if not step.applied and any(other.result == state.version for other in self.acked):
                self.blame(WRONG, f"{state.by} is there at version {state.version}, which was given to another write")
            since = step.end if step.applied else None
        if lossy:
            return
        for delete in self.deletes:
            if not delete.applied:
                continue
            if delete.kind == "delete_cas":
                if delete.expect == state.version:
                    self.blame(LOST, f"version {state.version} was deleted, acknowledged, and is there")
            elif since is not None and delete.start > since:
                self.blame(LOST, f"version {state.version} was there before an acknowledged delete, and still is")

    def trail(self, state: State) -> None:
        """No acknowledged update on top of the same put is missing, and none is there that was not meant."""
        earlier: frozenset[By] = frozenset()
        if self.base is not None and self.base.born == state.born:
            earlier = self.base.trail
        for by in state.trail - earlier:
            update = self.writes.get(by)
            if update is None or update.kind != "update" or not update.possible:
                self.blame(PHANTOM, f"update {by} is in the item and was not meant")
        born = self.writes.get(state.born)
        inherited = self.base is not None and self.base.born == state.born
        if not inherited and (born is None or born.kind == "update" or not born.possible):
            self.blame(PHANTOM, f"the item rests on {state.born}, which was not meant")
        if born is not None and born.applied:
            lowest = born.result
        elif inherited and self.base is not None:
            lowest = self.base.version
        else:
            return
        for step in self.acked:
            if step.kind == "update" and lowest < step.result <= state.version and step.by not in state.trail:
                self.blame(LOST, f"update {step.by} at version {step.result} is missing from version {state.version}")
