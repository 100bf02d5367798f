"""Where a migration stands, read from its journal."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec

from memory.errors import CorruptData, InvalidSetting
from memory.migration.journal import (
    CHUNK,
    FORMAT,
    Comparing,
    Done,
    End,
    Header,
    Intent,
    Line,
    Moving,
    Round,
    Undone,
    damaged,
    lines,
)
from memory.migration.report import SHOWN, Finding, Plan
from memory.migration.written import Index, Written
from memory.ops import Position
from memory.store.transfer import to_the_end

_BEGINNING = b'{"t":"migration",'


class State(msgspec.Struct, kw_only=True):
    """What a journal says, line by line taken in."""

    header: Header | None = None
    round: Round | None = None
    """The run that has not ended yet."""
    place: int = 0
    """Where the last run begins in the journal."""
    moving: int = 0
    comparing: int = 0
    """Where its writes and its comparison begin; findings of other kinds than theirs are older."""
    plan: Plan | None = None
    position: Position | None = None
    pending: dict[int, tuple[int, Intent]] = {}
    """Intents of which it is not known whether they took effect: number -> (place, intent)."""
    next: int = 1
    index: Index = msgspec.field(default_factory=Index)
    done: Counter[str] = msgspec.field(default_factory=Counter)
    """What took effect in this round, by kind."""
    found: Counter[str] = msgspec.field(default_factory=Counter)
    """Findings of this round, by kind."""
    findings: list[Finding] = []
    """The first of each kind."""

    def take(self, place: int, line: Line) -> None:
        """Take in one line."""
        if isinstance(line, Intent):
            self.pending[line.n] = (place, line)
            self.next = line.n + 1
        elif isinstance(line, Done):
            self.took_effect(line.versions)
            self.settled(line.at)
        elif isinstance(line, Finding):
            self.found[line.kind] += 1
            if self.found[line.kind] <= SHOWN:
                self.findings.append(line)
        elif isinstance(line, Header):
            self.header = line
        elif isinstance(line, Round):
            self.round, self.place, self.plan, self.position = line, place, None, None
            self.moving = self.comparing = place
            self.done, self.found, self.findings = Counter(), Counter(), []
        elif isinstance(line, Plan):
            self.plan = line
        elif isinstance(line, Comparing):
            self.comparing = place
            self._forget("difference")
        elif isinstance(line, Moving):
            self.moving = place
            self._forget("conflict", "refused")
        elif isinstance(line, End):
            self.round = None
        else:
            self.index.clear()
            self.round = None

    def _forget(self, *kinds: str) -> None:
        for kind in kinds:
            del self.found[kind]
        self.findings = [one for one in self.findings if one.kind not in kinds]

    def took_effect(self, versions: Sequence[tuple[int, int]]) -> None:
        """Take in a part of a Done before it is told whole: work for 500 items at once would hold the loop."""
        for n, version in versions:
            place, intent = self.pending.pop(n)
            self.done[intent.what] += 1
            self.index.add(intent.key, Written(version, intent.source), place)

    def settled(self, at: Position | None = None) -> None:
        """What is still pending did not take effect."""
        self.pending = {}
        if at is not None:
            self.position = at


async def load(path: Path) -> tuple[State, int]:
    """The state that a journal tells, and the size of the part that can be read: behind it is what a crash tore.

    Raises CorruptData for damage that no crash leaves, and for a file that is no journal.
    """
    state, end, torn, intended = State(), 0, False, False
    async for piece in lines(path):
        for place, line in piece:
            if line is None:
                if not torn:
                    torn, end = True, place
            elif torn:
                # After intents comes an fsync: what stands behind them says that all before them was on the disk.
                if (intended and not isinstance(line, Intent)) or isinstance(line, Plan | Round | End | Undone):
                    raise damaged(path)
                intended = isinstance(line, Intent)
            else:
                if state.header is None and not isinstance(line, Header):
                    raise damaged(path)
                try:
                    state.take(place, line)
                except KeyError:
                    raise damaged(path) from None
        await state.index.settle()
    if torn and end == 0 and not await to_the_end(_is_torn_header, path):
        raise InvalidSetting(f"{path} is not the journal of a migration; name another file", setting="state")
    if state.header is not None and state.header.v > FORMAT:
        raise CorruptData(
            f"the journal {path} has format {state.header.v}; this version reads {FORMAT}. Upgrade agent-memory-backends"
        )
    return state, end if torn else await _size(path)


async def _size(path: Path) -> int:
    return (await to_the_end(path.stat)).st_size


def _is_torn_header(path: Path) -> bool:
    """Whether this is what a crash leaves of a journal's first line."""
    with path.open("rb") as file:
        raw = file.read(CHUNK)
    return b"\n" not in raw and (raw.startswith(_BEGINNING) or _BEGINNING.startswith(raw))


async def findings_of(path: Path, state: State, kind: str) -> AsyncIterator[list[Finding]]:
    """All findings of one kind of the last round, in pieces."""
    start = {"unlisted": state.place, "expired": state.place, "difference": state.comparing}.get(kind, state.moving)
    async for piece in lines(path, start):
        yield [line for _, line in piece if isinstance(line, Finding) and line.kind == kind]
