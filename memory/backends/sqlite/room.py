"""Room set aside, so that on a full disk deletes still work.

A delete needs room too: its pages go to the log first. So the file is always a little longer than its pages (a group
with puts commits only when it is), which lets a checkpoint finish whatever happens; then the log starts again in
blocks it has. And the log has some from the start.

SQLite would let the file grow at a hint (SQLITE_FCNTL_SIZE_HINT), but as it is built here it does so by a byte at the end of each
block, for which it needs 30 ms with the GIL held, and where another process's checkpoint has just put pages there, those
bytes are theirs. ``fallocate`` takes blocks and overwrites nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
from functools import cache
from pathlib import Path
from typing import Any

import apsw

_CHUNK = 256 * 1024
_MARGIN_PAGES = 64
_LOG_BYTES = 256 * 1024


def grow_in_chunks(db: apsw.Connection) -> None:
    """Let the file grow and shrink in whole chunks. On every connection that may checkpoint."""
    size = ctypes.c_int(_CHUNK)
    db.file_control("main", apsw.SQLITE_FCNTL_CHUNK_SIZE, ctypes.addressof(size))


class Reserve:
    """How far the file is known to be allocated."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._allocated = self._wanted = 0
        self._page_size = 0

    def forget(self) -> None:
        """A checkpoint may have cut the file."""
        self._allocated = 0

    def missing(self, db: apsw.Connection) -> int:
        """The size that the file should have before the commit of a group with puts; 0 when it is known to have it."""
        self._page_size = self._page_size or db.pragma("page_size")
        self._wanted = (db.pragma("page_count") + _MARGIN_PAGES) * self._page_size
        return self._wanted if self._wanted > self._allocated else 0

    @property
    def is_low(self) -> bool:
        """Whether the next puts may find too little, as far as `missing` has seen."""
        return self._wanted + _CHUNK // 2 > self._allocated

    def ensure(self, db: apsw.Connection, *, ahead: bool = False) -> None:
        """Before the commit of a group with puts: allocate the file's pages and a margin, in whole chunks, so that the next
        commits may be quick. Raises FullError. Blocking.

        ``ahead``: a sixteenth more, for commits on the loop, which have no time for it.
        """
        wanted = self.missing(db)
        if ahead:
            wanted = self._wanted + max(_CHUNK, self._wanted // 16)
        if not wanted:
            return
        wanted = -(-wanted // _CHUNK) * _CHUNK
        _allocate(db, self._path, wanted)
        self._allocated = max(wanted, os.stat(self._path).st_size)  # noqa: PTH116 - called often


class _UnixFile(ctypes.Structure):
    """How SQLite's ``unixFile`` begins."""

    _fields_ = (
        ("methods", ctypes.c_void_p),
        ("vfs", ctypes.c_void_p),
        ("inode", ctypes.c_void_p),
        ("descriptor", ctypes.c_int),
    )


def _allocate(db: apsw.Connection, path: str, size: int) -> None:
    """Blocks for the file's first ``size`` bytes, where the system can give some. Raises FullError.

    By SQLite's own descriptor: to close another of the same file would drop the locks of every connection in this process.
    """
    if db.open_vfs != "unix":
        return
    file = ctypes.c_void_p()
    db.file_control("main", apsw.SQLITE_FCNTL_FILE_POINTER, ctypes.addressof(file))
    if file.value is None:
        return
    descriptor = _UnixFile.from_address(file.value).descriptor
    try:
        if not os.path.samestat(os.fstat(descriptor), os.stat(path)):  # noqa: PTH116 - called often
            return
    except OSError:
        return
    try:
        _take(descriptor, size)
    except OSError as error:
        raise apsw.FullError(f"the file cannot grow: {error.strerror}") from error


def _take(descriptor: int, size: int) -> None:
    """Blocks for the first bytes of a file, where the file system gives any. Raises OSError.

    Not ``os.posix_fallocate``, which writes into the file where the file system does not.
    """
    fallocate = _fallocate()
    while fallocate is not None and fallocate(descriptor, 0, ctypes.c_int64(0), ctypes.c_int64(size)):
        number = ctypes.get_errno()
        if number in (errno.EOPNOTSUPP, errno.ENOSYS):
            return
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


@cache
def _fallocate() -> Any:
    return getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)


def reserve_log(path: str) -> None:
    """Give the log its first blocks, where there are any. Recovery stops at a frame of zeros."""
    with contextlib.suppress(OSError):
        if Path(f"{path}-wal").stat().st_size >= _LOG_BYTES:
            return
    # No lock of SQLite's lies on the log, so opening and closing it drops none.
    with contextlib.suppress(OSError):
        handle = os.open(f"{path}-wal", os.O_WRONLY)
        try:
            _take(handle, _LOG_BYTES)
        finally:
            os.close(handle)
