"""``sqlite``: one file, one writer thread with group commit, readers beside it, point reads on the loop."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence
from math import inf
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote

import apsw
import msgspec

from memory.backends.sqlite import aside, mending, reading, scanning, upkeep, verifying
from memory.backends.sqlite.compiling import Fields, compile_filter
from memory.backends.sqlite.entries import TooLongError
from memory.backends.sqlite.faults import ENGINE_ERRORS, translate
from memory.backends.sqlite.hybrid import UnclearError, hybrid, hybrid_soon
from memory.backends.sqlite.matching import match
from memory.backends.sqlite.nearest import nearest, nearest_soon
from memory.backends.sqlite.pace import SHORT, Pace
from memory.backends.sqlite.postings import Memo
from memory.backends.sqlite.room import reserve_log
from memory.backends.sqlite.scanning import around
from memory.backends.sqlite.schema import SYNCHRONOUS, Wanted, connect, declared, prepare
from memory.backends.sqlite.spaces import VectorState, check_named_embedder, read_state
from memory.backends.sqlite.statements import scalar, snapshot
from memory.backends.sqlite.vectorcache import VectorCache
from memory.backends.sqlite.workers import Worker
from memory.backends.sqlite.writer import Writer
from memory.errors import Closed, CorruptData, InvalidSetting
from memory.model import Key
from memory.ops import (
    Around,
    Attach,
    Count,
    Events,
    FeedRead,
    Hybrid,
    Match,
    Matched,
    Mixed,
    Nearest,
    Page,
    Problem,
    Read,
    Result,
    Row,
    Scan,
    Space,
    Status,
    Write,
)
from memory.store import Capabilities, MemoryStore
from memory.store.types import Durability, RepairReport
from memory.turns import own_turn

T = TypeVar("T")
INLINE_KEYS = 16
INLINE_ROWS = 128
FEW_EVENTS = 32
INLINE_SECONDS = 0.002
"""After so long a read on the loop gives up and goes to a worker."""
_CHECK_STEPS = 4_000
"""Steps of SQLite's machine between two looks at the clock: well under a millisecond."""


