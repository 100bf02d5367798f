"""Vector search by hand: plain numpy, faiss where it is installed, and a program against apsw that also reads the rows.

The floors of `scan`, `coded` and `faiss` are arithmetic alone, in one thread: vectors in memory, places as the answer.
`Program` does what the sqlite store does, without checks, scopes, an event loop or other processes in mind: vectors in
memory while they are few, else 1-bit codes in memory and the vectors of the nearest 400 from the file; then ten records,
read and decoded. `Program.answer` is the floor of what the store promises: see `promised_by_hand`.
"""

from __future__ import annotations

import time
from array import array
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import apsw
import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks import workload
from benchmarks.by_hand import connect
from benchmarks.promised_by_hand import (
    COLUMNS,
    VECTOR,
    Record,
    Wanted,
    check_filter,
    check_vector,
    cursor,
    nearest,
    records,
)
from memory.keys import encode_key
from memory.model import path_bytes

Matrix = npt.NDArray[np.float32]
TOP = 10
RESCORED = 400
"""Candidates by code whose vectors are compared."""
FEW = 20_000
"""Up to so many vectors the program keeps in memory."""
_PIECE = 64
"""Rows gathered in one step: they stay in a near cache."""
HAS_FAISS = find_spec("faiss") is not None


def rows_of(records: int) -> Matrix:
    """The vectors of the workload, (records, 384)."""
    found: Matrix = np.empty((records, workload.DIMENSION), dtype=np.float32)
    for start in range(0, records, 5_000):
        stop = min(records, start + 5_000)
        found[start:stop] = np.stack(
            [item.embedding for item in workload.records(start, stop) if item.embedding is not None]
        )
    return found


def _products(rows: Matrix, wanted: Matrix) -> Matrix:
    found: Matrix = np.vecdot(rows, wanted)
    return found


def _products_at(places: npt.NDArray[np.int64], rows: Matrix, wanted: Matrix) -> Matrix:
    found, gathered = np.empty(len(places), dtype=np.float32), np.empty((_PIECE, rows.shape[1]), dtype=np.float32)
    for start in range(0, len(places), _PIECE):
        part = places[start : start + _PIECE]
        near = rows.take(part, axis=0, out=gathered[: len(part)], mode="clip")
        np.vecdot(near, wanted, out=found[start : start + _PIECE])
    return found


def _best(scores: Matrix, count: int) -> npt.NDArray[np.int64]:
    """Places of the highest, best first."""
    count = min(count, len(scores))
    places = np.argpartition(scores, len(scores) - count)[len(scores) - count :]
    return places[np.argsort(-scores[places])]


class Floor:
    """All vectors of a size in memory, ways to the nearest ten."""

    def __init__(self, rows: Matrix) -> None:
        self.rows = rows
        self.centre = rows.mean(axis=0)
        packed = self._pack(rows)
        self.columns = np.ascontiguousarray(packed.view("<u8").T)
        self._index: Any = None
        if HAS_FAISS:
            import faiss

            faiss.omp_set_num_threads(1)
            self._index = faiss.IndexBinaryFlat(8 * packed.shape[1])
            self._index.add(packed)

    def _pack(self, rows: Matrix) -> npt.NDArray[np.uint8]:
        return np.packbits(rows > self.centre, axis=1, bitorder="little")

    def scan(self, wanted: Matrix) -> list[int]:
        """By the product with every vector."""
        found: list[int] = _best(_products(self.rows, wanted), TOP).tolist()
        return found

    def among(self, places: npt.NDArray[np.int64], wanted: Matrix) -> list[int]:
        """By the product with those that are known to pass a filter."""
        found: list[int] = places[_best(_products_at(places, self.rows, wanted), TOP)].tolist()
        return found

    def nearest_codes(self, wanted: Matrix, places: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.int64]:
        """Places of the codes that differ least, of all or of these."""
        code = self._pack(wanted[None]).view("<u8")[0]
        columns = self.columns if places is None else self.columns[:, places]
        differing = np.zeros(columns.shape[1], dtype=np.uint16)
        for word, column in zip(code, columns, strict=True):
            differing += np.bitwise_count(column ^ word)
        best = np.argpartition(differing, min(RESCORED, len(differing) - 1))[:RESCORED]
        return best if places is None else places[best]

    def coded(self, wanted: Matrix) -> list[int]:
        """By 1-bit codes, then by the vectors of the nearest 400."""
        return self.among(self.nearest_codes(wanted), wanted)

    def faiss(self, wanted: Matrix, rescored: int = RESCORED) -> list[int]:
        """The same with faiss for the codes, and so many vectors."""
        _, places = self._index.search(self._pack(wanted[None]), min(rescored, len(self.rows)))
        return self.among(places[0], wanted)


