"""What a program written by hand against apsw would do: the same file, tables, indexes and durability, no framework.

It works inline on one connection, without an event loop, a thread, checks, scopes, expectations, checksums verified on
reads, or other processes in mind: the floor, not a rival. `Bare` is the least that stores a record: one table of key
and bytes. What lies between the two is what the indexes cost.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apsw
import msgspec
import numpy as np

from memory import MemoryItem
from memory.backends.sqlite.docs import BUCKET_SHIFT, LENGTH_BITS, bucket_of, term_text, with_length
from memory.backends.sqlite.indexing import PENDING
from memory.backends.sqlite.records import checksum, seal
from memory.clock import to_micros
from memory.codec import content_hash, encode
from memory.keys import encode_key
from memory.model import path_bytes
from memory.search.analysis import Analyser

_COLUMNS = (
    "key, path, doc, version, created, updated, accessed, count, expires, kind, user, agent, session, importance, "
    "embedder, length, digest, token, tags, crc, vcrc, seal, body, f1, f2"
)
_INSERT = f"INSERT INTO items({_COLUMNS}) VALUES ({','.join('?' * 25)})"
_SELECT = (
    f"SELECT body, version, created, (SELECT v FROM vectors WHERE ord = items.doc >> {LENGTH_BITS}) "
    "FROM items WHERE key = ?"
)
_STAMP = (
    "SELECT body, created, accessed, count, expires, kind, user, agent, session, importance, embedder, vcrc "
    "FROM items WHERE key = ?"
)
_FLUSH = (
    "INSERT INTO words(rowid, terms) SELECT doc, terms FROM pending "
    f"CROSS JOIN texts ON ord = doc >> {LENGTH_BITS} ORDER BY doc; DELETE FROM pending"
)


def connect(path: Path, durability: str) -> apsw.Connection:
    """A connection with the settings of the store's own."""
    db = apsw.Connection(str(path), statementcachesize=200)
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    db.pragma("journal_mode", "wal")
    db.pragma("synchronous", durability)
    db.pragma("temp_store", "memory")
    db.pragma("cache_size", -24_576)
    db.pragma("wal_autocheckpoint", 4_000)
    return db


