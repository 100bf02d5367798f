"""The HNSW index over the store's vectors: made when there are many, while nobody waits, and known when it is there.

It is built after vectors were loaded, not by their writes, as adding 5,000 vectors to an index takes as long as making
one of 20,000. Building holds nobody up (CONCURRENTLY) and begins when no vector was written for a while.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import asyncpg

from memory.backends.postgres.faults import CALL_ERRORS, translate
from memory.backends.postgres.nearest import INDEXED_FROM
from memory.backends.postgres.schema import lock_of
from memory.backends.postgres.writing import MAX_VECTOR
from memory.errors import MemoryStoreError
from memory.ops import Space
from memory.telemetry import get_logger

if TYPE_CHECKING:
    from memory.backends.postgres.calling import Caller
    from memory.backends.postgres.connecting import Connecting
    from memory.backends.postgres.writer import Writer

LOOK_AFTER = 2_000
"""So many vectors written by this process, and it looks whether an index is due."""
QUIET_SECONDS = 1.0
_log = get_logger("postgres")

_LOOK = """
SELECT s.space, s.embedder, s.dimension, i.indisvalid AS valid,
       (SELECT count(*) FROM (SELECT FROM $vectors x WHERE x.space = s.space LIMIT $2) few) AS vectors,
       EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid) AS under_way
  FROM $state s LEFT JOIN pg_index i ON i.indexrelid = to_regclass($1 || s.space)
"""
_BUILD = "CREATE INDEX CONCURRENTLY IF NOT EXISTS @name ON $vectors USING hnsw ((v::$vector(@dimension)) $by_product) WHERE space = @space"


class VectorIndex:
    """What a store knows of its index. ``space`` is its space's number where a valid index is there, else None."""

    def __init__(self, caller: Caller, connecting: Connecting, writer: Writer) -> None:
        self._caller = caller
        self._connecting = connecting
        self._writer = writer
        self._looked_at = 0
        self._task: asyncio.Task[None] | None = None
        self.space: int | None = None

    async def look(self) -> tuple[Any, Space | None]:
        """What the database says: the row, and the store's space. Learns whether the index may be used."""
        name = self._caller.fill("$schema") + "." + self._caller.fill("$prefix") + "vectors_hnsw_"
        (row,) = await self._caller.fetch(_LOOK, (name, INDEXED_FROM))
        self.space = row["space"] if row["valid"] else None
        return row, None if row["dimension"] is None else Space(row["embedder"], row["dimension"])

    def notice(self) -> None:
        """After writes: in a while, see whether an index is due."""
        if self._writer.vectors - self._looked_at >= LOOK_AFTER and (self._task is None or self._task.done()):
            self._looked_at = self._writer.vectors
            self._task = asyncio.get_running_loop().create_task(self._when_quiet())

    async def close(self) -> None:
        """Give up what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _when_quiet(self) -> None:
        before = -1
        while before != self._writer.vectors:
            before = self._writer.vectors
            await asyncio.sleep(QUIET_SECONDS)
        self._looked_at = before
        try:
            await self.build()
        except MemoryStoreError as error:
            # Searches stay exact; the next look tries again.
            _log.warning("vector index not built", error=error)

    async def build(self) -> bool:
        """Build the index if one is due; whether there is one now."""
        row, _ = await self.look()
        if row["valid"]:
            return True
        if (
            row["dimension"] is None
            or row["dimension"] > MAX_VECTOR
            or row["vectors"] < INDEXED_FROM
            or row["under_way"]
        ):
            return False
        name = f"{self._caller.fill('$prefix')}vectors_hnsw_{row['space']:d}"
        statement = _BUILD.replace("@name", f'"{name}"').replace("@dimension", f"{row['dimension']:d}")
        statement = self._caller.fill(statement.replace("@space", f"{row['space']:d}"))
        try:
            # Not one of the pool's: it takes long.
            connection = await self._connecting.connect()
        except (*CALL_ERRORS, TimeoutError) as error:
            raise translate(error, self._caller.shown) from error
        try:
            if not self._connecting.pgbouncer:
                lock = lock_of(self._caller.names, "index")
                if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", lock):
                    return False  # another process builds it
            if row["valid"] is False:
                # Somebody was interrupted.
                await connection.execute(self._caller.fill(f'DROP INDEX CONCURRENTLY IF EXISTS $schema."{name}"'))
            await connection.execute(statement)
            _log.info("vector index built", vectors_from=INDEXED_FROM, dimension=row["dimension"])
        except asyncpg.UniqueViolationError:
            return False  # another process was faster
        except CALL_ERRORS as error:
            raise translate(error, self._caller.shown) from error
        finally:
            connection.terminate()
        await self.look()
        return self.space is not None