class Program:
    """Searches a file of the store, rows included."""

    def __init__(self, path: Path, floor: Floor) -> None:
        self.db = connect(path, "full")
        self._floor = floor
        place = {encode_key(workload.key(i)): i for i in range(len(floor.rows))}
        held = self.db.execute("SELECT key, doc >> 10, rowid FROM items").fetchall()
        self._ords = [0] * len(held)
        self._places = np.zeros(max(row for *_, row in held) + 1, dtype=np.int64)
        for key, ord, row in held:
            self._ords[place[key]], self._places[row] = ord, place[key]
        (score,) = self.db.execute("SELECT number FROM fields WHERE path = ?", ('["metadata","score"]',)).fetchall()[0]
        fields = "".join(
            f", items.f{number}" for (number,) in self.db.execute("SELECT number FROM fields ORDER BY number")
        )
        self._whole = (
            f"SELECT {COLUMNS}, {VECTOR}, items.fseal{fields} FROM carray(?) c CROSS JOIN items "
            "ON items.doc BETWEEN c.value << 10 AND c.value << 10 | 1023 WHERE items.expires IS NULL OR items.expires > ?"
        )
        self._by_score = f"SELECT group_concat(rowid) FROM items WHERE f{score} >= ? AND f{score} < ?"

    def close(self) -> None:
        self.db.close()

    def search(self, wanted: Matrix) -> list[Any]:
        """The ten nearest records, decoded."""
        return self.records(list(self.nearest(wanted, TOP)))

    def nearest(self, wanted: Matrix, count: int) -> dict[int, float]:
        """Numbers of the nearest records, best first, and their cosines."""
        floor = self._floor
        if len(floor.rows) > FEW:
            return self._compared([self._ords[place] for place in floor.nearest_codes(wanted)], wanted, count)
        scores = _products(floor.rows, wanted)
        return {self._ords[place]: float(scores[place]) for place in _best(scores, count)}

    def cosines(self, ords: list[int], wanted: Matrix) -> dict[int, float]:
        """The cosine of each of these records."""
        return self._compared(ords, wanted, len(ords))

    def search_within(self, narrowed: dict[str, Any], wanted: Matrix) -> list[Any]:
        """The same of a namespace, or of those whose score lies between two values."""
        floor, places = self._floor, self._passing(narrowed)
        if len(floor.rows) <= FEW:
            return self.records([self._ords[place] for place in floor.among(places, wanted)])
        near = floor.nearest_codes(wanted, places) if len(places) else places
        return self.records(list(self._compared([self._ords[place] for place in near], wanted, TOP)))

    def _passing(self, narrowed: dict[str, Any]) -> npt.NDArray[np.int64]:
        if "namespace" in narrowed:
            path = path_bytes(narrowed["namespace"])
            text, params = (
                "SELECT group_concat(rowid) FROM items WHERE key >= ? AND key < ?",
                (path + b"\0\0", path + b"\0\1"),
            )
        else:
            score = narrowed["where"]["metadata.score"]
            text, params = self._by_score, (score["$gte"], score.get("$lt", 1e9))
        found: npt.NDArray[np.int64] = self._places[
            np.fromstring(self.db.execute(text, params).get or "", dtype=np.int64, sep=",")
        ]
        return found

    def answer(self, narrowed: dict[str, Any], vector: Any) -> tuple[list[tuple[Record, float]], str | None]:
        """As ``search_within`` for vectors in memory, and what is promised: a checked question, one snapshot, no record that is not what was
        written, typed, scored in float64, in the order of that and of keys, and a cursor."""
        wanted = Wanted(check_vector(vector, workload.DIMENSION))
        check_filter(narrowed.get("where", {}))
        self.db.execute("BEGIN")
        try:
            if self.db.execute("SELECT dimension FROM counter").get != workload.DIMENSION:
                raise ValueError("another space")
            places = self._passing(narrowed)
            scores = _products_at(places, self._floor.rows, wanted.unit)  # the rows' lengths are 1
            near = [self._ords[place] for place in places[nearest(scores, TOP + 1, workload.DIMENSION)].tolist()]
            rows: list[Any] = (
                self.db.execute(self._whole, (apsw.carray(array("q", near)), time.time_ns() // 1_000)).fetchall()
                if near
                else []
            )
        finally:
            self.db.execute("COMMIT")
        if not rows:
            return [], None
        cosines = wanted.cosines([row[17] for row in rows])
        found = records(rows, vectors=False)
        ranked = sorted(zip([-cosine for cosine in cosines], [row[1] for row in rows], found, strict=True))
        hits = [(record, -score) for score, _, record in ranked[:TOP]]
        more = len(ranked) > TOP
        return hits, cursor((narrowed, wanted.raw), ranked[TOP - 1][:2]) if more else None

    def records(self, ords: list[int]) -> list[Any]:
        """The records of these numbers, decoded."""
        if not ords:
            return []
        rows = self.db.execute(
            "SELECT version, created, body FROM carray(?) c CROSS JOIN items "
            "ON items.doc BETWEEN c.value << 10 AND c.value << 10 | 1023",
            (apsw.carray(array("q", ords)),),
        )
        return [(version, created, msgspec.json.decode(body)) for version, created, body in rows]

    def _compared(self, ords: list[int], wanted: Matrix, count: int) -> dict[int, float]:
        """The nearest of these by the vectors in the file."""
        if not ords:
            return {}
        numbers, vectors = self.db.execute(
            "SELECT json_group_array(ord), CAST(group_concat(v, '') AS BLOB) FROM "
            "(SELECT ord, v FROM carray(?) c CROSS JOIN vectors ON ord = c.value)",
            (apsw.carray(array("q", sorted(ords))),),
        ).fetchall()[0]
        held = msgspec.json.decode(numbers)
        scores = _products(np.frombuffer(vectors, dtype="<f4").reshape(len(held), -1), wanted)
        return {held[place]: float(scores[place]) for place in _best(scores, count)}
