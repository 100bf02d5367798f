"""From operation to outcome: dispatching writes to the hook, and turning each result into a value or one typed error."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from memory.clock import LATEST, from_micros
from memory.codec import decode, stamp
from memory.errors import (
    AlreadyExists,
    BatchError,
    InvalidItem,
    MemoryStoreError,
    NotFound,
    UnknownOutcome,
    VersionConflict,
)
from memory.model import INT_MAX, Key, MemoryItem
from memory.ops import ANY, Put, Result, Row, Space, Status, Write
from memory.telemetry import get_logger
from memory.turns import is_due, pause

if TYPE_CHECKING:
    from memory.store.base import MemoryStore

BATCH = 500
"""Writes handed to a hook at once."""
MOST_SECONDS = 10_000_000_000
"""The longest time to live: times beyond it could not be written down."""
_force = msgspec.structs.force_setattr
_replace = msgspec.structs.replace
_log = get_logger("store")


class Refused(msgspec.Struct, frozen=True):
    """A batch that is not written, and why."""

    error: MemoryStoreError
    count: int


class _Tokens:
    """Random 16-byte tokens, drawn from the system a page at a time: each draw is a system call."""

    def __init__(self) -> None:
        self._pool = b""
        self._at = 0

    def __call__(self) -> bytes:
        if self._at >= len(self._pool):
            self._pool, self._at = os.urandom(4_096), 0
        token = self._pool[self._at : self._at + 16]
        self._at += 16
        return token

    def forget(self) -> None:
        self._pool, self._at = b"", 0


new_token = _Tokens()
os.register_at_fork(after_in_child=new_token.forget)  # parent and child must not draw the same


def check_version(if_version: int | None) -> int:
    """The expectation of a write: ANY, or the version asked for. Raises InvalidItem."""
    if if_version is None:
        return ANY
    if type(if_version) is not int or not 0 < if_version <= INT_MAX:
        raise InvalidItem(
            f"if_version must be the version of an item that was read, not {if_version!r}", field="if_version"
        )
    return if_version


def check_dedup(dedup: str | None) -> bool:
    """Whether dedup by content is asked for. Raises InvalidItem."""
    if dedup not in (None, "content"):
        raise InvalidItem(f'dedup must be "content" or None, not {dedup!r}', field="dedup")
    return dedup is not None


def ttl_micros(store: MemoryStore, ttl: float | None) -> int | None:
    """The expiry that a time to live in seconds means now. Raises InvalidItem."""
    if ttl is None:
        return None
    if type(ttl) not in (int, float) or not 0 < ttl <= MOST_SECONDS:
        raise InvalidItem(
            f"ttl must be a positive number of seconds, at most {MOST_SECONDS:,} (three centuries)", field="ttl"
        )
    expires = store._clock() + max(1, round(ttl * 1_000_000))
    if expires > LATEST:
        raise InvalidItem("with this ttl an item would expire after the year 9999", field="ttl")
    return expires


def merge_patch(target: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7396), without changing either argument."""
    if type(patch) is not dict:
        return patch
    merged = dict(target) if type(target) is dict else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def not_found(key: Key) -> NotFound:
    """The error for a missing item."""
    return NotFound(f"there is no item {key[1]!r} in namespace {key[0]!r}", key=key)


def _settle(op: Write, result: Result) -> Any:
    """The stored item for a Put, True or False for the others; or the error, raised."""
    status, row = result.status, result.row
    if status is Status.DONE:
        return _stamped(op, row) if type(op) is Put and row is not None else True
    if status is Status.DUPLICATE and row is not None:
        return decode(row)
    if status is Status.EXISTS:
        raise AlreadyExists(f"the id {op.key[1]!r} is taken in namespace {op.key[0]!r}", key=op.key)
    if status is Status.CONFLICT or (status is Status.MISSING and type(op) is Put):
        actual = row.version if row is not None and status is Status.CONFLICT else None
        what = f"is at version {actual}" if actual else "is gone"
        raise VersionConflict(
            f"item {op.key[1]!r} {what}, not at version {op.expect}; read it again and decide",
            key=op.key,
            expected=op.expect,
            actual=actual,
        )
    if status is Status.MISSING:
        return False
    raise result.error or MemoryStoreError(
        "not written, because another item of the atomic batch could not be written", key=op.key
    )


