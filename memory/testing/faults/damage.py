"""Bytes flipped, zeroed and cut off at every 64 bytes of a store's files.

Two sets of files: a store that was closed, and one that lives (its newest writes are in the ``-wal``). Each damaged
copy is opened by a worker process that asks every question there is. The damage must be detected (CorruptData or
BackendUnavailable at open or at a read, or a problem that verify reports) or harmless (every answer equal). A wrong
memory, an error from below the library, a hang or the death of the interpreter is a violation.

One more outcome exists for a damaged ``-wal``: SQLite takes a broken tail for a write that power loss cut short and
goes back to the commit before it. When every answer belongs to one earlier acknowledged state this is counted as
"an earlier state", apart from the others.
"""

from __future__ import annotations

import asyncio
import random
import resource
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from memory.errors import BackendUnavailable, CorruptData
from memory.store import MemoryStore
from memory.testing.faults import questions
from memory.testing.faults.history import Kind
from memory.testing.faults.powerloss import memory_disk
from memory.testing.faults.processes import Child, Say, finish, spoken
from memory.testing.faults.questions import AT_OPEN, AT_READ, BY_VERIFY, FOREIGN, HARMLESS, OLDER, WRONG, Answers
from memory.testing.faults.table import Outcome, Print, out
from memory.testing.faults.target import DEFAULT, Factory, load
from memory.testing.faults.workload import Writer, private_names

STEP = 64
HOW = ("flip", "zero", "truncate")
CRASH, HANG = "crash", "hang"
BROKEN = (WRONG, FOREIGN, CRASH, HANG)
UNCHANGED = "unchanged (zeros already)"
OLDER_CUT = f"{OLDER}, cut off"
OLDER_CHANGED = f"{OLDER}, changed"
VERDICTS = (HARMLESS, AT_OPEN, AT_READ, BY_VERIFY, OLDER_CUT, OLDER_CHANGED, UNCHANGED)
SCENES = ("closed", "live")
CONTROL = "memory.testing.faults.controls:CarelessStore"
_WEIGHTS: dict[Kind, int] = {"put": 30, "add": 20, "cas": 15, "update": 20, "delete": 8, "batch": 7}
_MEMORY = 4 << 30
_SECONDS = 30


class Settings(msgspec.Struct, frozen=True):
    """How much damage."""

    seed: int = 1
    sample: int | None = None
    """Only so many cases of each file, at random; None: all of them."""
    every: int = 1
    """Only every so many places of each file, evenly spread."""
    only: str | None = None
    """Only this file, e.g. ``live memory.db-wal``."""
    operations: int = 60
    """Operations before the store is closed; after it was opened again a fifth as many go to its log."""
    store: str = DEFAULT
    options: dict[str, Any] = {}
    processes: int = 2
    control: bool = True
    directory: str | None = None


class Case(msgspec.Struct, frozen=True, array_like=True):
    """One damage."""

    scene: str
    file: str
    how: str
    offset: int

    def spoil(self, content: bytes, seed: int) -> bytes:
        """The damaged bytes: one bit of the 64 flipped, all 64 zeroed, or the file cut off before them."""
        if self.how == "truncate":
            return content[: self.offset]
        block = bytearray(content[self.offset : self.offset + STEP])
        if self.how == "zero":
            block = bytearray(len(block))
        else:
            rng = random.Random(f"{seed} {self.file} {self.offset}")
            block[rng.randrange(len(block))] ^= 1 << rng.randrange(8)
        return content[: self.offset] + bytes(block) + content[self.offset + STEP :]


class Verdict(msgspec.Struct, array_like=True):
    """What came of a case; an empty verdict: it begins."""

    case: int
    verdict: str = ""
    why: str = ""


Scene = dict[str, bytes]
"""File name -> content."""


