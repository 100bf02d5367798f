"""SQLite's errors as ours: one place where an apsw exception becomes a typed error that says what to do."""

from __future__ import annotations

import errno

import apsw
import msgspec

from memory.errors import BackendUnavailable, CorruptData, MemoryStoreError, StorageFull

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
ROOM_ERRORS = frozenset({apsw.SQLITE_IOERR_SHMSIZE})
"""Extended codes that mean a lack of room whatever the system's errno says."""
_UNREADABLE = (UnicodeDecodeError, msgspec.DecodeError)
"""What was stored and cannot be read: text that is no UTF-8, bytes that are no value."""
UNEXPECTED = (TypeError, OverflowError)
"""What a value of another kind than expected raises. What is read from a file is held to its seal or its type before
anything is done with it, so these are mistakes of this library: what they belong to fails, and the file is not blamed."""
ENGINE_ERRORS = (apsw.Error, *_UNREADABLE, *UNEXPECTED)
"""What a statement or its decoded answer raises."""


_DAMAGE = (
    *(apsw.CorruptError, apsw.NotADBError, apsw.FormatError),
    # Every statement is ours and right: when a table or column is not there, the schema is damaged.
    *(apsw.SQLError, apsw.MismatchError, apsw.SchemaChangeError),
)


def is_full(error: BaseException, db: apsw.Connection | None = None) -> bool:
    """Whether there was no room: SQLITE_FULL, or an I/O error behind which stand ENOSPC, EDQUOT or EFBIG.

    SQLite reports only ENOSPC as SQLITE_FULL; a file size limit and a quota come as plain I/O errors.
    """
    if isinstance(error, apsw.FullError):
        return True
    if not isinstance(error, apsw.IOError | apsw.CantOpenError):
        return False
    if getattr(error, "extendedresult", 0) in ROOM_ERRORS:
        return True
    return db is not None and db.system_errno in _NO_ROOM


def taken_out(path: str) -> str:
    """What to do about a file that cannot be opened: restore reads records out of one like out of a backup."""
    return (
        f"It cannot be opened, so not repaired either: restore a backup, or run 'memory restore {path} --path NEW', "
        "which takes out the records that can be read"
    )


def translate(
    error: BaseException, path: str, db: apsw.Connection | None = None, *, opening: bool = False
) -> MemoryStoreError:
    """The typed error for an apsw exception; a MemoryStoreError passes through.

    ``opening``: the store cannot be opened for it, so repair is no way out.
    """
    if isinstance(error, MemoryStoreError):
        return error
    if is_full(error, db):
        return StorageFull(
            f"there is no room left for {path}; free some space, or delete items and run 'memory repair' to shrink it",
            path=path,
        )
    if isinstance(error, (*_UNREADABLE, *_DAMAGE)):
        way_out = (
            taken_out(path)
            if opening
            else "Run 'memory repair', which keeps the damaged file and names what it cannot save, or restore a backup"
        )
        return CorruptData(f"{path} is damaged: {error}. {way_out}", path=path)
    if not isinstance(error, apsw.Error):
        # As a mistake it is nothing to be caught by type; the traceback is that of its cause.
        mistake = MemoryStoreError(
            f"a mistake in this library, nothing was written to {path}: {type(error).__name__}: {error}. Please report it "
            "with its traceback",
            path=path,
        )
        mistake.__cause__ = error
        return mistake
    if isinstance(error, apsw.BusyError | apsw.LockedError | apsw.ProtocolError):
        return BackendUnavailable(
            f"another process holds the lock of {path}; nothing was done. Try again, or end that process", path=path
        )
    if isinstance(error, apsw.ReadOnlyError | apsw.PermissionsError | apsw.AuthError):
        return BackendUnavailable(
            f"{path} cannot be written; give this process write access to the file and its directory", path=path
        )
    if isinstance(error, apsw.CantOpenError):
        return BackendUnavailable(
            f"{path} cannot be opened; see that its directory exists and that this process may write there", path=path
        )
    return BackendUnavailable(f"SQLite could not use {path}: {type(error).__name__}: {error}", path=path)
