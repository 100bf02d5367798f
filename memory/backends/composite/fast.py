"""The fast tier: copies of records by key, none older than what replaced it, all of them dispensable.

A copy is written in two ways only. What was read is kept where nothing is (``fill``): it never replaces anything. What was
written replaces what is older (``replace``), compared and set by the fast store's own version. Where neither can be told to
have happened, the key is doubtful and is read from the truth until its copy is known to be gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from memory.backends.composite.copies import GONE, HELD, PLACE, gone, kept, place_of, unsealed
from memory.codec import decode
from memory.errors import MemoryStoreError
from memory.model import Key
from memory.ops import ABSENT, Position, Put, Read, Remove, Row, Scan, Status, Write
from memory.store.settle import BATCH, new_token
from memory.telemetry import get_logger

if TYPE_CHECKING:
    from memory.backends.composite.members import Member

MOST_DOUBTFUL = 100_000
_log = get_logger("composite")


def _told(row: Row | None, now: int) -> Row | None:
    """What a row of the fast store says of a record; None where it says nothing.

    That there is none is not believed before the time at which it was found: what had expired then may not have yet, where a
    clock was set back.
    """
    copy = None if row is None else unsealed(row.body)
    if copy is None or copy.count == HELD or (copy.count == GONE and copy.created > now):
        return None
    return copy


class FastTier:
    """The copies in a member. ``lasts``: microseconds that a copy, and a note that there is nothing, are kept."""

    def __init__(self, member: Member, lasts: int, lasts_missing: int) -> None:
        self.member = member
        self._lasts, self._lasts_missing = lasts, lasts_missing
        self.writing: Counter[Key] = Counter()
        """Keys that are being written: what is kept of them may be the old or the new."""
        self.doubtful: set[Key] = set()
        """Keys of which a copy may be left that is older than what this process has acknowledged."""
        self.lost_all = False
        """So many are doubtful that all copies are to go."""
        self.hits = self.misses = self.refused = 0
        """Reads of a key that a copy answered or not, and copies that the fast store refused to keep."""

    def anew(self) -> FastTier:
        """The same for a store that is opened again. What was doubtful stays so."""
        tier = FastTier(self.member, self._lasts, self._lasts_missing)
        tier.doubtful, tier.lost_all = self.doubtful, self.lost_all
        return tier

    def trusts(self, key: Key) -> bool:
        """Whether a copy of this key may be taken for the record."""
        return not (self.lost_all or key in self.writing or key in self.doubtful)

    async def look_for(self, op: Read) -> Row | None:
        """What is kept of the one key of a read."""
        try:
            (row,) = await self.member.read(op)
        except MemoryStoreError as error:
            _log.debug("fast tier not used", error=error)
            return None
        return _told(row, op.now)

    async def look(self, keys: tuple[Key, ...], now: int) -> list[Row | None]:
        """What is kept of the keys, notes that there is nothing included. A fast store that is down keeps nothing."""
        try:
            rows = await self.member.read(Read(keys=keys, now=now))
        except MemoryStoreError as error:
            _log.debug("fast tier not used", error=error)
            return [None] * len(keys)
        return [_told(row, now) for row in rows]

    async def fill(self, rows: Mapping[Key, Row | None], now: int) -> list[Key]:
        """Keep what was read, where nothing is kept; returns the keys of which it is not known that this went well."""
        ops = [self._put(key, row or gone(key, 0, now), now, ABSENT) for key, row in rows.items()]
        return await self._apply(ops, (Status.DONE, Status.EXISTS, Status.FAILED))

    async def replace(self, rows: Mapping[Key, Row], now: int) -> None:
        """Keep what was written in place of what is older. What cannot be told makes the key doubtful."""
        todo = dict(rows)
        for _ in range(4):
            try:
                held = await self.member.read(Read(keys=tuple(todo), now=now))
            except MemoryStoreError:
                break
            ops: list[Write] = []
            for (key, row), copy in zip(todo.items(), held, strict=True):
                known = None if copy is None else unsealed(copy.body)
                if known is None or known.version < row.version:
                    ops.append(self._put(key, row, now, ABSENT if copy is None else copy.version))
            again = await self._apply(ops, (Status.DONE,))
            todo = {key: todo[key] for key in again}
            if not todo:
                return
        self._doubt(todo)

    async def drop(self, keys: Iterable[Key], now: int) -> None:
        """Keep nothing of these. What cannot be told makes the key doubtful."""
        ops: list[Write] = [Remove(key=key, token=new_token(), now=now) for key in keys]
        self._doubt(await self._apply(ops, (Status.DONE, Status.MISSING)))

    async def drop_older(self, versions: Mapping[Key, int], now: int) -> None:
        """Keep nothing of these that is older than a version. Raises what the member raises."""
        todo = dict(versions)
        while todo:
            held = await self.member.read(Read(keys=tuple(todo), now=now))
            ops: list[Write] = []
            for (key, version), copy in zip(todo.items(), held, strict=True):
                known = None if copy is None else unsealed(copy.body)
                if copy is not None and (known is None or known.version < version):
                    ops.append(Remove(key=key, token=new_token(), now=now, expect=copy.version))
            results = await self.member.write(ops) if ops else []
            again = [
                op.key
                for op, result in zip(ops, results, strict=True)
                if result.status not in (Status.DONE, Status.MISSING)
            ]
            todo = {key: todo[key] for key in again}

    async def clean(self, now: int) -> None:
        """Drop what is doubtful, as far as the fast store answers. Raises what it raises."""
        if self.lost_all:
            await self.clear(now)
            self.lost_all = False
        while self.doubtful:
            keys = [key for _, key in zip(range(BATCH), self.doubtful, strict=False)]
            results = await self.member.write([Remove(key=key, token=new_token(), now=now) for key in keys])
            done = {key for key, one in zip(keys, results, strict=True) if one.status in (Status.DONE, Status.MISSING)}
            self.doubtful -= done
            if not done:
                return

    async def clear(self, now: int) -> None:
        """Drop every copy. Raises what the member raises."""
        after: Position | None = None
        while True:
            page = await self.member.scan(Scan(now=now, after=after, limit=BATCH, vectors=False))
            keys = [decode(row, vector=False).key for row in page.rows]
            if keys:
                await self.member.write([Remove(key=key, token=new_token(), now=now) for key in keys])
                after = Position(*keys[-1])
            if not page.more:
                return

    def _put(self, key: Key, row: Row, now: int, expect: int) -> Put:
        return kept(key, row, now, self._lasts_missing if row.count < 0 else self._lasts, expect)

    async def position(self, now: int) -> int | None:
        """How far the truth's feed was followed, as it was kept; None where it was not."""
        (row,) = await self.member.read(Read(keys=(PLACE,), now=now))
        return None if row is None else int(decode(row).content)

    async def keep_position(self, position: int, now: int) -> None:
        """Keep how far the truth's feed was followed."""
        await self.member.write([place_of(position, now)])

    async def _apply(self, ops: list[Write] | list[Put], fine: tuple[Status, ...]) -> list[Key]:
        """Write; the keys of which it is not known that this went well."""
        if not ops:
            return []
        try:
            results = await self.member.write(ops)
        except MemoryStoreError as error:
            _log.debug("fast tier not written", error=error)
            return [op.key for op in ops]
        for result in results:
            if result.status is Status.FAILED:
                if not self.refused:
                    _log.warning("copy refused by the fast tier", backend=self.member.store.name, error=result.error)
                self.refused += 1
        return [op.key for op, result in zip(ops, results, strict=True) if result.status not in fine]

    def _doubt(self, keys: Iterable[Key]) -> None:
        self.doubtful.update(keys)
        if len(self.doubtful) > MOST_DOUBTFUL:
            self.lost_all = True
            self.doubtful.clear()