class ByHand:
    """Works on a file that a store has made, with the two declared fields of the workload."""

    def __init__(self, path: Path, durability: str) -> None:
        self.db = connect(path, durability)
        self._analyser = Analyser()
        fields = {path: number for number, path in self.db.execute("SELECT number, path FROM fields")}
        # Which of f1 and f2 holds the topic depends on the order in which the store declared them.
        self._topic_first = fields['["metadata","topic"]'] == 1
        self._score = "f2" if self._topic_first else "f1"
        self._waiting: int = self.db.execute("SELECT count(*) FROM pending").get

    def close(self) -> None:
        self.db.close()

    def get(self, key: tuple[tuple[str, ...], str]) -> dict[str, Any]:
        row = self.db.execute(_SELECT, (encode_key(key),)).fetchone()
        assert row is not None
        body, version, created, vector = row
        found: dict[str, Any] = msgspec.json.decode(body)
        found["version"], found["created"] = version, created
        found["embedding"] = None if vector is None else np.frombuffer(vector, dtype="<f4")
        return found

    def put(self, item: MemoryItem) -> None:
        """Insert one record, or overwrite it, in a transaction of its own."""
        self.put_each((item,))

    def put_each(self, items: Sequence[MemoryItem]) -> None:
        """Insert or overwrite records one after the other, in one transaction."""
        self.db.execute("BEGIN IMMEDIATE")
        for item in items:
            key = encode_key(item.key)
            doc = self.db.execute("SELECT doc FROM items WHERE key = ?", (key,)).get
            if doc is None:
                self._insert((item,))
            else:
                self._overwrite(item, key, doc)
        self.db.execute("COMMIT")

    def put_many(self, items: Sequence[MemoryItem]) -> None:
        """Insert records that are not there, in one transaction."""
        self.db.execute("BEGIN IMMEDIATE")
        self._insert(items)
        self.db.execute("COMMIT")

    def _insert(self, items: Sequence[MemoryItem]) -> None:
        version = self.db.execute("SELECT version FROM counter").get
        rows, texts, tags, vectors = [], [], [], []
        last: dict[int, int] = {}
        for item in items:
            key, body, created = encode_key(item.key), encode(item), to_micros(item.created_at)
            terms, length = self._analyser.counts(item.searchable)
            vector = None if item.embedding is None else item.embedding.tobytes()
            version += 1
            doc = with_length(self._next(last, bucket_of(created)), length)
            fields = (item.metadata["topic"], item.metadata["score"])
            vcrc, crc = None if vector is None else checksum(vector), checksum(body)
            stamp = (version, created, created, created, 0, None)
            owner = (item.kind, item.user_id, item.agent_id, item.session_id, item.importance, None)
            rows.append(
                (
                    *(key, path_bytes(item.namespace), doc, *stamp, *owner, length, content_hash(item), os.urandom(16)),
                    *(msgspec.json.encode(item.tags).decode(), crc, vcrc, seal(key, *stamp, *owner, crc, vcrc), body),
                    *(fields if self._topic_first else reversed(fields)),
                )
            )
            texts.append((doc, _text(item, terms)))
            tags += [(b"%b\0%b" % (tag.encode(), key),) for tag in item.tags]
            if vector is not None:
                vectors.append((doc >> LENGTH_BITS, vector))
        self.db.executemany(_INSERT, rows)
        self.db.executemany("INSERT OR IGNORE INTO tags VALUES (?)", tags)
        if vectors:
            self.db.executemany("INSERT INTO vectors VALUES (?, ?)", vectors)
        self._index(texts)
        self.db.execute("UPDATE counter SET version = ?", (version,))

    def _overwrite(self, item: MemoryItem, key: bytes, old: int) -> None:
        """Replace text, score and vector of a record whose other indexed columns stay as they are."""
        body, vector = encode(item), None if item.embedding is None else item.embedding.tobytes()
        terms, length = self._analyser.counts(item.searchable)
        doc, now = with_length(old >> LENGTH_BITS, length), time.time_ns() // 1_000
        version = self.db.execute("UPDATE counter SET version = version + 1 RETURNING version").get
        vcrc, crc = None if vector is None else checksum(vector), checksum(body)
        owner = (item.kind, item.user_id, item.agent_id, item.session_id, item.importance, None)
        sealed = seal(key, version, now, now, now, 0, None, *owner, crc, vcrc)
        self.db.execute(
            f"UPDATE items SET version = ?, updated = ?, token = ?, crc = ?, vcrc = ?, seal = ?, body = ?, digest = ?, "
            f"length = ?, doc = ?, {self._score} = ? WHERE key = ?",
            (
                *(version, now, os.urandom(16), crc, vcrc, sealed, body, content_hash(item)),
                *(length, doc, item.metadata["score"], key),
            ),
        )
        self._unindex(old)
        if vector is not None:
            self.db.execute("UPDATE vectors SET v = ? WHERE ord = ?", (vector, doc >> LENGTH_BITS))
        self._index([(doc, _text(item, terms))])

    def update(self, key: tuple[tuple[str, ...], str], score: int) -> None:
        """Change one metadata field: read, change, seal, write, in one transaction."""
        raw = encode_key(key)
        self.db.execute("BEGIN IMMEDIATE")
        found = self.db.execute(_STAMP, (raw,)).fetchone()
        assert found is not None
        body, created, *stamp, vcrc = found
        record = msgspec.json.decode(body)
        record["metadata"]["score"] = score
        body = msgspec.json.encode(record)
        now, crc = time.time_ns() // 1_000, checksum(body)
        version = self.db.execute("UPDATE counter SET version = version + 1 RETURNING version").get
        sealed = seal(raw, version, created, now, *stamp, crc, vcrc)
        self.db.execute(
            f"UPDATE items SET body = ?, crc = ?, version = ?, updated = ?, token = ?, seal = ?, {self._score} = ? "
            "WHERE key = ?",
            (body, crc, version, now, os.urandom(16), sealed, score, raw),
        )
        self.db.execute("COMMIT")

    def delete(self, key: tuple[tuple[str, ...], str]) -> None:
        """Remove a record and everything made from it; remember its version."""
        raw = encode_key(key)
        self.db.execute("BEGIN IMMEDIATE")
        old = self.db.execute("SELECT doc, tags FROM items WHERE key = ?", (raw,)).fetchone()
        assert old is not None
        self._remove(raw, (old[0], old[1]))
        version = self.db.execute("UPDATE counter SET version = version + 1 RETURNING version").get
        grave = (raw, version, os.urandom(16), time.time_ns() // 1_000)
        self.db.execute("INSERT OR REPLACE INTO graves VALUES (?, ?, ?, ?)", grave)
        self.db.execute("COMMIT")

    def _remove(self, key: bytes, old: tuple[int, str]) -> None:
        doc, tags = old
        self.db.execute("DELETE FROM items WHERE key = ?", (key,))
        for tag in msgspec.json.decode(tags):
            self.db.execute("DELETE FROM tags WHERE entry = ?", (b"%b\0%b" % (tag.encode(), key),))
        self.db.execute("DELETE FROM vectors WHERE ord = ?", (doc >> LENGTH_BITS,))
        self._unindex(doc)

    def _unindex(self, doc: int) -> None:
        self.db.execute("DELETE FROM texts WHERE ord = ?", (doc >> LENGTH_BITS,))
        if self.db.execute("DELETE FROM pending WHERE doc = ? RETURNING 1", (doc,)).get is None:
            self.db.execute("DELETE FROM words WHERE rowid = ?", (doc,))
        else:
            self._waiting -= 1

    def _next(self, last: dict[int, int], bucket: int) -> int:
        if bucket not in last:
            start = bucket << BUCKET_SHIFT
            found = self.db.execute(
                "SELECT max(doc) FROM items WHERE doc >= ? AND doc < ?", (start, (bucket + 1) << BUCKET_SHIFT)
            ).get
            last[bucket] = (start >> LENGTH_BITS) - 1 if found is None else found >> LENGTH_BITS
        last[bucket] += 1
        return last[bucket]

    def _index(self, texts: list[tuple[int, str]]) -> None:
        self.db.executemany("INSERT INTO texts VALUES (?, ?)", [(doc >> LENGTH_BITS, text) for doc, text in texts])
        if len(texts) >= PENDING:
            packed = msgspec.json.encode(sorted(texts)).decode()
            self.db.execute(
                "INSERT INTO words(rowid, terms) SELECT value ->> 0, value ->> 1 FROM json_each(?)", (packed,)
            )
            return
        self.db.executemany("INSERT INTO pending VALUES (?)", [(doc,) for doc, _ in texts])
        self._waiting += len(texts)
        if self._waiting >= PENDING:
            self.db.execute(_FLUSH)
            self._waiting = 0


def _text(item: MemoryItem, terms: dict[str, int]) -> str:
    return term_text(terms, item.namespace, item.user_id, item.agent_id, item.session_id)


class Bare:
    """One table of key and bytes."""

    def __init__(self, path: Path, durability: str) -> None:
        self.db = connect(path, durability)
        self.db.execute("CREATE TABLE IF NOT EXISTS bare(key BLOB PRIMARY KEY, body BLOB, vector BLOB) WITHOUT ROWID")

    def close(self) -> None:
        self.db.close()

    def put(self, item: MemoryItem) -> None:
        """Autocommit."""
        self._insert((item,))

    def put_many(self, items: Sequence[MemoryItem]) -> None:
        """One transaction."""
        self.db.execute("BEGIN IMMEDIATE")
        self._insert(items)
        self.db.execute("COMMIT")

    def _insert(self, items: Sequence[MemoryItem]) -> None:
        self.db.executemany(
            "INSERT OR REPLACE INTO bare VALUES (?, ?, ?)",
            [
                (encode_key(item.key), encode(item), None if item.embedding is None else item.embedding.tobytes())
                for item in items
            ],
        )
