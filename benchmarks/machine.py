"""What the machine is, and how busy others kept it while something was measured."""

from __future__ import annotations

import os
import platform
import resource
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_TICKS = os.sysconf("SC_CLK_TCK")


def facts() -> dict[str, Any]:
    """Processor, Python, drivers, date."""
    packages: dict[str, str | None] = {}
    for name in ("apsw", "msgspec", "numpy"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S%z"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "packages": packages,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


class Others:
    """Counts the processor cores that other processes kept busy since it was made (None where /proc is missing)."""

    def __init__(self) -> None:
        self._start = time.perf_counter(), _busy(), _own()

    def cores(self) -> float | None:
        started, busy_before, own_before = self._start
        busy = _busy()
        if busy is None or busy_before is None:
            return None
        elapsed = max(time.perf_counter() - started, 0.05)
        return max(0.0, (busy - busy_before - (_own() - own_before)) / elapsed)


def _busy() -> float | None:
    """Processor seconds that all processes have used, waiting for disks and stolen time not counted."""
    try:
        first = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _waiting, irq, softirq = (int(part) for part in first[1:8])
    return (user + nice + system + irq + softirq) / _TICKS


def _own() -> float:
    """Processor seconds of this process and of the children that have ended."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def forget_peak() -> None:
    """Start the peak of `memory` anew (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")


def memory() -> tuple[float, float]:
    """(resident memory now, its peak) of this process in MB. Linux only."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    now, peak = (int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
    return now, peak
