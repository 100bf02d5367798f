"""Moving a record from one member to another, so that readers see it in exactly one place and a crash leaves it in one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, TypeVar

import msgspec

from memory.backends.composite.copies import copy_of, marked, unmarked
from memory.backends.composite.journal import Move
from memory.backends.composite.recent import Sent
from memory.errors import BackendUnavailable, InvalidSetting, MemoryStoreError
from memory.model import Key
from memory.ops import ABSENT, Kept, Put, Read, Remove, Result, Row, Status
from memory.store.settle import new_token

if TYPE_CHECKING:
    from memory.backends.composite.placing import Placing
    from memory.backends.composite.routes import Route

T = TypeVar("T")
ATTEMPTS = 3
_replace = msgspec.structs.replace


class Mover:
    """The moves of a routed store, one at a time. ``moves`` changes with every step of one."""

    def __init__(self, placing: Placing) -> None:
        self._placing = placing
        self._gate = asyncio.Lock()
        self.moves = 0
        self._moving: dict[Key, Move] = {}

    def place_of(self, key: Key) -> Route | None:
        """Where a record that moves is to be read now; None for one that does not."""
        move = self._moving.get(key) if self._moving else None
        return None if move is None else self._route(move.target if move.copied else move.source)

    def _route(self, name: str) -> Route:
        for route in self._placing.routes:
            if route.name == name:
                return route
        raise InvalidSetting(
            f"the journal of moves speaks of a route {name!r}, which there is no more; name it again, to finish its moves",
            setting=f"routes.{name}",
        )

    async def steady(self, ask: Callable[[], Awaitable[T]]) -> T:
        """An answer during which nothing moved."""
        for _ in range(ATTEMPTS):
            await self.finish_all()
            moves = self.moves
            if self._moving:
                continue  # one began while others were finished: it may have two copies, and stay so
            answer = await ask()
            if self.moves == moves:
                return answer
        async with self._gate:
            for move in list(self._moving.values()):
                await self._finish(move)
            return await ask()

    # --- moving --------------------------------------------------------------------------------

    async def move_by(self, op: Put, row: Row, source: Route, target: Route) -> Result:
        """Write an item that lies elsewhere at its new place. ``row``: what is there, as the member has it."""
        kept = op.keep or Kept(updated=op.now, accessed=row.accessed, count=row.count)
        created = row.created if op.keep is None else op.created
        return await self._move(_replace(op, created=created, keep=kept, dedup=False), row, source, target)

    async def move_on(self, key: Key, source: Route) -> bool:
        """Move a record that its route promotes. Whether it moved."""
        from memory.backends.composite.placing import plain

        placing, now = self._placing, self._placing.store._clock()
        await self.finish_those([key])
        found = (await placing.locate([key], now)).get(key)
        if found is None or found[0] is not source:
            return False
        row = found[1]
        put = copy_of(plain(row), now, mark=False)
        target = placing.target(put, row)
        if target is source:
            return False
        await target.store._add_terms((put,))
        return (await self._move(put, row, source, target)).status is Status.DONE

    async def _move(self, op: Put, row: Row, source: Route, target: Route) -> Result:
        placing = self._placing
        async with self._gate:
            # What a member has issued to an earlier process it may not know at open: Redis does not.
            placing.store._seen = max(placing.store._seen, row.version + unmarked(row.body)[1])
            try:
                base = await placing.base_for(op.key, target)
                move = await placing.journal.begin(op.key, source.name, target.name, row.version, placing.store._seen)
            except MemoryStoreError as error:
                return Result(Status.FAILED, error=error)
            body = marked(op.body, base) if base else op.body
            put = _replace(op, body=body, expect=ABSENT, floor=None)
            move.sent = sent = Sent(put, target, base, target.store._floor(op.key))
            self._step(move)
            try:
                (result,) = await target.member.write([put])
            except MemoryStoreError as error:
                result = Result(Status.FAILED, error=error)
            if result.status is Status.UNKNOWN:
                return placing.noted(
                    sent, result
                )  # it is finished, or found not to have begun, when it is next looked at
            if result.status is not Status.DONE:
                await self._end(move)
                return result
            move.copied = True
            self._step(move)
            told = placing.noted(sent, result)
            try:
                await self._finish(move)
            except MemoryStoreError:
                pass  # the new copy counts; the old one goes as soon as its member answers
            return told

    def _step(self, move: Move) -> None:
        self.moves += 1
        self._moving[move.key] = move

    async def _end(self, move: Move) -> None:
        await self._placing.journal.end(move)
        self.moves += 1
        self._moving.pop(move.key, None)

    # --- finishing -----------------------------------------------------------------------------

    async def finish_all(self) -> None:
        """Finish every move that is under way. Raises what the members raise."""
        await self.finish_those(list(self._moving))

    async def finish_those(self, keys: Iterable[Key]) -> None:
        """Finish the moves of these keys, after those that are under way. Raises what the members raise."""
        for key in keys:
            if key in self._moving:
                async with self._gate:
                    if key in self._moving:
                        await self._finish(self._moving[key])

    async def _finish(self, move: Move) -> None:
        """Bring a move to its end. Raises BackendUnavailable where a member does not say how it stands."""
        source, target = self._route(move.source), self._route(move.target)
        if not move.copied:
            move.copied = await self._is_copied(move, target)
            if not move.copied:
                return await self._end(move)
            self._step(move)
        remove = Remove(key=move.key, token=new_token(), now=self._placing.store._clock())
        (result,) = await source.member.write([remove])
        if result.status not in (Status.DONE, Status.MISSING):
            raise result.error or BackendUnavailable(f"the member {move.source!r} did not say whether a record is gone")
        self._placing.settled(move.key, target)
        return await self._end(move)

    async def _is_copied(self, move: Move, target: Route) -> bool:
        """Whether the record is at its new place; where that can be asked by its token, it is written now if it is not."""
        sent = move.sent
        if sent is None:
            (row,) = await target.member.read(Read(keys=(move.key,), now=self._placing.store._clock()))
            return row is not None
        (result,) = await target.member.write([_replace(sent.op, floor=sent.floor)])
        if result.status is Status.UNKNOWN:
            result = await self._anew(sent, target)
        self._placing.noted(sent, result)
        return result.status is Status.DONE

    async def _anew(self, sent: Sent, target: Route) -> Result:
        """Settle a write that its member cannot tell of by its token, as when the key was written there before and that reply,
        too, was lost: nobody but this move writes the key there now, so it is looked for, and written anew where it is not."""
        op = sent.op
        (row,) = await target.member.read(Read(keys=(op.key,), now=self._placing.store._clock()))
        if row is not None and type(op) is Put and row.body == op.body:
            return Result(Status.DONE, row)
        (result,) = await target.member.write([_replace(op, token=new_token())])
        if result.status is Status.UNKNOWN:
            raise BackendUnavailable(f"the member {target.name!r} did not say whether a record has come")
        return result

    async def resume(self) -> None:
        """Finish the moves that an earlier process has begun."""
        journal = self._placing.journal
        async with self._gate:
            left = await journal.left()
            last = {move.key: move for move in left}
            for move in left:
                if last[move.key] is not move:  # what it says is long over, and the opposite of it may be true
                    await journal.end(move)
                    continue
                self._moving[move.key] = move
                await self._finish(move)
