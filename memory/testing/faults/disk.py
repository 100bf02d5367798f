"""A recorder between SQLite and its files, and a disk that can lose power at any point of the recording.

The model is the strict reading of POSIX: what was written reaches the disk for certain only when that file was
synced, a new or deleted name only when its directory was. Until then any part of it may be there or not, in
sectors of 512 bytes. SQLite's own default assumption stays: a write does not harm bytes beside it (powersafe
overwrite). The shared-memory index (-shm) is rebuilt at the first open and counts for nothing here.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec

SECTOR = 512


class Written(msgspec.Struct, array_like=True, tag="w", gc=False):
    """Bytes handed to the system."""

    inode: int
    offset: int
    data: bytes


class Cut(msgspec.Struct, array_like=True, tag="t", gc=False):
    """A file cut (or grown) to a size."""

    inode: int
    size: int


class Synced(msgspec.Struct, array_like=True, tag="s", gc=False):
    """A file's bytes are on the disk."""

    inode: int


class Dropped(msgspec.Struct, array_like=True, tag="f", gc=False):
    """A sync failed. Like Linux: what was waiting counts as clean from now on, no later sync brings it to the disk."""

    inode: int


class Named(msgspec.Struct, array_like=True, tag="n", gc=False):
    """A name now means a file; or, inode 0, nothing."""

    name: str
    inode: int


class NamesSynced(msgspec.Struct, array_like=True, tag="d", gc=False):
    """The directory's names are on the disk."""


Event = Written | Cut | Synced | Dropped | Named | NamesSynced


class Recorder:
    """Everything that happens to the files of one directory, in order."""

    def __init__(self, directory: Path, fails: Callable[[], bool] = lambda: False) -> None:
        self.directory = directory
        self.fails = fails
        """Asked before each sync: whether this one fails."""
        self.log: list[Event] = []
        self.lock = threading.RLock()
        self._inodes: dict[str, int] = {}
        self._next = 0
        self._unsynced_names: set[int] = set()

    def opened(self, name: str, existed: bool, syncs_directory: bool) -> int:
        """A file was opened; returns its inode."""
        if not existed or name not in self._inodes:
            self._next += 1
            self._inodes[name] = self._next
            self.log.append(Named(name, self._next))
            if syncs_directory:
                self._unsynced_names.add(self._next)
        return self._inodes[name]

    def deleted(self, name: str, sync: bool) -> None:
        """A name is gone."""
        self._inodes.pop(name, None)
        self.log.append(Named(name, 0))
        if sync:
            self.log.append(NamesSynced())

    def synced(self, inode: int) -> None:
        """A file was synced. SQLite syncs the directory too at the first sync of a new journal or WAL."""
        self.log.append(Synced(inode))
        if inode in self._unsynced_names:
            self._unsynced_names.discard(inode)
            self.log.append(NamesSynced())

    def position(self) -> int:
        """Where the log stands: an acknowledgement at this position came before the next event."""
        return len(self.log)


class RecordedFile(apsw.VFSFile):
    """A file that tells the recorder before it writes and after it has synced."""

    def __init__(self, recorder: Recorder, path: str, name: Any, flags: list[int]) -> None:
        self._recorder = recorder
        existed = os.path.exists(path)
        super().__init__("", name, flags)
        journal = bool(flags[0] & (apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL))
        self._inode = recorder.opened(os.path.basename(path), existed, journal)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - the name is SQLite's
        """Write."""
        with self._recorder.lock:
            self._recorder.log.append(Written(self._inode, offset, bytes(data)))
            super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802
        """Truncate."""
        with self._recorder.lock:
            self._recorder.log.append(Cut(self._inode, newsize))
            super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802
        """Sync."""
        with self._recorder.lock:
            if self._recorder.fails():
                self._recorder.log.append(Dropped(self._inode))
                raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
            super().xSync(flags)
            self._recorder.synced(self._inode)


