"""The file: its settings, its upgrade, and the refusal of every file that is not ours to use."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec

from memory.backends.sqlite.faults import ENGINE_ERRORS, is_full, taken_out, translate
from memory.backends.sqlite.layout import APPLICATION_ID, SCHEMA_VERSION, TABLES, TEXT_INDEX, VECTOR_TABLES
from memory.backends.sqlite.logcheck import unreachable_commits
from memory.backends.sqlite.records import field_seal
from memory.backends.sqlite.room import grow_in_chunks
from memory.backends.sqlite.statements import fetch, scalar
from memory.backends.sqlite.upgrading import upgrade
from memory.errors import BackendUnavailable, CorruptData, InvalidSetting
from memory.telemetry import get_logger

_log = get_logger("sqlite")

MAX_FIELDS = 64

SYNCHRONOUS = {"off": "process", "normal": "process", "full": "power", "extra": "power"}
"""Setting -> durability. Even ``off`` survives the death of this process: the kernel has the bytes."""


def connect(
    path: str,
    *,
    busy_timeout: float,
    vfs: str | None = None,
    create: bool = False,
    cache_kib: int = 8_192,
    read_only: bool = False,
) -> apsw.Connection:
    """A connection with the settings that every connection of ours has."""
    flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
    db = apsw.Connection(path, flags=flags, vfs=vfs, statementcachesize=200)
    try:
        # First: reading the schema may already meet a process that recovers the log, or closes last.
        db.set_busy_timeout(round(busy_timeout * 1000))
        db.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        db.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        # Plans that look at no bound value: else SQLite prepares a statement with LIMIT ? anew each time that it is bound.
        db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
        db.execute(f"PRAGMA temp_store = memory; PRAGMA cache_size = -{cache_kib}; PRAGMA cell_size_check = on")
        if read_only:
            db.execute("PRAGMA query_only = on")
        if not create:  # a file in the making would begin with zeros
            grow_in_chunks(db)
    except BaseException:
        db.close()
        raise
    return db


class Wanted(msgspec.Struct, frozen=True):
    """What a store expects of its file."""

    synchronous: str
    identity: str
    index: tuple[tuple[str, ...], ...]
    feed: bool
    busy_timeout: float
    vfs: str | None


def prepare(path: str, wanted: Wanted) -> None:
    """Make the file ours if it is new, upgrade it if it is old, and see that it suits this store.

    Blocking; runs in a worker. Raises BackendUnavailable (locked, read-only, foreign, newer, not SQLite),
    CorruptData, StorageFull, InvalidSetting (another analyser).
    """
    patient_until = time.monotonic() + wanted.busy_timeout
    while True:
        try:
            _prepare(path, wanted)
        except (apsw.BusyError, apsw.LockedError, apsw.ProtocolError) as error:
            # Several processes make the same new file: SQLite does not wait for the change to a log by itself.
            if time.monotonic() > patient_until:
                raise translate(error, path, opening=True) from error
            time.sleep(0.02)
        except apsw.Error as error:
            raise translate(error, path, opening=True) from error
        else:
            return


def _prepare(path: str, wanted: Wanted) -> None:
    _look_at(path)
    db: apsw.Connection | None = None
    try:
        db = connect(path, busy_timeout=wanted.busy_timeout, vfs=wanted.vfs, create=True)
        if db.readonly("main"):
            raise apsw.ReadOnlyError
        # In one transaction: another process may be creating the file just now.
        db.execute("BEGIN")
        application, version, schema = (
            db.pragma(name) for name in ("application_id", "user_version", "schema_version")
        )
        db.execute("COMMIT")
        _judge(path, application, version, empty=schema == 0)
        if db.pragma("journal_mode") != "wal" and scalar(db, "PRAGMA journal_mode = wal") != "wal":
            raise BackendUnavailable(
                f"{path} cannot use write-ahead logging; keep it on a local disk, not a network share", path=path
            )
        # Creation is on disk before anybody is told that the store is open.
        db.execute(f"PRAGMA synchronous = {wanted.synchronous}")
        if version == 0:
            _create(db, path, wanted.identity)
            _log.info("created", path=path)
        strict = SYNCHRONOUS[wanted.synchronous] == "power"
        relaxed = scalar(db, "SELECT value FROM meta WHERE name = 'relaxed'") is not None
        if strict and not relaxed and version != 0:
            _check_log(db, path, wanted.busy_timeout)
        if not strict and not relaxed:
            # From now on a power failure may leave any part of the log, and that is no damage.
            db.execute("INSERT OR IGNORE INTO meta VALUES ('relaxed', 1)")
        if 0 < version < SCHEMA_VERSION:
            upgrade(db, path)
        _suit(db, path, wanted)
    except apsw.Error as error:
        if is_full(error, db):
            raise translate(error, path, db) from error
        raise
    except ENGINE_ERRORS as error:
        raise translate(error, path, db, opening=True) from error
    finally:
        if db is not None:
            db.close(True)


def _check_log(db: apsw.Connection, path: str, patience: float) -> None:
    # Should closing be the last use of the file, it must not empty the log, and with it the evidence.
    db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    db.set_busy_timeout(0)
    try:
        lost = unreachable_commits(db, path)
    except apsw.BusyError:
        lost = 0  # another process is writing, so it has read the log
    finally:
        db.set_busy_timeout(round(patience * 1000))
    if lost > 1:
        raise CorruptData(
            f"the log {path}-wal is damaged: {lost} commits behind the damage cannot be read. Restore a backup, or "
            "delete the log to go on without them",
            path=path,
            lost=lost,
        )


def _look_at(path: str) -> None:
    """Refuse what is no file of ours before SQLite touches it. Raises BackendUnavailable."""
    file = Path(path)
    try:
        found = file.stat()
    except FileNotFoundError:
        if _log_size(path):
            raise CorruptData(f"{path} is missing, though its log {path}-wal is not. Restore both", path=path) from None
        if not file.parent.is_dir():
            raise BackendUnavailable(
                f"the directory {file.parent} does not exist; create it, or choose another path", path=path
            ) from None
        if not os.access(file.parent, os.W_OK):
            raise BackendUnavailable(f"the directory {file.parent} cannot be written", path=path) from None
        return
    except OSError as error:
        raise BackendUnavailable(f"{path} cannot be looked at: {error.strerror}", path=path) from None
    if not stat.S_ISREG(found.st_mode):
        raise BackendUnavailable(f"{path} is not a file; name the file that shall hold the memories", path=path)
    if not os.access(file, os.R_OK):
        raise BackendUnavailable(f"{path} cannot be read; give this process read and write access to it", path=path)
    if not os.access(file, os.W_OK) or not os.access(file.parent, os.W_OK):
        raise BackendUnavailable(
            f"{path} or its directory is read-only; give this process write access to both (SQLite keeps its log "
            "beside the file)",
            path=path,
        )
    if not found.st_size and _log_size(path):
        # SQLite would delete the log and start anew. No crash leaves this: page 1 is on disk before a log is begun.
        raise CorruptData(f"{path} is empty, though its log is not: it has been cut off. Restore a backup", path=path)
    if found.st_size:
        with file.open("rb") as stream:
            head = stream.read(16)
        # Zeros, or a journal beside it: a creation that is under way or was cut short, which SQLite takes care of.
        if head != b"SQLite format 3\0" and any(head) and not Path(f"{path}-journal").exists():
            raise BackendUnavailable(
                f"{path} is not a SQLite database; name another file, or restore a backup if this was one", path=path
            )


def _log_size(path: str) -> int:
    try:
        return Path(f"{path}-wal").stat().st_size
    except OSError:
        return 0


def _judge(path: str, application: Any, version: Any, *, empty: bool) -> None:
    if application == 0 and version == 0 and empty:
        return
    if application != APPLICATION_ID:
        raise BackendUnavailable(
            f"{path} is a SQLite database of another program; nothing was changed. Name another file", path=path
        )
    if version > SCHEMA_VERSION:
        raise BackendUnavailable(
            f"{path} has layout {version}, this version knows up to {SCHEMA_VERSION}; upgrade agent-memory-backends",
            path=path,
            found=version,
            known=SCHEMA_VERSION,
        )


def _create(db: apsw.Connection, path: str, identity: str) -> None:
    """Version 0 to SCHEMA_VERSION, in one transaction; another process may have been faster."""
    db.execute("BEGIN IMMEDIATE")
    try:
        _judge(path, db.pragma("application_id"), db.pragma("user_version"), empty=db.pragma("schema_version") == 0)
        if db.pragma("user_version") == 0:
            db.execute(TABLES + VECTOR_TABLES)
            db.execute(TEXT_INDEX)
            db.execute("INSERT INTO counter(version, layout, floor) VALUES (0, 0, 1)")
            db.execute("INSERT INTO meta VALUES ('analyser', ?)", (identity,))
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _suit(db: apsw.Connection, path: str, wanted_of: Wanted) -> None:
    identity, index, feed = wanted_of.identity, wanted_of.index, wanted_of.feed
    known = scalar(db, "SELECT value FROM meta WHERE name = 'analyser'")
    if not isinstance(known, str):
        raise CorruptData(f"{path} has lost its settings. {taken_out(path)}", path=path)
    if known != identity:
        raise InvalidSetting(
            f"{path} was indexed by the analyser {known!r}, this store uses {identity!r}. Open it with the same "
            "language, or export it and import it into a new file",
            setting="language",
            expected=known,
            actual=identity,
        )
    wanted = {msgspec.json.encode(list(parts)).decode() for parts in index}
    missing = wanted - {row[0] for row in db.execute("SELECT path FROM fields")}
    without_feed = feed and scalar(db, "SELECT feed FROM counter") is None
    if not missing and not without_feed:
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        if without_feed:
            db.execute("UPDATE counter SET feed = 1, floor = version + 1 WHERE feed IS NULL")
        for field in sorted(missing - {row[0] for row in db.execute("SELECT path FROM fields")}):
            _declare(db, field)
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def declared(db: apsw.Connection) -> dict[tuple[str, ...], int]:
    """Declared metadata path (root first) -> number of its column."""
    found = fetch(db, "SELECT path, number FROM fields ORDER BY number")
    return {tuple(msgspec.json.decode(path, type=list[str])): number for path, number in found}


def _declare(db: apsw.Connection, field: str) -> None:
    """A column and an index for one more metadata path, filled from the records."""
    number = (scalar(db, "SELECT max(number) FROM fields") or 0) + 1
    if number > MAX_FIELDS:
        raise InvalidSetting(f"this file has {MAX_FIELDS} declared metadata fields; no more fit", setting="index")
    db.execute(f"ALTER TABLE items ADD COLUMN f{number}")
    db.execute("INSERT INTO fields VALUES (?, ?)", (number, field))
    every = declared(db)

    def project(*values: Any) -> Any:
        return projected(values[0], msgspec.json.decode(field, type=list[str]))

    def sealed(*values: Any) -> Any:
        return field_seal(values[0], values[1:])

    db.create_scalar_function("projected", project, 1, deterministic=True)
    db.create_scalar_function("sealed", sealed, -1, deterministic=True)
    columns = ", ".join(f"f{n}" for n in every.values())
    db.execute(f"UPDATE items SET f{number} = projected(body)")  # noqa: S608 - a number
    db.execute(f"UPDATE items SET fseal = sealed(key, {columns})")  # noqa: S608 - numbers
    db.create_scalar_function("projected", None, 1)
    db.create_scalar_function("sealed", None, -1)
    db.execute(f"CREATE INDEX items_f{number} ON items(f{number}, key) WHERE f{number} IS NOT NULL")
    db.execute("UPDATE counter SET layout = layout + 1")


def projected(body: bytes, parts: Sequence[str]) -> Any:
    """What a declared field's column holds for a record's body. None where the body cannot be read."""
    try:
        return column_value(msgspec.json.decode(body), parts)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


LONGEST = 200
"""Longest operand, in characters, that a declared field's column decides; of strings beyond 256 it holds the beginning."""


def column_value(found: Any, parts: Sequence[str]) -> Any:
    """The value at a path, as its column holds it: numbers and strings as they are, a bool as one byte, else None.

    SQLite sorts numbers before text before blobs and compares ints with floats exactly, as filters do.
    """
    for part in parts:
        if type(found) is not dict:
            return None
        found = found.get(part)
    kind = type(found)
    if kind is str:
        # An operand of at most LONGEST characters compares with the cut as with the whole.
        return found if len(found) <= 256 else found[:256]
    if kind is int or kind is float:
        return found
    if kind is bool:
        return b"\1" if found else b"\0"
    return None