async def build(make: Factory, settings: Settings, folder: Path) -> None:
    """Make both scenes in ``closed`` and ``live``, and write down what they ever held in ``past.json``."""
    path = folder / "work" / "memory.db"
    path.parent.mkdir()
    past = questions.Past()
    past.saw([])

    async def write(store: MemoryStore, writer: int, operations: int) -> None:
        scribe = Writer(
            store, lambda line: None, writer=writer, slot=0, seed=settings.seed, now=time.monotonic_ns, weights=_WEIGHTS
        )
        for _ in range(operations):
            await scribe.step(private_names(0, 0))
            past.saw((await store.list(limit=1_000)).items)

    async with make(path, **settings.options) as store:
        await write(store, 1, settings.operations)
    shutil.copytree(path.parent, folder / "closed")
    async with make(path, **settings.options) as store:
        await write(store, 2, max(3, settings.operations // 5))
        shutil.copytree(path.parent, folder / "live", ignore=shutil.ignore_patterns("*-shm"))
    (folder / "past.json").write_bytes(past.dump())


async def read_all(make: Factory, settings: Settings, files: Scene, folder: Path) -> Answers | Exception:
    """Every answer that a store gives on these files; or the error of opening it."""
    here = Path(tempfile.mkdtemp(dir=folder))
    try:
        for name, content in files.items():
            (here / name).write_bytes(content)
        async with make(here / "memory.db", **settings.options) as store:
            return await questions.ask(store)
    except Exception as error:
        return error
    finally:
        shutil.rmtree(here)


class Worker:
    """What a worker process knows: the scenes and the answers of the whole stores."""

    def __init__(self, make: Factory, settings: Settings, folder: Path) -> None:
        self.make, self.settings, self.folder = make, settings, folder
        self.scenes = {name: read_scene(folder / name) for name in SCENES}
        self.past = questions.Past.load((folder / "past.json").read_bytes())
        self.whole: dict[str, Answers] = {}

    async def run(self, cases: list[tuple[int, Case]], say: Say) -> None:
        """Every case: said before it begins, so that the parent knows which one killed this process."""
        for name, files in self.scenes.items():
            answers = await read_all(self.make, self.settings, files, self.folder)
            if isinstance(answers, Exception):
                raise answers
            wrong = [f"{question}: {a!r}" for question, a in answers.items() if isinstance(a, Exception)]
            if wrong or answers["verify"]:
                raise AssertionError(f"the undamaged store is not whole: {wrong} {answers['verify']}")
            self.whole[name] = answers
        for number, case in cases:
            say(msgspec.json.encode(Verdict(number)))
            signal.alarm(_SECONDS)
            verdict, why = await self.judge(case)
            signal.alarm(0)
            say(msgspec.json.encode(Verdict(number, verdict, why)))

    async def judge(self, case: Case) -> tuple[str, str]:
        """Damage, open, ask, compare."""
        files = self.scenes[case.scene]
        damaged = {**files, case.file: case.spoil(files[case.file], self.settings.seed)}
        if damaged == files:
            return UNCHANGED, ""
        found = await read_all(self.make, self.settings, damaged, self.folder)
        if isinstance(found, Exception):
            known = isinstance(found, CorruptData | BackendUnavailable)
            return (AT_OPEN if known else FOREIGN), f"open: {found!r:.200}"
        return questions.judge(self.whole[case.scene], found, self.past)


def read_scene(folder: Path) -> Scene:
    """The files of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


class Run:
    """One store, all cases."""

    def __init__(self, settings: Settings, show: Print = out) -> None:
        self.settings, self.show = settings, show
        self.outcome = Outcome("damage: bytes flipped, zeroed and cut off")

    def run(self) -> Outcome:
        """The store under proof, then the control, which has to be caught."""
        started = time.monotonic()
        settings = self.settings
        totals = self.store(settings)
        self.outcome.counts.update(totals)
        if settings.control:
            control = msgspec.structs.replace(
                settings, store=CONTROL, options={}, sample=settings.sample or 1_500, every=1, only=None
            )
            self.outcome.failures, kept = [], self.outcome.failures
            found = self.store(control)
            self.outcome.failures = kept
            wrong = sum(number for name, number in found.items() if name.endswith(WRONG))
            self.outcome.counts["control: cases"] = sum(found.values())
            self.outcome.counts["control: wrong (must be caught)"] = wrong
            if not wrong:
                self.outcome.failures.append(
                    "the control, a store without checksums, was not caught with a wrong memory"
                )
        self.outcome.seconds = time.monotonic() - started
        return self.outcome

    def store(self, settings: Settings) -> Counter[str]:
        """Build, damage, count."""
        folder = Path(tempfile.mkdtemp(prefix="memory-damage-", dir=settings.directory or memory_disk()))
        try:
            make = load(settings.store)
            builder = Child(lambda say: asyncio.run(build(make, settings, folder)))
            if not finish(builder, 120.0) or builder.status != 0:
                self.outcome.failures.append(f"building ended with status {builder.status} {builder.error}")
                return Counter()
            return self.count(make, settings, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def count(self, make: Factory, settings: Settings, folder: Path) -> Counter[str]:
        """All cases, shared out among worker processes; a dead one is replaced."""
        cases = list(all_cases(folder, settings))
        totals: Counter[str] = Counter()
        for scene, file in dict.fromkeys((case.scene, case.file) for case in cases):
            totals.update({f"{scene} {file}: {verdict}": 0 for verdict in (*VERDICTS, *BROKEN)})
        rest = [list(enumerate(cases))[number :: settings.processes] for number in range(settings.processes)]
        while any(rest):
            part = [cases for cases in rest if cases]
            children = [Child(partial(worker_main, make, settings, folder, cases)) for cases in part]
            begun: dict[int, int] = {}
            done = [0] * len(children)
            for number, line in spoken(children, 7_200.0):
                told = msgspec.json.decode(line, type=Verdict)
                if told.verdict:
                    done[number] += 1
                    begun.pop(number, None)
                    self.note(totals, cases[told.case], told)
                else:
                    begun[number] = told.case
            for number, case in begun.items():
                status = children[number].status
                verdict = HANG if status == -signal.SIGALRM else CRASH
                self.note(totals, cases[case], Verdict(case, verdict, f"the process ended with {status}"))
                done[number] += 1
            if not any(done):
                self.outcome.failures += [f"a worker ended with {child.status} {child.error}" for child in children]
                break
            rest = [cases[count:] for cases, count in zip(part, done, strict=True)]
        return totals

    def note(self, totals: Counter[str], case: Case, told: Verdict) -> None:
        verdict = told.verdict
        if verdict == OLDER:
            verdict = OLDER_CUT if case.how == "truncate" else OLDER_CHANGED
        totals[f"{case.scene} {case.file}: {verdict}"] += 1
        # A closed store has no log to go back in; but nothing tells a file of no bytes from a new one.
        older = told.verdict == OLDER and not case.file.endswith("-wal") and case.offset > 0
        if told.verdict in BROKEN or older:
            where = f"{case.scene} {case.file}, {case.how} at {case.offset}"
            self.outcome.failures.append(f"{where}: {told.verdict}: {told.why}")


def all_cases(folder: Path, settings: Settings) -> Iterator[Case]:
    """Every 64 bytes of every file of both scenes, in each way; or a sample of them."""
    for scene in SCENES:
        for file, content in read_scene(folder / scene).items():
            if settings.only not in (None, f"{scene} {file}"):
                continue
            cases = [
                Case(scene, file, how, offset)
                for offset in range(0, len(content), STEP * settings.every)
                for how in HOW
            ]
            if settings.sample is not None and settings.sample < len(cases):
                # The headers always: the first kilobyte decides what the rest means.
                head, tail = cases[: 3 * 16], cases[3 * 16 :]
                few = settings.sample // 4
                rng = random.Random(settings.seed)
                cases = [*rng.sample(head, min(few, len(head))), *rng.sample(tail, settings.sample - few)]
            yield from cases


def worker_main(make: Factory, settings: Settings, folder: Path, cases: list[tuple[int, Case]], say: Say) -> None:
    """A child's life: never more memory than is sensible, never a core file."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    asyncio.run(Worker(make, settings, folder).run(cases, say))


def damage(settings: Settings, show: Print = out) -> Outcome:
    """Run the proof. Forks: call it in a process without other threads and without open stores."""
    return Run(settings, show).run()