class RecordingVFS(apsw.VFS):
    """The system's own VFS with a recorder in between. Register it by making it, keep it while it is in use."""

    def __init__(self, name: str, recorder: Recorder) -> None:
        self._recorder = recorder
        super().__init__(name, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802
        """Open; files elsewhere (temporary ones) pass through."""
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is None or Path(path).parent != self._recorder.directory:
            return apsw.VFSFile("", name, flags)
        with self._recorder.lock:
            return RecordedFile(self._recorder, path, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        """Delete."""
        with self._recorder.lock:
            self._recorder.deleted(os.path.basename(filename), syncdir)
            super().xDelete(filename, syncdir)


class Disk:
    """Feed it the log event by event; ask at any point what a power loss could leave."""

    def __init__(self) -> None:
        self.durable: dict[int, bytearray] = {}
        self.cached: dict[int, bytearray] = {}
        """What a process would read: all that was ever written."""
        self.pending: dict[int, list[Written | Cut]] = {}
        self.names: dict[str, int] = {}
        self.pending_names: list[Named] = []

    def feed(self, event: Event) -> None:
        """One step on."""
        if isinstance(event, Written | Cut):
            self.pending.setdefault(event.inode, []).append(event)
            _apply(self.cached.setdefault(event.inode, bytearray()), event)
        elif isinstance(event, Dropped):
            self.pending.pop(event.inode, None)
        elif isinstance(event, Synced):
            content = self.durable.setdefault(event.inode, bytearray())
            for change in self.pending.pop(event.inode, ()):
                _apply(content, change)
        elif isinstance(event, Named):
            self.pending_names.append(event)
        else:
            _rename(self.names, self.pending_names)
            self.pending_names = []

    def image(
        self, names: int | None, choose: Callable[[Sequence[Written | Cut]], Sequence[Written | Cut]]
    ) -> dict[str, bytes]:
        """The files after a power loss: the first ``names`` unsynced names (None: all), the chosen unsynced writes."""
        directory = dict(self.names)
        _rename(directory, self.pending_names[:names])
        files = {}
        for name, inode in directory.items():
            content = bytearray(self.durable.get(inode, b""))
            for change in choose(self.pending.get(inode, ())):
                _apply(content, change)
            files[name] = bytes(content)
        return files

    def synced_only(self) -> dict[str, bytes]:
        """Nothing but what was synced."""
        return self.image(0, lambda changes: ())

    def all_written(self) -> dict[str, bytes]:
        """Everything, as after the death of the process alone."""
        directory = dict(self.names)
        _rename(directory, self.pending_names)
        return {name: bytes(self.cached.get(inode, b"")) for name, inode in directory.items()}

    def some_writes(self, rng: random.Random) -> dict[str, bytes]:
        """A random subset of the unsynced writes."""
        share = rng.random()
        return self.image(
            rng.randint(0, len(self.pending_names)),
            lambda changes: [change for change in changes if rng.random() < share],
        )

    def some_sectors(self, rng: random.Random) -> dict[str, bytes]:
        """A random subset of the sectors of the unsynced writes."""
        share = rng.random()
        return self.image(
            rng.randint(0, len(self.pending_names)),
            lambda changes: [part for change in changes for part in _sectors(change) if rng.random() < share],
        )

    def torn(self, rng: random.Random) -> dict[str, bytes]:
        """All unsynced writes, of the last one only its first sectors."""

        def tear(changes: Sequence[Written | Cut]) -> Sequence[Written | Cut]:
            if not changes:
                return ()
            parts = _sectors(changes[-1])
            return [*changes[:-1], *parts[: rng.randint(0, max(0, len(parts) - 1))]]

        return self.image(None, tear)


def _rename(directory: dict[str, int], changes: Sequence[Named]) -> None:
    for change in changes:
        if change.inode:
            directory[change.name] = change.inode
        else:
            directory.pop(change.name, None)


def _apply(content: bytearray, change: Written | Cut) -> None:
    if isinstance(change, Cut):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    end = change.offset + len(change.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    content[change.offset : end] = change.data


def _sectors(change: Written | Cut) -> list[Written | Cut]:
    """A write cut where sectors of the disk meet."""
    if isinstance(change, Cut):
        return [change]
    parts: list[Written | Cut] = []
    start, data = change.offset, change.data
    while data:
        size = SECTOR - start % SECTOR
        parts.append(Written(change.inode, start, data[:size]))
        start, data = start + size, data[size:]
    return parts
