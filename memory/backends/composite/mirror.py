"""A mirror: a member that is made equal to another, record by record. Each copy says which version of the original it is.

Applying is idempotent: what is written is what the original holds now, on the condition that the copy is as it was seen. So it
does not matter how often, in which order or by how many processes the events of a feed are applied.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING

from memory.backends.composite.copies import PLACE, copy_of, original, place_of
from memory.codec import decode
from memory.errors import EmbeddingMismatch, InvalidItem, MemoryStoreError
from memory.model import Key, key_order
from memory.ops import Position, Read, Remove, Result, Row, Scan, Status, Write
from memory.store.settle import BATCH, new_token
from memory.telemetry import get_logger

if TYPE_CHECKING:
    from memory.backends.composite.members import Member

ATTEMPTS = 8
_log = get_logger("composite")


class Mirror:
    """Makes one member equal to another. ``refused``: what the mirror cannot hold, and why."""

    def __init__(self, source: Member, member: Member) -> None:
        self.source, self.member = source, member
        self.refused: dict[Key, str] = {}

    async def apply(self, keys: Iterable[Key], *, anew: bool = False) -> int:
        """Make the copies of these keys equal to the originals; returns how many were written or removed.

        ``anew``: also those that say they are of the right version. Raises what the members raise.
        """
        todo, done = [key for key in dict.fromkeys(keys) if key != PLACE], 0
        for _ in range(ATTEMPTS):
            again: list[Key] = []
            for start in range(0, len(todo), BATCH):
                part = tuple(todo[start : start + BATCH])
                ops = await self._ops(part, anew)
                results = await self.member.write(ops) if ops else []
                done += sum(result.status is Status.DONE for result in results)
                again += [op.key for op, result in zip(ops, results, strict=True) if self._again(op, result)]
            todo = again
            if not todo:
                return done
        raise MemoryStoreError(
            f"the copy of {todo[0][1]!r} in {self.member.name!r} changes faster than it is made", key=todo[0]
        )

    def _again(self, op: Write, result: Result) -> bool:
        """Whether a write has to be looked at once more. Raises the error of one that failed for no fault of its item."""
        if result.status is Status.FAILED:
            if not isinstance(result.error, InvalidItem | EmbeddingMismatch):
                raise result.error or MemoryStoreError("a mirror refused a write", key=op.key)
            if op.key not in self.refused:
                _log.warning("mirror refuses an item", member=self.member.name, error=result.error)
            self.refused[op.key] = str(result.error)
            return False
        self.refused.pop(op.key, None)
        return result.status is not Status.DONE

    async def _ops(self, keys: tuple[Key, ...], anew: bool) -> list[Write]:
        now = self.source.store._clock()
        op = Read(keys=keys, now=now)
        rows, copies = await self.source.read(op), await self.member.read(op)
        ops: list[Write] = []
        async for part in self.member.store._slices(list(zip(keys, rows, copies, strict=True))):
            for key, row, copy in part:
                if row is None:
                    if copy is not None:
                        ops.append(Remove(key=key, token=new_token(), now=now, expect=copy.version))
                elif copy is None:
                    ops.append(copy_of(row, now))
                elif anew or original(copy).version != row.version:
                    ops.append(copy_of(row, now, copy.version))
        await self.member.store._add_terms(ops)
        return ops

    # --- how far it has followed ---------------------------------------------------------------

    async def position(self) -> int | None:
        """Where the mirror stands in the feed; None where nothing is known of it."""
        (row,) = await self.member.read(Read(keys=(PLACE,), now=self.source.store._clock()))
        return None if row is None else int(decode(row).content)

    async def keep_position(self, position: int) -> None:
        """Keep where the mirror stands, in the mirror."""
        await self.member.write([place_of(position, self.source.store._clock())])

    # --- comparing everything ------------------------------------------------------------------

    async def differing(self) -> AsyncIterator[Sequence[tuple[Key, str]]]:
        """Where the two differ and how, by comparing every record, a page at a time in key order."""
        after: Position | None = None
        while True:
            now = self.source.store._clock()
            op = Scan(now=now, after=after, limit=BATCH)
            pages = [await self.source.scan(op), await self.member.scan(op)]
            ours, theirs = [await self._by_key(page.rows) for page in pages]
            theirs.pop(PLACE, None)
            # Beyond the end of a page that is not the last, the other side's records are not compared yet.
            ends = [
                max(side, key=key_order) for side, page in zip((ours, theirs), pages, strict=True) if page.more and side
            ]
            last = min(ends, key=key_order, default=None)
            keys = [key for key in {**ours, **theirs} if last is None or key_order(key) <= key_order(last)]
            found: list[tuple[Key, str]] = []
            async for part in self.member.store._slices(sorted(keys, key=key_order)):
                found += [(key, what) for key in part if (what := _difference(ours.get(key), theirs.get(key)))]
            yield found
            if last is None:
                return
            after = Position(*last)

    async def _by_key(self, rows: Sequence[Row]) -> dict[Key, Row]:
        found: dict[Key, Row] = {}
        async for part in self.member.store._slices(rows):
            found.update({decode(row, vector=False).key: row for row in part})
        return found

    async def compare(self, keys: Sequence[Key]) -> list[tuple[Key, str]]:
        """Of these keys those that differ, and how."""
        op = Read(keys=tuple(keys), now=self.source.store._clock())
        rows, copies = await self.source.read(op), await self.member.read(op)
        found = zip(keys, rows, copies, strict=True)
        return [(key, what) for key, row, copy in found if (row or copy) and (what := _difference(row, copy))]

    async def heal(self, *, anew: bool = False) -> int:
        """Make everything equal by full comparison; returns how many copies were written or removed."""
        done = 0
        async for found in self.differing():
            done += await self.apply([key for key, _ in found], anew=anew)
        return done


def _difference(row: Row | None, copy: Row | None) -> str | None:
    """How a copy differs from its original, in words; None where it does not."""
    if row is None or copy is None:
        return "not in the primary" if row is None else "missing"
    mine = original(copy)
    for what, one, other in (
        ("body", row.body, mine.body),
        ("version", row.version, mine.version),
        ("vector", (row.embedding, row.embedder), (mine.embedding, mine.embedder)),
        ("expiry", row.expires, mine.expires),
        (
            "times",
            (row.created, row.updated, row.accessed, row.count),
            (mine.created, mine.updated, mine.accessed, mine.count),
        ),
    ):
        if one != other:
            return f"another {what}"
    return None
