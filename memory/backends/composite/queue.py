"""Writes that wait, on disk, for a primary that is down. Nobody is told that they happened until they have.

A write keeps its token, and the floor it had when it was queued. So it is applied once, also when somebody retries it, and not
at all where its item was written by others meanwhile. It leaves the queue when it is known what became of it: a reply that is
lost decides nothing, neither the primary's nor the queue's own.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from uuid import UUID

import msgspec

from memory.codec import decode, encode
from memory.errors import EmbeddingMismatch, InvalidItem, MemoryStoreError
from memory.model import INT_MAX, Key, MemoryItem, new_id
from memory.ops import ABSENT, ANY, Position, Put, Read, Remove, Result, Row, Scan, Scope, Status, Touch, Write
from memory.store.settle import BATCH, new_token
from memory.telemetry import get_logger

if TYPE_CHECKING:
    from memory.backends.composite.members import Member

QUEUE = ("queue",)
KINDS: dict[str, Any] = {"Put": Put, "Remove": Remove, "Touch": Touch}
ATTEMPTS = 8
"""So often a write is sent whose outcome stays unknown; then it counts as overtaken."""
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
        self._adding: set[bytes] = set()
        self._doubted: set[bytes] = set()
        """Those of the waiting that may not be here: the queue's store did not say."""
        self._settled: dict[bytes, int | None] = {}
        """Those of the waiting that are decided and have only to be removed: the version each has given its key, ABSENT where it
        has removed it at one that is not known, None where it was not applied."""
        self._latest: dict[Key, int] = {}
        """What the writes before the one that is looked at have given its key."""
        self._last = ""
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        """Learn what an earlier process has left."""
        self._turn = asyncio.Lock()
        for known in (self._adding, self._doubted, self._settled, self._latest):
            known.clear()
        found = await self._all()
        self.waiting = {op.token: id for id, op in found}
        self._last = max((id for id, _ in found), default="")

    async def add(self, op: Write, floor: int) -> None:
        """Keep a write until it can be applied; one that waits already stays as it is. Raises what the queue's store raises: then
        it is not kept. Where that store did not say, it may be: it counts as waiting, and a retry is written once more."""
        token = op.token
        doubted = token in self._doubted
        if token in self.waiting and not doubted:
            return
        bare = _replace(op, item=MemoryItem(id=op.key[1], content=None), terms=None) if type(op) is Put else op
        raw = base64.b64encode(msgspec.msgpack.encode(_replace(bare, floor=floor if op.floor is None else op.floor)))
        content = {"op": type(op).__name__, "raw": raw.decode()}
        item = MemoryItem(id=self.waiting.get(token) or self._next_id(), namespace=QUEUE, content=content, text="")
        now = self.member.store._clock()
        put = Put(key=item.key, item=item, body=encode(item), token=new_token(), now=now, terms={})
        self.waiting[token] = item.id
        self._doubted.add(token)  # also where this is cancelled
        self._adding.add(token)
        try:
            (result,) = await self.member.write([put])
            if result.status not in (Status.DONE, Status.UNKNOWN):
                raise result.error or MemoryStoreError("the queue did not keep a write")
        except MemoryStoreError:
            if not doubted:
                self._forget(token)
                raise
        else:
            self.waiting[token] = item.id
            if result.status is Status.DONE:
                self._doubted.discard(token)
        finally:
            self._adding.discard(token)

    def _next_id(self) -> str:
        """An id that sorts behind every one before: not by the clock alone, which stands still between two writes, or is set."""
        id = new_id()
        self._last = id if id > self._last else str(UUID(int=UUID(self._last).int + 1))
        return self._last

    def learn(self, ops: Sequence[Write], results: Sequence[Result]) -> None:
        """These were sent to the primary directly: where a retry came before the queue, what it was told stays true."""
        for op, result in zip(ops, results, strict=True):
            if op.token in self.waiting and result.status is not Status.UNKNOWN:
                self._settle(op, _version(result) if result.status is Status.DONE else None)

    async def drain(self) -> None:
        """Apply what waits, in order. Raises what the members raise; what is not applied yet goes on waiting."""
        async with self._turn:
            known = self.waiting.keys() - self._adding
            found = await self._all()
            for token in known - {op.token for _, op in found} - self._adding:
                self._forget(token)  # the queue's store had not kept it
            last = {op.key: id for id, op in found}
            held: set[Key] = set()
            decided: dict[Key, list[tuple[str, bytes]]] = {}
            for id, op in found:
                key = op.key
                if key not in held:
                    if op.token not in self._settled and not await self._apply(op):
                        held.add(key)
                        continue
                    version = self._settled[op.token]
                    if version is not None:
                        self._latest[key] = version
                    decided.setdefault(key, []).append((id, op.token))
                # All of a key go together: what is left of them after a crash is recognised by the last.
                if id == last[key] and key not in held:
                    for one, token in decided.pop(key):
                        await self._remove(one, token)
            if not self.waiting:
                self._latest.clear()

    async def _apply(self, op: Write) -> bool:
        """Send a write to the primary; whether it is settled."""
        # What was queued before it is no later write of others.
        floor = max(op.floor or 0, self._latest.get(op.key, 0))
        sent, result, row = _replace(op, floor=floor), Result(Status.UNKNOWN), None
        for _ in range(ATTEMPTS):
            (result,) = await self.primary.write([sent])
            if result.status is Status.DONE:
                return self._settle(op, _version(result))
            if result.status is Status.FAILED and not isinstance(result.error, InvalidItem | EmbeddingMismatch):
                _log.warning("queued write goes on waiting", error=result.error)
                return False
            if result.status is Status.DUPLICATE or (result.status is Status.MISSING and type(op) is not Put):
                return self._settle(op)
            if result.status is not Status.UNKNOWN:
                break
            # Either the primary does not say, or others have written: then it will never say anything else.
            (row,) = await self.primary.read(Read(keys=(op.key,), now=self.primary.store._clock()))
            if row is None and type(op) is Put and self._latest.get(op.key) == ABSENT:
                sent = _replace(op, floor=INT_MAX, expect=ABSENT if op.expect == ANY else op.expect)
        else:
            if row is not None and row.version <= floor:
                return False  # nobody has written
            if row is None and type(op) is not Put:
                return self._settle(op)  # there is nothing to remove, or to touch
        self.overtaken += 1
        _log.warning("queued write given up", status=result.status.value, error=result.error)
        return self._settle(op)

    def _settle(self, op: Write, version: int | None = None) -> bool:
        self._settled[op.token] = version
        return True

    async def _remove(self, id: str, token: bytes) -> None:
        op = Remove(key=(QUEUE, id), token=new_token(), now=self.member.store._clock())
        (result,) = await self.member.write([op])
        if result.status in (Status.DONE, Status.MISSING):
            self._forget(token)

    def _forget(self, token: bytes) -> None:
        self.waiting.pop(token, None)
        self._doubted.discard(token)
        self._settled.pop(token, None)

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


def _version(result: Result) -> int:
    """The version that a write gave its key; ABSENT where it was removed and the store no longer says at which."""
    return ABSENT if result.row is None else result.row.version
