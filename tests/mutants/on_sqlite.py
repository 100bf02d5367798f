"""Broken backends on a file: what is lost or comes back when the store is closed and opened."""

from __future__ import annotations

from typing import Any

import apsw

from memory.backends.sqlite import SqliteStore
from memory.ops import Result, Status
from mutants.catalogue import Ops, caught, replace


def alter(store: SqliteStore, *statements: str) -> None:
    """Change the file behind the store's back."""
    connection = apsw.Connection(store.path)
    for statement in statements:
        connection.execute(statement)
    connection.close()


@caught("test_versions_rise_across_close_and_open", "versions start again when the store is opened")
class CounterRestarts(SqliteStore):
    async def _close(self) -> None:
        await super()._close()
        alter(self, "UPDATE counter SET version = coalesce((SELECT max(version) FROM items), 0)", "DELETE FROM graves")


@caught("test_a_retry_after_a_restart_of_the_engine_still_finds_its_token", "tokens are kept in memory only")
class ForgetsTokens(SqliteStore):
    async def _close(self) -> None:
        await super()._close()
        alter(self, "UPDATE items SET token = zeroblob(16)", "UPDATE graves SET token = zeroblob(16)")


@caught("test_the_feed_survives_close_and_open", "the feed is forgotten when the store is closed")
class ForgetsTheFeed(SqliteStore):
    async def _close(self) -> None:
        await super()._close()
        alter(self, "DELETE FROM feed")


@caught("test_what_was_written_survives_close_and_open", "the last write is lost when the store is closed")
class LosesTheLast(SqliteStore):
    async def _close(self) -> None:
        await super()._close()
        alter(self, "DELETE FROM items WHERE version = (SELECT max(version) FROM items)")


@caught("test_what_was_written_survives_close_and_open", "digests are forgotten when the store is closed")
class ForgetsDigests(SqliteStore):
    async def _close(self) -> None:
        await super()._close()
        alter(self, "UPDATE items SET digest = zeroblob(16)")


@caught(
    "test_an_atomic_batch_is_written_whole_or_not_at_all", "lost savepoint on SQLite: half of an atomic batch stays"
)
class LostSavepointOnDisk(SqliteStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        results = await super()._write(ops, False)
        if atomic and not all(result.status is Status.DONE for result in results):
            return [Result(Status.SKIPPED) if result.status is Status.DONE else result for result in results]
        return results


@caught("test_two_stores_on_the_same_data_see_each_others_writes", "a cache hides other processes' writes")
class StaleCache(SqliteStore):
    async def _count(self, op: Any) -> Any:
        return self.__dict__.setdefault("_counted", await super()._count(op))


@caught("test_two_stores_on_the_same_data_lose_no_increment", "compare-and-set trusts what this process saw")
class TrustsItsMemory(SqliteStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        seen = self.__dict__.setdefault("_versions", {})
        changed = []
        for op in ops:
            if op.expect > 0 and seen.get(op.key, op.expect) <= op.expect:
                op = replace(op, expect=-1)
            changed.append(op)
        results = await super()._write(changed, atomic)
        for op, result in zip(ops, results, strict=True):
            if result.row is not None:
                seen[op.key] = result.row.version
        return results


@caught("test_another_store_on_the_same_data_is_watched_too", "a watcher hears of its own process only")
class HearsItself(SqliteStore):
    async def _feed(self, op: Any) -> Any:
        found = await super()._feed(op)
        found.events = []
        return found


@caught(
    "test_the_space_of_vectors_survives_close_and_open", "the space of vectors is forgotten when the store is closed"
)
class ForgetsTheSpace(SqliteStore):
    async def _open(self) -> None:
        await super()._open()
        self._space = None


@caught(
    "test_another_embedder_is_refused_after_reopening", "who made the vectors is forgotten when the store is closed"
)
class ForgetsTheEmbedder(SqliteStore):
    async def _close(self) -> None:
        await super()._close()
        alter(self, "UPDATE counter SET embedder = NULL")


@caught("test_a_reembed_goes_on_in_another_process_life", "a reembed begins again when the store is opened")
class ForgetsWhatLiesAside(SqliteStore):
    async def _close(self) -> None:
        await super()._close()
        alter(self, "DELETE FROM aside", "DELETE FROM asides")


@caught(
    "test_another_store_on_the_same_data_shares_its_vectors_and_their_space", "a cache hides other processes' vectors"
)
class StaleVectorCache(SqliteStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        self.__dict__.pop("_near", None)
        return await super()._write(ops, atomic)

    async def _nearest(self, op: Any) -> Any:
        near = self.__dict__.setdefault("_near", {})
        if op.vector not in near:
            near[op.vector] = await super()._nearest(op)
        return near[op.vector]
