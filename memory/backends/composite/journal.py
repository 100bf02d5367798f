"""The journal of moves: written before anything moves, so that a crash leaves one copy that counts.

A move is noted, the record is written at its new place, removed at its old one, and the note is removed. Whoever opens the
store finds the notes that are left: where the new place holds the record the old one gives it up, else nothing has happened.
A note outlives its move where its removal fails, so of several for one key only the last may speak of a move under way.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from memory.backends.composite.recent import Sent
from memory.codec import decode, encode
from memory.errors import CorruptData, MemoryStoreError
from memory.model import Key, MemoryItem
from memory.ops import Position, Put, Read, Remove, Scan, Scope, Status
from memory.store.settle import BATCH, new_token

if TYPE_CHECKING:
    from memory.backends.composite.members import Member

MOVES = ("moves",)
MARK: Key = (("marks",), "version")
RESERVED = 2**36
"""Versions that are reserved at once: what a crash leaves unused of them is skipped."""


class Move(msgspec.Struct):
    """One record on its way: its key, the routes by name, its version (the member's) at the old place, the note's id, and a
    number that rises from move to move."""

    key: Key
    source: str
    target: str
    version: int
    note: str
    turn: int = 0
    sent: Sent | None = None
    """The write at the new place; None in a move that an earlier process has begun."""
    copied: bool = False
    """The record is at its new place."""


class Journal:
    """The notes in a store of its own."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self._reserved = 0
        self._turn = asyncio.Lock()

    async def begin(self, key: Key, source: str, target: str, version: int, turn: int = 0) -> Move:
        """Note that a record is about to move. Raises what the journal raises: then nothing has moved."""
        move = Move(key, source, target, version, new_token().hex(), turn)
        content = {"key": [list(key[0]), key[1]], "from": source, "to": target, "version": version, "turn": turn}
        await self._write((MOVES, move.note), content)
        return move

    async def end(self, move: Move) -> None:
        """Note that nothing is under way any more. A note that stays is looked at when the store is opened again."""
        now = self.member.store._clock()
        try:
            await self.member.write([Remove(key=(MOVES, move.note), token=new_token(), now=now)])
        except MemoryStoreError:
            pass

    async def left(self) -> list[Move]:
        """The moves that an earlier process has left, in the order in which they were begun."""
        found: list[Move] = []
        after: Position | None = None
        while True:
            op = Scan(now=self.member.store._clock(), scope=Scope(MOVES, below=False), after=after, limit=BATCH)
            page = await self.member.scan(op)
            for row in page.rows:
                item = decode(row)
                try:
                    told = item.content
                    namespace, id = told["key"]
                    key = (tuple(namespace), id)
                    found.append(Move(key, told["from"], told["to"], told["version"], item.id, told.get("turn", 0)))
                except (KeyError, TypeError, ValueError):
                    raise CorruptData(f"the note {item.id!r} in the journal of moves is no note of a move") from None
                after = Position(*item.key)
            if not page.more:
                return sorted(found, key=lambda move: move.turn)

    async def reserved(self) -> int:
        """A version that none which any process before has told was above."""
        self._turn = asyncio.Lock()  # this loop's
        (row,) = await self.member.read(Read(keys=(MARK,), now=self.member.store._clock()))
        self._reserved = 0 if row is None else int(decode(row).content)
        return self._reserved

    async def reserve(self, version: int) -> None:
        """Make sure that ``reserved`` will tell at least this. Raises what the journal raises."""
        if version <= self._reserved:
            return
        async with self._turn:  # so that a higher mark is not replaced by a lower one
            if version > self._reserved:
                await self._write(MARK, version + RESERVED)
                self._reserved = version + RESERVED

    async def _write(self, key: Key, content: object) -> None:
        item = MemoryItem(namespace=key[0], id=key[1], content=content, text="")
        op = Put(key=key, item=item, body=encode(item), token=new_token(), now=self.member.store._clock(), terms={})
        (result,) = await self.member.write([op])
        if result.status is not Status.DONE:
            raise result.error or MemoryStoreError(
                f"the journal of moves could not be written ({result.status.value}); nothing was moved"
            )
