"""SIGKILL at random moments, over and over, on one file that several processes write.

A round: two to four writers are forked from this warm process, write until the moment comes, and die: all at once,
one while the others go on, while they open, or while they close. Then a fresh process opens the file and compares
everything in it with what the writers had said by their pipes: the intent before each operation, the
acknowledgement after it. What was found is the base of the next round, so an item has to survive every later one.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec

from memory.testing.faults.examine import Findings, compare
from memory.testing.faults.history import UNEXPECTED, Ack, History, Intent, Name, State, Violation
from memory.testing.faults.processes import Child, Say, finish, pump_until
from memory.testing.faults.table import Outcome, Print, out
from memory.testing.faults.target import DEFAULT, Factory, load
from memory.testing.faults.workload import Writer

PATTERNS = ("all", "all", "all", "one", "one", "survivors", "opening", "closing")
LEAST_SHARE = 0.3
"""Of the kills, the share that has to land while a write is not acknowledged."""
SLOTS = 4
_line = msgspec.json.Decoder(Intent | Ack)
_encode = msgspec.json.encode


class Settings(msgspec.Struct, frozen=True):
    """How long and on what."""

    rounds: int = 1_000
    seed: int = 1
    store: str = DEFAULT
    options: dict[str, Any] = {}
    longest: float = 0.2
    """Seconds of writing before the first kill, at most."""
    fresh: int = 25
    """Rounds on one file, so that some kills hit its creation."""
    directory: str | None = None
    keep: str | None = None
    """Where to copy the files of a round with violations."""


def writer_main(
    make: Factory, path: Path, options: dict[str, Any], writer: int, slot: int, seed: int, say: Say
) -> None:
    """A child's life: open, write until SIGTERM (close, exit) or SIGKILL."""

    async def live() -> None:
        loop = asyncio.get_running_loop()
        async with make(path, **options) as store:
            scribe = Writer(
                store, lambda line: say(_encode(line)), writer=writer, slot=slot, seed=seed, now=time.monotonic_ns
            )
            work = loop.create_task(scribe.run(1 + seed % 3))
            loop.add_signal_handler(signal.SIGTERM, work.cancel)
            try:
                await work
            except asyncio.CancelledError:
                return

    asyncio.run(live())


def checker_main(make: Factory, path: Path, options: dict[str, Any], history: History, say: Say) -> None:
    """A child's life: open what is left, compare, tell, close."""

    async def check() -> Findings:
        try:
            async with make(path, **options) as store:
                return await compare(store, history)
        except Exception as error:
            return Findings(violations=[Violation(UNEXPECTED, "opening", repr(error))])

    say(_encode(asyncio.run(check())))


