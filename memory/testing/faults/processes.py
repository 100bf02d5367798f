"""Children that report by a pipe: forked from a warm parent, killed at any moment, their last words still read.

The parent never opens a database, so forking it is safe: connections and threads belong to children only.
"""

from __future__ import annotations

import os
import selectors
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial

Say = Callable[[bytes], None]
"""Sends one message (without line breaks) to the parent; returns when the pipe holds it."""

_DYING = b"!"
CRASHED = 70
"""Exit status of a child that ended with an exception, which it has told."""


class Child:
    """A forked process and what it said, line by line."""

    def __init__(self, run: Callable[[Say], None]) -> None:
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(reading)
            _live(run, writing)
        os.close(writing)
        self.fd = reading
        self.lines: list[bytes] = []
        self.error = ""
        """The exception that ended it."""
        self.ended = False
        self.status: int | None = None
        self._rest = b""

    def pump(self) -> bool:
        """Take what is in the pipe; False at its end."""
        data = os.read(self.fd, 1 << 16)
        if not data:
            self.ended = True
            os.close(self.fd)
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.startswith(_DYING):
                self.error = line.removeprefix(_DYING).decode()
            else:
                self.lines.append(line)
        return True

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, unless it has been waited for."""
        if self.status is None:
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Exit status as of waitpid, decoded: 0 and up is an exit, below 0 a signal."""
        if self.status is None:
            self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is None


def _live(run: Callable[[Say], None], writing: int) -> None:
    """The life of a child; never returns."""

    def say(message: bytes) -> None:
        data = memoryview(message + b"\n")
        while data:
            data = data[os.write(writing, data) :]

    status = 0
    try:
        run(say)
    except BaseException as error:
        status = CRASHED
        where = traceback.format_exc().replace("\n", " | ")
        say(_DYING + f"{error!r} {where[-600:]}".encode())
    finally:
        os._exit(status)


def pump_until(children: Iterable[Child], moment: float, wanted: Callable[[], bool] | None = None) -> bool:
    """Read from children until a moment of time.monotonic, or until ``wanted``; False when the time ran out."""
    with selectors.DefaultSelector() as selector:
        for child in children:
            if not child.ended:
                selector.register(child.fd, selectors.EVENT_READ, child)
        while True:
            if wanted is not None and wanted():
                return True
            left = moment - time.monotonic()
            if left <= 0 or not selector.get_map():
                return False
            for key, _ in selector.select(left):
                child = key.data
                fd = child.fd
                if not child.pump():
                    selector.unregister(fd)


def finish(child: Child, seconds: float) -> bool:
    """Read a child to its end; False when it had to be killed because it took longer."""
    pump_until([child], time.monotonic() + seconds)
    hung = not child.ended
    if hung:
        child.kill()
        pump_until([child], time.monotonic() + 10)
    child.wait()
    return not hung


def workers(count: int, run: Callable[[int, Say], None]) -> list[Child]:
    """Several children, each given its number."""
    return [Child(partial(run, number)) for number in range(count)]


def spoken(children: list[Child], seconds: float) -> Iterator[tuple[int, bytes]]:
    """(number of the child, line) as the children speak, until all have ended; the slow are killed."""
    until = time.monotonic() + seconds
    taken = [0] * len(children)
    while True:
        pump_until(children, min(until, time.monotonic() + 0.2))
        for number, child in enumerate(children):
            lines, taken[number] = child.lines[taken[number] :], len(child.lines)
            for line in lines:
                yield number, line
        if all(child.ended for child in children):
            break
        if time.monotonic() > until:
            for child in children:
                child.kill()
            until = time.monotonic() + 10
    for child in children:
        child.wait()
