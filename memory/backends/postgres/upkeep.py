"""The change feed, sweeping, and what ``health`` tells."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from memory.backends.postgres.layout import LAYOUT
from memory.keys import decode_key
from memory.ops import Event, Events, FeedRead, Owner, Remove

if TYPE_CHECKING:
    from memory.backends.postgres.calling import Caller

GRAVE_MICROS = 86_400_000_000
SWEEP_STEP = 500
START_SECONDS = 0.5

# The number of an event is its transaction's and its place therein. A transaction that is still under way may yet commit
# events below others', so only what lies below the oldest such transaction is read. The head stays out of both looks at the
# feed: with it there, one is a look through all of it for each event, and the other sorts all that follow.
FEED = """
SELECT f.seq, f.key, f.version, f.at, f.removed, f.owner, f.was, s.feed_floor, s.head,
       (SELECT max(later.seq) FROM $feed later) >= s.head AS held
  FROM (SELECT feed_floor, (pg_snapshot_xmin(pg_current_snapshot())::text::int8 + feed_base) << 20 AS head
          FROM $state) s
  LEFT JOIN (SELECT * FROM $feed f WHERE f.seq > $1 ORDER BY f.seq LIMIT $2) f ON f.seq < s.head
"""
_NOW = """
SELECT feed_floor, (pg_snapshot_xmin(pg_current_snapshot())::text::int8 + feed_base) << 20,
       (pg_snapshot_xmax(pg_current_snapshot())::text::int8 + feed_base) << 20
  FROM $state
"""
_EXPIRED = """
SELECT r.key, r.version FROM $records r
 WHERE r.body IS NOT NULL AND r.expires IS NOT NULL AND r.expires <= $1 LIMIT $2
"""
_GRAVES = "DELETE FROM $records WHERE body IS NULL AND updated <= $1"
_OLD_EVENTS = """
WITH first AS (
  SELECT coalesce((SELECT f.seq FROM $feed f WHERE f.at > $1 ORDER BY f.seq LIMIT 1),
                  (SELECT max(f.seq) + 1 FROM $feed f)) AS seq
), gone AS (
  DELETE FROM $feed f USING first WHERE f.seq < first.seq RETURNING 1
)
UPDATE $state SET feed_floor = first.seq FROM first
 WHERE first.seq IS NOT NULL AND EXISTS (SELECT FROM gone)
"""
_FACTS = """
SELECT current_setting('server_version') AS server, s.layout, s.dimension, s.embedder, s.feed,
       (SELECT count(*) FROM $vectors x WHERE x.space = s.space) AS vectors,
       (SELECT count(*) FROM $records r WHERE r.body IS NOT NULL AND r.owed IS NOT NULL
           AND NOT EXISTS (SELECT FROM $vectors x WHERE x.key = r.key AND x.space = s.space)) AS owed,
       (SELECT extversion FROM pg_extension WHERE extname = 'vector') AS pgvector,
       pg_total_relation_size($1::regclass) + pg_total_relation_size($2::regclass) AS bytes,
       pg_is_in_recovery() AS replica
  FROM $state s
"""


async def read_feed(caller: Caller, op: FeedRead) -> Events:
    """Events after a number, in one snapshot."""
    if op.after is None:
        return await _start(caller)
    pause, end = 0.002, asyncio.get_running_loop().time() + START_SECONDS
    while True:
        found = await caller.fetch(FEED, (op.after, op.limit))
        floor, head, held = found[0][7:]
        events = [_event(row) for row in found if row[0] is not None]
        if events or not held or asyncio.get_running_loop().time() > end:
            return Events(events, head - 1, floor)
        # Something is committed, behind a transaction that is still under way: mostly for some milliseconds.
        await asyncio.sleep(pause)
        pause = min(2 * pause, 0.05)


async def _start(caller: Caller) -> Events:
    """Where the feed stands: before whatever begins to write from now on, behind all that was acknowledged.

    What is being written just now is waited for; but not longer than START_SECONDS: then events since the oldest
    transaction that is still under way are told again.
    """
    end = asyncio.get_running_loop().time() + START_SECONDS
    wanted = None
    while True:
        ((floor, oldest, newest),) = await caller.fetch(_NOW, ())
        wanted = newest if wanted is None else wanted
        if oldest >= wanted or asyncio.get_running_loop().time() > end:
            return Events([], min(oldest, wanted) - 1, floor)
        await asyncio.sleep(0.002)


def _event(row: Any) -> Event:
    return Event(row[0], decode_key(row[1]), row[2], row[3], row[4], _owner(row[5]), _owner(row[6]))


def _owner(names: list[str | None] | None) -> Owner | None:
    return None if names is None else (names[0], names[1], names[2])


async def expired(caller: Caller, now: int) -> list[Remove]:
    """Removals, by version, of some records that have expired."""
    return [
        Remove(key=decode_key(key), token=os.urandom(16), now=now, expect=version, expired=True)
        for key, version in await caller.fetch(_EXPIRED, (now, SWEEP_STEP))
    ]


async def forget(caller: Caller, now: int, retention: float) -> None:
    """Drop tombstones older than a day, and events older than the retention."""
    async with caller.transaction() as connection:
        await connection.execute(caller.fill(_GRAVES), now - GRAVE_MICROS)
        await connection.execute(caller.fill(_OLD_EVENTS), now - round(retention * 1_000_000))


async def facts(caller: Caller, vector: str | None) -> dict[str, Any]:
    """Versions, sizes and counts for ``health``."""
    (row,) = await caller.fetch(_FACTS, (caller.fill("$records"), caller.fill("$vectors")))
    return {
        "address": caller.shown,
        "schema": caller.names.schema,
        "layout": row["layout"],
        "known_layout": LAYOUT,
        "server": row["server"],
        "pgvector": row["pgvector"] if vector is not None else None,
        "replica": row["replica"],
        "bytes": row["bytes"],
        "vectors": row["vectors"],
        "vectors_owed": row["owed"],
        "connections": caller.pool.used + caller.pool.idle,
        "connections_in_use": caller.pool.used,
        "waiting": caller.pool.waiting,
    }
