"""Broken backends: what a call that is cancelled late, or as its answer comes, leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any

from memory.backends.in_memory import InMemoryStore
from memory.store import transfer
from mutants.catalogue import Ops, caught, patched


@caught("test_a_call_cancelled_at_any_await_leaves_the_store_usable", "a connection that has just come is lost")
class LosesAConnection(InMemoryStore):
    """Has one connection, which takes a moment to be made; who gives up while it is made gives it back, but not later."""

    async def _write(self, ops: Ops, atomic: bool) -> Any:
        loop = asyncio.get_running_loop()
        free = self.__dict__.setdefault("_free", asyncio.Semaphore())
        await free.acquire()
        made = loop.create_future()
        loop.call_later(0.002, lambda: made.done() or made.set_result(None))
        try:
            await made
        except asyncio.CancelledError:
            if made.cancelled():
                free.release()
            raise
        try:
            return await super()._write(ops, atomic)
        finally:
            free.release()


class Pages:
    """A file that knows how often it was written to."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.written = 0

    def write(self, data: bytes) -> None:
        self.written += 1
        self.file.write(data)


@asynccontextmanager
async def half_a_file(path: Path, whole_file: Any = transfer.whole_file) -> AsyncIterator[Pages]:
    pages = None
    try:
        async with whole_file(path) as file:
            pages = Pages(file)
            yield pages
    except asyncio.CancelledError:
        if pages is not None and pages.written > 1:
            path.with_name(f".{path.name}.part").touch()
        raise


patched(
    "test_a_call_cancelled_at_any_await_leaves_the_store_usable",
    "an export that is cancelled after its first page leaves half a file",
    (transfer, "whole_file", half_a_file),
)
