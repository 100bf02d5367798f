"""Sweeping now and then, as long as a store is open: the space of what has expired is given back."""

from __future__ import annotations

import asyncio
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING, Never

from memory.errors import MemoryStoreError
from memory.telemetry import get_logger

if TYPE_CHECKING:
    from memory.store.base import MemoryStore

_log = get_logger("store")


async def sweep_forever(store: MemoryStore, interval: float) -> Never:
    """Sweep every so many seconds, until the task is cancelled. A sweep that fails is logged."""
    while True:
        await asyncio.sleep(interval)
        try:
            await store._sweep(store._clock())
        except MemoryStoreError as error:
            # Reclaiming space can wait; the next round tries again.
            _log.warning("sweep failed", backend=store.name, error=error)
        except Exception as error:  # noqa: BLE001 - a mistake of ours; nobody awaits this task who could be told
            # Where it came from, without its message, which may quote what is stored.
            frames = extract_tb(error.__traceback__)
            trace = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
            _log.error("sweep failed", backend=store.name, error=error, traceback=trace)
