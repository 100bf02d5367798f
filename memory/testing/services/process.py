"""A server as a child process: started, killed, paused, started again on the same port and data."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

READY_SECONDS = 30.0
STOPPING_SECONDS = 5.0


class ServiceMissing(Exception):
    """A server that this machine does not have. The message is one line: what to install."""


class Service:
    """A server that tests talk to. ``url`` is how a store reaches it."""

    url: str

    def start(self) -> Self:
        """Start it, and return once it answers."""
        return self

    def stop(self) -> None:
        """End it, orderly if it lets itself be ended."""

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *exc: object) -> None:
        self.stop()


class Process(Service):
    """A server that is a child of this process. ``kill`` and ``pause`` are what a test does to it."""

    def __init__(
        self,
        command: Sequence[str],
        directory: Path,
        port: int,
        *,
        ready: Callable[[], bool],
        user: int | None = None,
        environment: Mapping[str, str] | None = None,
        ends_on: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.command, self.directory, self.port = list(command), directory, port
        self._ready, self._user, self._ends_on = ready, user, ends_on
        self._environment = dict(os.environ if environment is None else environment)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.directory / "log"

    def start(self) -> Self:
        """Start it (again), and return once it answers. Raises RuntimeError with the end of its log."""
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                as_user(self._user, self.command),
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,  # an interrupt from the keyboard is for the tests, who end it
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self._ready():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self.kill()
                said = self.log.read_text(errors="replace")[-2_000:]
                raise RuntimeError(f"{Path(self.command[0]).name} did not start:\n{said}")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """Ask it to end; kill it when it does not."""
        if self._child is None:
            return
        self.resume()
        self._child.send_signal(self._ends_on)
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()
        self._child = None

    def kill(self) -> None:
        """SIGKILL to it and all its children, as an out-of-memory killer or a power cut would."""
        if self._child is not None:
            self._signal(signal.SIGKILL)
            self._child.wait()
            self._child = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers. Waits until the last thread stands still, which may still answer."""
        self._signal(signal.SIGSTOP)
        deadline = time.monotonic() + STOPPING_SECONDS
        while self._child is not None and not all(
            _is_stopped(pid) for pid in (self._child.pid, *_descendants(self._child.pid))
        ):
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self._child.pid} goes on {STOPPING_SECONDS:g} s after SIGSTOP")
            time.sleep(0.002)

    def resume(self) -> None:
        """SIGCONT, after ``pause``."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._child is not None:
            for pid in (self._child.pid, *_descendants(self._child.pid)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)


class Existing(Service):
    """A server that the environment names: not ours to start, stop or kill."""

    def __init__(self, url: str, answers: Callable[[], bool]) -> None:
        self.url, self._answers = url, answers

    def start(self) -> Self:
        """See that it answers. Raises RuntimeError: a service that was asked for is never silently left out."""
        if not self._answers():
            raise RuntimeError("the server that the environment names for tests does not answer")
        return self


def as_user(user: int | None, command: Sequence[str]) -> list[str]:
    """The command, run as another user. Popen's ``user=`` would fork for it, which is not safe once gRPC has threads."""
    return list(command) if user is None else ["setpriv", f"--reuid={user}", *command]


def _descendants(pid: int) -> list[int]:
    """Children and theirs, in groups of their own too (each server process of Postgres is one)."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found: list[int] = []
    wanted = [pid]
    while wanted:
        below = children.get(wanted.pop(), [])
        found += below
        wanted += below
    return found


def _is_stopped(pid: int) -> bool:
    """Whether no thread of a process runs any more: stopped (T), or ended."""
    states = set()
    for thread in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            states.add(thread.read_text().rpartition(")")[2].split()[0])
    return states <= {"T", "t", "X", "Z"}


def free_port() -> int:
    """A loopback port that was free just now, as the one 10,000 above it is, where a node of a cluster listens too.

    Below the range from which the system takes the ports of outgoing connections: none of those can take it meanwhile.
    """
    while True:
        port = random.randrange(12_000, 22_000)
        if _is_free(port) and _is_free(port + 10_000):
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def listening(port: int, host: str = "127.0.0.1") -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((host, port)) == 0
