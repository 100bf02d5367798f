"""Power loss at every point of a recorded workload.

A child runs the workload through a recording VFS and writes down every write, truncation, sync, new and deleted name,
and between them each intent and acknowledgement. Then, for every prefix of that log, the disk is rebuilt as a
power loss could have left it: strictly what was synced, and several harsher or kinder choices among what was not. A
store is opened on each distinct image, verified, read whole and compared with what had been acknowledged by then.

With ``synchronous=FULL`` nothing acknowledged may be missing, not even on a disk where syncs fail now and then:
such a write may end as unknown, never as a success that a later sync does not back. NORMAL may lose the newest acknowledgements, never
consistency, and nothing when only the process dies. OFF is the control: the proof has to catch it losing data.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import apsw
import msgspec

from memory.testing.faults.disk import Disk, Dropped, Event, Recorder, RecordingVFS
from memory.testing.faults.examine import Findings, examine
from memory.testing.faults.history import LOST, UNEXPECTED, Ack, History, Intent, Violation
from memory.testing.faults.processes import Child, Say, finish, spoken, workers
from memory.testing.faults.table import Outcome, Print, out
from memory.testing.faults.target import DEFAULT, Factory, load
from memory.testing.faults.workload import Writer

MODES = ("full", "failing", "normal", "off")
"""Settings of ``synchronous``; ``failing`` is FULL on a disk where one sync in ten fails."""
KINDS = ("synced only", "all written", "some writes", "some sectors", "torn last write")
_VFS = "memory-faults-recording"
_TICKS = 1 << 20
"""Moments that can be told apart between two events of the log."""


class Settings(msgspec.Struct, frozen=True):
    """How much is recorded and how each prefix is tried."""

    operations: int = 120
    """Operations of the recorded workload."""
    sessions: int = 3
    """Times the store is opened and closed in it."""
    variants: int = 1
    """Random images of each kind at every prefix."""
    seed: int = 1
    every: int = 1
    """Only every n-th prefix, for a short run. Acknowledgements of those between are compared all the same."""
    modes: tuple[str, ...] = MODES
    store: str = DEFAULT
    options: dict[str, Any] = {}
    processes: int = 2
    directory: str | None = None


class Recording(msgspec.Struct):
    """The log and the record, on one line of time: positions in the log, times ``_TICKS``."""

    log: list[Event]
    lines: list[Intent | Ack]


class Verdict(msgspec.Struct):
    """What one worker found for one image at one prefix."""

    prefix: int
    kind: str
    violations: list[Violation]
    lost: int
    """Acknowledged writes that are not there, allowed or not."""


class Part(msgspec.Struct):
    """The last words of a worker: its counts."""

    counts: dict[str, int]


def record_main(make: Factory, settings: Settings, mode: str, path: Path, target: Path) -> None:
    """A child's life: run the workload through the recording VFS, leave the recording in a file."""
    rng, lines = random.Random(settings.seed), list[Intent | Ack]()
    writing = False
    recorder = Recorder(path.parent, lambda: mode == "failing" and writing and rng.random() < 0.1)
    vfs = RecordingVFS(_VFS, recorder)
    synchronous = _setting(mode)

    def now() -> int:
        return recorder.position() * _TICKS + len(lines)

    async def live() -> None:
        nonlocal writing
        for session in range(settings.sessions):
            async with make(path, synchronous=synchronous, vfs=_VFS, **settings.options) as store:
                writer = Writer(store, lines.append, writer=session + 1, slot=0, seed=settings.seed + session, now=now)
                for _ in range(2):
                    writing = True
                    await writer.run(3, max(1, settings.operations // settings.sessions // 6))
                    writing = False
                    _checkpoint(path, synchronous)

    asyncio.run(live())
    vfs.unregister()
    target.write_bytes(msgspec.msgpack.encode(Recording(recorder.log, lines)))


def _setting(mode: str) -> str:
    return "full" if mode == "failing" else mode


def _checkpoint(path: Path, synchronous: str) -> None:
    """Bring the log into the file, as another process would, so that the next writes begin the log anew."""
    db = apsw.Connection(str(path), vfs=_VFS)
    db.execute(f"PRAGMA synchronous={synchronous}").fetchall()
    db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
    db.close()


def images(disk: Disk, rng: random.Random, variants: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    """(kind, files) of every image tried at one point."""
    yield KINDS[0], disk.synced_only()
    yield KINDS[1], disk.all_written()
    for _ in range(variants):
        yield KINDS[2], disk.some_writes(rng)
        yield KINDS[3], disk.some_sectors(rng)
        yield KINDS[4], disk.torn(rng)


class Replay:
    """One worker: walks the whole log, opens what falls to it."""

    def __init__(self, make: Factory, settings: Settings, mode: str, recording: Recording, directory: Path) -> None:
        self.make, self.settings, self.mode = make, settings, mode
        self.recording, self.directory = recording, directory
        self.history = History()
        for line in recording.lines:
            self.history.add(line)
        self.counts: Counter[str] = Counter()
        self.seen: dict[tuple[bytes, bool], Findings] = {}

    async def run(self, number: int, of: int, say: Say) -> None:
        """Every prefix; this worker opens every ``of``-th."""
        disk, log = Disk(), self.recording.log
        for prefix in range(len(log) + 1):
            if prefix:
                disk.feed(log[prefix - 1])
            if (prefix // self.settings.every) % of != number or (prefix % self.settings.every and prefix != len(log)):
                continue
            rng = random.Random(f"{self.settings.seed} {self.mode} {prefix}")
            # Everything said up to here, acknowledgements at this very position included.
            history = self.history.until((prefix + 1) * _TICKS)
            self.counts["prefixes"] += 1
            for kind, files in images(disk, rng, self.settings.variants):
                self.counts["images"] += 1
                violations, lost = await self.judge(kind, files, history)
                if violations or lost:
                    say(msgspec.json.encode(Verdict(prefix, kind, violations, lost)))
        say(msgspec.json.encode(Part(dict(self.counts))))

    async def judge(self, kind: str, files: dict[str, bytes], history: History) -> tuple[list[Violation], int]:
        """Open, or remember what this very image held, and compare with the record."""
        thorough = kind in KINDS[:2]
        digest = blake2b(digest_size=16)
        for name in sorted(files):
            digest.update(b"%s\0%d\0" % (name.encode(), len(files[name])))
            digest.update(files[name])
        key = (digest.digest(), thorough)
        found = self.seen.get(key)
        if found is None:
            self.counts["distinct images opened"] += 1
            found = self.seen[key] = await self.open(files, thorough)
        if any(v.what == UNEXPECTED for v in found.violations):
            return found.violations, 0
        strict = history.check(found.states)
        lost = sum(1 for violation in strict if violation.what == LOST)
        # NORMAL promises the newest acknowledgements only for the death of the process.
        lossy = self.mode == "normal" and kind != KINDS[1]
        return [*found.violations, *(history.check(found.states, lossy=True) if lossy else strict)], lost

    async def open(self, files: dict[str, bytes], thorough: bool) -> Findings:
        """What a store finds on an image."""
        folder = Path(tempfile.mkdtemp(dir=self.directory))
        try:
            for name, content in files.items():
                (folder / name).write_bytes(content)
            async with self.make(
                folder / "memory.db", synchronous=_setting(self.mode), **self.settings.options
            ) as store:
                return await examine(store, thorough=thorough)
        except Exception as error:
            return Findings(violations=[Violation(UNEXPECTED, "reopening", repr(error))])
        finally:
            shutil.rmtree(folder)


class Run:
    """All modes of one command."""

    def __init__(self, settings: Settings, show: Print = out) -> None:
        self.settings, self.show = settings, show
        self.make = load(settings.store)
        self.outcome = Outcome("powerloss: the disk as every prefix of a recorded workload leaves it")

    def run(self) -> Outcome:
        """Record and replay each mode."""
        started = time.monotonic()
        work = Path(tempfile.mkdtemp(prefix="memory-powerloss-", dir=self.settings.directory or memory_disk()))
        try:
            for mode in self.settings.modes:
                (work / mode).mkdir()
                self.mode(mode, work / mode)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        self.outcome.seconds = time.monotonic() - started
        return self.outcome

    def mode(self, mode: str, work: Path) -> None:
        """One setting of ``synchronous``."""
        settings, make = self.settings, self.make
        (work / "live").mkdir()
        target = work / "recording"
        child = Child(lambda say: record_main(make, settings, mode, work / "live" / "memory.db", target))
        if not finish(child, 120.0) or child.status != 0:
            self.outcome.failures.append(f"{mode}: recording ended with status {child.status} {child.error}")
            return
        recording = msgspec.msgpack.decode(target.read_bytes(), type=Recording)
        counts = self.outcome.counts
        counts[f"{mode}: recorded events"] = len(recording.log)
        counts[f"{mode}: operations"] = sum(isinstance(line, Intent) for line in recording.lines)
        counts[f"{mode}: acknowledged writes"] = sum(
            sum(result > 0 for result in line.results) for line in recording.lines if isinstance(line, Ack)
        )
        if mode == "failing":
            counts[f"{mode}: syncs that failed"] = sum(isinstance(event, Dropped) for event in recording.log)
            counts[f"{mode}: operations reported as unknown"] = sum(
                -1 in line.results for line in recording.lines if isinstance(line, Ack)
            )

        def replay(number: int, say: Say) -> None:
            asyncio.run(Replay(make, settings, mode, recording, work).run(number, settings.processes, say))

        children = workers(settings.processes, replay)
        verdicts: list[Verdict] = []
        parts: Counter[str] = Counter()
        for _, line in spoken(children, 7_200.0):
            message = msgspec.json.decode(line)
            if "counts" in message:
                parts.update(msgspec.convert(message, Part).counts)
            else:
                verdicts.append(msgspec.convert(message, Verdict))
        for name in ("prefixes", "images", "distinct images opened"):
            counts[f"{mode}: {name}"] = parts[name]
        for child in children:
            if child.status != 0:
                self.outcome.failures.append(f"{mode}: a replaying process ended with {child.status} {child.error}")
        self.weigh(mode, verdicts)
        self.show(f"{mode}: {len(recording.log)} events, {parts['images']} images, {len(verdicts)} that differ")

    def weigh(self, mode: str, verdicts: list[Verdict]) -> None:
        """FULL and NORMAL may break nothing they promise; OFF must be caught, yet lose nothing when a process dies."""
        counts, failures = self.outcome.counts, self.outcome.failures
        lost = [v for v in verdicts if v.lost]
        damaged = [v for v in verdicts if any(violation.what != LOST for violation in v.violations)]
        counts[f"{mode}: images that lost an acknowledged write"] = len(lost)
        counts[f"{mode}: images damaged or unreadable"] = len(damaged)
        allowed = mode == "off"
        for verdict in verdicts:
            if allowed and verdict.kind != KINDS[1]:
                continue
            failures += [f"{mode}, prefix {verdict.prefix}, {verdict.kind}: {v}" for v in verdict.violations]
        if allowed and not lost:
            failures.append("off: the control was not caught losing an acknowledged write")


def memory_disk() -> str | None:
    """Where files live in memory, if there is such a place: thousands of small images are written."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def powerloss(settings: Settings, show: Print = out) -> Outcome:
    """Run the proof. Forks: call it in a process without other threads and without open stores."""
    return Run(settings, show).run()