class Run:
    """All rounds of one command."""

    def __init__(self, settings: Settings, show: Print = out) -> None:
        self.settings, self.show = settings, show
        self.make = load(settings.store)
        self.random = random.Random(settings.seed)
        self.outcome = Outcome("kill: SIGKILL of writing processes")
        names = ("rounds", "kills", "kills mid-write", "kills while opening or closing", "acknowledged writes")
        more = ("operations cut short", "of them applied", "of them not applied or superseded", "records compared")
        wrong = ("lost", "phantom", "wrong", "unexpected")
        self.outcome.counts.update(dict.fromkeys((*names, *more, *wrong), 0))
        self.base: dict[Name, State] = {}

    def run(self) -> Outcome:
        """All rounds; the outcome says what was found."""
        settings, counts = self.settings, self.outcome.counts
        started = time.monotonic()
        work = Path(tempfile.mkdtemp(prefix="memory-kill-", dir=settings.directory))
        try:
            for number in range(settings.rounds):
                file = number // settings.fresh
                if number % settings.fresh == 0:
                    shutil.rmtree(work / f"{file - 1}", ignore_errors=True)
                    (work / f"{file}").mkdir()
                    self.base = {}
                self.round(number, work / f"{file}" / "memory.db")
                counts["rounds"] += 1
                if (number + 1) % 100 == 0:
                    self.show(f"{number + 1} rounds, {counts['kills']} kills, {len(self.outcome.failures)} violations")
        finally:
            shutil.rmtree(work, ignore_errors=True)
        share = counts["kills mid-write"] / max(1, counts["kills"])
        if share < LEAST_SHARE:
            self.outcome.failures.append(
                f"only {share:.0%} of the kills landed mid-write; {LEAST_SHARE:.0%} are asked for"
            )
        self.outcome.seconds = time.monotonic() - started
        return self.outcome

    def round(self, number: int, path: Path) -> None:
        """Writers, death, comparison."""
        rng = self.random
        pattern = rng.choice(PATTERNS)
        ids = range(number * SLOTS + 1, number * SLOTS + 1 + rng.randint(2, SLOTS))
        children = {writer: self.fork_writer(path, writer, rng.randrange(1 << 30)) for writer in ids}
        killed, ending = self.strike(pattern, children)
        history = History(self.base)
        for writer, child in children.items():
            if not finish(child, 30.0):
                self.blame(number, pattern, f"writer {writer} did not end within 30 s of SIGTERM")
            for line in child.lines:
                history.add(_line.decode(line))
            if (child.status or 0) > 0:
                self.blame(
                    number, pattern, f"writer {writer} ended by itself with status {child.status}: {child.error}"
                )
        self.tally(history, [writer for writer in killed if children[writer].status == -signal.SIGKILL], ending)
        copy = self.copy(path)
        findings = self.check(path, history)
        for violation in findings.violations:
            self.outcome.counts[violation.what] += 1
            self.blame(number, pattern, str(violation))
        self.keep_or_drop(copy, number, bool(findings.violations))
        self.base = findings.states
        self.outcome.counts["records compared"] += findings.records
        self.judge_open(history, findings)

    def fork_writer(self, path: Path, writer: int, seed: int) -> Child:
        make, options = self.make, self.settings.options
        slot = writer % SLOTS
        return Child(lambda say: writer_main(make, path, options, writer, slot, seed, say))

    def strike(self, pattern: str, children: dict[int, Child]) -> tuple[list[int], set[int]]:
        """Kill at the moment; returns who was sent SIGKILL, and which of them were not writing by design."""
        rng, everyone = self.random, list(children.values())
        victims = list(children)
        rng.shuffle(victims)
        if pattern == "opening":
            pump_until(everyone, time.monotonic() + rng.uniform(0, 0.06))
        else:
            # The clock starts when somebody writes, so that slow starts do not make every kill an early one.
            pump_until(everyone, time.monotonic() + 20, lambda: any(child.lines for child in everyone))
            pump_until(everyone, time.monotonic() + rng.uniform(0, self.settings.longest))
        if pattern in ("one", "survivors"):
            children[victims[0]].kill()
            pump_until(everyone, time.monotonic() + rng.uniform(0, self.settings.longest / 2))
        if pattern == "survivors":
            for writer in victims[1:]:
                children[writer].kill(signal.SIGTERM)
            return victims[:1], set()
        if pattern == "closing":
            for child in everyone:
                child.kill(signal.SIGTERM)
            pump_until(everyone, time.monotonic() + rng.uniform(0, 0.02))
        for writer in victims:
            children[writer].kill()
        return victims, set(victims) if pattern == "closing" else set()

    def tally(self, history: History, killed: list[int], ending: set[int]) -> None:
        counts = self.outcome.counts
        begun = {by[0] for by in history.intents}
        for writer in killed:
            counts["kills"] += 1
            if writer in ending or writer not in begun:
                counts["kills while opening or closing"] += 1
            elif history.outstanding(writer):
                counts["kills mid-write"] += 1
        counts["acknowledged writes"] += history.acknowledged()

    def judge_open(self, history: History, findings: Findings) -> None:
        """Of the operations that were cut short, how many are found in the store: both kinds should occur."""
        counts = self.outcome.counts
        there = {by for state in findings.states.values() for by in (state.by, *state.trail)}
        for by in history.intents.keys() - history.acks.keys():
            counts["operations cut short"] += 1
            counts["of them applied" if by in there else "of them not applied or superseded"] += 1

    def check(self, path: Path, history: History) -> Findings:
        make, options = self.make, self.settings.options
        child = Child(lambda say: checker_main(make, path, options, history, say))
        on_time = finish(child, 60.0)
        if not on_time or child.status != 0 or not child.lines:
            why = f"status {child.status} {child.error}" if on_time else "took longer than 60 s"
            return Findings(violations=[Violation(UNEXPECTED, "reading", f"the checker ended without a result: {why}")])
        return msgspec.json.decode(child.lines[0], type=Findings)

    def blame(self, number: int, pattern: str, detail: str) -> None:
        self.outcome.failures.append(f"round {number} ({pattern}): {detail}")

    def copy(self, path: Path) -> Path | None:
        """The files as the dead left them, to look at if something is wrong with them."""
        if self.settings.keep is None:
            return None
        return Path(shutil.copytree(path.parent, tempfile.mkdtemp(prefix="memory-kept-"), dirs_exist_ok=True))

    def keep_or_drop(self, copy: Path | None, number: int, wrong: bool) -> None:
        if copy is not None and self.settings.keep is not None and wrong:
            target = Path(self.settings.keep) / f"round-{number}"
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(copy, target)
        elif copy is not None:
            shutil.rmtree(copy)


def kill(settings: Settings, show: Print = out) -> Outcome:
    """Run the proof. Forks: call it in a process without other threads and without open stores."""
    return Run(settings, show).run()
