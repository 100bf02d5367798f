"""Broken backends: an expired item is still there to one operation or another."""

from __future__ import annotations

from typing import Any

from memory.backends.in_memory import InMemoryStore
from memory.model import key_order
from memory.ops import ABSENT, Matched, Put, Remove, Result, Status, Touch
from mutants.catalogue import Ops, caught, replace

LONG_AGO = 0


@caught("test_an_expired_item_is_absent_to_point_reads", "expired items in get")
class ExpiredInGet(InMemoryStore):
    async def _read(self, op: Any) -> Any:
        return await super()._read(replace(op, now=LONG_AGO))


@caught("test_an_expired_item_is_absent_to_count", "expired items in count")
class ExpiredInCount(InMemoryStore):
    async def _count(self, op: Any) -> Any:
        return await super()._count(replace(op, now=LONG_AGO))


@caught("test_an_expired_item_is_absent_to_lists_in_every_order", "expired items in list")
class ExpiredInList(InMemoryStore):
    async def _scan(self, op: Any) -> Any:
        return await super()._scan(replace(op, now=LONG_AGO))


@caught("test_an_expired_item_is_absent_to_namespaces", "expired items in namespaces")
class ExpiredInNamespaces(InMemoryStore):
    async def _namespaces(self, op: Any) -> Any:
        return await super()._namespaces(replace(op, now=LONG_AGO))


@caught("test_an_expired_item_is_absent_to_search", "expired items in search")
class ExpiredInSearch(InMemoryStore):
    async def _match(self, op: Any) -> Any:
        return await super()._match(replace(op, now=LONG_AGO))


@caught("test_an_expired_item_does_not_count_in_df", "expired items counted in df")
class ExpiredInDf(InMemoryStore):
    async def _match(self, op: Any) -> Any:
        all_time = await super()._match(replace(op, now=LONG_AGO))
        return Matched(all_time.df, (await super()._match(op)).candidates)


@caught("test_an_expired_item_is_nobodys_neighbour", "expired items lend their score to neighbours")
class ExpiredNeighbours(InMemoryStore):
    async def _around(self, op: Any) -> Any:
        return await super()._around(replace(op, now=LONG_AGO))


class _Peeking(InMemoryStore):
    def _expired(self, op: Any) -> Any:
        """The record under the key, if it has expired."""
        record = self._records.get(key_order(op.key))
        return (
            record if record is not None and record.row.expires is not None and record.row.expires <= op.now else None
        )


@caught("test_an_expired_item_is_absent_to_add", "an expired item refuses an add")
class ExpiredInAdd(_Peeking):
    def _apply(self, op: Any) -> Any:
        if type(op) is Put and op.expect == ABSENT and self._expired(op):
            return Result(Status.EXISTS)
        return super()._apply(op)


@caught("test_an_expired_item_is_absent_to_an_expectation", "an expired item satisfies an expected version")
class ExpiredInExpectation(_Peeking):
    def _apply(self, op: Any) -> Any:
        expired = self._expired(op)
        if type(op) is Put and expired and op.expect == expired.row.version:
            op = replace(op, expect=-1)
        return super()._apply(op)


@caught("test_an_expired_item_cannot_be_touched_back_to_life", "touch revives an expired item")
class ExpiredInTouch(_Peeking):
    def _apply(self, op: Any) -> Any:
        if type(op) is Touch and (expired := self._expired(op)):
            expired.row = replace(expired.row, expires=None)
        return super()._apply(op)


@caught("test_an_expired_item_is_absent_to_delete", "delete of an expired item says it was there")
class ExpiredInDelete(_Peeking):
    def _apply(self, op: Any) -> Any:
        return super()._apply(replace(op, expired=True) if type(op) is Remove else op)


@caught("test_an_expired_item_is_absent_to_dedup", "dedup returns an expired item")
class ExpiredInDedup(InMemoryStore):
    def _put(self, op: Any, key: Any, old: Any) -> Any:
        for twin in self._digests.get(op.digest, ()) if op.dedup else ():
            return Result(Status.DUPLICATE, self._records[twin].row)
        return super()._put(op, key, old)


@caught("test_an_expired_item_is_absent_to_put", "a put over an expired item keeps its past")
class ExpiredKeepsItsPast(_Peeking):
    def _put(self, op: Any, key: Any, old: Any) -> Any:
        return super()._put(op, key, old or self._expired(op))


@caught("test_an_item_is_gone_when_now_reaches_expires_at", "an item lives one instant too long")
class OneInstantTooLong(InMemoryStore):
    async def _read(self, op: Any) -> Any:
        return await super()._read(replace(op, now=op.now - 1))

    async def _count(self, op: Any) -> Any:
        return await super()._count(replace(op, now=op.now - 1))


@caught("test_times_keep_their_microseconds", "times are kept in milliseconds")
class Milliseconds(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        return await super()._write([replace(op, now=op.now // 1000 * 1000) for op in ops], atomic)


@caught("test_sweep_leaves_an_item_that_was_renewed", "the sweeper deletes by key, not by version")
class SweepsByKey(InMemoryStore):
    _doomed: dict[Any, int]

    def _apply(self, op: Any) -> Any:
        doomed = self.__dict__.setdefault("_doomed", {})
        if type(op) is Put and op.expires is not None:
            doomed[op.key] = op.expires
        return super()._apply(op)

    async def _sweep(self, now: int) -> int:
        removed = 0
        for key, expires in self.__dict__.get("_doomed", {}).items():
            if expires <= now and key_order(key) in self._records:
                removed += self._apply(Remove(key=key, token=b"", now=now, expired=True)).status is Status.DONE
        return removed


@caught("test_versions_rise_across_sweep_and_a_long_time", "the sweeper forgets which versions were used")
class SweepForgetsVersions(InMemoryStore):
    async def _sweep(self, now: int) -> int:
        removed = await super()._sweep(now)
        self._version = max((record.row.version for record in self._records.values()), default=0)
        return removed


@caught("test_swept_items_are_gone_from_search_and_dedup", "swept items stay in the dedup index")
class SweepLeavesDigests(InMemoryStore):
    async def _sweep(self, now: int) -> int:
        before = {digest: set(keys) for digest, keys in self._digests.items()}
        rows = dict(self._records)
        removed = await super()._sweep(now)
        self._ghosts = {
            digest: rows[key] for digest, keys in before.items() for key in keys if key not in self._records
        }
        return removed

    def _put(self, op: Any, key: Any, old: Any) -> Any:
        ghost = self.__dict__.get("_ghosts", {}).get(op.digest)
        return Result(Status.DUPLICATE, ghost.row) if op.dedup and ghost else super()._put(op, key, old)
