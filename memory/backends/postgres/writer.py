"""Sends batches of writes: grouped, again after a deadlock, and taken apart where one write keeps the others from it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memory.backends.postgres import applying, putting
from memory.backends.postgres.calling import Caller, Unsure
from memory.backends.postgres.faults import CALL_ERRORS, TRANSIENT, is_for_all, state_of, translate
from memory.backends.postgres.schema import lock_of
from memory.backends.postgres.writing import Prepared, arguments, prepared, result_of
from memory.errors import MemoryStoreError
from memory.ops import Put, Result, Space, Status, Write
from memory.store.embedding import mismatch
from memory.store.grouping import Group

if TYPE_CHECKING:
    from memory.store import MemoryStore

WRITES_AT_ONCE = 4
"""Groups under way together, where the pool has as many connections."""
GROUP_BYTES = 4_000_000
"""The most that one group sends."""
SHARE = 32
"""Callers of a group at least, where more wait."""
TRIES = 8
"""How often a batch that met a deadlock is tried."""
_FINE = (applying.DONE, applying.DUPLICATE, applying.REPEATED)


class Writer:
    """The writes of a store. ``typed``: it has pgvector's type; ``patience``: milliseconds to wait for a lock, where
    connections are not set to it."""

    def __init__(self, store: MemoryStore, caller: Caller, *, typed: bool, patience: int | None, at_once: int) -> None:
        self._store = store
        self._caller = caller
        self._typed = typed
        self._patience = None if patience is None else str(patience)
        self._salt = lock_of(caller.names, "digest")
        self._group: Group[list[Prepared], list[Result]] = Group(
            self._together, size=_size, most=GROUP_BYTES, at_once=min(WRITES_AT_ONCE, at_once), inline=True, share=SHARE
        )
        self.vectors = 0
        """Vectors written, ever."""

    async def write(self, ops: Sequence[Write], *, atomic: bool) -> list[Result]:
        """See MemoryStore._write."""
        if self._typed and any(type(op) is Put and op.embedding is not None for op in ops):
            await self._store._vectors_ready()
        batch: list[Prepared] = []
        if len(ops) == 1:
            batch.append(prepared(ops[0], self._typed))
        else:
            async for part in self._store._slices(ops):
                batch += [prepared(op, self._typed) for op in part]
        if atomic:
            return await self._apply(batch, None, atomic=True)
        return await self._group.ask(batch)

    async def finish(self) -> None:
        """Wait for what was accepted."""
        await self._group.finish()

    async def _together(self, batches: list[list[Prepared]], since: float | None) -> list[list[Result] | BaseException]:
        results = await self._apply([one for batch in batches for one in batch], since, atomic=False)
        answers: list[list[Result] | BaseException] = []
        start = 0
        for batch in batches:
            answers.append(results[start : start + len(batch)])
            start += len(batch)
        return answers

    async def _apply(self, batch: list[Prepared], since: float | None, *, atomic: bool) -> list[Result]:
        """One call of the function; what one write cannot be stored for does not keep the others from it.

        Whatever has to be sent again, or in parts, is held to one deadline.
        """
        if since is None:
            since = asyncio.get_running_loop().time()
        alone = len(batch) == 1 and not self._store.feed and putting.suits(batch[0])
        tries = 0
        while True:
            try:
                found = await self._put(batch[0], since) if alone else await self._call(batch, since, atomic=atomic)
                if found[0][1] is not None:
                    break
                alone = False  # more has to be looked at
            except Unsure:
                return [Result(Status.UNKNOWN) for _ in batch]
            except CALL_ERRORS as error:
                tries += 1
                state = state_of(error)
                if state == applying.NOT_APPLIED:
                    return await self._not_applied(batch, str(getattr(error, "detail", "")))
                if state in TRANSIENT and tries < TRIES:
                    await asyncio.sleep(0.002 * tries)
                    continue
                if is_for_all(error) or (atomic and len(batch) > 1):
                    raise translate(error, self._caller.shown) from error
                if len(batch) == 1:
                    return [Result(Status.FAILED, error=translate(error, self._caller.shown))]
                middle = len(batch) // 2
                done = await self._apply(batch[:middle], since, atomic=False)
                try:
                    return done + await self._apply(batch[middle:], since, atomic=False)
                except MemoryStoreError as failed:  # of these alone: the others may be stored
                    return done + [Result(Status.FAILED, error=failed) for _ in batch[middle:]]
        return await self._results(batch, found)

    async def _put(self, one: Prepared, since: float) -> list[Any]:
        """What the function for a put alone says."""
        call = self._caller.fill(putting.TYPED_CALL if self._typed else putting.CALL)
        values = putting.arguments(one, patience=self._patience, typed=self._typed)
        found: list[Any] = await self._caller.write(lambda connection: connection.fetch(call, *values), since)
        return found

    async def _call(self, batch: list[Prepared], since: float, *, atomic: bool) -> list[Any]:
        """What the function for any batch says of each write."""
        form = _form(batch) if self._typed else None
        call = self._caller.fill(applying.call(form))
        values = arguments(batch, atomic=atomic, patience=self._patience, salt=self._salt, vectors=form)
        found: list[Any] = await self._caller.write(lambda connection: connection.fetch(call, *values), since)
        return found

    async def _results(self, batch: list[Prepared], found: list[Any]) -> list[Result]:
        results: list[Result] = [Result(Status.FAILED)] * len(batch)
        unfit: list[int] = []
        async for part in self._store._slices(found):
            for row in part:
                number = row[0]
                result = result_of(batch[number], row)
                if result is None:
                    unfit.append(number)
                    continue
                results[number] = result
        self.vectors += sum([one.direction is not None for one in batch])
        for number in unfit:
            results[number] = Result(Status.FAILED, error=await self._unfit(batch[number].op))
        return results

    async def _unfit(self, op: Write) -> MemoryStoreError:
        """Why a vector does not belong here. The store learns of the space on the way."""
        assert type(op) is Put
        (row,) = await self._caller.fetch("SELECT embedder, dimension FROM $state", ())
        if row[1] is None or op.embedding is None:
            return MemoryStoreError("the space of the vectors was changed meanwhile; try again")
        self._store._space = space = Space(row[0], row[1])
        return mismatch(space, op.embedder, len(op.embedding) // 4)

    async def _not_applied(self, batch: list[Prepared], detail: str) -> list[Result]:
        """The results of an atomic batch that the function has refused: what each write met with, in its words."""
        numbers = list(map(int, detail.split()))
        said = [tuple(numbers[i : i + 3]) for i in range(0, len(numbers), 3)]
        refused = [(*one, 0, 0, 0, 0, None, None, None, None) for one in said if one[1] not in _FINE]
        results = await self._results(batch, refused)
        for number, verdict, _ in said:
            if verdict in _FINE:
                results[number] = Result(Status.SKIPPED)
        return results


def _size(batch: list[Prepared]) -> int:
    return sum([one.size for one in batch])


def _form(batch: list[Prepared]) -> str:
    """How a batch brings its vectors: asyncpg asks the server about an array of them on each connection anew."""
    if all(one.direction is None for one in batch):
        return "none"
    return "one" if len(batch) == 1 else "many"
