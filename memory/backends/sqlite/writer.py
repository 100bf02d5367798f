"""The one writer: group commit, one transaction for all the writes that are waiting when it begins."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence

import apsw

from memory.backends.sqlite.applying import apply_plan
from memory.backends.sqlite.counter import read_counter
from memory.backends.sqlite.errands import Errands
from memory.backends.sqlite.faults import ENGINE_ERRORS, is_full, translate
from memory.backends.sqlite.indexing import PENDING, flush_pending
from memory.backends.sqlite.planning import Prepared, Unit, decide_all, make_plan, prepared
from memory.backends.sqlite.queueing import Pace, Request, let_go, small_group
from memory.backends.sqlite.room import Reserve
from memory.backends.sqlite.schema import declared
from memory.backends.sqlite.spaces import VectorState
from memory.backends.sqlite.workers import Job, Worker
from memory.errors import Closed, MemoryStoreError, Overloaded
from memory.ops import Put, Result, Status, Write
from memory.telemetry import get_logger
from memory.turns import is_due, pause

_log = get_logger("sqlite")

GROUP_OPS = 2_000
GROUP_BYTES = 4 * 1024 * 1024
Fields = dict[tuple[str, ...], int]
FEW = 16
"""Writes prepared on the loop in one go: well under a millisecond."""
CHECKPOINT_PAGES = 4_000
"""So long a log is moved into the file, by the thread: 16 MiB."""
MAX_WAITING = 100_000
"""Writes that may wait; beyond it callers get Overloaded instead of growing the queue."""


class Writer:
    """Takes writes on the loop, hands them to its thread in groups, answers each caller."""

    def __init__(
        self,
        path: str,
        connect: Callable[[], apsw.Connection],
        wake: Callable[[], None],
        fields: Fields,
        noticed: Callable[[VectorState], None],
        *,
        quick: bool,
        busy_timeout: float,
    ) -> None:
        self._path = path
        self._wake = wake
        self._vectors = VectorState()
        self._waiting: deque[Request] = deque()
        self._kicked = False
        self._queued = 0
        self._layout = -1
        self.fields = fields
        self._ordered = asyncio.Lock()
        self._pace = Pace(quick=quick)
        self._untended = self._tending = False
        self._patience = busy_timeout
        self._reserve = Reserve(path)
        self._log_pages = 0
        self.worker = Worker("sqlite-writer", lambda: self.opened(connect()))
        self.errands = Errands(path, self.worker, self._reserve, noticed, self._checkpoint_if_long)

    async def write(self, ops: Sequence[Write], atomic: bool) -> list[Result]:
        """Apply writes; returns when they are committed. A cancelled call is withdrawn if it has not begun."""
        if self._queued > MAX_WAITING:
            raise Overloaded(f"{self._queued:,} writes are waiting for the disk; nothing was done, try again later")
        self._queued += len(ops)
        try:
            if len(ops) <= FEW and not self._ordered.locked():
                return await self._enqueue([prepared(op, self.fields) for op in ops], atomic)
            # A long preparation lets others run, but keeps its place in the queue.
            async with self._ordered:
                ready = await self._prepare(ops)
                job = self._enqueue(ready, atomic)
            return await job
        finally:
            self._queued -= len(ops)

    async def _prepare(self, ops: Sequence[Write]) -> list[Prepared]:
        ready: list[Prepared] = []
        for op in ops:
            if is_due():
                await pause()
            ready.append(prepared(op, self.fields))
        return ready

    def _enqueue(self, ready: list[Prepared], atomic: bool) -> asyncio.Future[list[Result]]:
        if self.worker.stopping:  # it was closed while this was made ready
            raise Closed("this sqlite store is closed")
        loop = asyncio.get_running_loop()
        request = Request(Unit(ready, atomic), Job(lambda db: None, (), loop))
        self._waiting.append(request)
        if not self._kicked:
            # At the end of this turn of the loop: what other tasks write in it shares the transaction.
            self._kick_soon()
        return request.job.future

    def forget_room(self) -> None:
        """The file may be shorter than it was: what was set aside for writes has to be looked at again."""
        self._reserve.forget()

    def stop(self) -> None:
        """Have everything that waits written, then end the thread. Does not wait."""
        self.worker.post(self._drain)
        self.worker.stop(last=empty_log)

    def _kick(self) -> None:
        self._kicked = False
        done = False
        if self._pace.is_quick:
            try:
                done = self._at_once()
            except Exception as error:  # noqa: BLE001 - callers wait: the thread goes on from here
                _log.warning("write failed", path=self._path, error=error)
        if not done:
            self.worker.post(self._drain)
        elif self._waiting:
            self._kick_soon()

    def _kick_soon(self) -> None:
        self._kicked = True
        asyncio.get_running_loop().call_soon(self._kick)

    def _at_once(self) -> bool:
        """On the loop: commit the first few small writes here and now, when nothing else is under way and a commit waits
        for no disk. The two thread switches that this spares cost as much as the write. False: left to the thread."""
        db = self.worker.db
        if db is None or not self.worker.turn.acquire(blocking=False):
            return False
        started = time.perf_counter()
        try:
            taken = small_group(self._waiting)
            if not taken:
                return not self._waiting
            group = [request for request in taken if not request.job.future.done()]
            if group:
                outcome = self._commit_at_once(db, group)
                if outcome is None:
                    return False
                self.errands.committed(self._vectors)
                self._deliver(group, outcome)
            for _ in taken:
                self._waiting.popleft()
        finally:
            self.worker.turn.release()
            self._pace.took(started)
        if (self._untended or self._log_pages >= CHECKPOINT_PAGES) and not self._tending:
            self._tending = True
            self.worker.post(self._tend)
        return True

    def _commit_at_once(self, db: apsw.Connection, group: list[Request]) -> list[list[Result]] | None:
        """None: nothing is written, and the thread has to try."""
        db.set_busy_timeout(0)
        try:
            db.execute("BEGIN IMMEDIATE")
            outcome = self._apply(db, [request.unit for request in group], quick=True)
        except Exception:  # noqa: BLE001 - the thread tries again, and deals with what is wrong
            _roll_back(db)
            return None
        finally:
            db.set_busy_timeout(round(self._patience * 1000))
        try:
            db.execute("COMMIT")
        except apsw.Error as error:
            if isinstance(error, apsw.BusyError) or is_full(error, db):
                _roll_back(db)
                return None
            return self._unknown(group)
        return outcome

    # --- in the thread -------------------------------------------------------------------------

    def opened(self, db: apsw.Connection) -> apsw.Connection:
        """Tell a new connection of the worker to leave checkpoints to `_checkpoint_if_long`."""

        def count(_db: apsw.Connection, _name: str, pages: int) -> int:
            self._log_pages = pages
            return apsw.SQLITE_OK

        db.set_wal_hook(count)
        return db

    def _drain(self) -> None:
        while self._waiting:
            with self.worker.turn:
                group = self._next_group()
                if not group:
                    break
                try:
                    outcome = self._commit(self.worker.connected(), group)
                except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to the callers
                    self._fail(group, error)
                    continue
            # Not before the turn is over: the next write of whoever waits may then be committed on the loop again.
            self._settle(group, outcome)
            let_go(group)
            self._checkpoint_if_long()

    def _tend(self) -> None:
        """What commits on the loop leave to the thread: a long log, texts for the index, room in the file."""
        self._tending = False
        self._checkpoint_if_long()
        with self.worker.turn:
            db = self.worker.connected()
            try:
                db.execute("BEGIN IMMEDIATE")
                if read_counter(db).pending >= PENDING:
                    flush_pending(db)
                self._reserve.ensure(db, ahead=True)
                db.execute("COMMIT")
            except (*ENGINE_ERRORS, MemoryStoreError) as error:
                _log.warning("upkeep failed", path=self._path, error=error)
                self.worker.discard()  # what is wrong the next group finds out
            self._untended = False

    def _fail(self, group: list[Request], error: BaseException) -> None:
        """Nothing of the group was written: tell its callers. Holding the turn."""
        _log.warning("write failed", path=self._path, writes=len(group), error=error)
        failure = translate(error, self._path, self.worker.db) if isinstance(error, ENGINE_ERRORS) else error
        if not isinstance(error, apsw.BusyError):
            self.worker.discard()  # nobody knows its state; the next group gets a new one
        for request in group:
            request.job.settle(None, failure)

    def _checkpoint_if_long(self) -> None:
        if self._log_pages < CHECKPOINT_PAGES:
            return
        self._log_pages = 0
        with self.worker.turn, contextlib.suppress(apsw.Error):  # the next group finds out what is wrong
            self.worker.connected().wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self._reserve.forget()

    def _next_group(self) -> list[Request]:
        group: list[Request] = []
        ops = size = 0
        while self._waiting and (not group or (ops < GROUP_OPS and size < GROUP_BYTES)):
            request = self._waiting.popleft()
            if not request.job.future.cancelled():
                group.append(request)
                ops += len(request.unit.ops)
                size += request.size
        return group

    def _settle(self, group: list[Request], outcome: list[list[Result]]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone, and with it everybody who waited
            group[0].job.loop.call_soon_threadsafe(self._deliver, group, outcome)

    def _deliver(self, group: list[Request], outcome: list[list[Result]]) -> None:
        for request, results in zip(group, outcome, strict=True):
            if not request.job.future.done():
                request.job.future.set_result(results)
        self._wake()

    def _commit(self, db: apsw.Connection, group: list[Request]) -> list[list[Result]]:
        db.execute("BEGIN IMMEDIATE")  # waits for other processes, up to the busy timeout
        try:
            outcome = self._apply(db, [request.unit for request in group])
        except (*ENGINE_ERRORS, MemoryStoreError) as error:
            _roll_back(db)
            if is_full(error, db):
                return self._make_room(db, group)
            return self._piecewise(db, group)
        return self._finish(db, group, outcome)

    def _finish(self, db: apsw.Connection, group: list[Request], outcome: list[list[Result]]) -> list[list[Result]]:
        try:
            db.execute("COMMIT")
        except apsw.Error as error:
            if is_full(error, db):
                _roll_back(db)
                return self._make_room(db, group)
            if isinstance(error, apsw.BusyError):
                raise  # it is rolled back, and nothing has happened
            return self._unknown(group)
        self.errands.committed(self._vectors)
        return outcome

    def _apply(self, db: apsw.Connection, units: Sequence[Unit], *, quick: bool = False) -> list[list[Result]]:
        state = read_counter(db)
        if state.layout != self._layout:
            # Another process has declared a field: what was prepared before knows nothing of it.
            self.fields = declared(db)
            self._layout = state.layout
        for unit in units:
            for i, one in enumerate(unit.ops):
                if len(one.columns) != len(self.fields) and type(one.op) is Put:
                    unit.ops[i] = prepared(one.op, self.fields)
        plan = make_plan(db, units, self.fields, state)
        outcome = decide_all(db, plan, units)
        apply_plan(db, plan)
        self._vectors = plan.vectors
        if any(type(one.op) is Put for unit in units for one in unit.ops):
            if not quick:
                if state.pending >= PENDING:
                    flush_pending(db)
                self._reserve.ensure(db)
            elif self._reserve.missing(db):
                raise _NotQuickError
            else:
                self._untended = state.pending >= PENDING or self._reserve.is_low
        return outcome

    def _piecewise(self, db: apsw.Connection, group: list[Request]) -> list[list[Result]]:
        """Something in the group cannot be written: a savepoint for each item, so that it fails alone."""
        outcome: list[list[Result]] = []
        db.execute("BEGIN IMMEDIATE")
        for request in group:
            results: list[Result] = []
            for unit in request.units:
                db.execute("SAVEPOINT item")
                try:
                    results += self._apply(db, [unit])[0]
                except (*ENGINE_ERRORS, MemoryStoreError) as error:
                    if not db.in_transaction:
                        raise  # SQLite gave up the whole transaction
                    db.execute("ROLLBACK TO item")
                    results += self._failed(unit, error, db)
                db.execute("RELEASE item")
            outcome.append(results)
        return self._finish(db, group, outcome)

    def _make_room(self, db: apsw.Connection, group: list[Request]) -> list[list[Result]]:
        """The disk is full: empty the log into the file, then write one item at a time, so that what fits, and every
        delete, still gets through."""
        _log.warning("disk full: writing one by one", path=self._path, writes=len(group))
        outcome: list[list[Result]] = []
        for request in group:
            results: list[Result] = []
            for unit in request.units:
                results += self._one(db, unit)
            outcome.append(results)
        return outcome

    def _one(self, db: apsw.Connection, unit: Unit) -> list[Result]:
        failure: BaseException | None = None
        for _ in range(2):
            committing = False
            try:
                db.execute("BEGIN IMMEDIATE")
                results = self._apply(db, [unit])[0]
                committing = True
                db.execute("COMMIT")
            except (*ENGINE_ERRORS, MemoryStoreError) as error:
                failure = error
                full = is_full(error, db)
                if committing and not full and not isinstance(error, apsw.BusyError):
                    return [Result(Status.UNKNOWN) for _ in unit.ops]
                _roll_back(db)
                if not full:
                    break
                _checkpoint(db)
                self._reserve.forget()
            else:
                return results
        assert failure is not None
        return self._failed(unit, failure, db)

    def _failed(self, unit: Unit, error: BaseException, db: apsw.Connection) -> list[Result]:
        reason = translate(error, self._path, db)
        return [Result(Status.FAILED, error=reason) for _ in unit.ops]

    def _unknown(self, group: list[Request]) -> list[list[Result]]:
        """The commit failed in a way that leaves it open whether it happened. After a failed fsync nothing may be
        tried again on this connection: a second fsync would report success for bytes the kernel has dropped."""
        _log.warning("outcome unknown: the commit failed", path=self._path, writes=len(group))
        self.worker.discard()
        return [[Result(Status.UNKNOWN) for _ in request.unit.ops] for request in group]


class _NotQuickError(Exception):
    """The file has to grow first, which is no work for the loop."""


def _roll_back(db: apsw.Connection) -> None:
    if db.in_transaction:
        db.execute("ROLLBACK")


def _checkpoint(db: apsw.Connection) -> None:
    with contextlib.suppress(apsw.Error):  # then there is no room at all
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)


def empty_log(db: apsw.Connection) -> None:
    """Before the last connection closes: move the log into the file here, where it does not hold the interpreter."""
    with contextlib.suppress(apsw.Error):
        db.set_busy_timeout(0)
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
