"""What the file needs now and then: sweeping, the feed, health, backup."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import apsw
import msgspec

from memory.backends.sqlite.faults import ENGINE_ERRORS, is_full, translate
from memory.backends.sqlite.layout import APPLICATION_ID, SCHEMA_VERSION
from memory.backends.sqlite.records import FULL_SQL, to_row
from memory.backends.sqlite.schema import connect
from memory.backends.sqlite.statements import fetch, first, scalar
from memory.errors import CorruptData, UnsupportedOperation
from memory.keys import decode_key
from memory.ops import Event, Events, FeedRead, Owner, Remove, Row

GRAVE_MICROS = 86_400_000_000
SWEEP_STEP = 500
BACKUP_STEP = 256
"""Pages copied between two chances for others; about a millisecond."""


def read_feed(db: apsw.Connection, op: FeedRead) -> Events:
    """Events after a sequence number, in one snapshot. The sequence number of an event is its version."""
    db.execute("BEGIN")
    try:
        head, floor = first(db, "SELECT version, floor FROM counter") or (0, 1)
        if op.after is None:
            return Events([], head, floor)
        found = fetch(
            db,
            "SELECT seq, key, at, removed, owner, was FROM feed WHERE seq > ? ORDER BY seq LIMIT ?",
            (op.after, op.limit),
        )
    finally:
        db.execute("COMMIT")
    return Events([_event(row) for row in found], head, floor)


def _event(row: tuple[Any, ...]) -> Event:
    seq, key, at, removed, owner, was = row
    return Event(seq, decode_key(key), seq, at, bool(removed), _owner(owner), _owner(was))


def _owner(text: str | None) -> Owner | None:
    try:
        return None if text is None else msgspec.json.decode(text, type=Owner)
    except msgspec.DecodeError:
        raise CorruptData("an event of the change feed is damaged. Run 'memory repair'") from None


def expired(db: apsw.Connection, now: int) -> list[Remove]:
    """Removals, by version, of some records that have expired."""
    found = fetch(
        db, "SELECT key, version FROM items INDEXED BY items_expires WHERE expires <= ? LIMIT ?", (now, SWEEP_STEP)
    )
    return [
        Remove(key=decode_key(key), token=os.urandom(16), now=now, expect=version, expired=True)
        for key, version in found
    ]


def forget(db: apsw.Connection, now: int, retention: float) -> None:
    """Drop tombstones older than a day, and events older than the retention. In the writer's thread."""
    oldest = now - round(retention * 1_000_000)
    old_graves = scalar(db, "SELECT 1 FROM graves WHERE at <= ? LIMIT 1", (now - GRAVE_MICROS,))
    last = scalar(db, "SELECT max(seq) FROM feed WHERE at <= ?", (oldest,))
    if old_graves is None and last is None:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute("DELETE FROM graves WHERE at <= ?", (now - GRAVE_MICROS,))
        if last is not None:
            db.execute("DELETE FROM feed WHERE seq <= ?", (last,))
            db.execute("UPDATE counter SET floor = ?", (last + 1,))
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def facts(db: apsw.Connection, path: str) -> dict[str, Any]:
    """Sizes and settings for ``health``."""
    log = Path(f"{path}-wal")
    return {
        "path": path,
        "bytes": db.pragma("page_count") * db.pragma("page_size"),
        "log_bytes": log.stat().st_size if log.exists() else 0,
        "free_bytes": db.pragma("freelist_count") * db.pragma("page_size"),
        "sqlite": apsw.sqlite_lib_version(),
        "layout": db.pragma("user_version"),
        "vectors": scalar(db, "SELECT vectors FROM counter"),
        "vectors_owed": scalar(
            db, "SELECT count(*) FROM items INDEXED BY items_owed WHERE embedder IS NOT NULL AND vcrc IS NULL"
        ),
        "waiting_texts": scalar(db, "SELECT count(*) FROM pending"),
    }


def backup(db: apsw.Connection, target: Path, cancelled: Callable[[], bool]) -> int:
    """Copy the whole file, as it is at one moment, to a new one; returns the number of records in it.

    It is written beside the target, checked, fsynced and then renamed, so that the target is whole or absent.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        try:
            copy = apsw.Connection(str(part))
        except apsw.Error as error:
            raise translate(error, str(target)) from error
        try:
            try:
                with copy.backup("main", db, "main") as steps:
                    while not steps.done:
                        steps.step(BACKUP_STEP)
                        if cancelled():
                            raise apsw.InterruptError("the backup was cancelled")
            except (apsw.FullError, apsw.IOError) as error:
                if not is_full(error, copy):
                    raise
                raise translate(error, str(target), copy) from error  # it is the copy for which there is no room
            copy.execute("PRAGMA journal_mode = delete")
            if scalar(copy, "PRAGMA quick_check(1)") != "ok":
                raise CorruptData(
                    "the store is damaged, and so would its copy be: run 'memory repair' first, which keeps the damaged "
                    "file where pages of it cannot be read, and names what it cannot save",
                    path=str(target),
                )
            records = scalar(copy, "SELECT count(*) FROM items INDEXED BY items_key")
        finally:
            copy.close(True)
        sync(part)
        os.link(part, target)  # unlike a rename it never replaces a file that has appeared meanwhile
        sync(target.parent)
        return int(records)
    finally:
        for leftover in (part, Path(f"{part}-journal"), Path(f"{part}-wal"), Path(f"{part}-shm")):
            with contextlib.suppress(OSError):
                leftover.unlink()


def sync(path: Path) -> None:
    """A file or directory is on disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def backup_rows(path: str, size: int, busy_timeout: float) -> Generator[list[Row], None, None]:
    """The live and dead rows of a backup file, a batch at a time. Blocking. Raises CorruptData."""
    db = None
    try:
        db = connect(path, busy_timeout=busy_timeout, read_only=True)
        if db.pragma("application_id") != APPLICATION_ID or db.pragma("user_version") > SCHEMA_VERSION:
            raise UnsupportedOperation(f"{path} is not a backup that this version of sqlite can read")
        after = b""
        while True:
            found = fetch(
                db,
                f"SELECT {FULL_SQL} FROM items INDEXED BY items_key WHERE key > ? ORDER BY key LIMIT ?",  # noqa: S608 - our own column names
                (after, size),
            )
            if not found:
                return
            yield [to_row(row) for row in found]
            if not isinstance(found[-1][1], bytes) or found[-1][1] <= after:
                raise CorruptData(f"{path} is damaged: its records are out of order", path=path)
            after = found[-1][1]
    except ENGINE_ERRORS as error:  # here, where it is known which of the two files is meant
        told = translate(error, path)
        if isinstance(told, CorruptData):
            told = CorruptData(
                f"the backup {path} is damaged: {error}. The records before that are restored; for the others use another "
                "backup",
                path=path,
            )
        raise told from error
    finally:
        if db is not None:
            db.close(True)


def is_ours(head: bytes) -> bool:
    """Whether a file that begins so was made by this backend."""
    return head.startswith(b"SQLite format 3\0") and head[68:72] == APPLICATION_ID.to_bytes(4, "big")


def is_own(file: str, path: Path) -> bool:
    """Whether a path leads to a store's file, or to one of those that SQLite keeps beside it. Blocking."""
    place = path.resolve()
    for own in (Path(file + end) for end in ("", "-wal", "-shm", "-journal")):
        if own.resolve() == place or (own.exists() and path.exists() and own.samefile(path)):
            return True
    return False
