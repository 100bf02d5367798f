"""What a program written by hand would do to find: the same file, the same indexes and score, no framework.

As in `by_hand`: no checks, no checksums, no scopes, no expiry; texts that wait for the index are not looked for, and a
word counts twice at most.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import apsw
import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.by_hand import connect
from benchmarks.promised_by_hand import COLUMNS, VECTOR, Record, check_filter, cursor, records
from memory.backends.sqlite.docs import LENGTH_BITS, LONG, repeat_token
from memory.backends.sqlite.statements import numbers
from memory.search.analysis import Analyser
from memory.search.text import CANDIDATES_PER_TERM, idf, query_terms

Docs = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]
_COLUMNS = f"body, version, created, (SELECT v FROM vectors WHERE ord = items.doc >> {LENGTH_BITS})"
_LIST = "SELECT group_concat(rowid) FROM (SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid DESC LIMIT ?)"


class FindsByHand:
    """Reads a file that a store has made, with the two declared fields of the workload."""

    def __init__(self, path: Path) -> None:
        self.db = connect(path, "normal")
        self._analyser = Analyser()
        topic = self.db.execute("SELECT number FROM fields WHERE path = ?", ('["metadata","topic"]',)).get
        self._by_topic = (
            f"SELECT {_COLUMNS} FROM items INDEXED BY items_f{topic} WHERE f{topic} = ? ORDER BY key LIMIT ?"
        )
        self._live_by_topic = (
            f"SELECT {COLUMNS}, {VECTOR} FROM items INDEXED BY items_f{topic} WHERE f{topic} = ? AND (expires IS NULL OR expires > ?) "
            "ORDER BY key LIMIT ?"
        )

    def close(self) -> None:
        self.db.close()

    def of_topic(self, topic: str, limit: int) -> list[dict[str, Any]]:
        """The first records of a topic, by key."""
        return [_record(row) for row in self.db.execute(self._by_topic, (topic, limit))]

    def page_of(self, topic: str, limit: int) -> tuple[list[Record], str | None]:
        """The same as it is promised: a checked filter, live records that are what was written, typed, each held to the filter, and a cursor."""
        where = {"metadata.topic": topic}
        check_filter(where)
        rows: list[Any] = self.db.execute(self._live_by_topic, (topic, time.time_ns() // 1_000, limit + 1)).fetchall()
        found = [record for record in records(rows, vectors=True) if record.metadata.get("topic") == topic]
        following = None
        if len(found) > limit:
            last = found[limit - 1]
            following = cursor(("list", where, "key"), (last.namespace, last.id))
        return found[:limit], following

    def answering(self, question: str, limit: int) -> list[dict[str, Any]]:
        """The best by the text score over the newest 1,000 of each term."""
        docs, scores = self.scored(question)
        best = docs[np.argsort(-scores)[:limit]]
        found = self.db.execute(
            f"SELECT {_COLUMNS} FROM carray(?) c CROSS JOIN items INDEXED BY items_doc ON items.doc = c.value",
            (numbers(best.tolist()),),
        )
        return [_record(row) for row in found]

    def scored(self, question: str) -> tuple[Docs, Scores]:
        """Doc numbers of those newest, ascending, and the text score of each."""
        terms = query_terms(self._analyser, question)
        lists = [self._newest(term) for term in terms]
        docs = np.unique(np.concatenate(lists))
        norm = 1.2 * (0.25 + 0.75 * (docs & LONG) / 32)
        scores = np.zeros(len(docs))
        for term, held in zip(terms, lists, strict=True):
            if not len(held):
                continue
            tf = np.zeros(len(docs))
            tf[np.searchsorted(docs, held)] = 1
            tf[np.isin(docs, self._newest(repeat_token(term, 2))) & (tf > 0)] = 2
            scores += idf(len(held)) * tf * 2.2 / (tf + norm)
        return docs, scores

    def _newest(self, term: str) -> Docs:
        text = self.db.execute(_LIST, (f'"{term}"', CANDIDATES_PER_TERM)).get
        return np.empty(0, dtype=np.int64) if text is None else np.fromstring(str(text), dtype=np.int64, sep=",")[::-1]


def _record(row: apsw.SQLiteValues) -> dict[str, Any]:
    body, version, created, vector = row
    assert isinstance(body, bytes)
    found: dict[str, Any] = msgspec.json.decode(body)
    found["version"], found["created"] = version, created
    found["embedding"] = np.frombuffer(vector, dtype="<f4") if isinstance(vector, bytes) else None
    return found
