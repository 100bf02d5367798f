"""The cache of a faiss store: the generation in force and its tail, and when a new generation is worth making.

One process makes generations at a time, by a lock on a file; the others take what it made. A generation that is not of
this file, or of another time of it, is not used: it says which chunk of the log it covers last, and that has to be there.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator

import apsw

from memory.backends.faiss.building import build, is_there
from memory.backends.faiss.generation import DoubtfulError, Generation, Manifest, read_generation, read_manifest
from memory.backends.faiss.index import FaissIndex
from memory.backends.faiss.lists import worth
from memory.backends.sqlite.entries import TooLongError
from memory.backends.sqlite.faults import ENGINE_ERRORS
from memory.backends.sqlite.picking import Index
from memory.backends.sqlite.spaces import VectorState, read_state
from memory.backends.sqlite.statements import scalar, snapshot
from memory.backends.sqlite.vectorcache import Held, VectorCache
from memory.errors import MemoryStoreError
from memory.telemetry import get_logger

_log = get_logger("faiss")
MERGE = 8_192
"""So many changes,"""
SHARE = 8
"""and this part of all, and they are merged into a new generation."""
LATE = 2
"""With so many times as many changes a search waits for the new generation."""
PAUSE = 60.0
"""Seconds until another is tried after one could not be written."""
IDLE = 1.0
"""Seconds without a write, and what was written is merged though no search has asked."""
AGAIN = 1.0
"""Seconds until it is asked again after there was nothing to merge, or another process was at it."""
WAIT = 30.0
"""Seconds that a search waits for the process that is making one; then the codes of the file are taken into memory."""


class FaissCache(VectorCache):
    """All vectors while they are few, else a generation and its tail.

    ``path`` tells the file once the store is open; ``ask`` lets `merge` be called in another thread; ``ivf``: generations are
    in lists.
    """

    def __init__(self, path: Callable[[], str], exact: int, ivf: bool, ask: Callable[[], None]) -> None:
        super().__init__()
        self._path = path
        self.exact = exact
        self.ivf = ivf
        self._ask = ask
        self._fresh: Generation | None = None
        self._told = 0
        """So many codes there were when a merge was asked for after a write."""
        self._coded: int | None = None
        self.changed = False
        """Whether codes have come since the store was opened."""
        self._written = 0.0
        self._asked = self._needed = False
        self._ask_from = self._build_from = 0.0

    def index(self, db: apsw.Connection, state: VectorState, *, patient: bool) -> Held | Index:
        """All that is known in this read transaction. Raises TooLongError unless patient, CorruptData."""
        if self._fresh is not None and isinstance(self._index, FaissIndex):
            if not patient:
                raise TooLongError  # else searches that are quick would never take it
            self._index = None
        index = super().index(db, state, patient=patient)
        if isinstance(index, FaissIndex) and self._is_due(index.generation.manifest, index.tail.count):
            self._needed = True
            self._ask_again()
        return index

    def noticed(self, state: VectorState) -> None:
        """A transaction left the vectors like this. From any thread."""
        self._coded = state.coded if self._coded is None else self._coded
        self.changed = self.changed or state.coded != self._coded
        self._written = time.monotonic()
        if state.vectors > self.exact and state.coded >= 2 * self._told + MERGE:
            self._told = state.coded
            self._ask_again()

    def _is_due(self, manifest: Manifest, changes: int) -> bool:
        """Whether a new generation is worth making after so many changes."""
        unlisted = self.ivf and not manifest.lists and worth(manifest.count) > 0
        return unlisted or changes >= _worth(manifest.count)

    def _ask_again(self) -> None:
        if not self._asked and time.monotonic() >= max(self._ask_from, self._build_from):
            self._asked = True
            self._ask()

    # --- which generation ----------------------------------------------------------------------

    def _codes(self, db: apsw.Connection, state: VectorState) -> Index:
        fresh, self._fresh = self._fresh, None
        generation = fresh if fresh is not None and fits(db, state, fresh.manifest) else self._found(db, state)
        if generation is None or _changes(db, generation.manifest) > LATE * _worth(generation.count):
            generation = self._made(db, state, generation)
        if generation is not None:
            index = FaissIndex(generation, self.ivf)
            if self._catch_up(db, index, state, generation.manifest.seq, True) is not None:
                return index
        return super()._codes(db, state)

    def _found(self, db: apsw.Connection, state: VectorState) -> Generation | None:
        """The generation in force, if it is of these records and undamaged."""
        try:
            manifest = read_manifest(self._path())
            if not fits(db, state, manifest):
                raise DoubtfulError("the index is of other records, or of another time")
            return read_generation(self._path(), manifest)
        except DoubtfulError as error:
            _log.info("no index to use", path=self._path(), reason=str(error))
            return None

    def _made(self, db: apsw.Connection, state: VectorState, old: Generation | None) -> Generation | None:
        """A new generation, by this process or by the one that is making it; ``old`` where there will be none."""
        until = time.monotonic() + WAIT
        while True:
            with self._alone() as alone:
                # Somebody may have been faster.
                found = self._found(db, state)
                if found is not None and (old is None or found.manifest.generation != old.manifest.generation):
                    return found
                if alone:
                    return self._build(db) or old
            if time.monotonic() > until:
                return old
            time.sleep(0.02)

    def _build(self, db: apsw.Connection) -> Generation | None:
        if time.monotonic() < self._build_from:
            return None
        started = time.monotonic()
        try:
            manifest = build(db, self._path(), ivf=self.ivf)
            if manifest is None:
                return None
            _log.info("built", path=self._path(), vectors=manifest.count, seconds=round(time.monotonic() - started, 2))
            return read_generation(self._path(), manifest)
        except apsw.InterruptError:
            raise
        except (*ENGINE_ERRORS, OSError, MemoryStoreError, DoubtfulError) as error:
            # The index is only a cache, and what it would hold is found without.
            _log.warning("index not written", path=self._path(), error=error)
            self._build_from = time.monotonic() + PAUSE
            return None

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether nobody else makes a generation of this store meanwhile."""
        try:
            handle = os.open(f"{self._path()}-faiss-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:
            yield True  # a disk that cannot be written: building says so
            return
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                yield False
            else:
                yield True
        finally:
            os.close(handle)

    def merge(self, db: apsw.Connection, stopping: Callable[[], bool]) -> None:
        """Make a new generation if there is enough to merge, or take the one that another process has made.

        Before a search needs it, not while much is being written, unless the store is ``stopping``.
        """
        while not self._needed and not stopping() and time.monotonic() < self._written + IDLE:
            time.sleep(0.02)
        try:
            self._merge(db)
        finally:
            self._asked = self._needed = False
            if self._fresh is None:
                self._ask_from = time.monotonic() + AGAIN

    def _merge(self, db: apsw.Connection) -> None:
        with snapshot(db):
            state = read_state(db)
            if state.space is None or state.vectors <= self.exact:
                return
            try:
                manifest = read_manifest(self._path())
            except DoubtfulError:
                manifest = None
            if manifest is not None and not fits(db, state, manifest):
                manifest = None
            index = self._index
            used = index.generation.manifest.generation if isinstance(index, FaissIndex) else 0
            if manifest is not None and not self._is_due(manifest, _changes(db, manifest)):
                if used and manifest.generation != used:
                    self._fresh = self._found(db, state)
                return
            with self._alone() as alone:
                made = self._build(db) if alone else None
            if used:
                self._fresh = made


def _worth(count: int) -> int:
    return max(MERGE, count // SHARE)


def _changes(db: apsw.Connection, manifest: Manifest) -> int:
    """Codes that came since a generation."""
    return int(scalar(db, "SELECT total(length(ords) / 8) FROM codes WHERE seq > ? AND upto > ?", (manifest.seq,) * 2))


def fits(db: apsw.Connection, state: VectorState, manifest: Manifest) -> bool:
    """Whether a generation is of these records as they are, or were."""
    return (
        state.space is not None
        and (manifest.era, manifest.dimension) == (state.era, state.space.dimension)
        and is_there(db, manifest)
    )
