"""When a core of this machine stood still: a virtual machine's host may take one for milliseconds, and no thread can tell.

On each core a process wakes every millisecond, before all others there (Linux, with the right to run in real time; elsewhere
nothing is known). When it wakes late, nothing else ran on its core meanwhile: neither the loop nor a thread that had the GIL. Or one
was in a long call of a kernel that lets nobody in before its end; what the loop's thread computes, there too, is never taken off.
"""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EVERY = 0.001
LATE = 0.001
"""Seconds; less is what a timer takes."""
_GAP = struct.Struct("dd")


class Stillness:
    """Watches the cores from `watching` on."""

    def __init__(self, watchers: list[subprocess.Popen[bytes]]) -> None:
        self.watchers = watchers
        self._pipes = [watcher.stdout.fileno() for watcher in watchers if watcher.stdout is not None]
        for pipe in self._pipes:
            os.set_blocking(pipe, False)
        self._gaps: list[tuple[float, float]] = []

    def within(self, start: float, end: float) -> float:
        """The longest time between two moments of ``perf_counter`` that a core stood still, in seconds."""
        for pipe in self._pipes:
            self._gaps += _GAP.iter_unpack(_written(pipe))
        return max((min(end, till) - max(start, since) for since, till in self._gaps), default=0.0)


@contextmanager
def watching() -> Iterator[Stillness]:
    """The cores are watched while the block runs."""
    cores = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    watchers = [
        subprocess.Popen([sys.executable, "-m", "benchmarks.stillness", str(core)], stdout=subprocess.PIPE)
        for core in cores
    ]
    try:
        yield Stillness(watchers)
    finally:
        for watcher in watchers:
            watcher.kill()
            watcher.communicate()


def keep_code() -> None:
    """Keep the code of this process in memory (Linux, with the right to lock as much).

    A machine that frees its cache early drops what nobody has run yet, and whoever runs it first waits for the disk, with the GIL.
    """
    if sys.platform != "linux":
        return
    lock = ctypes.CDLL(None).mlock
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights, _, _, inode, *_ = line.split()
        if "x" in rights and inode != "0":
            start, end = (int(address, 16) for address in span.split("-"))
            lock(ctypes.c_void_p(start), ctypes.c_size_t(end - start))


def _written(pipe: int) -> bytes:
    try:
        return os.read(pipe, _GAP.size * 4_096)
    except BlockingIOError:
        return b""


def _watch(core: int) -> None:
    parent = os.getppid()
    os.sched_setaffinity(0, {core})
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        return
    last = time.perf_counter()
    while os.getppid() == parent:
        time.sleep(EVERY)
        now = time.perf_counter()
        if now - last > EVERY + LATE:
            os.write(1, _GAP.pack(last + EVERY, now))
        last = now


if __name__ == "__main__":
    _watch(int(sys.argv[1]))
