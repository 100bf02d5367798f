"""Broken backends: versions, stamps, batches, scopes and tokens inside the write."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from memory.backends.in_memory import InMemoryStore
from memory.codec import decode
from memory.model import key_order
from memory.ops import ABSENT, ANY, WHOLE, Kept, Put, Read, Remove, Result, Status, Touch
from mutants.catalogue import Ops, caught, every, replace


@caught("test_a_version_never_comes_back_after_delete_and_recreation", "ABA: versions start again after a delete")
class Aba(InMemoryStore):
    def _apply(self, op: Any) -> Any:
        record = self._records.get(key_order(op.key))
        self._version = 0 if record is None else record.row.version
        return super()._apply(op)


@caught("test_versions_rise_though_the_clock_goes_back", "versions are times")
class VersionsAreTimes(InMemoryStore):
    def _apply(self, op: Any) -> Any:
        self._version = op.now
        return super()._apply(op)


@caught("test_an_identical_put_is_a_write_too", "an identical put is skipped")
class NoOpWrites(InMemoryStore):
    def _put(self, op: Any, key: Any, old: Any) -> Any:
        return (
            Result(Status.DONE, old.row) if old is not None and old.row.body == op.body else super()._put(op, key, old)
        )


@caught("test_put_is_refused_at_another_version", "compare-and-set ignores the version")
class IgnoresVersions(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        return await super()._write([replace(op, expect=ANY) if op.expect > 0 else op for op in ops], atomic)


@caught("test_no_increment_is_lost_among_64_writers", "compare-and-set checks outside the write")
class ChecksOutside(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        results = []
        for op in ops:
            if type(op) is Put and op.expect > 0:
                (row,) = await self._read(Read(keys=(op.key,), now=op.now))
                if row is None or row.version != op.expect:
                    results.append(Result(Status.CONFLICT if row else Status.MISSING, row))
                    continue
                await asyncio.sleep(0)
                op = replace(op, expect=ANY)
            results += await super()._write([op], atomic)
        return results


@caught("test_add_refuses_a_live_key", "add overwrites")
class AddOverwrites(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        return await super()._write([replace(op, expect=ANY) if op.expect == ABSENT else op for op in ops], atomic)


@caught("test_put_on_a_live_key_keeps_created_at", "put makes a live item new")
class PutForgetsThePast(InMemoryStore):
    def _put(self, op: Any, key: Any, old: Any) -> Any:
        return super()._put(op, key, None)


@caught("test_put_on_a_live_key_keeps_the_access_count", "put resets the access count")
class PutResetsTheCount(InMemoryStore):
    def _put(self, op: Any, key: Any, old: Any) -> Any:
        result = super()._put(op, key, old)
        if result.row is not None and op.keep is None and result.status is Status.DONE:
            result.row.count = 0
        return result


@caught("test_a_touch_is_a_write_with_a_new_version", "touch moves updated_at")
class TouchUpdates(InMemoryStore):
    def _apply(self, op: Any) -> Any:
        result = super()._apply(op)
        if type(op) is Touch and result.row is not None:
            result.row.updated = op.now
        return result


@caught("test_delete_touch_and_update_check_the_version", "touch keeps the version")
class TouchKeepsTheVersion(InMemoryStore):
    def _apply(self, op: Any) -> Any:
        result = super()._apply(op)
        if type(op) is Touch and result.status is Status.DONE:
            self._version -= 1
            self._records[key_order(op.key)].row.version = self._version
        return result


@caught("test_duplicates_in_a_batch_apply_in_order", "duplicates of a batch apply in reverse")
class ReversedBatches(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        return (await super()._write(list(reversed(ops)), atomic))[::-1]


@caught("test_results_of_a_batch_are_in_order", "results of a batch come in key order")
class SortedResults(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        results = await super()._write(ops, atomic)
        return [result for _, result in sorted(zip(ops, results, strict=True), key=lambda pair: key_order(pair[0].key))]


@caught("test_an_atomic_batch_is_written_whole_or_not_at_all", "lost savepoint: half of an atomic batch stays")
class LostSavepoint(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        results = await super()._write(ops, False)
        if atomic and not all(result.status is Status.DONE for result in results):
            return [Result(Status.SKIPPED) if result.status is Status.DONE else result for result in results]
        return results


@caught("test_a_failed_item_of_a_batch_does_not_stop_the_others", "one bad item rolls the whole batch back")
class OneForAll(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        return await super()._write(ops, True)


@caught(
    "test_put_and_add_refuse_a_key_outside_the_view_without_showing_it", "a view's put overwrites what lies outside"
)
class PutIgnoresScope(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        return await super()._write([replace(op, scope=WHOLE) if type(op) is Put else op for op in ops], atomic)


@caught("test_what_lies_outside_is_absent_to_update_touch_and_delete", "a view's delete reaches outside")
class DeleteIgnoresScope(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        return await super()._write([replace(op, scope=WHOLE) if type(op) is Remove else op for op in ops], atomic)


@caught("test_what_lies_outside_is_absent_to_update_touch_and_delete", "a view's conflict tells of what lies outside")
class ConflictTells(InMemoryStore):
    def _apply(self, op: Any) -> Any:
        record = self._records.get(key_order(op.key))
        if type(op) is not Put and record is not None and op.expect not in (ANY, record.row.version):
            return Result(Status.CONFLICT, record.row)
        return super()._apply(op)


@caught("test_retry_of_a_touch_counts_one_access", "a retry applies twice: tokens are not kept")
class NoTokens(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        return await super()._write(every(ops, floor=None), atomic)


@caught("test_retry_after_a_later_write_stays_unknown_and_applies_nothing", "a retry undoes a later write")
class RetryUndoes(InMemoryStore):
    def _repeat(self, op: Any, key: Any, record: Any) -> Any:
        repeated = super()._repeat(op, key, record)
        return None if repeated is not None and repeated.status is Status.UNKNOWN else repeated


@caught("test_retry_of_a_delete_that_happened_says_it_was_there", "a tombstone without its token")
class NoTokenInTombstones(InMemoryStore):
    def _apply(self, op: Any) -> Any:
        result = super()._apply(op)
        if type(op) is Remove and (grave := self._graves.get(key_order(op.key))):
            self._graves[key_order(op.key)] = (grave[0], b"", grave[2])
        return result


@caught("test_retry_of_a_put_does_not_undo_a_later_delete", "no tombstones at all")
class NoTombstones(InMemoryStore):
    def _apply(self, op: Any) -> Any:
        result = super()._apply(op)
        self._graves.clear()
        return result


@caught("test_retry_of_a_put_after_an_own_delete_writes_it", "a delete does not tell its version")
class DeleteTellsNothing(InMemoryStore):
    def _apply(self, op: Any) -> Any:
        result = super()._apply(op)
        return Result(result.status) if type(op) is Remove and result.status is Status.DONE else result


@caught("test_concurrent_dedup_puts_leave_one_item", "dedup looks before it writes")
class DedupRaces(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        for op in ops:
            if type(op) is Put and op.dedup and self._digests.get(op.digest):
                return await super()._write(ops, atomic)
        await asyncio.sleep(0)
        return await super()._write([replace(op, dedup=False) if type(op) is Put else op for op in ops], atomic)


@caught("test_a_batch_is_deduplicated_in_order", "of a batch the writes of one key wait for the others")
class DedupOutOfOrder(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        order = sorted(range(len(ops)), key=lambda i: [op.key for op in ops[:i]].count(ops[i].key))
        results = await super()._write([ops[i] for i in order], atomic)
        return [results[order.index(i)] for i in range(len(ops))]


@caught("test_another_live_twin_is_found_when_one_is_gone", "dedup remembers one item only")
class DedupForgetsTwins(InMemoryStore):
    def _place(self, key: Any, record: Any) -> None:
        super()._place(key, record)
        for keys in self._digests.values():
            while len(keys) > 1:
                keys.popitem()


@caught("test_a_deleted_or_changed_item_is_no_duplicate", "dedup keeps the digest of old content")
class DedupOfThePast(InMemoryStore):
    def _put(self, op: Any, key: Any, old: Any) -> Any:
        seen = self.__dict__.setdefault("_first", {})
        if op.dedup and (first := seen.get(op.digest)) in self._records:
            return Result(Status.DUPLICATE, self._records[first].row)
        seen[op.digest] = key
        return super()._put(op, key, old)


@caught("test_an_export_imported_again_gives_the_same_items", "an import makes items new")
class ImportMakesNew(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        return await super()._write([replace(op, keep=None) if type(op) is Put else op for op in ops], atomic)


@caught("test_an_import_replaces_items_of_the_same_key", "an import forgets access counts")
class ImportForgetsCounts(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        ops = [
            replace(op, keep=Kept(op.keep.updated, op.keep.accessed, 0))
            if type(op) is Put and op.keep is not None
            else op
            for op in ops
        ]
        return await super()._write(ops, atomic)


@caught("test_a_call_cancelled_at_any_await_leaves_the_store_usable", "a cancelled write leaves its lock held")
class LeavesItsLock(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        lock = self.__dict__.setdefault("_mutex", asyncio.Lock())
        await lock.acquire()
        await asyncio.sleep(0)
        results = await super()._write(ops, atomic)
        lock.release()
        return results


@caught("test_a_cancelled_batch_leaves_each_item_whole", "an item is written in two steps")
class TwoSteps(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        results = []
        for op in ops:
            if type(op) is Put and op.item.metadata:
                item = decode(await self._half(op))
                await asyncio.sleep(0)
                assert item.id == op.item.id
            results += await super()._write([op], atomic)
        return results

    async def _half(self, op: Any) -> Any:
        (row,) = await self._read(Read(keys=(op.key,), now=op.now))
        half = op.body.replace(b'"s":', b'"s":1')
        return (await super()._write([replace(op, body=half)], False))[0].row or row


@caught("test_a_large_record_does_not_hold_the_loop", "a write holds the loop")
class HoldsTheLoop(InMemoryStore):
    async def _write(self, ops: Ops, atomic: bool) -> Any:
        until = time.thread_time() + 0.04  # what a thread waits for a core is no hold
        while time.thread_time() < until:  # no call that blocks: only a heartbeat sees it
            pass
        return await super()._write(ops, atomic)
