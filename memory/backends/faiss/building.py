"""A generation made from SQLite's file: the last code of every record that is there, one bit a number and four.

The file's own codes are read in one snapshot, a chunk at a time, so a million vectors take a few seconds and a few dozen
megabytes. The log of changed vectors has numbers (`memory.backends.sqlite.vectorlog`): a generation covers those up to the last
chunk. What a single write moved before that is read as it is in the snapshot; what it moved later is the tail's.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import apsw
import numpy as np

from memory.backends.faiss.codes import Codes, from_fine, units_of
from memory.backends.faiss.generation import Manifest, Writing
from memory.backends.faiss.lists import Lists, sampled, train, worth
from memory.backends.sqlite.codes import Codes as Fine
from memory.backends.sqlite.codes import Ints, pack
from memory.backends.sqlite.entries import located
from memory.backends.sqlite.spaces import VectorState, read_state
from memory.backends.sqlite.statements import fetch, first
from memory.backends.sqlite.vectorlog import CHUNK_SQL, chunk_of, entry_ords, read_centre, stored_vectors
from memory.backends.sqlite.workers import Breather
from memory.errors import CorruptData
from memory.search.vectors import Matrix
from memory.telemetry import get_logger

_log = get_logger("faiss")
TELL = 5.0
"""Seconds between two lines about how far it is."""
COPIED = 4_096
"""Codes put in the order of lists in one step."""


class Last(NamedTuple):
    """The last chunk of the log: its number and its digest."""

    seq: int
    digest: int


def last_chunk(db: apsw.Connection) -> Last | None:
    """The last chunk, by which a generation knows its log again."""
    found = first(db, "SELECT seq, digest FROM codes ORDER BY seq DESC LIMIT 1")
    return None if found is None else Last(*found)


def is_there(db: apsw.Connection, manifest: Manifest) -> bool:
    """Whether the chunk that a generation covers last is in the log: else it is of another file or time."""
    found = first(db, "SELECT digest FROM codes WHERE seq = ?", (manifest.seq,))
    return found == (manifest.digest,)


def build(db: apsw.Connection, path: str, *, ivf: bool) -> Manifest | None:
    """Write a generation of all that is coded, in lists if ``ivf``, and put it in force; None where nothing is.

    Within a read transaction. Raises CorruptData (codes of the file are damaged), OSError, apsw.Error.
    """
    state, last = read_state(db), last_chunk(db)
    if state.space is None or last is None:
        return None
    centre = read_centre(db, state.space.dimension)
    if centre is None:
        raise CorruptData("the centre of the codes is damaged. Run 'memory repair'")
    return _Building(db, path, state, last, centre, ivf).run()


class _Building:
    def __init__(
        self, db: apsw.Connection, path: str, state: VectorState, last: Last, centre: Matrix, ivf: bool
    ) -> None:
        self.db = db
        self.ivf = ivf
        self.path = path
        self.state = state
        self.last = last
        self.centre = centre
        self.breather = Breather()

    def run(self) -> Manifest | None:
        coded = self._numbers()
        moved = self._moved()
        every = np.concatenate([coded, moved])
        known, rows = located(self.db)
        # Of each record the last code, and only of records that are there.
        _, newest = np.unique(every[::-1], return_index=True)
        keep = np.zeros(len(every), dtype=bool)
        keep[len(every) - 1 - newest] = True
        at = np.searchsorted(known, every)
        keep &= at < len(known)
        keep[keep] = known[at[keep]] == every[keep]
        if not keep.any():
            return None
        count = int(keep.sum())
        lists = self._trained(count, keep, moved) if self.ivf and worth(count) else None
        writing = Writing(self.path, count, len(self.centre), 0 if lists is None else len(lists.heads))
        try:
            writing.add("ords", every[keep])
            writing.add("rows", rows[at[keep]])
            writing.add("centre", self.centre)
            of = self._codes(writing, keep, moved, lists)
            if lists is not None:
                writing = self._in_lists(writing, lists, of)
            return writing.commit(
                era=self.state.era,
                seq=self.last.seq,
                digest=self.last.digest,
                schema=self.db.pragma("schema_version"),
                probes=() if lists is None else lists.probes,
            )
        except BaseException:
            writing.give_up()
            raise

    def _numbers(self) -> Ints:
        """The record of each code, in the order of the log."""
        parts = [np.empty(0, dtype=np.int64)]
        for raw, crc in self.db.execute("SELECT ords, crc FROM codes ORDER BY seq"):
            if not isinstance(raw, bytes) or zlib.crc32(raw) != crc or len(raw) % 8:
                raise CorruptData("the log of vectors is damaged. Run 'memory repair'")
            parts.append(np.frombuffer(raw, dtype="<i8"))
            self.breather.breathe()
        found = np.concatenate(parts)
        if len(found) != self.state.coded:
            raise CorruptData("codes are missing. Run 'memory repair'")
        return found

    def _moved(self) -> Ints:
        """Records that single writes have moved before the last chunk, and that have a vector."""
        entries = fetch(self.db, "SELECT ords, crc FROM moves WHERE seq < ?", (self.last.seq,))
        moved = sorted({ord for entry in entries for ord in entry_ords(*entry)})
        pieces = [ords for ords, _ in stored_vectors(self.db, moved, len(self.centre))]
        return np.concatenate([np.empty(0, dtype=np.int64), *pieces])

    def _kept(self, keep: Ints, moved: Ints) -> Iterator[Fine]:
        """The codes that are kept, in steps."""
        done, told = 0, time.monotonic() + TELL
        for codes in self._every(moved):
            kept = keep[done : done + len(codes.step)]
            done += len(codes.step)
            yield codes.at(kept)
            self.breather.breathe()
            if time.monotonic() > told:
                _log.info("building", path=self.path, done=done, of=len(keep))
                told = time.monotonic() + TELL

    def _every(self, moved: Ints) -> Iterator[Fine]:
        for row in self.db.execute(f"{CHUNK_SQL} ORDER BY seq"):
            yield chunk_of(row, len(self.centre))[1]
        for _, rows in stored_vectors(self.db, moved.tolist(), len(self.centre)):
            yield pack(rows, self.centre)

    def _codes(self, writing: Writing, keep: Ints, moved: Ints, lists: Lists | None) -> Ints:
        """Write the codes; the list of each, where there are lists."""
        of = [np.empty(0, dtype=np.int64)]
        for codes in self._kept(keep, moved):
            for name, array in from_fine(codes, self.centre)._asdict().items():
                writing.add(name, array)
            if lists is not None:
                of.append(lists.of(units_of(codes, self.centre)))
        return np.concatenate(of)

    # --- in lists ------------------------------------------------------------------------------

    def _trained(self, count: int, keep: Ints, moved: Ints) -> Lists:
        """Lists, from a sample of the codes."""
        rng = np.random.default_rng(self.last.seq)
        sample = [
            units_of(codes.at(rng.random(len(codes.step)) < sampled(count)), self.centre)
            for codes in self._kept(keep, moved)
        ]
        return train(rng.permutation(np.concatenate(sample)), worth(count))

    def _in_lists(self, unsorted: Writing, lists: Lists, of: Ints) -> Writing:
        """The same generation, its places in the order of lists."""
        order = np.argsort(of, kind="stable")
        writing = Writing(self.path, unsorted.count, unsorted.dimension, unsorted.lists)
        try:
            writing.add("centre", self.centre)
            writing.add("heads", lists.heads)
            writing.add("starts", np.searchsorted(of[order], np.arange(len(lists.heads))))
            arrays = unsorted.arrays()
            for name in ("ords", "rows", *Codes._fields):
                for start in range(0, len(order), COPIED):
                    writing.add(name, arrays[name][order[start : start + COPIED]])
                    self.breather.breathe()
        except BaseException:
            writing.give_up()
            raise
        unsorted.give_up()
        return writing
