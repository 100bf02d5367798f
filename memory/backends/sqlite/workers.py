"""One daemon thread with one SQLite connection: long calls run here and release the GIL, the loop goes on."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import math
import os
import threading
import time
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar

import apsw

from memory.errors import Closed

T = TypeVar("T")
_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


class Job:
    """One call for a worker and the future that waits for it."""

    __slots__ = ("args", "future", "loop", "run")

    def __init__(self, run: Callable[..., Any], args: tuple[Any, ...], loop: asyncio.AbstractEventLoop) -> None:
        self.run = run
        self.args = args
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()

    def settle(self, value: Any, error: BaseException | None = None) -> None:
        """Hand the result to the loop; from any thread. A loop that is gone has nobody waiting."""
        with contextlib.suppress(RuntimeError):
            self.loop.call_soon_threadsafe(_settle, self.future, value, error)


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


class Worker:
    """Runs jobs one after another in a daemon thread that lives until `stop`.

    ``connect`` makes its connection, in the thread, at the first job. A job whose caller was cancelled is dropped
    if it has not begun, and interrupted if it has.
    """

    def __init__(self, name: str, connect: Callable[[], apsw.Connection]) -> None:
        self._connect = connect
        self._jobs: SimpleQueue[Job | Callable[[], None] | None] = SimpleQueue()
        self._now: Job | None = None
        self._stopped = False
        self._last: Callable[[apsw.Connection], None] | None = None
        self._pid = os.getpid()
        self.turn = threading.Lock()
        """Held by whoever uses the connection."""
        self.db: apsw.Connection | None = None
        self.thread = threading.Thread(target=self._work, name=f"memory-{name}", daemon=True)
        self.thread.start()
        _workers.add(self)

    async def run(self, call: Callable[..., T], *args: Any) -> T:
        """``call(connection, *args)`` in the thread. Its errors are raised here."""
        if self._stopped:
            raise Closed("this sqlite store is closed")
        job = Job(call, args, asyncio.get_running_loop())
        self._jobs.put(job)
        try:
            result: T = await job.future
        except asyncio.CancelledError:
            if self._now is job:
                self._interrupt()
            raise
        return result

    def post(self, call: Callable[[], None]) -> None:
        """Run ``call()`` in the thread, even while stopping. It deals with its own results and errors."""
        self._jobs.put(call)

    @property
    def stopping(self) -> bool:
        """Whether what is queued is the last."""
        return self._stopped

    def connected(self) -> apsw.Connection:
        """The connection, made if there is none. Only from the worker's own thread."""
        if self.db is None:
            self.db = self._connect()
        return self.db

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if not isinstance(job, Job):
                job()
            elif not job.future.cancelled():
                self._now = job
                self._do(job)
                self._now = None
            del job  # an idle thread keeps nobody's data alive
        if self._last is not None and self.db is not None:
            self._last(self.db)
        self.discard()

    def _do(self, job: Job) -> None:
        value: Any = None
        failure: BaseException | None = None
        for _ in range(3):
            try:
                with self.turn:
                    value = job.run(self.connected(), *job.args)
                failure = None
            except apsw.InterruptError as error:
                failure = error
                self._leave_transaction()
                if job.future.cancelled() or self._stopped:
                    break
                continue  # the interrupt was meant for the job before
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
                failure = error
                self._leave_transaction()
            break
        job.settle(value, failure)

    def _leave_transaction(self) -> None:
        if self.db is not None and self.db.in_transaction:
            try:
                self.db.execute("ROLLBACK")
            except apsw.Error:
                self.discard()

    def discard(self) -> None:
        """Drop the connection; the next job gets a new one. Only from the worker's own thread."""
        if self.db is not None:
            with contextlib.suppress(apsw.Error):
                self.db.close(True)
            self.db = None

    def stop(self, *, hurry: bool = False, last: Callable[[apsw.Connection], None] | None = None) -> None:
        """Finish what is queued (with ``hurry``: interrupt it), call ``last`` and end the thread. Does not wait."""
        if not self._stopped:
            self._stopped = True
            self._last = last
            self._jobs.put(None)
        if hurry and self.thread.is_alive():
            self._interrupt()

    def _interrupt(self) -> None:
        db = self.db
        if db is not None:
            with contextlib.suppress(apsw.ConnectionClosedError):  # it was just replaced
                db.interrupt()

    async def stopped(self) -> None:
        """Wait until the thread has ended."""
        while self.thread.is_alive():  # noqa: ASYNC110 - an Event would belong to a loop, which may be gone
            await asyncio.sleep(0.001)


EVERY = 0.00125
PAUSE = 0.0006
"""Seconds. An idle core of a virtual machine takes 0.2 ms to wake, in slow minutes more than 0.3."""


class Breather:
    """Lets the loop run between slices of Python work in a thread.

    A thread that is busy in Python gives the GIL up every 5 ms only. When it gives it up by itself and is back before the loop's
    thread has woken, that has waited in vain, and does not ask for it either: it asks only when for 5 ms nobody gave it up. So
    a pause is longer than waking takes: of 0.02 ms, each half millisecond, now and then twenty in a row were too short, of
    0.3 ms still some.
    """

    __slots__ = ("_next",)

    def __init__(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._next = time.perf_counter() + EVERY
        else:
            self._next = math.inf  # on a loop itself, be it a twin's own, there is nobody to let run

    def breathe(self) -> None:
        """Call this often."""
        if time.perf_counter() > self._next:
            time.sleep(PAUSE)
            self._next = time.perf_counter() + EVERY


def _at_exit() -> None:
    """End every thread before the interpreter takes itself apart: a thread inside SQLite would be frozen there while
    holding the connection's mutex, and closing the connection would wait for it for ever."""
    mine = [worker for worker in _workers if worker._pid == os.getpid()]
    for worker in mine:
        worker.stop(hurry=True)
    deadline = time.monotonic() + 1.0
    for worker in mine:
        worker.thread.join(max(0.0, deadline - time.monotonic()))


atexit.register(_at_exit)
