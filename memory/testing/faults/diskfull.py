"""A disk that fills up under a store: a small tmpfs, and a limit on the size of files.

Each scenario runs in a process of its own. A store is filled a little, then only so much room is left (every
remainder in turn, so that the end of the room falls on every point of a transaction), and written to until
StorageFull. Then: nothing acknowledged is missing, reads and verify go on, deletes work; and when the room comes
back writes work, and the file opens again, clean.

The tmpfs needs the right to mount, for which a private user namespace is enough (``unshare -rm``). Where that is not
permitted the scenario is skipped, loudly, and the limit on file size (RLIMIT_FSIZE: a short write, then EFBIG) remains.
"""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec

from memory.errors import BackendUnavailable, MemoryStoreError, StorageFull
from memory.store import MemoryStore
from memory.testing.faults.examine import compare
from memory.testing.faults.history import LOST, UNEXPECTED, History, Violation
from memory.testing.faults.processes import Child, Say, finish
from memory.testing.faults.table import Outcome, Print, out
from memory.testing.faults.target import DEFAULT, Factory, load
from memory.testing.faults.workload import Writer, private_names

PAGE = 4_096
TMPFS_BYTES = 8 << 20
_ENOUGH = 3
"""Writes that have to meet the full disk."""
_MOST = 3_000
"""Writes after which a disk that did not fill is a mistake of the scenario."""


class Settings(msgspec.Struct, frozen=True):
    """How many points of filling up."""

    remainders: int = 64
    """Remainders of each kind, from nothing: pages on the tmpfs, ``step`` bytes below the limit on file size."""
    step: int = 1_536
    seed: int = 1
    store: str = DEFAULT
    options: dict[str, Any] = {}
    tmpfs: bool = True
    mounted: str | None = None
    """A small file system of our own, to be filled up: run there and nothing else."""


class Squeeze(Protocol):
    """A way of taking away room."""

    def start(self, path: Path, remainder: int) -> None:
        """Leave so many bytes."""

    def release(self) -> None:
        """Give the room back."""


class Filler:
    """A file that takes what is left of a small file system."""

    def start(self, path: Path, remainder: int) -> None:
        """Leave ``remainder`` bytes."""
        self.path = path.parent / "filler"
        stat = os.statvfs(path.parent)
        with suppress(OSError), self.path.open("wb", buffering=0) as file:  # a store may take room meanwhile
            file.write(bytes(max(0, stat.f_bavail * stat.f_frsize - remainder)))

    def release(self) -> None:
        """Remove it."""
        self.path.unlink()


class Limit:
    """The system's limit on the size of a file."""

    def start(self, path: Path, remainder: int) -> None:
        """No file may grow beyond the main file's size and ``remainder`` bytes."""
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + remainder, hard))

    def release(self) -> None:
        """No limit."""
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


class Result(msgspec.Struct):
    """What one scenario saw."""

    counts: dict[str, int] = {}
    violations: list[Violation] = []


class Scenario:
    """One store, one remainder."""

    def __init__(self, make: Factory, options: dict[str, Any], path: Path, squeeze: Squeeze, seed: int) -> None:
        self.make, self.options, self.path, self.squeeze, self.seed = make, options, path, squeeze, seed
        self.history = History()
        self.counts: Counter[str] = Counter()
        self.violations: list[Violation] = []
        self.writers = 0

    async def run(self, remainder: int) -> Result:
        """All of it; see the module."""
        async with self.make(self.path, **self.options) as store:
            before = self.writer(store)
            await before.run(2, 20)
            self.squeeze.start(self.path, remainder)
            try:
                await self.fill(store)
                await self.compare(store, "while the disk is full")
                await self.delete(store)
                await self.compare(store, "after deletes on the full disk")
                await self.reopen()
            finally:
                self.squeeze.release()
            after = self.writer(store)
            await after.run(2, 10)
            if after.full:
                self.blame(UNEXPECTED, f"{after.full} writes ended with StorageFull after room had come back")
            await self.compare(store, "after room has come back")
        async with self.make(self.path, **self.options) as store:
            await self.compare(store, "after opening again")
        self.counts["acknowledged writes"] = self.history.acknowledged()
        return Result(dict(self.counts), self.violations)

    def writer(self, store: MemoryStore) -> Writer:
        self.writers += 1
        return Writer(
            store, self.history.add, writer=self.writers, slot=0, seed=self.seed + self.writers, now=time.monotonic_ns
        )

    async def fill(self, store: MemoryStore) -> None:
        """Write what is new, and everything else in between, until the disk is full."""
        writer = self.writer(store)
        for number in range(_MOST):
            await writer.do("batch" if number % 5 == 0 else "put", [f"grown/{number}"])
            if number % 3 == 0:
                await writer.step(private_names(0, 0))
            if writer.full >= _ENOUGH or writer.failed >= _ENOUGH:
                break
        else:
            self.blame(UNEXPECTED, f"the disk did not fill up in {_MOST} writes")
        self.counts["writes that met the full disk"] += writer.full

    async def delete(self, store: MemoryStore) -> None:
        """Delete on the full disk; then see whether the room of the deleted can be used."""
        writer = self.writer(store)
        names = [item.id for item in await store.list(under=("faults",), limit=12)]
        for name in names[:8]:
            if await writer.do("delete", [name]) == [1]:
                self.counts["deletes on the full disk"] += 1
            else:
                self.blame(UNEXPECTED, f"a delete on the full disk did not work (StorageFull: {writer.full})")
        same = [name for name in names[8:] if name.split("/")[0] == names[8].split("/")[0]]
        if await writer.do("delete_batch", same) == [1] * len(same):
            self.counts["deletes on the full disk"] += len(same)
        else:
            self.blame(UNEXPECTED, "a batch of deletes on the full disk did not work")
        full = writer.full
        for _ in range(10):
            await writer.step(private_names(0, 0))
        self.counts["writes on the full disk after deletes"] += 10
        self.counts["of them StorageFull"] += writer.full - full

    async def reopen(self) -> None:
        """Another connection on the full disk: it may refuse, with one of two errors, or has to read everything."""
        try:
            async with self.make(self.path, **self.options) as second:
                await self.compare(second, "opened on the full disk")
            self.counts["opened on the full disk"] += 1
        except (StorageFull, BackendUnavailable):
            self.counts["refused to open on the full disk"] += 1
        except MemoryStoreError as error:
            self.blame(UNEXPECTED, f"opening on the full disk: {error!r}")

    async def compare(self, store: MemoryStore, when: str) -> None:
        findings = await compare(store, self.history)
        self.violations += [Violation(v.what, v.name, f"{v.detail} ({when})") for v in findings.violations]
        self.counts["comparisons"] += 1

    def blame(self, what: str, detail: str) -> None:
        self.violations.append(Violation(what, "scenario", detail))


