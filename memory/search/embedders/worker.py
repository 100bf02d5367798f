"""One daemon thread for an embedder's calls: long ones release the GIL there, and the loop goes on."""

from __future__ import annotations

import asyncio
import atexit
import sys
import threading
import time
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

_EXIT_SECONDS = 1.0
"""How long the interpreter's exit waits for a call that runs, at most and about."""

_Job = tuple[Callable[..., Any], tuple[Any, ...], asyncio.AbstractEventLoop, "asyncio.Future[Any]"]
_exiting = threading.Event()
_threads: weakref.WeakKeyDictionary[threading.Thread, SimpleQueue[_Job | None]] = weakref.WeakKeyDictionary()


class Worker:
    """Runs calls one after another in a thread that starts with the first and ends with `stop`, or with this object."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    async def run(self, call: Callable[..., Any], *args: Any) -> Any:
        """``call(*args)`` in the thread; what it raises is raised here.

        A call whose waiter was cancelled is dropped if it has not begun; else its result is.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=_work, args=(self._jobs,), name="memory-embedder", daemon=True)
            self._thread.start()
            _threads[self._thread] = self._jobs
            weakref.finalize(self, self._jobs.put, None).atexit = False
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._jobs.put((call, args, loop, future))
        return await future

    def stop(self) -> None:
        """End the thread after the call that runs now. Does not wait."""
        self._jobs.put(None)


def _work(jobs: SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None and not _exiting.is_set():
        call, args, loop, future = job
        if not future.cancelled():
            value, failure = None, None
            try:
                value = call(*args)
            except BaseException as error:  # noqa: BLE001 - it belongs to whoever waits
                failure = error
            try:
                loop.call_soon_threadsafe(_settle, future, value, failure)
            except RuntimeError:
                pass  # the loop is gone, and who waited with it
            del value, failure
        del job, call, args, loop, future  # an idle thread keeps nobody's data alive


def _settle(future: asyncio.Future[Any], value: Any, failure: BaseException | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(value)
    elif isinstance(failure, StopIteration):  # a future cannot carry it
        future.set_exception(RuntimeError("the call raised StopIteration"))
    else:
        future.set_exception(failure)


def _at_exit() -> None:
    """End every thread. One that computes is told so by an exception between two steps of its Python code: a thread
    that wants the GIL back once the interpreter is gone is killed, and within C++ (torch) that aborts the process."""
    _exiting.set()
    threads = list(_threads.items())
    for _, jobs in threads:
        jobs.put(None)
    for seconds in (_EXIT_SECONDS / 4, _EXIT_SECONDS):
        deadline = time.monotonic() + seconds
        for thread, _ in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            # Not while traced (coverage, a debugger): Python 3.11 then never gets past an exception that is pending for
            # a thread which does not return to Python.
            if thread.is_alive() and sys.gettrace() is None:
                import ctypes

                raise_in = ctypes.pythonapi.PyThreadState_SetAsyncExc
                raise_in(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))


atexit.register(_at_exit)
