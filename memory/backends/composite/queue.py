"""Writes that wait, on disk, for a primary that is down. Nobody is told that they happened until they have.

A write keeps its token, and the floor it had when it was queued. So it is applied once, also when somebody retries it, and not
at all where its item was written by others meanwhile.
"""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any

import msgspec

from memory.codec import decode, encode
from memory.errors import MemoryStoreError
from memory.model import Key, MemoryItem, new_id
from memory.ops import Position, Put, Remove, Row, Scan, Scope, Status, Touch, Write
from memory.store.settle import BATCH, new_token
from memory.telemetry import get_logger

if TYPE_CHECKING:
    from memory.backends.composite.members import Member

QUEUE = ("queue",)
KINDS: dict[str, Any] = {"Put": Put, "Remove": Remove, "Touch": Touch}
_replace = msgspec.structs.replace
_log = get_logger("composite")


class Queue:
    """Writes in a store of its own, in the order in which they came."""

    def __init__(self, member: Member, primary: Member) -> None:
        self.member, self.primary = member, primary
        self.waiting: dict[bytes, str] = {}
        """Token of each write -> its id here."""
        self.overtaken = 0
        """Writes that were given up, because their items were written by others meanwhile, or cannot be written."""
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Learn what an earlier process has left."""
        self._turn = asyncio.Lock()
        self.waiting = {op.token: id for id, op in await self._all()}

    async def add(self, op: Write, floor: int) -> None:
        """Keep a write until it can be applied; one that waits already stays as it is. Raises what the queue's store raises."""
        if op.token in self.waiting:
            return
        bare = _replace(op, item=MemoryItem(id=op.key[1], content=None), terms=None) if type(op) is Put else op
        raw = base64.b64encode(msgspec.msgpack.encode(_replace(bare, floor=floor if op.floor is None else op.floor)))
        item = MemoryItem(id=new_id(), namespace=QUEUE, content={"op": type(op).__name__, "raw": raw.decode()}, text="")
        now = self.member.store._clock()
        put = Put(key=item.key, item=item, body=encode(item), token=new_token(), now=now, terms={})
        (result,) = await self.member.write([put])
        if result.status is not Status.DONE:
            raise result.error or MemoryStoreError("the queue did not say whether it keeps a write")
        self.waiting[op.token] = item.id

    async def drain(self) -> None:
        """Apply what waits, in order. Raises what the members raise; what is not applied yet goes on waiting."""
        async with self._turn:
            latest: dict[Key, int] = {}
            for id, op in await self._all():
                # What was queued before it is no later write of others.
                sent = _replace(op, floor=max(op.floor or 0, latest.get(op.key, 0)))
                (result,) = await self.primary.write([sent])
                if result.status is Status.DONE and result.row is not None:
                    latest[op.key] = result.row.version
                elif result.status is not Status.DONE:
                    self.overtaken += 1
                    _log.warning("queued write given up", status=result.status.value, error=result.error)
                await self.member.write([Remove(key=(QUEUE, id), token=new_token(), now=self.member.store._clock())])
                self.waiting.pop(op.token, None)

    async def _all(self) -> list[tuple[str, Write]]:
        found: list[tuple[str, Write]] = []
        after: Position | None = None
        while True:
            now = self.member.store._clock()
            page = await self.member.scan(Scan(now=now, scope=Scope(QUEUE, below=False), after=after, limit=BATCH))
            for row in page.rows:
                item = decode(row)
                op = msgspec.msgpack.decode(base64.b64decode(item.content["raw"]), type=KINDS[item.content["op"]])
                found.append((item.id, await self._whole(op)))
                after = Position(*item.key)
            if not page.more:
                return found

    async def _whole(self, op: Write) -> Write:
        """The write with its item, and the terms that the primary wants."""
        if type(op) is not Put:
            return op
        row = Row(body=op.body, version=0, created=op.created or op.now, updated=op.now, accessed=op.now)
        item = decode(_replace(row, embedding=op.embedding))
        put = _replace(op, item=item, terms=None)
        await self.primary.store._add_terms((put,))
        return put
