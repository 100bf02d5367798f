"""Writes: grouped by tag, a few in each call of the script, and what its answers mean."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from memory.backends.redis.arguments import arguments, cost, stamp
from memory.backends.redis.faults import LostError
from memory.backends.redis.keys import tag_of
from memory.backends.redis.layout import learn
from memory.backends.redis.records import parse_header
from memory.backends.redis.scripts import REMOVE, WRITE
from memory.errors import BackendUnavailable, MemoryStoreError, Overloaded
from memory.keys import encode_key
from memory.ops import Put, Remove, Result, Space, Status, Write
from memory.store.embedding import mismatch
from memory.store.together import all_of

if TYPE_CHECKING:
    from memory.backends.redis.backend import RedisStore

COST = 1_000
"""Index entries that one call writes at most, unless a single record needs more: about three milliseconds."""
CALL_BYTES = 512 * 1024
TURNS = 1_000
"""How often a write is sent anew because something it needs was not ready."""


class Batch:
    """The writes of one tag: operations, their places in the whole, and the results."""

    def __init__(self, tag: bytes, results: list[Result | None]) -> None:
        self.tag = tag
        self.results = results
        self.ops: list[tuple[int, Write]] = []


async def write(store: RedisStore, ops: Sequence[Write]) -> list[Result]:
    """One result each, in order. Writes of one tag are applied in order, those of several side by side."""
    results: list[Result | None] = [None] * len(ops)
    batches: dict[bytes, Batch] = {}
    for place, op in enumerate(ops):
        tag = tag_of(op.key[0])
        if tag not in batches:
            batches[tag] = Batch(tag, results)
        batches[tag].ops.append((place, op))
    if len(batches) == 1:
        await _write_tag(store, next(iter(batches.values())))
    else:
        await all_of([_write_tag(store, batch) for batch in batches.values()])
    return [result or Result(Status.UNKNOWN) for result in results]


async def _write_tag(store: RedisStore, batch: Batch) -> None:
    """The calls of one tag, one after the other; each is made ready while the one before runs."""
    if len(batch.ops) == 1:
        await _send(store, batch, batch.ops)
        return
    running: asyncio.Task[None] | None = None
    try:
        for pairs in _calls(batch.ops):
            ready: list[tuple[bytes, ...]] = []
            async for part in store.slices(pairs):
                ready += [arguments(op, store.fields) for _, op in part]
            if running is not None:
                await running
            running = asyncio.ensure_future(_send(store, batch, pairs, ready))
            await asyncio.sleep(0)  # so that it has begun before the next one is made ready
        if running is not None:
            await running
    finally:
        if running is not None:
            running.cancel()


def _calls(ops: list[tuple[int, Write]]) -> list[list[tuple[int, Write]]]:
    calls: list[list[tuple[int, Write]]] = []
    entries = size = 0
    for pair in ops:
        op = pair[1]
        more = len(op.body) + len(op.embedding or b"") if type(op) is Put else 0
        entries, size = entries + cost(op), size + more
        if not calls or entries > COST or size > CALL_BYTES:
            calls.append([])
            entries, size = cost(op), more
        calls[-1].append(pair)
    return calls


async def _send(
    store: RedisStore, batch: Batch, pairs: list[tuple[int, Write]], ready: list[tuple[bytes, ...]] | None = None
) -> None:
    """Send operations until each has its result. ``ready``: their arguments, when they are made already."""
    first: Put | None = None  # the vector that makes the store's space: one that is about to be stored, no other
    for _ in range(TURNS):
        try:
            await store.tags.enter(batch.tag, first)
        except LostError as error:
            _fail(batch, pairs, error.for_read())
            return
        except MemoryStoreError as error:
            _fail(batch, pairs, error)
            return
        try:
            answers = await _call(store, batch.tag, pairs, ready)
            ready = None
        except LostError as error:
            store.lost(error)
            for place, _ in pairs:
                batch.results[place] = Result(Status.UNKNOWN)
            return
        except MemoryStoreError as error:
            if isinstance(error, BackendUnavailable):
                await store.servers.relearn()
            _fail(batch, pairs, error)
            return
        again: list[tuple[int, Write]] = []
        tried = len(answers)
        for i, (pair, answer) in enumerate(zip(pairs, answers, strict=False)):
            try:
                result = await _result(store, batch.tag, pair[1], answer)
            except LostError as error:
                # Asking for what the operation needs: itself it was not applied.
                result = Result(Status.FAILED, error=error.for_read())
            except MemoryStoreError as error:
                result = Result(Status.FAILED, error=error)
            if result is not None:
                batch.results[pair[0]] = result
            elif answer[:1] == b"D":
                again.append(pair)
            else:
                first = pair[1] if answer[:1] == b"S" and type(pair[1]) is Put else None
                tried = i
                break
        pairs = again + pairs[tried:]
        if not pairs:
            return
    _fail(batch, pairs, Overloaded("what this write needs was busy for too long; nothing was written"))


def _fail(batch: Batch, pairs: list[tuple[int, Write]], error: MemoryStoreError) -> None:
    for place, _ in pairs:
        batch.results[place] = Result(Status.FAILED, error=error)


async def _call(
    store: RedisStore, tag: bytes, pairs: list[tuple[int, Write]], ready: list[tuple[bytes, ...]] | None
) -> list[bytes]:
    names = store.names
    feed, counter = names.outbox(tag) if store.servers.cluster else (names.feed, names.counter)
    keys = [names.keys(tag), names.index(tag), names.terms(tag), names.state(tag), feed, counter]
    parts: list[bytes] = [b"1" if store.feed else b"0", b"%d" % len(store.fields)]
    for told in ready or [arguments(op, store.fields) for _, op in pairs]:
        keys.append(names.record(tag, told[2]))
        parts += told
    script = REMOVE if all(type(op) is Remove for _, op in pairs) else WRITE
    answers: list[bytes] = await store.servers.run(script, keys, *parts)
    return answers


async def _result(store: RedisStore, tag: bytes, op: Write, answer: bytes) -> Result | None:
    """What an answer means; None: the operation has to be sent anew."""
    letter, rest = answer[:1], answer[1:]
    if letter == b"=":
        if not rest:
            return Result(Status.DONE)
        header = parse_header(encode_key(op.key), rest)
        store.tags.saw(tag, header.version)
        return Result(Status.DONE, stamp(op, header, store.maker_of(op)))
    if letter == b"U":
        return Result(Status.UNKNOWN)
    if letter == b"-":
        return Result(Status.MISSING)
    if letter == b"!":
        return Result(Status.EXISTS)
    if letter == b"C":
        header = parse_header(encode_key(op.key), rest)
        store.tags.saw(tag, header.version)
        return Result(Status.CONFLICT, stamp(op, header, None))
    if letter == b"D":
        row = await store.twin(tag, rest, op)
        return None if row is None else Result(Status.DUPLICATE, row)
    if letter == b"M":
        assert type(op) is Put
        assert op.embedding is not None
        number, dimension, embedder = rest.split(b"\0", 2)
        space = Space(embedder.decode() or None, int(dimension))
        store.spaces.noticed(number, space)
        return Result(Status.FAILED, error=mismatch(space, op.embedder, len(op.embedding) // 4))
    if letter == b"Z":
        await store.spaces.wait_for_switch(tag, rest)
    elif letter == b"S":
        store.tags.forget(tag, space_only=True)
    elif letter == b"F":
        await learn(store)
    else:
        store.tags.forget(tag)
    return None
