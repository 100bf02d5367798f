"""What else is written in the writer's thread, each in a transaction of its own: the log of vectors, other vectors."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import apsw

from memory.backends.sqlite.faults import ENGINE_ERRORS
from memory.backends.sqlite.room import Reserve
from memory.backends.sqlite.spaces import VectorState, is_stale, is_worth_packing, read_state, save_state
from memory.backends.sqlite.vectorlog import tend
from memory.backends.sqlite.workers import Worker
from memory.errors import MemoryStoreError
from memory.telemetry import get_logger

T = TypeVar("T")
_log = get_logger("sqlite")

PAUSE = 60.0
"""Seconds until the log of vectors is tended again after that failed."""


class Errands:
    """Knows what the last commit left to do, and does it when nobody waits for the thread."""

    def __init__(
        self,
        path: str,
        worker: Worker,
        reserve: Reserve,
        noticed: Callable[[VectorState], None],
        checkpoint: Callable[[], None],
    ) -> None:
        self._path = path
        self._worker = worker
        self._reserve = reserve
        self._noticed = noticed
        self._checkpoint = checkpoint
        self._state = VectorState()
        self._tend_from = 0.0

    def committed(self, state: VectorState) -> None:
        """A transaction left the vectors like this. From any thread."""
        self._state = state
        self._noticed(state)
        if (is_worth_packing(state) or is_stale(state)) and not self._worker.stopping:
            self._worker.post(self._tend)

    async def run(self, call: Callable[..., T], *args: object) -> T:
        """``call(connection, state, *args)`` in the thread, in one transaction, which saves what it makes of the state."""
        return await self._worker.run(self._transact, call, *args)

    def _transact(self, db: apsw.Connection, call: Callable[..., T], *args: object) -> T:
        db.execute("BEGIN IMMEDIATE")
        try:
            state = read_state(db)
            result = call(db, state, *args)
            save_state(db, state)
            self._reserve.ensure(db)
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        try:
            db.execute("COMMIT")
        except apsw.BusyError:
            db.execute("ROLLBACK")
            raise
        except apsw.Error:
            self._worker.discard()  # a second fsync would report success for bytes the kernel has dropped
            raise
        self.committed(state)
        self._worker.post(self._checkpoint)  # the turn is taken here
        return result

    def _tend(self) -> None:
        """A piece of what the log needs; the next one comes behind the writes that wait."""
        state = self._state
        if not (is_worth_packing(state) or is_stale(state)) or time.perf_counter() < self._tend_from:
            return
        with self._worker.turn:
            try:
                self._transact(self._worker.connected(), tend)
            except (*ENGINE_ERRORS, MemoryStoreError) as error:
                # The codes are only a cache, and what waits for them is found without.
                _log.warning("vector log not tended", path=self._path, error=error)
                self._tend_from = time.perf_counter() + PAUSE
