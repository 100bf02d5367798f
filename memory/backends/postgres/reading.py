"""Point reads: those of one turn of the loop are one statement; each is held to its own scope and time here."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from memory.backends.postgres.records import ROW, to_row
from memory.errors import MemoryStoreError
from memory.keys import encode_key
from memory.ops import Read, Row, Scope
from memory.store.grouping import Group
from memory.turns import is_due, pause

if TYPE_CHECKING:
    from memory.backends.postgres.calling import Caller
    from memory.store import MemoryStore

READS_AT_ONCE = 4
"""Groups under way together, where the pool has as many connections."""
GROUP_KEYS = 1_000
SHARE = 32
"""Callers of a group at least, where more wait."""
_READ = (
    f"SELECT {ROW}, x.raw, s.embedder, r.user_id, r.agent_id, r.session_id "  # noqa: S608 - our own names
    # One look at the state: two subqueries of it cost a read of a record some microseconds more.
    "FROM $state s CROSS JOIN $records r LEFT JOIN $vectors x ON x.key = r.key AND x.space = s.space "
    "WHERE r.body IS NOT NULL AND r.key = "
)
ONE = _READ + "$1"
MANY = _READ + "ANY($1::bytea[])"
SHORT = (
    f"SELECT {ROW}, x.raw, x.space, r.user_id, r.agent_id, r.session_id "  # noqa: S608 - our own names
    "FROM $records r LEFT JOIN $vectors x ON x.key = r.key WHERE r.body IS NOT NULL AND r.key = $1"
)
"""One record with the vectors there are, without a look at the state, which takes the server as long as the record."""
_OWN = "SELECT space, embedder FROM $state WHERE dimension IS NOT NULL"


def seen(found: Any, scope: Scope, now: int) -> Row | None:
    """The row of a record if it is there and live, and belongs to an owner in scope. Raises CorruptData."""
    if found is None:
        return None
    expires = found[8]
    if expires is not None and expires <= now:
        return None
    if not scope.covers_owner(found[12], found[13], found[14]):
        return None
    return to_row(found, vector=True)


class Reader:
    """The point reads of a store."""

    def __init__(self, store: MemoryStore, caller: Caller, *, at_once: int) -> None:
        self._store = store
        self._caller = caller
        self._own: tuple[int, str | None] | None = None
        """The number of the space of the records' vectors, as far as is known, and who makes them. A number never comes again,
        and with another space the vectors of this one go: one that is found is the record's own."""
        self._group: Group[Read, list[Row | None]] = Group(
            self._together,
            size=lambda op: len(op.keys),
            most=GROUP_KEYS,
            at_once=min(READS_AT_ONCE, at_once),
            inline=True,
            share=SHARE,
        )

    async def read(self, op: Read) -> list[Row | None]:
        """See MemoryStore._read."""
        return await self._group.ask(op) if op.keys else []

    async def finish(self) -> None:
        """Wait for what was accepted."""
        await self._group.finish()

    async def _together(self, ops: list[Read], since: float | None) -> list[list[Row | None] | BaseException]:
        if len(ops) == 1 and len(ops[0].keys) == 1 and ops[0].scope.covers_namespace(ops[0].keys[0][0]):
            op = ops[0]
            return [[await self._one(op, since)]]
        wanted = [[encode_key(key) if op.scope.covers_namespace(key[0]) else None for key in op.keys] for op in ops]
        keys = list({key for keys in wanted for key in keys if key is not None})
        rows: list[Any] = []
        if len(keys) == 1:
            rows = await self._caller.fetch(ONE, keys, since=since)
        elif keys:
            rows = await self._caller.fetch(MANY, (keys,), since=since)
        by_key: dict[bytes | None, Any] = {row[1]: row for row in rows}
        answers: list[list[Row | None] | BaseException] = []
        for op, mine in zip(ops, wanted, strict=True):
            if is_due():
                await pause()
            try:
                if len(mine) == 1:
                    answers.append([seen(by_key.get(mine[0]), op.scope, op.now)])
                else:
                    answers.append(await self._many(op, mine, by_key))
            except MemoryStoreError as error:
                answers.append(error)
        return answers

    async def _one(self, op: Read, since: float | None) -> Row | None:
        """The one record of an operation. Where its vectors leave open which is its own, the state is asked: within one deadline."""
        key, own = (encode_key(op.keys[0]),), self._own
        if since is None:
            since = asyncio.get_running_loop().time()
        found = await self._caller.fetch(SHORT, key, since=since)
        if not found:
            return None
        if len(found) == 1 and (found[0][10] is None or (own is not None and found[0][11] == own[0])):
            row = seen(found[0], op.scope, op.now)
            if row is not None and row.embedding is not None and own is not None:
                row.embedder = own[1]
            return row
        for state in await self._caller.fetch(_OWN, (), since=since):
            self._own = (state[0], state[1])
        found = await self._caller.fetch(ONE, key, since=since)
        return seen(found[0] if found else None, op.scope, op.now)

    async def _many(self, op: Read, keys: list[bytes | None], found: dict[bytes | None, Any]) -> list[Row | None]:
        rows: list[Row | None] = []
        async for part in self._store._slices(keys):
            rows += [seen(found.get(key), op.scope, op.now) for key in part]
        return rows