def _stamped(op: Put, row: Row) -> MemoryItem:
    """The item of a Put with the stamp the store gave it."""
    item = _replace(op.item)
    stamp(item, row)
    _force(item, "expires_at", None if row.expires is None else from_micros(row.expires))
    _force(item, "access_count", row.count)
    return item


def _resolve(store: MemoryStore, op: Write, floor: int, result: Result) -> Any:
    if result.status is Status.UNKNOWN:
        _log.warning("unknown outcome", backend=store.name, operation=type(op).__name__, retry=op.floor is not None)
        raise UnknownOutcome(
            f"the write of {op.key[1]!r} may or may not have happened; await error.retry() to finish it safely, "
            "or read the item",
            retry=lambda: _again(store, _replace(op, floor=floor)),
            key=op.key,
        )
    if result.row is not None and result.row.version > store._seen:
        store._seen = result.row.version
    if store._space is None and type(op) is Put and op.embedding is not None and result.status is Status.DONE:
        store._space = Space(op.embedder, len(op.embedding) // 4)
    for wake in store._watchers:
        wake.set()
    return _settle(op, result)


async def apply(store: MemoryStore, op: Write) -> Any:
    """One write: its value, or its error raised."""
    floor = store._floor(op.key) if op.floor is None else op.floor
    results = await store._do_write((op,), False)
    return _resolve(store, op, floor, results[0])


async def _again(store: MemoryStore, op: Write) -> Any:
    """A write once more, on the loop the store lives on: who calls a twin catches the error elsewhere."""
    loop = store._loop
    if loop is None or loop is asyncio.get_running_loop():
        return await apply(store, op)
    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(apply(store, op), loop))


async def apply_all(store: MemoryStore, ops: Sequence[Write], atomic: bool = False) -> list[Any]:
    """Many writes: for each, in order, its value or its error (not raised)."""

    async def batches() -> AsyncIterator[list[Write]]:
        size = max(1, len(ops)) if atomic else BATCH
        for start in range(0, len(ops), size):
            batch = list(ops[start : start + size])
            await store._add_terms(batch)
            yield batch

    return await apply_batches(store, batches(), atomic)


async def apply_batches(
    store: MemoryStore, batches: AsyncIterator[list[Write] | list[Put] | Refused], atomic: bool = False
) -> list[Any]:
    """Writes that come in batches: for each write, in order, its value or its error (not raised).

    The next batch is prepared while the ones before are written, of which the backend takes
    ``pipelined_writes`` at a time, in order. A batch is emptied when it is written. The one error of a single batch is
    raised.
    """
    outcomes: list[Any] = []
    flying: deque[tuple[list[Write] | list[Put], list[int], asyncio.Future[list[Result]]]] = deque()
    failed: list[MemoryStoreError] = []

    async def land() -> None:
        batch, floors, writing = flying[0]
        try:
            results = await writing
        except MemoryStoreError as error:
            failed.append(error)
            results = [Result(Status.FAILED, error=error) for _ in batch]
        flying.popleft()
        # What is done with is let go at once: to free five hundred bodies and their terms at the end would hold the loop.
        left = deque(zip(batch, floors, results, strict=True))
        batch.clear()
        while left:
            if is_due():
                await pause()
            op, floor, result = left.popleft()
            try:
                outcomes.append(_resolve(store, op, floor, result))
            except MemoryStoreError as error:
                outcomes.append(error)

    sent = 0
    try:
        async for batch in batches:
            if isinstance(batch, Refused):
                while flying:
                    await land()
                outcomes += [batch.error] * batch.count
                continue
            if len(flying) >= store.pipelined_writes:
                await land()
            floors = [store._floor(op.key) for op in batch]
            flying.append((batch, floors, asyncio.ensure_future(store._do_write(tuple(batch), atomic))))
            sent += 1
            await asyncio.sleep(0)  # so that it has begun before the next one is prepared
        while flying:
            await land()
    finally:
        for _, _, writing in flying:
            writing.cancel()
    if failed and sent == 1:
        raise failed[0]
    return outcomes


def finish_batch(outcomes: list[Any]) -> list[Any]:
    """The outcomes when all went well, else BatchError with all of them."""
    failed = [outcome for outcome in outcomes if isinstance(outcome, MemoryStoreError)]
    if failed:
        raise BatchError(
            f"{len(failed)} of {len(outcomes)} items failed, the first with: {failed[0]}; "
            "error.results holds each one's outcome",
            results=outcomes,
        )
    return outcomes
