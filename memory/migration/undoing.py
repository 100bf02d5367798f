"""``rollback``: what a migration wrote is undone, and nothing else is touched."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from memory.codec import decode
from memory.errors import AlreadyExists, InvalidSetting, MemoryStoreError, UnknownOutcome, VersionConflict
from memory.migration.journal import Header, Intent, Journal, Undone, read_at
from memory.migration.moving import asked_again, resolve
from memory.migration.places import address_of, opened
from memory.migration.records import Vectors, fingerprint
from memory.migration.report import SHOWN, Finding, RollbackReport
from memory.migration.state import load
from memory.ops import ABSENT, Read, Remove
from memory.store.settle import apply_all, new_token
from memory.store.transfer import to_the_end
from memory.sync import Home

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from memory.ops import Row, Write
    from memory.store import MemoryStore

BATCH = 500


class _Report(msgspec.Struct):
    """As much of a report as leads to its journal."""

    state: str | None


async def rollback(
    journal: str | os.PathLike[str],
    target: MemoryStore | str | None = None,
    *,
    progress: Callable[[int], None] | None = None,
) -> RollbackReport:
    """Undo a migration: delete what it wrote anew, bring back whole what it replaced or took away.

    ``journal``: the file named by ``state``, or a report that names it. ``target``: the store, or what ``create_store``
    takes; None: the address in the journal, where it needs no password. What somebody has written or deleted in the target
    since is left as it is, and listed. Interrupted, the same call goes on. Records come back with new versions.
    Raises InvalidSetting (no journal, or of another target), CorruptData, AlreadyExists, and what the target raises.
    """
    path = await to_the_end(_journal_of, Path(journal))
    header = (await read_at(path, [0], Header))[0]
    async with opened(_openable(header) if target is None else target) as into:
        address = address_of(into)
        if address != header.target:
            raise InvalidSetting(
                f"the journal {path} belongs to a migration into {header.target}, not {address}",
                setting="target",
            )
        async with Journal(path) as file:
            state, size = await load(path)
            await file.cut(size)
            vectors: Vectors = header.question["vectors"]
            await resolve(into, file, state, vectors)
            places, versions = await asyncio.to_thread(state.index.undoing)
            report = RollbackReport(target=header.target, state=str(path))
            for start in range(0, len(places), BATCH):
                intents = await read_at(path, places[start : start + BATCH], Intent)
                await _undo(into, intents, versions[start : start + BATCH], report)
                if progress is not None:
                    progress(min(len(places), start + BATCH))
            await file.sync(Undone())
    return report


async def target_of(journal: str | os.PathLike[str]) -> str:
    """The address of the target that a journal, or the report that names it, tells. Raises InvalidSetting."""
    path = await to_the_end(_journal_of, Path(journal))
    return _openable((await read_at(path, [0], Header))[0])


def _openable(header: Header) -> str:
    if "***" in header.target:
        raise InvalidSetting(f"name the target, {header.target}, with its password", setting="target")
    if header.target.endswith("://"):
        raise InvalidSetting(f"name the target; the journal knows only that it was {header.target}", setting="target")
    return header.target


def rollback_sync(
    journal: str | os.PathLike[str], target: MemoryStore | str | None = None, **options: Any
) -> RollbackReport:
    """Synchronous twin of ``rollback``."""
    return Home().run(partial(rollback, journal, target, **options), "rollback_sync")


async def _undo(into: MemoryStore, intents: Sequence[Intent], versions: Sequence[int], report: RollbackReport) -> None:
    """Undo a batch, each item only if it is still at the version that the migration gave it."""
    now = into._clock()
    rows: list[Row | None] = await into._do_read(Read(keys=tuple(intent.key for intent in intents), now=now))
    todo: list[tuple[Intent, Write]] = []
    if any(intent.before is not None and intent.before.embedding is not None for intent in intents):
        await into._vectors_ready()
    async for part in into._slices(list(zip(intents, versions, rows, strict=True))):
        for intent, version, held in part:
            before = intent.before
            if before is not None and before.expires is not None and before.expires <= now:
                before = None
            if _is_as_before(before, held):
                report.already += 1
            elif version > 0 if held is None else held.version != version:
                _leave(report, intent, "deleted since" if held is None else "changed since")
            elif before is None:
                assert held is not None  # it would be as before
                todo.append((intent, Remove(key=intent.key, token=new_token(), now=now, expect=held.version)))
            else:
                put = into._privileged(into, decode(before), before.embedder)
                expect = ABSENT if held is None else held.version
                todo.append((intent, msgspec.structs.replace(put, body=before.body, expect=expect)))
    if not todo:
        return
    failed: list[MemoryStoreError] = []
    for (intent, op), outcome in zip(todo, await apply_all(into, [op for _, op in todo]), strict=True):
        if isinstance(outcome, UnknownOutcome):
            outcome = await asked_again(outcome)
        if isinstance(outcome, AlreadyExists | VersionConflict):
            _leave(report, intent, "changed since")
        elif isinstance(outcome, MemoryStoreError):
            failed.append(outcome)
        elif isinstance(op, Remove):
            report.deleted += 1
        else:
            report.restored += 1
    if failed:
        raise failed[0]


def _is_as_before(before: Row | None, held: Row | None) -> bool:
    if before is None or held is None:
        return before is held
    return fingerprint(before, "copy") == fingerprint(held, "copy")


def _leave(report: RollbackReport, intent: Intent, why: str) -> None:
    report.conflicts += 1
    if len(report.findings) < SHOWN:
        report.findings.append(Finding(kind="conflict", key=intent.key, why=f"{why}; left as it is"))


def _journal_of(path: Path) -> Path:
    """The journal that a path names, itself or by a report. Raises InvalidSetting."""
    try:
        with path.open("rb") as file:
            if file.read(16).startswith(b'{"t":'):
                return path.absolute()
            file.seek(0)
            named = msgspec.json.decode(file.read(), type=_Report).state
    except OSError as error:
        raise InvalidSetting(f"{path} cannot be read: {error.strerror or error}", setting="journal") from None
    except msgspec.MsgspecError:
        raise InvalidSetting(f"{path} is neither a journal nor the report of a migration", setting="journal") from None
    if named is None:
        raise InvalidSetting(f"{path} is the report of a dry run; there is nothing to undo", setting="journal")
    if not Path(named).exists():
        raise InvalidSetting(f"{path} names the journal {named}, which is not there", setting="journal")
    return Path(named)
