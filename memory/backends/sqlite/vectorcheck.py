"""verify and repair of what belongs to vectors: their space, their log and codes, and what lies aside."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import apsw

from memory.backends.sqlite.spaces import read_state, save_state
from memory.backends.sqlite.statements import fetch, numbers, scalar
from memory.backends.sqlite.vectorcache import Coded, codes_in_file
from memory.backends.sqlite.vectorlog import all_vectors, renew
from memory.backends.sqlite.workers import Breather
from memory.errors import CorruptData
from memory.ops import Problem, Space

if TYPE_CHECKING:
    from memory.backends.sqlite.codes import Ints
    from memory.search.vectors import Matrix

STEP = 500


def verify_vectors(db: apsw.Connection, records: int, problems: list[Problem], breather: Breather) -> None:
    """Compare counts and codes with the vectors; ``records`` is how many records have one. Within a read transaction."""
    stored = scalar(db, "SELECT count(*) FROM vectors")
    if stored > records:
        problems.append(Problem("vectors", detail="there are vectors of no record"))
    state = read_state(db)
    if state.vectors != records:
        problems.append(Problem("vectors", detail=f"{state.vectors} are counted, {records} records have one"))
    if state.space is None:
        if records or state.coded or state.waiting:
            problems.append(Problem("vectors", detail="the space they lie in is lost"))
        return
    strangers = _strangers(db, state.space)
    if strangers:
        problems.append(Problem("vectors", detail=f"{strangers} do not lie in the space of the others"))
    damaged = len(damaged_aside(db, breather))
    if damaged:
        problems.append(Problem("vectors", detail=f"{damaged} of those kept aside are damaged"))
    try:
        codes = codes_in_file(db, state, breather)
        wrong = sum(
            _wrong(codes, ords, rows, order)
            for order in [_newest(codes)]
            for ords, rows in all_vectors(db, state.space.dimension)
        )
    except CorruptData as error:
        problems.append(Problem("codes of vectors", detail=error.message))
        return
    if wrong:
        problems.append(Problem("codes of vectors", detail=f"{wrong} are missing, or not those of their vectors"))


def _strangers(db: apsw.Connection, space: Space) -> int:
    found = scalar(
        db,
        "SELECT count(*) FROM items CROSS JOIN vectors ON ord = items.doc >> 10 "
        "WHERE items.vcrc IS NOT NULL AND (items.embedder IS NOT ? OR length(v) <> ?)",
        (space.embedder, 4 * space.dimension),
    )
    return int(found)


def _newest(codes: Coded) -> tuple[Ints, Ints]:
    """Record numbers, ascending, and the place of the last code of each."""
    np = codes.np
    order = np.argsort(codes.ords[: codes.count], kind="stable")
    return codes.ords[: codes.count][order], order


def _wrong(codes: Coded, ords: Ints, rows: Matrix, newest: tuple[Ints, Ints]) -> int:
    from memory.backends.sqlite.codes import pack

    np = codes.np
    known, places = newest
    at = np.searchsorted(known, ords, side="right") - 1
    here = at >= 0
    here[here] = known[at[here]] == ords[here]
    assert codes.centre is not None
    packed, held = pack(rows[here], codes.centre), places[at[here]]
    differ = (packed.bits != codes.columns[:, held].T).any(axis=1) | (codes.fine[held] != packed.fine).any(axis=1)
    return int((~here).sum() + differ.sum())


def damaged_aside(db: apsw.Connection, breather: Breather) -> list[int]:
    """Record numbers of vectors kept aside that are not what was written, or belong to no record."""
    bad: list[int] = []
    after: int = -(2**63)
    while True:
        rows = fetch(
            db,
            "SELECT ord, v, crc, EXISTS (SELECT 1 FROM items WHERE doc BETWEEN ord << 10 AND ord << 10 | 1023) "
            "FROM asides LEFT JOIN aside USING (ord) WHERE ord > ? ORDER BY ord LIMIT ?",
            (after, STEP),
        )
        if not rows or rows[-1][0] <= after:
            break
        after = rows[-1][0]
        for ord, vector, crc, known in rows:
            breather.breathe()
            if not known or not isinstance(vector, bytes) or zlib.crc32(vector) != crc:
                bad.append(ord)
    alone = fetch(db, "SELECT ord FROM aside WHERE ord NOT IN (SELECT ord FROM asides) LIMIT 1000")
    return bad + [ord for (ord,) in alone]


def repair_vectors(db: apsw.Connection, common: Space | None) -> None:
    """The log and codes anew, in the space that most records' vectors lie in; what is damaged aside is dropped, to be
    made again. Within a write transaction."""
    db.execute("DELETE FROM vectors WHERE ord NOT IN (SELECT doc >> 10 FROM items WHERE vcrc IS NOT NULL)")
    state = read_state(db)
    if common is not None:
        state.space = common
    while bad := damaged_aside(db, Breather()):
        for table in ("aside", "asides"):
            db.execute(f"DELETE FROM {table} WHERE ord IN (SELECT value FROM carray(?))", (numbers(bad),))  # noqa: S608 - our own names
    renew(db, state)
    save_state(db, state)
