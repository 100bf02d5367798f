"""What searches by vector keep in memory: all vectors while they are few, else their codes; brought up to the log.

One search at a time uses a cache (its lock), and reads the log in the snapshot that it answers from, so a cache is never
ahead of its reader. Everything here can be read anew from the file, and is, when a step fails halfway.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import apsw

from memory.backends.sqlite.entries import INLINE_CHANGES, TAIL, Entries, TooLongError
from memory.backends.sqlite.picking import CodedPicking, Index, Passing
from memory.backends.sqlite.spaces import VectorState
from memory.backends.sqlite.statements import fetch
from memory.backends.sqlite.vectorlog import CHUNK_SQL, all_vectors, chunk_of, entry_ords, read_centre, stored_vectors
from memory.backends.sqlite.workers import Breather
from memory.errors import CorruptData
from memory.telemetry import get_logger

if TYPE_CHECKING:
    from memory.backends.sqlite.codes import Bytes, Codes, Ints, Words
    from memory.backends.sqlite.signs import Signs
    from memory.backends.sqlite.survivors import Asked
    from memory.search.vectors import Matrix

_log = get_logger("sqlite")

EXACT = 20_000
"""Up to so many vectors are held as they are."""
POOLS = 32
"""So many filters are remembered with what they let through."""


class Held(Entries):
    """All vectors as they are, float32, with the inverse of their lengths."""

    def __init__(self, dimension: int, room: int) -> None:
        super().__init__(room)
        np = self.np
        self.rows: Matrix = np.empty((room, dimension), dtype="<f4")  # as they are stored
        self.scale: Matrix = np.empty(room, dtype=np.float32)
        self.alive = np.zeros(room, dtype=bool)
        self.all_alive = True
        self._place: dict[int, int] = {}
        self._signs: Signs | None = None
        self._searches = 0

    def put(self, ords: Ints, rows: Matrix) -> None:
        """Vectors, new or in place of others."""
        from memory.backends.sqlite.codes import inverse_lengths

        numbered = ords.tolist()
        all_new = self._place.keys().isdisjoint(numbered)
        fresh = len(numbered) if all_new else sum(ord not in self._place for ord in numbered)
        room = self._grow(fresh)
        if room > len(self.rows):
            self.rows, self.scale, self.alive = (
                _wider(array, room, self.count) for array in (self.rows, self.scale, self.alive)
            )
        places: Any
        if all_new:
            places = slice(self.count, self.count + fresh)
            self.ords[places] = ords
            self._place.update(zip(numbered, range(self.count, self.count + fresh), strict=True))
            self.count += fresh
        else:
            places = []
            for ord in numbered:
                place = self._place.get(ord)
                if place is None:
                    place = self._place[ord] = self.count
                    self.ords[place] = ord
                    self.count += 1
                places.append(place)
        self.rows[places] = rows
        self.scale[places] = inverse_lengths(rows)
        self.alive[places] = True
        self.all_alive = self.all_alive or bool(self.alive[: self.count].all())
        if self._signs is not None:
            self._signs.put(places, rows, self.scale[places], room)
        self._moved(range(places.start, places.stop) if isinstance(places, slice) else places)

    def near(self, unit: Matrix, limit: int, *, patient: bool) -> Ints | None:
        """Places among which the ``limit`` nearest are; None: unknown. Raises TooLongError unless patient."""
        from memory.backends.sqlite.codes import rough_cosines_at
        from memory.backends.sqlite.signs import WORTH, Signs

        np = self.np
        self._searches += 1
        if self.count < WORTH or self._searches == 1:  # the first waits for the vectors to be read: that is enough
            return None
        rows, scale, alive = self.rows[: self.count], self.scale[: self.count], self.alive[: self.count]
        if self._signs is None:
            if not patient:
                raise TooLongError
            self._signs = Signs(rows, scale)
        places = self._signs.near(
            self.count,
            unit,
            limit,
            lambda some: np.where(alive[some], rough_cosines_at(some, rows, unit, scale), np.float32(-2)),
        )
        return places if places is None or self.all_alive else places[alive[places]]

    def stored(self, ord: int) -> bytes:
        """A record's vector as it is stored."""
        found: bytes = self.rows[self._place[ord]].tobytes()
        return found

    def remove(self, ord: int) -> None:
        """A vector that is gone. Its place stays, for this record."""
        place = self._place.get(ord)
        if place is not None:
            self.alive[place] = self.all_alive = False


