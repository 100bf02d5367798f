"""The log of changed vectors, by which every process's caches catch up, and the codes that it becomes.

One sequence of numbers runs over two tables. An entry of ``moves`` names records whose vector has changed (new, other,
gone): look there. A chunk of ``codes`` names records and holds the codes of their vectors; it stands for all moves up
to its ``upto``. A large write makes a chunk at once, small ones wait until they are worth one. So moves and chunks
together name every vector, always, and whoever has read up to a number learns the rest from what is above it.

A code may be stale: its record was written again since, and a later entry says so, or it is gone. That does no harm,
because what codes find is compared by its vector. Where stale ones are many, the chunks are written anew (a new era).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import apsw

from memory.backends.sqlite.spaces import VectorState, is_stale, is_worth_packing
from memory.backends.sqlite.statements import fetch, listed, numbers, scalar
from memory.backends.sqlite.workers import Breather
from memory.errors import CorruptData

if TYPE_CHECKING:
    from memory.backends.sqlite.codes import Codes, Ints
    from memory.search.vectors import Matrix

DIRECT = 256
"""So many new vectors in one group become a chunk at once."""
PIECE = 1_024
"""Most vectors of a chunk."""
READ = 512
"""Most vectors read in one step."""
READ_BYTES = 2**20
CENTRE = "centre"


def log_changes(
    db: apsw.Connection, state: VectorState, fresh: Sequence[tuple[int, bytes]], gone: Iterable[int]
) -> None:
    """Record numbers with their new vectors, and those whose vector is gone. Within a write transaction."""
    moved = list(gone)
    if len(fresh) >= DIRECT and state.space is not None:
        for start in range(0, len(fresh), PIECE):
            part = fresh[start : start + PIECE]
            _add_chunk(db, state, [ord for ord, _ in part], b"".join([v for _, v in part]), state.seq + 1)
    else:
        moved += [ord for ord, _ in fresh]
    if moved:
        add_moves(db, state, moved)


def add_moves(db: apsw.Connection, state: VectorState, ords: Sequence[int]) -> None:
    """Name records whose vector has changed."""
    raw = struct.pack(f"<{len(ords)}q", *ords)
    state.seq += 1
    state.waiting += len(ords)
    db.execute("INSERT OR FAIL INTO moves VALUES (?, ?, ?)", (state.seq, raw, zlib.crc32(raw)))


def _add_chunk(db: apsw.Connection, state: VectorState, ords: Sequence[int], vectors: bytes, upto: int) -> None:
    import numpy as np

    from memory.backends.sqlite.codes import centre_of, pack

    assert state.space is not None
    rows = np.frombuffer(vectors, dtype="<f4").reshape(len(ords), state.space.dimension)
    centre = read_centre(db, state.space.dimension)
    if centre is None:
        centre = centre_of(rows)
        raw = centre.astype("<f4").tobytes()
        db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (CENTRE, raw + struct.pack("<I", zlib.crc32(raw))))
        if state.coded:
            _forget_codes(db, state)  # they are around another centre, which is lost
    _write_chunk(db, state, struct.pack(f"<{len(ords)}q", *ords), pack(rows, centre), upto)
    state.coded += len(ords)


def _write_chunk(db: apsw.Connection, state: VectorState, ords: bytes, codes: Codes, upto: int) -> None:
    from memory.backends.sqlite.codes import digest

    bits, fine = codes.blobs()
    state.seq += 1
    db.execute(
        "INSERT OR FAIL INTO codes VALUES (?, ?, ?, ?, ?, ?, ?)",
        (state.seq, upto, ords, zlib.crc32(ords), bits, fine, digest(bits, fine)),
    )


CHUNK_SQL = "SELECT ords, crc, bits, fine, digest FROM codes"


def chunk_of(row: tuple[Any, ...], dimension: int) -> tuple[Ints, Codes]:
    """Record numbers and their codes, from the columns of CHUNK_SQL. Raises CorruptData."""
    import numpy as np

    from memory.backends.sqlite.codes import codes_of, digest

    raw, crc, bits, fine, known = row
    ords = entry_ords(raw, crc)
    whole = isinstance(bits, bytes) and isinstance(fine, bytes) and digest(bits, fine) == known
    codes = codes_of(len(ords), dimension, bits, fine) if whole else None
    if codes is None:
        raise CorruptData("a chunk of codes is damaged. Run 'memory repair'")
    return np.array(ords, dtype=np.int64), codes


def read_centre(db: apsw.Connection, dimension: int) -> Matrix | None:
    """What the codes are taken around; None where there is none that can be used."""
    import numpy as np

    found = scalar(db, "SELECT value FROM meta WHERE name = ?", (CENTRE,))
    if not isinstance(found, bytes) or len(found) != 4 * dimension + 4:
        return None
    raw, crc = found[:-4], found[-4:]
    return np.frombuffer(raw, dtype="<f4") if struct.pack("<I", zlib.crc32(raw)) == crc else None


def tend(db: apsw.Connection, state: VectorState) -> bool:
    """What the log needs from time to time, a piece of it. Within a write transaction; whether anything was done."""
    if is_worth_packing(state):
        return pack_waiting(db, state)
    if is_stale(state):
        compact(db, state)
        return True
    return False


def pack_waiting(db: apsw.Connection, state: VectorState) -> bool:
    """The oldest moves, at most PIECE records, become a chunk."""
    taken: dict[int, None] = {}
    upto = count = 0
    for seq, raw, crc in db.execute("SELECT seq, ords, crc FROM moves ORDER BY seq"):
        ords = entry_ords(raw, crc)
        if count and count + len(ords) > PIECE:
            break
        taken.update(dict.fromkeys(ords))
        upto, count = seq, count + len(ords)
    if not count:
        state.waiting = 0
        return False
    space = state.space
    if space is not None:
        pieces = list(stored_vectors(db, sorted(taken), space.dimension))
        held = [ord for ords, _ in pieces for ord in ords.tolist()]
        if held:
            _add_chunk(db, state, held, b"".join([rows.tobytes() for _, rows in pieces]), upto)
    db.execute("DELETE FROM moves WHERE seq <= ?", (upto,))
    state.waiting -= count
    return True


def entry_ords(raw: Any, crc: Any) -> tuple[int, ...]:
    """The record numbers of an entry. Raises CorruptData."""
    if not isinstance(raw, bytes) or zlib.crc32(raw) != crc or len(raw) % 8:
        raise CorruptData("the log of vectors is damaged. Run 'memory repair'")
    return struct.unpack(f"<{len(raw) // 8}q", raw)


def compact(db: apsw.Connection, state: VectorState) -> None:
    """Write the chunks anew without what is stale. Chunks that are damaged are dropped for moves."""
    import numpy as np

    from memory.backends.sqlite.codes import joined

    if state.space is None:
        return
    ords: list[Ints] = []
    parts: list[Codes] = []
    breather = Breather()
    try:
        for row in db.execute(f"{CHUNK_SQL} ORDER BY seq"):
            numbered, codes = chunk_of(row, state.space.dimension)
            ords.append(numbered)
            parts.append(codes)
            breather.breathe()
    except CorruptData:
        renew(db, state)
        return
    every, codes = np.concatenate(ords), joined(parts)
    # Of each record the last code, and only of records that are there.
    _, last = np.unique(every[::-1], return_index=True)
    keep = np.sort(len(every) - 1 - last)
    keep = keep[np.isin(every[keep], _numbers_of_records(db))]
    db.execute("DELETE FROM codes")
    state.era += 1
    state.coded = len(keep)
    for start in range(0, len(keep), 4 * PIECE):
        breather.breathe()
        part = keep[start : start + 4 * PIECE]
        _write_chunk(db, state, every[part].astype("<i8").tobytes(), codes.at(part), state.seq)


def _numbers_of_records(db: apsw.Connection) -> Ints:
    return listed(scalar(db, "SELECT group_concat(doc >> 10) FROM items INDEXED BY items_doc"), Breather())


def _forget_codes(db: apsw.Connection, state: VectorState) -> None:
    """All codes are of no use: their records are named by moves, to be packed again."""
    ords: dict[int, None] = {}
    for raw, crc in fetch(db, "SELECT ords, crc FROM codes ORDER BY seq"):
        ords.update(dict.fromkeys(entry_ords(raw, crc)))
    db.execute("DELETE FROM codes")
    state.coded = 0
    state.era += 1
    named = list(ords)
    for start in range(0, len(named), PIECE):
        add_moves(db, state, named[start : start + PIECE])


def renew(db: apsw.Connection, state: VectorState) -> None:
    """Begin the log anew, in a new era: every vector is named by moves. Within a write transaction."""
    db.execute("DELETE FROM codes; DELETE FROM moves")
    db.execute("DELETE FROM meta WHERE name = ?", (CENTRE,))
    state.waiting = state.coded = 0
    state.era += 1
    state.vectors = 0
    breather = Breather()
    after = -(2**63)
    while ords := [
        ord for (ord,) in fetch(db, "SELECT ord FROM vectors WHERE ord > ? ORDER BY ord LIMIT ?", (after, PIECE))
    ]:
        breather.breathe()
        after = ords[-1]
        state.vectors += len(ords)
        add_moves(db, state, ords)


# --- the vectors themselves --------------------------------------------------------------------


def stored_vectors(db: apsw.Connection, ords: Sequence[int], dimension: int) -> Iterable[tuple[Ints, Matrix]]:
    """The vectors of these records, in steps: (numbers of those that have one, rows). Raises CorruptData."""
    step = _step(dimension)
    for start in range(0, len(ords), step):
        # One row for the whole step: in a thread each row fetched would ask for the GIL.
        found = fetch(
            db,
            "SELECT group_concat(ord), CAST(group_concat(v, '') AS BLOB) FROM (SELECT vectors.ord, vectors.v "
            "FROM carray(?) c CROSS JOIN vectors ON vectors.ord = c.value)",
            (numbers(ords[start : start + step]),),
        )
        if found[0][0] is not None:
            yield _as_arrays(found[0], dimension)


def all_vectors(db: apsw.Connection, dimension: int) -> Iterable[tuple[Ints, Matrix]]:
    """Every vector, in the order of their numbers, in steps. Raises CorruptData."""
    after: int = -(2**63)
    while True:
        found = fetch(
            db,
            "SELECT group_concat(ord), CAST(group_concat(v, '') AS BLOB), max(ord) FROM "
            "(SELECT ord, v FROM vectors WHERE ord > ? ORDER BY ord LIMIT ?)",
            (after, _step(dimension)),
        )[0]
        if found[0] is None:
            return
        if not isinstance(found[2], int) or found[2] <= after:
            raise CorruptData("the table of vectors does not end. Restore a backup")
        after = found[2]
        yield _as_arrays(found, dimension)


def _step(dimension: int) -> int:
    return max(1, min(READ, READ_BYTES // (4 * dimension)))


def _as_arrays(found: tuple[Any, ...], dimension: int) -> tuple[Ints, Matrix]:
    import numpy as np

    ords = np.fromstring(found[0], dtype=np.int64, sep=",")
    raw = found[1] or b""
    if len(raw) != 4 * dimension * len(ords):
        raise CorruptData("a stored vector is damaged. Run 'memory verify', then 'memory repair'")
    return ords, np.frombuffer(raw, dtype="<f4").reshape(len(ords), dimension)
