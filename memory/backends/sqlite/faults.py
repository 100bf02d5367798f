"""SQLite's errors as ours: one place where an apsw exception becomes a typed error that says what to do."""

from __future__ import annotations

import errno

import apsw

from memory.errors import BackendUnavailable, CorruptData, MemoryStoreError, StorageFull

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
WRITE_ERRORS = frozenset(
    {apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_TRUNCATE, apsw.SQLITE_IOERR_SHMSIZE, apsw.SQLITE_IOERR_SHMMAP}
)
"""Extended codes of a write that did not fit, when the system's errno says that room was the reason."""


def is_full(error: BaseException, db: apsw.Connection | None = None) -> bool:
    """Whether there was no room: SQLITE_FULL, or an I/O error behind which stand ENOSPC, EDQUOT or EFBIG.

    SQLite reports only ENOSPC as SQLITE_FULL; a file size limit and a quota come as plain I/O errors.
    """
    if isinstance(error, apsw.FullError):
        return True
    if not isinstance(error, apsw.IOError) or error.extendedresult not in WRITE_ERRORS:
        return False
    return db is None or db.system_errno in _NO_ROOM or error.extendedresult != apsw.SQLITE_IOERR_WRITE


def translate(error: BaseException, path: str, db: apsw.Connection | None = None) -> MemoryStoreError:
    """The typed error for an apsw exception; a MemoryStoreError passes through."""
    if isinstance(error, MemoryStoreError):
        return error
    if is_full(error, db):
        return StorageFull(
            f"there is no room left for {path}; free some space, or delete items and run 'memory repair' to shrink it",
            path=path,
        )
    if isinstance(error, apsw.CorruptError | apsw.NotADBError | apsw.FormatError):
        return CorruptData(
            f"{path} is damaged: {error}. Run 'memory verify' to see where, then 'memory repair', or restore a backup",
            path=path,
        )
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