class Coded(Entries):
    """The codes of all vectors. Bits by word, so that one word of all lies together. Later codes of a record follow earlier."""

    def __init__(self, dimension: int, room: int, centre: Matrix | None) -> None:
        from memory.backends.sqlite.codes import halves, words_of

        super().__init__(room)
        np = self.np
        self.columns: Words = np.empty((words_of(dimension), room), dtype=np.uint64)
        self.fine: Bytes = np.empty((room, halves(dimension)), dtype=np.uint8)
        self.step: Matrix = np.empty(room, dtype=np.float32)
        self.centre = centre

    def append(self, ords: Any, codes: Codes) -> None:
        """Codes of records."""
        np = self.np
        room = self._grow(len(ords))
        if room > self.columns.shape[1]:
            wider = np.empty((len(self.columns), room), dtype=np.uint64)
            wider[:, : self.count] = self.columns[:, : self.count]
            self.columns = wider
            self.fine, self.step = (_wider(array, room, self.count) for array in (self.fine, self.step))
        end = self.count + len(ords)
        self.ords[self.count : end] = ords
        self.columns[:, self.count : end] = codes.bits.T
        self.fine[self.count : end] = codes.fine
        self.step[self.count : end] = codes.step
        self._moved(range(self.count, end))
        self.count = end

    def search(
        self, db: apsw.Connection, unit: Matrix, pool: Ints | None, limit: int, passing: Passing | None = None
    ) -> CodedPicking:
        """A search for ``limit`` vectors near a unit vector, among those at the places of ``pool`` or all."""
        from memory.backends.sqlite.rotation import rotated_vector

        return CodedPicking(self, db, rotated_vector(unit), pool, limit)

    def pack(self, ords: Ints, rows: Matrix) -> None:
        """The codes of these vectors."""
        from memory.backends.sqlite.codes import centre_of, pack

        if self.centre is None:
            self.centre = centre_of(rows)
        self.append(ords, pack(rows, self.centre))


def _wider(array: Any, room: int, count: int) -> Any:
    import numpy as np

    wider = np.zeros((room, *array.shape[1:]), dtype=array.dtype)
    wider[:count] = array[:count]
    return wider