class Run:
    """All scenarios of one command."""

    def __init__(self, settings: Settings, show: Print = out) -> None:
        self.settings, self.show = settings, show
        self.make = load(settings.store)
        self.outcome = Outcome("diskfull: the end of the room at every point of a write")

    def run(self) -> Outcome:
        """Both kinds, or the one that was asked for."""
        started = time.monotonic()
        settings = self.settings
        if settings.mounted is not None:
            for number in range(settings.remainders):
                self.scenario("tmpfs", Path(settings.mounted), Filler(), number * PAGE)
        else:
            if settings.tmpfs:
                self.tmpfs()
            with tempfile.TemporaryDirectory(prefix="memory-diskfull-") as folder:
                for number in range(settings.remainders):
                    self.scenario("RLIMIT_FSIZE", Path(folder), Limit(), number * settings.step)
        self.outcome.seconds = time.monotonic() - started
        return self.outcome

    def tmpfs(self) -> None:
        """The same command in a mount namespace of its own, on a small tmpfs that ends with it."""
        with tempfile.TemporaryDirectory(prefix="memory-diskfull-") as folder:
            script = f'mount -t tmpfs -o size={TMPFS_BYTES} tmpfs "$1" && shift && exec "$@"'
            inner = msgspec.json.encode(msgspec.structs.replace(self.settings, mounted=folder)).decode()
            command = [sys.executable, "-m", "memory.testing.faults", "diskfull", "--inside", inner]
            unshare = ["unshare", "-rm", "sh", "-c", script, "sh", folder]
            with suppress(FileNotFoundError):
                if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode == 0:
                    done = subprocess.run([*unshare, *command], capture_output=True, check=False)
                    try:
                        part = msgspec.json.decode(done.stdout.splitlines()[-1], type=Outcome)
                    except (IndexError, msgspec.DecodeError):
                        text = (done.stdout + done.stderr).decode(errors="replace")
                        self.outcome.failures.append(f"tmpfs: ended with {done.returncode}: {text[-2_000:]}")
                        return
                    self.outcome.counts.update(part.counts)
                    self.outcome.failures += part.failures
                    return
        self.show("!!! tmpfs: NOT RUN. Mounting is not permitted here (tried: unshare -rm, mount -t tmpfs).")
        self.show("!!! Only RLIMIT_FSIZE is tried below; run as root or where user namespaces are allowed for both.")
        self.outcome.counts["tmpfs: scenarios"] = 0

    def scenario(self, kind: str, folder: Path, squeeze: Squeeze, remainder: int) -> None:
        """One scenario in a child."""
        make, settings = self.make, self.settings
        path = folder / "store" / "memory.db"
        path.parent.mkdir()
        child = Child(lambda say: scenario_main(make, settings, path, squeeze, remainder, say))
        on_time = finish(child, 120.0)
        shutil.rmtree(path.parent)
        counts, where = self.outcome.counts, f"{kind}, {remainder} bytes left"
        counts[f"{kind}: scenarios"] += 1
        if not on_time or child.status != 0 or not child.lines:
            self.outcome.failures.append(f"{where}: ended with status {child.status} {child.error}")
            return
        result = msgspec.json.decode(child.lines[0], type=Result)
        for name, number in result.counts.items():
            counts[f"{kind}: {name}"] += number
        counts[f"{kind}: acknowledged writes lost"] += sum(v.what == LOST for v in result.violations)
        self.outcome.failures += [f"{where}: {violation}" for violation in result.violations]


def scenario_main(make: Factory, settings: Settings, path: Path, squeeze: Squeeze, remainder: int, say: Say) -> None:
    """A child's life: one scenario."""
    scenario = Scenario(make, settings.options, path, squeeze, settings.seed + remainder)
    say(msgspec.json.encode(asyncio.run(scenario.run(remainder))))


def diskfull(settings: Settings, show: Print = out) -> Outcome:
    """Run the proof. Forks: call it in a process without other threads and without open stores."""
    return Run(settings, show).run()
