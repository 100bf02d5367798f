"""The space of the vectors, and the change to another.

The store's space is one key, the truth; each tag has a copy of it that its writes are checked against, since a script of
a cluster cannot look into another slot. Vectors are stored under their space's number, so a change is one write: of the
number in that one key. Around it every tag is frozen for writes of vectors: first the key says which change is pending,
then each tag is frozen and counts what lacks a new vector, then the key changes if all are there, then each tag gets its
new copy. A change whose process has died is broken by whoever waits for it: what is pending can only be committed while
the key still says so, and a frozen tag follows the key.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from memory.backends.redis.faults import LostError
from memory.backends.redis.keys import tag_of
from memory.backends.redis.records import checksum, name_bytes
from memory.backends.redis.scripts import ATTACH, BEGIN, CLAIM, DROP, ENTER, FINISH, FREEZE, NEXT, THAW
from memory.keys import encode_key
from memory.ops import Attach, Put, Space

if TYPE_CHECKING:
    from memory.backends.redis.backend import RedisStore

Told = tuple[bytes, bytes, bytes]
"""Number, dimension and embedder of a space, as they are stored."""
PAUSE = 0.01
PATIENCE = 15.0
"""Seconds after which a change that goes on is taken for one whose process has died."""
STEP = 200


def space_of(told: Sequence[bytes]) -> Space:
    """The space that is stored."""
    return Space(told[2].decode() or None, int(told[1]))


class Spaces:
    """What this process knows of the store's space, and how it changes."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self.number = b"0000"
        self._since: dict[bytes, float] = {}

    def noticed(self, number: bytes, space: Space) -> None:
        """The store's space, as it was just read."""
        self.number = number
        self._store._space = space

    async def _fields(self, *names: str) -> list[bytes | None]:
        key = self._store.names.space
        found: list[bytes | None] = await self._store.servers.call(key, "HMGET", key, *names)
        return found

    async def _run(self, script: Any, *arguments: Any) -> Any:
        return await self._store.servers.run(script, [self._store.names.space], *arguments)

    # --- the space -----------------------------------------------------------------------------

    async def read(self) -> Told | None:
        """The space, once no change is pending; None when there is none yet."""
        while True:
            number, dimension, embedder, pending = await self._fields("number", "dimension", "embedder", "pending")
            if pending:
                await self._wait(pending)
            elif number is None or dimension is None or embedder is None:
                return None
            else:
                self.noticed(number, space_of((number, dimension, embedder)))
                return number, dimension, embedder

    async def claim(self, vector: Put) -> Told:
        """The space, which this vector makes if there is none."""
        assert vector.embedding is not None
        while True:
            number, dimension, embedder, pending = await self._run(
                CLAIM, len(vector.embedding) // 4, name_bytes(vector.embedder)
            )
            if not pending:
                self.noticed(number, space_of((number, dimension, embedder)))
                return number, dimension, embedder
            await self._wait(pending)

    async def refresh(self) -> bytes:
        """The number of the space as it is now, though a change may be pending."""
        number, dimension, embedder = await self._fields("number", "dimension", "embedder")
        if number is None or dimension is None or embedder is None:
            return b"0000"
        self.noticed(number, space_of((number, dimension, embedder)))
        return number

    # --- waiting for a change ------------------------------------------------------------------

    async def _wait(self, epoch: bytes) -> None:
        """A moment; or, when this change has been pending for too long, its end."""
        loop = asyncio.get_running_loop()
        if loop.time() - self._since.setdefault(epoch, loop.time()) > PATIENCE:
            del self._since[epoch]
            await self._run(FINISH, epoch, "0")
            return
        await asyncio.sleep(PAUSE)

    async def wait_for_switch(self, tag: bytes, epoch: bytes) -> None:
        """A moment, or the end of a change that has frozen this tag."""
        (pending,) = await self._fields("pending")
        if pending == epoch:
            await self._wait(epoch)
            return
        self._since.pop(epoch, None)
        told = await self.read()
        await self._thaw(tag, epoch, told)

    async def _thaw(self, tag: bytes, epoch: bytes, told: Told | None) -> None:
        await self._store.servers.run(THAW, [self._store.names.state(tag)], epoch, *(told or (b"", b"", b"")))

    # --- other vectors -------------------------------------------------------------------------

    async def attach(self, space: Space, ops: Sequence[Attach]) -> int:
        """See MemoryStore._attach."""
        store = self._store
        told = await self.read()
        own = told is None or space_of(told) == space
        if told is None:
            number, *_ = await self._run(CLAIM, space.dimension, name_bytes(space.embedder))
            self.noticed(number, space)
        elif own:
            number = told[0]
        else:
            number = await self._aside(space)
        by_tag: dict[bytes, list[Attach]] = {}
        for op in ops:
            by_tag.setdefault(tag_of(op.key[0]), []).append(op)
        done = 0
        for tag, some in by_tag.items():
            for start in range(0, len(some), STEP):
                done += await self._attach(tag, number, own, some[start : start + STEP])
        if own:
            store._space = space
        return done

    async def _aside(self, space: Space) -> bytes:
        """The number of the space aside, which is this one from now on; vectors of another go."""
        number: bytes
        number, replaced = await self._run(NEXT, space.dimension, name_bytes(space.embedder))
        if replaced:
            await self.drop(replaced)
        return number

    async def _attach(self, tag: bytes, number: bytes, own: bool, ops: list[Attach]) -> int:
        store, names = self._store, self._store.names
        keys, parts = [names.state(tag), names.index(tag)], [number, b"1" if own else b"0"]
        for op in ops:
            key = encode_key(op.key)
            keys.append(names.record(tag, key))
            parts += [key, b"%020d" % op.version, checksum(op.embedding) + op.embedding]
        while True:
            told = await self.read()
            _, epoch = await store.servers.run(ENTER, [names.state(tag)], *(told or (b"", b"", b"")))
            answer = b"Z" + epoch if epoch else await store.servers.run(ATTACH, keys, *parts)
            if isinstance(answer, int):
                return answer
            await self.wait_for_switch(tag, answer[1:])

    async def number_of(self, space: Space) -> bytes | None:
        """The number of the store's own space or of the one aside; None for any other."""
        names = ("number", "dimension", "embedder", "next", "next_dimension", "next_embedder")
        held = await self._fields(*names)
        for i in (0, 3):
            number, dimension, embedder = held[i : i + 3]
            if number and dimension and embedder is not None and space_of((number, dimension, embedder)) == space:
                return number
        return None

    async def switch(self, space: Space, without: int) -> bool:
        """See MemoryStore._switch."""
        store = self._store
        epoch = os.urandom(12).hex().encode()
        while True:
            told = await self.read()
            if told is not None and space_of(told) != space:
                await self._aside(space)  # where no item has a text, no vector has made it
            begun = await self._begin(epoch, space)
            if begun != b"Z":
                break
        if told is None or not isinstance(begun, list):
            return False
        old, target = begun
        committed = False
        try:
            lacking = 0
            tags = await store.tags.all()
            for tag in tags:
                names = store.names
                keys = [names.state(tag), names.keys(tag), names.index(tag)]
                lacking += await store.servers.run(FREEZE, keys, epoch, *told, target)
            committed = bool(await self._run(FINISH, epoch, "1" if lacking == without else "0"))
        finally:
            # Whatever became of it, a frozen tag follows the key; should this not come through, whoever waits does it.
            try:
                if not committed:
                    await self._run(FINISH, epoch, "0")
                now = await self.read()
                for tag in await store.tags.all():
                    await self._thaw(tag, epoch, now)
            except LostError as error:
                raise error.for_read() from None
        if committed:
            self.noticed(target, space)
            await self.drop(old)
        return committed

    async def _begin(self, epoch: bytes, space: Space) -> Any:
        """The answer of BEGIN. Where it does not come, the change may have begun: it is ended, so that nobody waits for it."""
        try:
            return await self._run(BEGIN, epoch, space.dimension, name_bytes(space.embedder))
        except BaseException:
            with suppress(LostError):
                await self._run(FINISH, epoch, "0")
            raise

    async def drop(self, number: bytes) -> None:
        """Remove the vectors of a space that is no longer used, a few at a time."""
        store, names = self._store, self._store.names
        if store.has_engine:
            await store.engine.forget(number)
        for tag in await store.tags.all():
            while entries := await store.walk(names.index(tag), b"[v" + number, b"(v" + number + b"\xff", STEP):
                keys = [entry[5:] for entry in entries]
                await store.servers.run(
                    DROP, [names.index(tag), *(names.record(tag, key) for key in keys)], number, *keys
                )
            # What was overwritten or deleted meanwhile has left its entry of when.
            while entries := await store.walk(names.index(tag), b"[w" + number, b"(w" + number + b"\xff", STEP):
                await store.servers.call(names.index(tag), "ZREM", names.index(tag), *entries)

    async def drop_unused(self) -> None:
        """Remove vectors that a change which was cut short has left behind."""
        number, aside, last = await self._fields("number", "next", "last")
        for one in range(1, int(last or 0) + 1):
            digits = b"%04d" % one
            if digits not in (number, aside):
                await self.drop(digits)