class VectorCache:
    """The cache of one store."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        """Held by the search that uses the cache."""
        self.exact = EXACT
        self._index: Held | Index | None = None
        self._era = self._seq = -1
        self._dimension = 0
        self._pools: dict[Asked, Ints] = {}
        self._pools_of = -1
        self.wide: set[str] = set()
        """Queries for what an index lets through that listed too much: by their text, so there are few."""

    def index(self, db: apsw.Connection, state: VectorState, *, patient: bool) -> Held | Index:
        """All that is known in this read transaction. Raises TooLongError unless patient, CorruptData."""
        index, self._index = self._index, None  # should this end halfway, the next begins anew
        assert state.space is not None
        if index is not None:
            few = state.vectors <= self.exact * (1 if isinstance(index, Held) else 0.8)
            if (self._era, self._dimension) != (state.era, state.space.dimension) or few != isinstance(index, Held):
                index = None
        if index is not None and self._seq != state.seq:
            try:
                index = self._catch_up(db, index, state, self._seq, patient)
            except BaseException:
                self._index = index  # what was taken already may be taken again
                raise
        if index is None:
            if not patient:
                raise TooLongError
            index = self._load(db, state)
            self._pools = {}
        self._index = index
        self._era, self._seq, self._dimension = state.era, state.seq, state.space.dimension
        return index

    @property
    def known(self) -> Held | Index | None:
        """What the last search used."""
        return self._index

    def pool(self, asked: Asked, version: int) -> Ints | None:
        """The places found for these conditions at this version of the store."""
        return self._pools.get(asked) if self._pools_of == version else None

    def keep_pool(self, asked: Asked, version: int, places: Ints) -> Ints:
        """Keep them until something is written."""
        if self._pools_of != version or len(self._pools) >= POOLS:
            self._pools, self._pools_of = {}, version
        self._pools[asked] = places
        return places

    # --- from the file -------------------------------------------------------------------------

    def _catch_up(
        self, db: apsw.Connection, index: Held | Index, state: VectorState, since: int, patient: bool
    ) -> Held | Index | None:
        """Take what is above the last number; None: everything is to be read anew."""
        assert state.space is not None
        chunks = fetch(db, "SELECT seq, length(ords) / 8 FROM codes WHERE seq > ? AND upto > ?", (since, since))
        moves = fetch(db, "SELECT ords, crc FROM moves WHERE seq > ? ORDER BY seq", (since,))
        try:
            changed = {ord for entry in moves for ord in entry_ords(*entry)}
            count = len(changed) + sum(count for _, count in chunks)
            if not patient and (count > INLINE_CHANGES or not index.has_room(count)):
                raise TooLongError
            if isinstance(index, Held):
                if count > max(TAIL, index.count // 2):
                    return None
                for seq, _ in chunks:
                    changed.update(entry_ords(*fetch(db, "SELECT ords, crc FROM codes WHERE seq = ?", (seq,))[0]))
                self._hold(db, index, changed, state.space.dimension)
                return index
            if chunks:
                centre = read_centre(db, state.space.dimension)
                if centre is None or index.centre is None or centre.tobytes() != index.centre.tobytes():
                    return None
            for seq, _ in chunks:
                index.append(*chunk_of(fetch(db, f"{CHUNK_SQL} WHERE seq = ?", (seq,))[0], state.space.dimension))
        except CorruptData:
            return None
        for ords, rows in stored_vectors(db, sorted(changed), state.space.dimension):
            index.pack(ords, rows)
        return index

    def _hold(self, db: apsw.Connection, index: Held, changed: set[int], dimension: int) -> None:
        gone = set(changed)
        for ords, rows in stored_vectors(db, sorted(changed), dimension):
            index.put(ords, rows)
            gone.difference_update(ords.tolist())
        for ord in gone:
            index.remove(ord)

    def _load(self, db: apsw.Connection, state: VectorState) -> Held | Index:
        assert state.space is not None
        if state.vectors <= self.exact:
            held = Held(state.space.dimension, state.vectors + 256)
            # No pauses: each step waits longer for SQLite, which lets the loop run, than it computes.
            for ords, rows in all_vectors(db, state.space.dimension):
                held.put(ords, rows)
            return held
        return self._codes(db, state)

    def _codes(self, db: apsw.Connection, state: VectorState) -> Index:
        """The codes of all vectors, up to the state."""
        assert state.space is not None
        breather = Breather()
        try:
            return codes_in_file(db, state, breather)
        except CorruptData as error:
            _log.warning("codes are damaged: made anew in memory, run 'memory repair'", error=error)
        coded = Coded(state.space.dimension, state.vectors + 256, None)
        for ords, rows in all_vectors(db, state.space.dimension):
            coded.pack(ords, rows)
            breather.breathe()
        return coded


def codes_in_file(db: apsw.Connection, state: VectorState, breather: Breather) -> Coded:
    """The codes of the file. Raises CorruptData when they are not what was written, or not all."""
    assert state.space is not None
    dimension = state.space.dimension
    centre = read_centre(db, dimension)
    if centre is None and state.coded:
        raise CorruptData("the centre of the codes is damaged. Run 'memory repair'")
    coded = Coded(dimension, state.coded + state.waiting + 256, centre)
    for row in db.execute(f"{CHUNK_SQL} ORDER BY seq"):
        coded.append(*chunk_of(row, dimension))
        breather.breathe()
    if coded.count != state.coded:
        raise CorruptData("codes are missing. Run 'memory repair'")
    changed: dict[int, None] = {}
    waiting = 0
    for entry in db.execute("SELECT ords, crc FROM moves ORDER BY seq"):
        ords = entry_ords(*entry)
        waiting += len(ords)
        changed.update(dict.fromkeys(ords))
    if waiting != state.waiting:
        raise CorruptData("the log of vectors is damaged. Run 'memory repair'")
    for numbered, rows in stored_vectors(db, list(changed), dimension):
        coded.pack(numbered, rows)
        breather.breathe()
    return coded