class SqliteStore(MemoryStore):
    """Memories in one SQLite file that several processes may share.

    ``path`` is the file, made when it does not exist. ``synchronous`` is off, normal, full or extra: with full
    (the default) an acknowledged write survives a power failure, with off and normal the death of the process.
    ``busy_timeout`` is how many seconds to wait for another process's write lock, ``vfs`` the SQLite VFS to go through.
    Further options as in MemoryStore.
    """

    name = "sqlite"
    capabilities: ClassVar[Capabilities] = Capabilities(
        persistent=True,
        shared=True,
        atomic_batches=True,
        feed=True,
        indexes_terms=True,
        snapshots=True,
        reembeds=True,
        recall=0.98,
    )

    searches_at_once: ClassVar[int] = 2
    """One on the loop while another is in its thread."""
    page_cache_kib: ClassVar[int] = 12_288
    """Of the connection for reads on the loop; the writer's takes as much."""
    pipelined_writes: ClassVar[int] = 4
    """Batches of one call that may wait together: the writer takes them into one transaction."""

    def __init__(
        self,
        path: str | os.PathLike[str] = "memory.db",
        *,
        synchronous: str = "full",
        busy_timeout: float = 10.0,
        vfs: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.path = os.fspath(path)
        self.synchronous = str(synchronous).lower()
        if self.synchronous not in SYNCHRONOUS:
            raise InvalidSetting(
                f"synchronous must be one of {', '.join(SYNCHRONOUS)}, not {synchronous!r}", setting="synchronous"
            )
        if not self.path or self.path.startswith(":") or "\0" in self.path:
            raise InvalidSetting("path must name a file; for a store without one use in_memory", setting="path")
        self.busy_timeout = busy_timeout
        self.vfs = vfs
        self._file = self.path
        self._direct: apsw.Connection | None = None
        self._give_up = 0.0
        self._match_pace, self._nearest_pace, self._hybrid_pace, self._around_pace = Pace(), Pace(), Pace(), Pace()
        self._vectors = self._cache()
        self._memo = Memo()
        self._reader: Worker | None = None
        self._keeper: Worker | None = None
        self._writer: Writer | None = None
        self._fields: Fields = {}

    @property
    def location(self) -> str:
        """The file's address."""
        return f"{self.name}:///{quote(self._file)}"

    def _lives_in(self, path: Path) -> bool:
        return upkeep.is_own(self._file, path)

    def _reads_backup(self, head: bytes) -> bool:
        return upkeep.is_ours(head)

    @property
    def durability(self) -> Durability:
        """What survives after an acknowledged write, as ``synchronous`` says."""
        return "power" if SYNCHRONOUS[self.synchronous] == "power" else "process"

    # --- lifecycle -----------------------------------------------------------------------------

    async def _open(self) -> None:
        self._identity = self.analyser.identity
        self._prepared = False
        self._reader = Worker("sqlite-reader", self._connect_reader)
        try:
            self._seen = await self._reader.run(self._get_ready)
        except ENGINE_ERRORS as error:
            raise translate(error, self._file, self._reader.db, opening=True) from error
        self._writer = Writer(
            self._file,
            self._connect_writer,
            self._wake_watchers,
            dict(self._fields),
            self._notice,
            quick=self.durability == "process",
            busy_timeout=self.busy_timeout,
        )
        self._writer.errands.committed(self._opened_with)

    def _get_ready(self, db: apsw.Connection) -> int:
        """In the reader's thread: the connection for reads on the loop, and the newest version."""
        self._direct = connect(
            self._file, busy_timeout=self.busy_timeout, vfs=self.vfs, cache_kib=self.page_cache_kib, read_only=True
        )
        # Held up by nobody: a read that would wait, or grows long, goes to a worker.
        self._direct.set_busy_timeout(0)
        self._direct.set_progress_handler(lambda: perf_counter() > self._give_up, _CHECK_STEPS)
        self._fields = declared(db)
        with snapshot(db):
            self._opened_with = read_state(db)
            if self.embedder is not None:
                check_named_embedder(db, self._opened_with, self.embedder.name)
        version = scalar(db, "SELECT version FROM counter")
        if type(version) is not int:
            raise CorruptData("the file has lost its counter. Restore a backup")
        return version

    def _cache(self) -> VectorCache:
        """What searches by vector keep in memory: the seam at which ``faiss`` puts codes of its own."""
        return VectorCache()

    def _notice(self, state: VectorState) -> None:
        """What a write or search has seen of the vectors. From any thread."""
        self._space = state.space

    def _connect_reader(self) -> apsw.Connection:
        if not self._prepared:
            self._file = os.path.abspath(self.path)  # noqa: PTH100 - resolves no links, as SQLite does not
            prepare(
                self._file,
                Wanted(self.synchronous, self._identity, self.index, self.feed, self.busy_timeout, self.vfs),
            )
            self._prepared = True
        return connect(self._file, busy_timeout=self.busy_timeout, vfs=self.vfs, cache_kib=4_096, read_only=True)

    def _connect_writer(self) -> apsw.Connection:
        db = connect(self._file, busy_timeout=self.busy_timeout, vfs=self.vfs, cache_kib=self.page_cache_kib)
        reserve_log(self._file)
        db.execute(f"PRAGMA synchronous = {self.synchronous}")
        return db

    async def _close(self) -> None:
        workers = [worker for worker in (self._reader, self._keeper) if worker is not None]
        writer = self._writer
        if writer is not None:
            workers.insert(0, writer.worker)
        self._writer = self._reader = self._keeper = None
        direct, self._direct = self._direct, None
        self._vectors = self._cache()
        if direct is not None:
            direct.close(True)
        for worker in reversed(workers):
            if writer is not None and worker is writer.worker:
                writer.stop()
            else:
                worker.stop()
            await worker.stopped()

    def _wake_watchers(self) -> None:
        for wake in self._watchers:
            wake.set()

    async def _run(self, worker: Worker | None, call: Callable[..., T], *args: Any) -> T:
        """``call(connection, *args)`` in a worker, SQLite's errors translated."""
        if worker is None:
            raise Closed(f"this {self.name} store is closed")
        try:
            return await worker.run(call, *args)
        except ENGINE_ERRORS as error:
            raise translate(error, self._file, worker.db) from error

    def _writing(self) -> Writer:
        if self._writer is None:
            raise Closed(f"this {self.name} store is closed")
        return self._writer

    async def _read_in(self, call: Callable[..., T], *args: Any) -> T:
        """A read in the reader's thread."""
        return await self._run(self._reader, call, *args)

    def _at_once(self, call: Callable[..., T], *args: Any, seconds: float | None = None) -> T | None:
        """A short read here and now; None when it would wait or grows long."""
        if self._direct is None:
            raise Closed(f"this {self.name} store is closed")
        self._give_up = perf_counter() + (INLINE_SECONDS if seconds is None else seconds)
        try:
            return call(self._direct, *args)
        except (apsw.BusyError, apsw.LockedError, apsw.InterruptError):
            return None
        except ENGINE_ERRORS as error:
            raise translate(error, self._file, self._direct) from error
        finally:
            if self._direct.in_transaction:  # its end was given up too
                self._give_up = inf
                self._direct.execute("ROLLBACK")

    def _upkeeper(self) -> Worker:
        """The thread for verify and backup, which may take long and must not hold up searches."""
        if self._keeper is None:
            self._keeper = Worker("sqlite-upkeep", self._connect_reader)
        return self._keeper

    # --- hooks ---------------------------------------------------------------------------------

    async def _write(self, ops: Sequence[Write], atomic: bool) -> list[Result]:
        return await self._writing().write(ops, atomic)

    async def _read(self, op: Read) -> list[Row | None]:
        if len(op.keys) <= INLINE_KEYS:
            rows = self._at_once(reading.read_rows, op)
            if rows is not None:
                return rows
        return await self._read_in(reading.read_rows, op)

    async def _scan(self, op: Scan) -> Page:
        fields = self._current_fields()
        said = reading.conditions(op, fields)
        if op.limit <= INLINE_ROWS and not said.reads_bodies:
            page = self._at_once(scanning.scan_soon, op, fields, said)
            if page is not None:
                return page
        return await self._read_in(scanning.scan, op, fields, said)

    async def _count(self, op: Count) -> int | None:
        return await self._read_in(scanning.count, op, self._current_fields())

    async def _namespaces(self, op: Count) -> list[tuple[str, ...]]:
        found = await self._read_in(scanning.namespaces, op, self._current_fields())
        return await super()._namespaces(op) if found is None else found

    async def _match(self, op: Match) -> Matched:
        fields = self._current_fields()
        said = compile_filter(op.where, fields)
        if not said.exact:
            return await super()._match(op)
        return await self._searched(self._match_pace, match, match, op, said.predicate, self._memo, fields)

    async def _nearest(self, op: Nearest) -> list[Row]:
        await self._vectors_ready()
        args = op, self._current_fields(), self._vectors, self._notice
        return await self._searched(self._nearest_pace, nearest_soon, nearest, *args)

    async def _hybrid(self, op: Hybrid) -> Mixed | None:
        args = op, self._current_fields(), self._memo, self._vectors, self._notice
        with contextlib.suppress(UnclearError):
            return await self._searched(self._hybrid_pace, hybrid_soon, hybrid, *args)
        return None

    async def _searched(self, pace: Pace, hasty: Callable[..., T], patient: Callable[..., T], *args: Any) -> T:
        """A search here and now while such are short, else in the reader's thread."""
        if pace.is_short(crowded=self._searching.locked()):
            await own_turn()
            with contextlib.suppress(TooLongError):
                found: T | None = self._at_once(pace.timed, hasty, *args, seconds=2 * SHORT)
                if found is not None:
                    return found
                pace.gave_up()
        result: T = await self._read_in(pace.timed, patient, *args)
        return result

    async def _attach(self, space: Space, ops: Sequence[Attach]) -> int:
        return await self._run_errand(aside.attach, space, ops)

    async def _unattached(self, space: Space, after: Key | None, limit: int) -> list[Row]:
        return await self._read_in(aside.unattached, space, after, limit, self._notice)

    async def _switch(self, space: Space, without: int) -> bool:
        return await self._run_errand(aside.switch, space, without)

    async def _run_errand(self, call: Callable[..., T], *args: Any) -> T:
        """What changes vectors otherwise than by a write: in the writer's thread, errors translated."""
        errands = self._writing().errands
        try:
            return await errands.run(call, *args)
        except ENGINE_ERRORS as error:
            raise translate(error, self._file) from error

    async def _around(self, op: Around) -> list[tuple[list[Row], list[Row]]]:
        return await self._searched(self._around_pace, around, around, op)

    async def _feed(self, op: FeedRead) -> Events:
        few = self._at_once(upkeep.read_feed, msgspec.structs.replace(op, limit=min(op.limit, FEW_EVENTS)))
        if few is not None and len(few.events) < max(1, min(op.limit, FEW_EVENTS)):
            return few  # mostly there are none
        return await self._read_in(upkeep.read_feed, op)

    def _current_fields(self) -> Fields:
        return self._writing().fields

    # --- upkeep --------------------------------------------------------------------------------

    async def _sweep(self, now: int) -> int:
        removed = 0
        while removes := await self._read_in(upkeep.expired, now):
            results = await self._write(removes, False)
            done = sum(result.status is Status.DONE for result in results)
            removed += done
            if not done:
                break
        await self._run(self._writing().worker, upkeep.forget, now, self.feed_retention)
        return removed

    async def _health(self) -> dict[str, Any]:
        return await self._read_in(upkeep.facts, self._file)

    async def _verify(self) -> tuple[int, list[Problem]]:
        return await self._run(self._upkeeper(), verifying.verify, self.language)

    async def _repair(self) -> RepairReport:
        writer = self._writing()
        report = await self._run(writer.worker, mending.repair, self.language, self._clock(), self.busy_timeout)
        writer.forget_room()
        return report

    async def _backup(self, path: Path) -> int | None:
        stop = [False]
        try:
            return await self._run(self._upkeeper(), upkeep.backup, path, lambda: stop[0])
        finally:
            stop[0] = True

    async def _backup_rows(self, path: Path) -> AsyncIterator[list[Row]]:
        batches = upkeep.backup_rows(str(path), 500, self.busy_timeout)
        worker = Worker(
            "sqlite-restore", lambda: connect(self._file, busy_timeout=self.busy_timeout, vfs=self.vfs, read_only=True)
        )
        try:
            while (rows := await self._run(worker, lambda db: next(batches, None))) is not None:
                yield rows
        finally:
            worker.post(batches.close)
            worker.stop()
            await worker.stopped()
