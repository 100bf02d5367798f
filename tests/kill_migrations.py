"""Runs a command over and over in children that are killed on the way, until one of them comes to its end.

``python kill_migrations.py KILLS SEED JOURNAL GROWTH ARGUMENT...``: the arguments are those of the command ``memory``; most are
killed when the journal has grown by up to GROWTH bytes. Prints JSON: how many were killed, how many of them while writes were
under way, how many without any journal yet, and how the last ended.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy  # noqa: F401, ICN001 - the same

import memory.backends.sqlite
import memory.cli.app
import memory.manager
import memory.migration
import memory.settings


def child(arguments: list[str]) -> int:
    """Fork; the child runs the command, quietly, and ends with its code."""
    pid = os.fork()
    if pid == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        code = 70
        try:
            code = memory.cli.app.run(arguments)
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> int | None:
    """The exit code of a child that has ended."""
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def wait_for(pid: int, journal: Path, growth: int, seconds: float) -> int | None:
    """Wait until the journal has grown, or so long, or until the child has ended; its code then."""
    size = journal.stat().st_size if journal.exists() else 0
    until = time.monotonic() + seconds
    while (code := ended(pid)) is None and time.monotonic() < until:
        if journal.exists() and journal.stat().st_size >= size + growth:
            break
        time.sleep(0.0005)
    return code


def main(kills: int, seed: int, journal: Path, growth: int, arguments: list[str]) -> dict[str, int]:
    """The whole run."""
    if any(one.startswith("firestore") for one in arguments):
        # The driver takes a second; no call is made before a fork.
        importlib.import_module("memory.backends.firestore.v1")
        importlib.import_module("memory.backends.firestore.v2")
    rng = random.Random(seed)
    told = {"kills": 0, "writing": 0, "early": 0, "code": -1}
    while told["kills"] < kills:
        pid = child(arguments)
        if told["kills"] % 5 == 4:  # at any moment: while it opens, plans, resolves
            code = wait_for(pid, journal, growth, rng.uniform(0.0, 0.4))
        else:
            code = wait_for(pid, journal, rng.randint(1, growth), 60.0)
            if code is None:
                code = wait_for(pid, journal, 1 << 40, rng.uniform(0.0, 0.01))
        if code is not None:
            told["code"] = code
            return told
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        told["kills"] += 1
        lines = journal.read_bytes().splitlines() if journal.exists() else []
        told["early"] += not lines
        told["writing"] += bool(lines) and lines[-1].startswith(b'{"t":"intent"')
    pid = child(arguments)
    told["code"] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return told


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])))
