from __future__ import annotations

import fcntl
import gc
import inspect
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
import servers
from blockbuster import BlockBuster, blockbuster_ctx
from flavours import flavour
from migrations import PAIRS

from memory import ManualClock, MemoryManager
from memory.testing import heartbeat
from memory.testing.faults.small import make_small

MEMORY_DISK = Path("/dev/shm")
ROOM = 4 << 30
"""Bytes that have to be free there; each of the processes that share the tests was seen to take up to 370 MB, mostly servers."""


def in_memory(disk: Path) -> bool:
    """Whether the files of the tests may lie there: it is a disk in memory, with room, whose programs may be run."""
    if sys.platform != "linux" or not os.access(disk, os.W_OK):
        return False
    kind = os.statvfs(disk)
    return kind.f_bavail * kind.f_frsize >= ROOM and not kind.f_flag & os.ST_NOEXEC


# Thousands of small stores are made and removed again: a file system on a disk spends more on that than the tests on what is in
# them, and its waits are those of whoever else writes to the disk. Whoever sets TMPDIR chooses the place: TMPDIR=/tmp make test.
if "TMPDIR" not in os.environ and in_memory(MEMORY_DISK):
    os.environ["TMPDIR"] = tempfile.tempdir = str(MEMORY_DISK)

MEASURES = re.compile("stalls|disturbance|heartbeat|calm_work")
_locks: list[IO[str]] = []
"""While a test runs, what the processes that share the tests lock. The first is a gate, which a test passes to begin; the
second is held by all that run, together, or by one that is alone. Who waits to be alone holds the gate, so that no other begins."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Where several processes share the tests, one that measures what the machine does has it for itself."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID")
    if run is None:
        return (yield)
    with _lock_of(run, "gate").open("w") as gate, _lock_of(run, "turn").open("w") as turn:
        fcntl.flock(gate, fcntl.LOCK_EX)
        fcntl.flock(turn, fcntl.LOCK_EX if MEASURES.search(item.name) else fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)
        _locks[:] = [gate, turn]
        try:
            return (yield)
        finally:
            _locks.clear()


def _lock_of(run: str, name: str) -> Path:
    return Path(tempfile.gettempdir(), f"memory-tests-{run}-{name}")


@contextmanager
def by_itself() -> Iterator[None]:
    """While the loop is found held, and measured again: the tests of the other processes may be the reason."""
    if not _locks:
        yield
        return
    gate, turn = _locks
    fcntl.flock(turn, fcntl.LOCK_UN)  # another test may be waiting to be alone, too
    fcntl.flock(gate, fcntl.LOCK_EX)
    fcntl.flock(turn, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(turn, fcntl.LOCK_SH)
        fcntl.flock(gate, fcntl.LOCK_UN)


heartbeat.alone = by_itself


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, obj: object) -> list[pytest.Item] | None:
    """Of a class that is `full`, nothing is collected where that is deselected anyway: it would be every second test."""
    if not inspect.isclass(obj) or not re.search(r"\bnot full\b", collector.config.getoption("markexpr")):
        return None
    marks = obj.__dict__.get("pytestmark", [])
    return [] if any(mark.name == "full" for mark in (marks if isinstance(marks, list) else [marks])) else None


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is made while tests are collected stays: nothing of it is garbage, and the collector need not look for any."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_finish() -> None:
    """What is there before the first test stays to the end: the collector, which tests call before they measure, need not look
    at the tree of all tests (a tenth of a second, or several) again and again."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Each process of the run may be the last."""
    for name in ("gate", "turn"):
        _lock_of(str(os.environ.get("PYTEST_XDIST_TESTRUNUID")), name).unlink(missing_ok=True)


@pytest.fixture(autouse=True, scope="session")
def servers_end_with_the_run() -> Iterator[None]:
    """Servers are started when a test first asks for them."""
    with servers.running:
        yield


@pytest.fixture(autouse=True, scope="session")
def nothing_blocks_a_loop() -> Iterator[BlockBuster]:
    """Any blocking call made by `memory` on a running loop is an error; the suite itself and its tools may block."""
    with blockbuster_ctx("memory", excluded_modules=["memory.testing"]) as guard:
        # Coverage notes a new file under a lock of its own, which another thread may hold for a moment.
        guard.functions["threading.Lock.acquire"].can_block_in("coverage/collector.py", {"lock_data"})
        # asyncpg looks for a file of passwords and for certificates in the user's home when it connects.
        for function in guard.functions.values():
            function.can_block_in("asyncpg/connect_utils.py", "_parse_connect_dsn_and_args")
            # The page that says what a composite is made of is read when the store is made.
            function.can_block_in("memory/composing.py", "composed")
        yield guard


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without .env, an environment without our variables."""
    for name in list(os.environ):
        if name.upper().startswith("MEMORY_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(params=["in_memory", "sqlite"])
async def memory(request: pytest.FixtureRequest, empty: Path) -> AsyncIterator[MemoryManager]:
    """An open manager, once on each engine."""
    async with MemoryManager(request.param) as manager:
        yield manager


@pytest.fixture(params=["in_memory", "sqlite"])
async def bare(request: pytest.FixtureRequest, empty: Path) -> AsyncIterator[MemoryManager]:
    """An open manager without an embedder, for callers who bring vectors of their own; once on each engine."""
    async with MemoryManager(request.param, embedder="none") as manager:
        yield manager


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> str:
    """A pair of backends that are migrated between, "source-target"; their servers run, their drivers are loaded."""
    for name in request.param.split("-"):
        flavour(name)
    return str(request.param)


@pytest.fixture
def small_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything about the index of a faiss store is small."""
    make_small(monkeypatch.setattr)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where the journal of a migration lies."""
    return tmp_path / "journal.jsonl"


@pytest.fixture(scope="session")
def v1_program() -> Iterator[object]:
    """A process that knows only the layout of Firestore V1's programs."""
    from firestore_v1 import other_program  # which loads the driver

    with other_program() as started:
        yield started


@pytest.fixture
def v1(v1_program: Any) -> object:
    """That process, with a project of this test."""
    from firestore_v1 import elsewhere

    return elsewhere(v1_program)


@pytest.fixture
def clock() -> ManualClock:
    """The time of this test."""
    return ManualClock()
