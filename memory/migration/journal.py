"""The journal: what a migration remembers. It resumes after a kill from it, and everything is undone by it.

One file of JSON lines. What will be written is said before (an intent, with what was there, whole), fsynced, then written, then
said to be done; so at any moment at most one batch is in doubt, and the target itself tells what became of it. A line that
a crash tore, at the end, is cut off.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Literal, Self, TypeVar

import msgspec

from memory.errors import AlreadyExists, CorruptData, InvalidSetting, StorageFull
from memory.migration.report import Finding, Plan
from memory.model import Key
from memory.ops import Position, Row
from memory.store.transfer import sync_directory, to_the_end
from memory.turns import is_due, pause

FORMAT = 1
CHUNK = 1024 * 1024
What = Literal["create", "update", "replace", "remove"]


class Header(msgspec.Struct, frozen=True, kw_only=True, tag="migration", tag_field="t"):
    """The first line: from where to where (addresses without passwords), and what is moved how."""

    v: int = FORMAT
    source: str
    target: str
    question: dict[str, Any]


class Round(msgspec.Struct, frozen=True, kw_only=True, tag="round", tag_field="t"):
    """A run begins, from the start of the source. ``feed``: where the source's feed stood, if it keeps one."""

    at: int
    options: dict[str, Any]
    feed: int | None = None


class Intent(msgspec.Struct, frozen=True, kw_only=True, tag="intent", tag_field="t"):
    """One item is about to be written (or removed). ``source``: its version there; ``after``: its fingerprint."""

    n: int
    key: Key
    what: What
    source: int = 0
    after: str | None = None
    before: Row | None = None
    """What the target held; None: nothing."""


class Done(msgspec.Struct, frozen=True, kw_only=True, tag="done", tag_field="t"):
    """The intents before this are settled. ``versions``: (n, version that the target issued) of those that took effect."""

    versions: list[tuple[int, int]] = []
    at: Position | None = None
    """Everything up to this key has been moved."""


class Moving(msgspec.Struct, frozen=True, tag="moving", tag_field="t"):
    """The plan is carried out; conflicts and refusals are told anew as they are met."""


class Comparing(msgspec.Struct, frozen=True, tag="comparing", tag_field="t"):
    """All is moved, and both sides are compared; differences are told anew."""


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end", tag_field="t"):
    """The round has ended."""

    ok: bool


class Undone(msgspec.Struct, frozen=True, tag="undone", tag_field="t"):
    """Everything before this has been undone, but for what somebody had changed."""


Line = Header | Round | Plan | Finding | Moving | Intent | Done | Comparing | End | Undone
L = TypeVar("L")
_encode = msgspec.json.encode
_decode = msgspec.json.Decoder(Line).decode


class Journal:
    """The journal's file, open for appending and locked against other migrations."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._file: IO[bytes] | None = None
        self._held: list[bytes] = []

    async def __aenter__(self) -> Self:
        self._file, self.size = await to_the_end(_open, self.path)
        return self

    async def __aexit__(self, *exc: object) -> None:
        file, self._file = self._file, None
        if file is not None:
            held, self._held = b"".join(self._held), []
            with suppress(OSError):
                await to_the_end(_append, file, held, False)
            await to_the_end(file.close)

    def hold(self, line: Line) -> int:
        """Add a line, which goes to the file with the next ``sync``; returns the place where it begins."""
        place = self.size
        raw = _encode(line) + b"\n"
        self._held.append(raw)
        self.size += len(raw)
        return place

    async def sync(self, *lines: Line) -> None:
        """Bring all lines to the disk. Raises StorageFull, OSError."""
        for line in lines:
            self.hold(line)
        assert self._file is not None
        raw, self._held = b"".join(self._held), []
        try:
            await to_the_end(_append, self._file, raw, True)
        except OSError as error:
            raise StorageFull(
                f"the journal {self.path} cannot be written ({error.strerror or error}); make room and run the same "
                "migration again, it goes on where it stopped"
            ) from error

    async def cut(self, size: int) -> None:
        """Drop what is behind this place: lines that a crash tore."""
        assert self._file is not None
        if size < self.size:
            await to_the_end(self._file.truncate, size)
            self.size = size


async def lines(path: Path, start: int = 0) -> AsyncIterator[list[tuple[int, Line | None]]]:
    """The lines from a place on, each with where it begins, in pieces; None is one that cannot be read."""
    file = await to_the_end(_open_to_read, path, start)
    try:
        place = start
        while raw := await to_the_end(file.readlines, CHUNK):
            for step in range(0, len(raw), 100):
                piece: list[tuple[int, Line | None]] = []
                for line in raw[step : step + 100]:
                    piece.append((place, _line(line)))
                    place += len(line)
                if is_due():
                    await pause()
                yield piece
    finally:
        await to_the_end(file.close)


async def read_at(path: Path, places: Sequence[int], kind: type[L]) -> list[L]:
    """The lines that begin at these places. Raises CorruptData."""

    def read() -> list[bytes]:
        with path.open("rb") as file:
            found: list[bytes] = []
            for place in places:
                file.seek(place)
                found.append(file.readline())
            return found

    told: list[L] = []
    for raw in await to_the_end(read):
        line = _line(raw)
        if not isinstance(line, kind):
            raise damaged(path)
        told.append(line)
    return told


def damaged(path: Path) -> CorruptData:
    """The error for a journal that cannot be read."""
    return CorruptData(f"the journal {path} is damaged; it can neither resume nor undo a migration")


def _line(raw: bytes) -> Line | None:
    if not raw.endswith(b"\n"):
        return None
    try:
        line: Line = _decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return line


def _open_to_read(path: Path, start: int) -> IO[bytes]:
    file = path.open("rb")
    file.seek(start)
    return file


def _open(path: Path) -> tuple[IO[bytes], int]:
    import fcntl

    if path.exists() and not path.is_file():
        raise InvalidSetting(f"the journal {path} cannot be opened: it is not a file", setting="state")
    try:
        # It holds whole records, those that were replaced: nobody else's to read.
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "ab", buffering=0)
    except OSError as error:
        raise InvalidSetting(
            f"the journal {path} cannot be opened: {error.strerror or error}", setting="state"
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise AlreadyExists(
            f"another migration is writing the journal {path}; wait for it to end", file=str(path)
        ) from None
    sync_directory(path.absolute().parent)
    return file, os.fstat(file.fileno()).st_size


def _append(file: IO[bytes], raw: bytes, durable: bool) -> None:
    view = memoryview(raw)
    while view:
        view = view[file.write(view) :]
    if durable:
        os.fsync(file.fileno())
