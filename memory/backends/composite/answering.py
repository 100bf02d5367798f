"""Who answers a question put to a mirrored store: the primary, a mirror that searches better, or one that stands in."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from msgspec.structs import replace

from memory.backends.composite.copies import PLACE, original, unmarked
from memory.backends.composite.following import Follower
from memory.backends.composite.members import DOWN, Member
from memory.backends.composite.mirror import Mirror
from memory.backends.composite.routes import names_version
from memory.backends.composite.store import CompositeStore
from memory.codec import decode
from memory.filters import Filter, predicate
from memory.model import Key
from memory.ops import Around, Count, Match, Matched, Nearest, Page, Read, Row, Scan, Scope
from memory.telemetry import get_logger

T = TypeVar("T")
ATTEMPTS = 3
_log = get_logger("composite")


class Answering(CompositeStore):
    """The part of a mirrored store that reads and searches."""

    primary: Member
    mirrors: dict[str, Member]
    copies: dict[str, Mirror]
    followers: dict[str, Follower]
    stale_reads: bool
    searched: dict[str, str | None]
    """By what is searched for (vectors, text): the mirror that is asked."""
    stale: str | None = None
    """The mirror that answers reads now, because the primary is down."""
    stale_answers: int = 0
    """Questions that a mirror has answered so. One call may ask several: where this has risen meanwhile, its result may be stale."""

    async def _read(self, op: Read) -> list[Row | None]:
        return await self._answer(lambda member: member.read(op), _originals, fresh=op.fresh)

    async def _scan(self, op: Scan) -> Page:
        loose = replace(op, where=None) if names_version(op.where) else op
        return await self._answer(
            lambda member: member.scan(op if member is self.primary else loose), _page, fresh=op.fresh
        )

    async def _count(self, op: Count) -> int | None:
        counted = await self._answer(lambda member: _count(member, op), lambda found: found, op.where)
        total, places = counted
        return total if total is None else total - places

    async def _namespaces(self, op: Count) -> list[tuple[str, ...]]:
        return await self._answer(
            lambda member: member.ask(member.store._do_namespaces, op),
            lambda found: [namespace for namespace in found if namespace != PLACE[0]],
            op.where,
        )

    async def _match(self, op: Match) -> Matched:
        found: Matched | None = await self._search("text", "match", op, lambda one: [c.row for c in one.candidates])
        if found is not None:
            return _matched(found)
        return await self._answer(lambda member: member.ask(member.store._do_match, op), _matched, op.where)

    async def _nearest(self, op: Nearest) -> list[Row]:
        found: list[Row] | None = await self._search("vectors", "nearest", op, list)
        if found is not None:
            return _rows(found)
        try:
            return await self._answer(lambda member: member.ask(member.store._do_nearest, op), _rows, op.where)
        finally:
            self._learn_space()

    async def _around(self, op: Around) -> list[tuple[list[Row], list[Row]]]:
        return await self._answer(
            lambda member: member.ask(member.store._do_around, op),
            lambda sides: [(_rows(before), _rows(after)) for before, after in sides],
        )

    async def _answer(
        self,
        ask: Callable[[Member], Awaitable[T]],
        plain: Callable[[T], T],
        where: Filter | None = None,
        *,
        fresh: bool = False,
    ) -> T:
        """What the primary says; while it is down, and where that is allowed, what the first mirror says that answers.

        ``plain`` takes the marks of copies off. A mirror has versions of its own, so it is not asked for those.
        """
        try:
            answer = await ask(self.primary)
        except DOWN as error:
            if fresh or not self.stale_reads or names_version(where):
                raise
            for mirror in self.mirrors.values():
                try:
                    answer = plain(await ask(mirror))
                except DOWN:
                    continue
                if self.stale != mirror.name:
                    _log.warning("reads are stale", member=mirror.name, error=error)
                self.stale = mirror.name
                self.stale_answers += 1
                return answer
            raise
        self.stale = None
        return answer

    async def _search(self, by: str, hook: str, op: Any, rows_of: Callable[[Any], list[Row]]) -> Any:
        """What the mirror finds that is there for such searches, as soon as it has followed everything that is committed.

        None where the primary has to be asked: there is no such mirror, it is down, or it is not equal to the primary; what
        differs is repaired.
        """
        name = self.searched[by]
        if name is None or names_version(op.where):
            return None
        member, copies = self.mirrors[name], self.copies[name]
        for _ in range(ATTEMPTS):
            try:
                await self.followers[name].drain()
                found = await member.ask(getattr(member.store, f"_do_{hook}"), op)
                differing: list[Key] = []
                async for part in self._slices(rows_of(found)):
                    rows = {decode(row, vector=False).key: original(row).version for row in part}
                    held = await self.primary.read(Read(keys=tuple(rows), now=op.now, scope=op.scope))
                    differing += [
                        key for key, now in zip(rows, held, strict=True) if now is None or now.version != rows[key]
                    ]
                if not differing:
                    return found
                await copies.apply(differing, anew=True)
            except DOWN as error:
                _log.warning("mirror not searched", member=name, error=error)
                return None
        return None


async def _count(member: Member, op: Count) -> tuple[int | None, int]:
    """What a member counts, and how many of these are no items but where a mirror has followed to."""
    total = await member.ask(member.store._do_count, op)
    if op.scope != Scope() or total is None:
        return total, 0
    (row,) = await member.read(Read(keys=(PLACE,), now=op.now))
    return total, int(row is not None and (op.where is None or predicate(op.where)(decode(row))))


def _rows(rows: Sequence[Row]) -> list[Row]:
    return [original(row) for row in rows]


def _originals(rows: list[Row | None]) -> list[Row | None]:
    return [None if row is None else original(row) for row in rows]


def _page(page: Page) -> Page:
    """Without the row that says how far a mirror has followed: the only one without a mark."""
    return Page([original(row) for row in page.rows if unmarked(row.body)[1]], False, page.more)


def _matched(matched: Matched) -> Matched:
    return Matched(matched.df, [_plain(candidate) for candidate in matched.candidates])


def _plain(candidate: Any) -> Any:
    return replace(candidate, row=original(candidate.row))
