"""Whole-store operations: health, stats, verify, repair, sweep, backup, restore. Views refuse them, health apart."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from memory.codec import decode
from memory.errors import AlreadyExists, InvalidItem, UnsupportedOperation
from memory.ops import Count, Put
from memory.store.settle import BATCH, apply_all, finish_batch
from memory.store.slicing import row_bytes
from memory.store.transfer import check_apart, check_file, check_place
from memory.store.types import Progress, RepairReport, Stats, VerifyReport
from memory.store.view import Operations
from memory.sync import blocking
from memory.telemetry import get_logger

if TYPE_CHECKING:
    from memory.store.base import MemoryStore

_log = get_logger("store")


class Upkeep(Operations):
    """The part of a store that concerns all of it."""

    async def stats(self) -> Stats:
        """Counts of live items and namespaces, and the backend's own facts (sizes in bytes)."""
        store = self._enter()
        found = await store._do_namespaces(Count(now=store._clock()))
        details = await store._health()
        details["embedder"] = None if store._space is None else store._space.embedder
        return Stats(await store.count(), len(found), details)

    async def verify(self) -> VerifyReport:
        """Check every stored record, its checksum and its index entries. Changes nothing."""
        store = self._enter()
        checked, problems = await store._verify()
        return VerifyReport(checked, problems)

    async def repair(self) -> RepairReport:
        """Rebuild everything derived from the records; records that are damaged are set aside and named."""
        store = self._enter()
        report = await store._repair()
        _log.warning("repair", backend=store.name, actions=len(report.actions), quarantined=len(report.quarantined))
        return report

    async def sweep(self) -> int:
        """Reclaim the space of expired items now; returns how many were removed. They were invisible already."""
        store = self._enter()
        return await store._sweep(store._clock())

    async def backup(self, path: str | os.PathLike[str], *, progress: Progress | None = None) -> int:
        """Write the whole store to a new file, a point in time where the backend can; returns the number of records.

        The file appears whole or not at all. Raises AlreadyExists when it exists, InvalidItem where it cannot be made,
        InvalidSetting for a file of the store itself.
        """
        store = self._enter()
        target = check_file(path)
        await asyncio.to_thread(check_apart, store, target)
        if await asyncio.to_thread(_is_taken, target):
            raise AlreadyExists(f"{target} exists; choose another name for the backup", key=((), str(target)))
        total = await store._backup(target)
        if total is None:
            total = await store.export_jsonl(target, progress=progress)
        return total

    async def restore(
        self, path: str | os.PathLike[str], *, replace: bool = False, progress: Progress | None = None
    ) -> int:
        """Bring back every record of a backup with its times and counts; returns how many.

        The store must be empty, or ``replace=True``: then records that are not in the backup are deleted, after
        those in it are written. The store issues new versions. Raises AlreadyExists, CorruptData, InvalidItem.
        """
        store = self._enter()
        file = check_file(path)
        if type(replace) is not bool:
            raise InvalidItem(f"replace must be True or False, not {replace!r}", field="replace")
        if not replace and await store.count():
            raise AlreadyExists(
                "the store is not empty; restore with replace=True to make it equal to the backup", key=((), "")
            )
        kept: set[tuple[tuple[str, ...], str]] = set()
        async for ops in self._backed_up(store, file):
            finish_batch(await apply_all(store, ops))
            kept.update(op.key for op in ops)
            if progress is not None:
                progress(len(kept))
        if replace:
            async for items in store.stream(batch_size=BATCH):
                for item in items:
                    if item.key not in kept:
                        await store.delete(item.id, namespace=item.namespace)
        return len(kept)

    async def _backed_up(self, store: MemoryStore, path: Path) -> AsyncIterator[list[Put]]:
        """The records of a backup as privileged writes, a batch at a time; nothing yet if a line is bad."""
        if await asyncio.to_thread(check_backup, store, path):
            refused: dict[int, str] = {}
            async for _ in self._read_lines(store, path, refused, "any"):
                if refused:
                    break
            if refused:
                line, reason = next(iter(refused.items()))
                raise InvalidItem(f"line {line} of the backup: {reason}. Nothing was restored", lines=refused)
            async for lines in self._read_lines(store, path, refused, "any"):
                yield [op for _, op in lines]
            return
        async for rows in store._backup_rows(path):
            puts: list[Put] = []
            async for batch in store._slices(rows, weigh=row_bytes):
                puts += [self._privileged(store, decode(row), row.embedder) for row in batch]
            yield puts

    stats_sync = blocking(stats)
    verify_sync = blocking(verify)
    repair_sync = blocking(repair)
    sweep_sync = blocking(sweep)
    backup_sync = blocking(backup)
    restore_sync = blocking(restore)


def _is_taken(target: Path) -> bool:
    """Whether there is such a file. Raises InvalidItem where none can be made, whoever would write it."""
    try:
        if target.exists():
            return True
        check_place(target)
    except OSError as error:
        raise InvalidItem(f"{target} cannot be opened: {error.strerror or error}", field="path") from None
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise InvalidItem(f"{target} cannot be opened: {os.strerror(errno.EACCES)}", field="path")
    return False


def check_backup(store: MemoryStore, path: Path) -> bool:
    """Whether a file is JSON lines, rather than a backup of the store's own form. Blocking.

    Raises UnsupportedOperation when it is neither, InvalidItem when it cannot be read. The store need not be open.
    """
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError as error:
        raise InvalidItem(f"{path} cannot be opened: {error.strerror or error}", field="path") from None
    if head[:1] in (b"{", b""):
        return True
    if not store._reads_backup(head):
        raise UnsupportedOperation(f"{path} is neither a backup nor an export that {store.name} can read")
    return False
