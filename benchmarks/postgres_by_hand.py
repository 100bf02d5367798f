"""What a program written by hand against asyncpg would do: the same tables, indexes and durability, no framework.

It holds one connection and prepares its statements; without checks, scopes, expectations, dedup, deadlines or callers at
once. Writes upsert record and vector in one statement, so in one round trip and one transaction. `bulk` is the fastest
way into empty tables: COPY without indexes, which are built after it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

import asyncpg
import msgspec
import numpy as np

from memory import MemoryItem
from memory.backends.postgres.layout import INDEXES
from memory.backends.postgres.names import Names
from memory.backends.postgres.pool import ready_for_vectors
from memory.backends.postgres.records import checksum, document
from memory.backends.postgres.writing import terms_text
from memory.clock import to_micros
from memory.codec import content_hash, encode
from memory.keys import encode_key
from memory.model import Key, path_bytes
from memory.search.analysis import Analyser
from memory.search.vectors import unit

_READ = (
    "SELECT r.body, r.version, r.created, x.raw FROM $records r LEFT JOIN $vectors x ON x.key = r.key AND x.space = 1 "
    "WHERE r.key = "
)
_GET, _GETS = _READ + "$1", _READ + "ANY($1::bytea[])"
_COLUMNS = (
    "key, path, version, created, updated, accessed, count, expires, kind, user_id, agent_id, session_id, importance, "
    "crc, token, digest, length, terms, counts, doc, body"
)
_PUT = """
WITH written AS (
  INSERT INTO $records AS r (key, path, version, created, updated, accessed, count, kind, user_id, agent_id, session_id,
    importance, crc, token, digest, length, terms, counts, doc, body)
  VALUES ($1, $2, nextval('$versions'), $3, $3, $3, 0, $4, $5, $6, $7, $8, $9, $10, $11, $12,
          string_to_array($13::text, ' '), $14::text::int4[], $15::text::jsonb, $16)
  ON CONFLICT (key) DO UPDATE SET version = nextval('$versions'), updated = excluded.updated, kind = excluded.kind,
    user_id = excluded.user_id, agent_id = excluded.agent_id, session_id = excluded.session_id,
    importance = excluded.importance, crc = excluded.crc, token = excluded.token, digest = excluded.digest,
    length = excluded.length, terms = excluded.terms, counts = excluded.counts, doc = excluded.doc, body = excluded.body
  RETURNING version, created
), vector AS (
  INSERT INTO $vectors (key, space, version, raw, v) SELECT $1, 1, version, $17, $18 FROM written
  ON CONFLICT (key, space) DO UPDATE SET version = excluded.version, raw = excluded.raw, v = excluded.v
)
SELECT * FROM written
"""


def decoded(row: Any) -> dict[str, Any]:
    """A record, its vector as an array."""
    found: dict[str, Any] = msgspec.json.decode(row[0])
    found["version"], found["created"] = row[1], row[2]
    found["embedding"] = None if row[3] is None else np.frombuffer(row[3], dtype="<f4")
    return found


def values(analyser: Analyser, item: MemoryItem, now: int) -> tuple[Any, ...]:
    """The arguments of the statement that puts."""
    body = encode(item)
    terms, length = analyser.counts(item.searchable)
    vector = item.embedding.tobytes()
    return (
        *(encode_key(item.key), path_bytes(item.namespace), now, item.kind, item.user_id, item.agent_id),
        *(item.session_id, item.importance, checksum(body), os.urandom(16), content_hash(item), length),
        *(*terms_text(terms, length), document(item), body, vector, unit(vector).tobytes()),
    )


class ByHand:
    """Works on a schema that a store has made."""

    def __init__(self, connection: Any, names: Names) -> None:
        self._connection = connection
        self._names = names
        self._analyser = Analyser()

    @classmethod
    async def open(cls, url: str, schema: str, vector: str = "public") -> ByHand:
        connection = await asyncpg.connect(url, server_settings={"jit": "off"})
        await ready_for_vectors(connection, vector)
        names = Names(schema, "")
        hand = cls(connection, names)
        hand._get = await connection.prepare(names.fill(_GET))
        hand._gets = await connection.prepare(names.fill(_GETS))
        hand._put = await connection.prepare(names.fill(_PUT))
        return hand

    async def close(self) -> None:
        await self._connection.close()

    async def get(self, key: Key) -> dict[str, Any]:
        return decoded(await self._get.fetchrow(encode_key(key)))

    async def put(self, item: MemoryItem) -> None:
        await self._put.fetchrow(*values(self._analyser, item, time.time_ns() // 1_000))

    async def get_many(self, keys: Sequence[Key]) -> list[dict[str, Any]]:
        """In one statement."""
        return [decoded(row) for row in await self._gets.fetch([encode_key(key) for key in keys])]

    async def put_many(self, items: Sequence[MemoryItem]) -> None:
        """In one transaction, all sent before the first is answered; in the order of keys, so that two do not deadlock."""
        now = time.time_ns() // 1_000
        rows = [values(self._analyser, item, now) for item in items]
        await self._put.executemany(sorted(rows, key=lambda row: row[0]))

    async def bulk(self, batches: Sequence[Sequence[MemoryItem]]) -> None:
        """Into the empty tables of a schema: COPY, then the same indexes."""
        fill, connection = self._names.fill, self._connection
        found = await connection.fetch(
            "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = $1::text::regclass AND NOT indisprimary",
            fill("$records"),
        )
        for (index,) in found:
            await connection.execute(f"DROP INDEX {index}")
        await connection.execute(
            fill(
                "CREATE TEMP TABLE staged (key bytea, path bytea, now int8, kind text, user_id text, agent_id text, "
                "session_id text, importance float8, crc int8, token bytea, digest bytea, length int4, terms text, "
                "counts text, doc text, body bytea, raw bytea, v public.vector)"
            )
        )
        for batch in batches:
            rows = [values(self._analyser, item, to_micros(item.created_at)) for item in batch]
            await connection.copy_records_to_table("staged", records=rows)
            await connection.execute(
                fill(
                    f"INSERT INTO $records ({_COLUMNS}) SELECT key, path, nextval('$versions'), now, now, now, 0, NULL, "
                    "kind, user_id, agent_id, session_id, importance, crc, token, digest, length, "
                    "string_to_array(terms, ' '), counts::int4[], doc::jsonb, body FROM staged"
                )
            )
            await connection.execute(
                fill("INSERT INTO $vectors (key, space, version, raw, v) SELECT key, 1, 1, raw, v FROM staged")
            )
            await connection.execute("TRUNCATE staged")
        await connection.execute(fill(INDEXES))


class Pooled:
    """The same for many callers at once: asyncpg's pool lends each call a connection, and makes it as new after it."""

    def __init__(self, pool: Any, names: Names) -> None:
        self._pool = pool
        self._analyser = Analyser()
        self._get, self._put = names.fill(_GET), names.fill(_PUT)

    @classmethod
    async def open(cls, url: str, schema: str, size: int, vector: str = "public") -> Pooled:
        async def ready(connection: Any) -> None:
            await ready_for_vectors(connection, vector)

        pool = await asyncpg.create_pool(url, min_size=size, max_size=size, init=ready, server_settings={"jit": "off"})
        return cls(pool, Names(schema, ""))

    async def close(self) -> None:
        await self._pool.close()

    async def get(self, key: Key) -> dict[str, Any]:
        async with self._pool.acquire() as connection:
            return decoded(await connection.fetchrow(self._get, encode_key(key)))

    async def put(self, item: MemoryItem) -> None:
        async with self._pool.acquire() as connection:
            await connection.fetchrow(self._put, *values(self._analyser, item, time.time_ns() // 1_000))
