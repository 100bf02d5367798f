"""``track_access=True``: reads are counted by touches, gathered and written together a moment later."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from memory.model import Key
from memory.ops import Scope, Touch
from memory.store.settle import apply_all, new_token

if TYPE_CHECKING:
    from memory.store.base import MemoryStore

DELAY_SECONDS = 0.2


class AccessTracker:
    """Counts accesses by (key, scope) and writes them as touches after a short delay, and at close."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._seen: dict[tuple[Key, Scope], int] = {}
        self._task: asyncio.Task[None] | None = None

    def saw(self, key: Key, scope: Scope) -> None:
        """Count one access."""
        self._seen[key, scope] = self._seen.get((key, scope), 0) + 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._later())

    async def _later(self) -> None:
        await asyncio.sleep(DELAY_SECONDS)
        self._task = None
        await self.flush()

    async def flush(self) -> None:
        """Write what has been counted. An item that is gone, or a failed touch, is not worth an error to a reader."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        seen, self._seen = self._seen, {}
        now = self._store._clock()
        touches = [
            Touch(key=key, token=new_token(), now=now, scope=scope, accesses=count)
            for (key, scope), count in seen.items()
        ]
        await apply_all(self._store, touches)
