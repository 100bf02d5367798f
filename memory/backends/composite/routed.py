"""``routed``: each item in the member that its rule says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from msgspec.structs import replace

from memory.backends.composite.journal import Journal
from memory.backends.composite.members import Member, together, weakest
from memory.backends.composite.mending import mended
from memory.backends.composite.merging import merged_matches, merged_namespaces, merged_page, merged_sides
from memory.backends.composite.placing import Placing, every_row, plain
from memory.backends.composite.routes import Route, by_capability, in_order, names_version
from memory.backends.composite.store import CompositeStore
from memory.codec import decode, encode
from memory.errors import InvalidSetting, MemoryStoreError
from memory.model import Key, MemoryItem, check_item
from memory.ops import (
    WHOLE,
    Around,
    Count,
    Match,
    Matched,
    Nearest,
    Page,
    Problem,
    Put,
    Read,
    Result,
    Row,
    Scan,
    Scope,
    Space,
    Status,
    Write,
)
from memory.search.text import CANDIDATES_PER_TERM
from memory.store import Capabilities, MemoryStore, fallbacks
from memory.store.embedding import mismatch
from memory.store.together import all_of
from memory.store.types import Durability, RepairReport

T = TypeVar("T")


class RoutedStore(CompositeStore):
    """Each item lies in one of several stores; a question is put to those that may hold an answer, and merged.

    ``routes``: by name, see Route. Where all rules are about namespaces, a key tells its route and calls go straight to the
    member. Rules about anything else need a ``journal``, a store of its own in which moves are noted: an item that is
    written again so that it belongs elsewhere moves, and one process may use such a composite at a time. Further options as
    in CompositeStore.
    """

    name = "routed"
    capabilities: ClassVar[Capabilities] = Capabilities(
        persistent=True, shared=True, atomic_batches=False, feed=False, indexes_terms=True
    )

    def __init__(self, routes: Mapping[str, Route], *, journal: MemoryStore | None = None, **options: Any) -> None:
        if "journal" in routes:
            raise InvalidSetting("the name 'journal' is taken; call the route something else", setting="routes.journal")
        self.routes = in_order(routes)
        for route in self.routes:
            route.member = Member(route.name, route.store)
        self.by_key = all(route.by_key for route in self.routes)
        if journal is None and not self.by_key:
            ruled = next(route for route in self.routes if not route.by_key)
            raise InvalidSetting(
                f"the rule of the route {ruled.name!r} ({ruled.said()}) lets items move; name a journal for their moves",
                setting="journal",
            )
        members = [route.member for route in self.routes]
        self.leads, self.works_without_lead = members[-1], True
        stores = [member.store for member in members]
        shared = self.by_key and all(store.capabilities.shared for store in stores)
        limits = {"atomic_batches": False, "feed": False, "reembeds": False, "snapshots": False, "shared": shared}
        self.declare(together(stores, **limits))
        self.journal: Journal | None = None
        if journal is not None:
            if all(store.capabilities.persistent for store in stores) and not journal.capabilities.persistent:
                raise InvalidSetting(f"the journal ({journal.name}) does not outlast what it is for", setting="journal")
            self.journal = Journal(Member("journal", journal))
            members.append(self.journal.member)
        self.members = tuple(members)
        super().__init__(**options)
        self.placing = None if self.by_key or self.journal is None else Placing(self, self.journal)
        self._vectors_under_way = 0

    @classmethod
    def by_capability(cls, stores: Mapping[str, MemoryStore], **options: Any) -> RoutedStore:
        """Routes by what the stores declare: see routes.by_capability."""
        return cls(by_capability(stores), **options)

    def explain(self, item: MemoryItem) -> str:
        """Which route an item belongs to, and by which rule, in words. Raises InvalidItem."""
        checked = check_item(item)
        size = len(encode(checked))
        missed: list[str] = []
        for route in self.routes:
            if route.takes(checked, size):
                why = f"route {route.name!r} ({route.store.name}): {route.said()}"
                return f"{why}; not {', not '.join(missed)}" if missed else why
            missed.append(f"{route.name!r} ({route.said()})")
        raise AssertionError("the last route takes everything")

    # --- lifecycle and what is told ------------------------------------------------------------

    async def _open(self) -> None:
        await super()._open()
        if self.placing is not None:
            await self.placing.open()

    @property
    def durability(self) -> Durability:
        """What survives wherever an item lies."""
        return weakest(route.store for route in self.routes)

    @property
    def location(self) -> str | None:
        """Where the members are, by their routes."""
        places = [route.store.location for route in self.routes]
        return None if None in places else "routed:" + ",".join(str(place) for place in places)

    def _floor(self, key: Key) -> int:
        return self._seen if self.placing is not None else self.route_of(key).store._floor(key)

    def route_of(self, key: Key) -> Route:
        """The route of a key, where keys tell it."""
        for route in self.routes:
            if route.takes_key(key):
                return route
        raise AssertionError("the last route takes everything")

    def _learn_space(self) -> None:
        """That of the first member that has one."""
        spaces = (route.store._space for route in self.routes)
        self._space = next((space for space in spaces if space is not None), None)

    # --- writing -------------------------------------------------------------------------------

    async def _write(self, ops: Sequence[Write], atomic: bool) -> list[Result]:
        if self.placing is None and len(ops) == 1 and (type(ops[0]) is not Put or ops[0].embedding is None):
            return await self.route_of(ops[0].key).member.write(ops)
        refused = self._claim_space(ops)
        self._vectors_under_way += 1
        try:
            sent = [op for op in ops if op.token not in refused] if refused else ops
            results = await (self._write_by_key(sent) if self.placing is None else self.placing.write(sent))
        finally:
            self._vectors_under_way -= 1
            if not self._vectors_under_way:
                self._learn_space()
        if not refused:
            return results
        done = iter(results)
        return [refused.get(op.token) or next(done) for op in ops]

    def _claim_space(self, ops: Sequence[Write]) -> dict[bytes, Result]:
        """The first vector decides for all members, before any of them has it; refused are those that do not fit."""
        refused: dict[bytes, Result] = {}
        for op in ops:
            if type(op) is Put and op.embedding is not None:
                dimension = len(op.embedding) // 4
                if self._space is None:
                    self._space = Space(op.embedder, dimension)
                elif not self._space.admits(op.embedder, dimension):
                    error = mismatch(self._space, op.embedder, dimension)
                    refused[op.token] = Result(Status.FAILED, error=error)
        return refused

    async def _write_by_key(self, ops: Sequence[Write]) -> list[Result]:
        parts: dict[str, list[int]] = {}
        routes = [self.route_of(op.key) for op in ops]
        for place, route in enumerate(routes):
            parts.setdefault(route.name, []).append(place)
        if len(parts) == 1:
            return await routes[0].member.write(ops)
        results: list[Result] = [Result(Status.SKIPPED)] * len(ops)

        async def write(places: list[int]) -> None:
            part = [ops[place] for place in places]
            try:
                done = await routes[places[0]].member.write(part)
            except MemoryStoreError as error:  # the other members have written theirs
                done = [Result(Status.FAILED, error=error) for _ in part]
            for place, result in zip(places, done, strict=True):
                results[place] = result

        await all_of([write(places) for places in parts.values()])
        return results

    # --- reading -------------------------------------------------------------------------------

    async def _read(self, op: Read) -> list[Row | None]:
        if self.placing is not None:
            return await self.placing.read(op)
        if len(op.keys) == 1:
            return await self.route_of(op.keys[0]).member.read(op)
        parts: dict[str, list[Key]] = {}
        for key in op.keys:
            parts.setdefault(self.route_of(key).name, []).append(key)
        members = {route.name: route.member for route in self.routes}
        reads = {name: Read(keys=tuple(keys), now=op.now, scope=op.scope) for name, keys in parts.items()}
        found = await all_of([members[name].read(read) for name, read in reads.items()])
        rows = [
            (key, row)
            for read, part in zip(reads.values(), found, strict=True)
            for key, row in zip(read.keys, part, strict=True)
        ]
        by_key = dict(rows)
        return [by_key[key] for key in op.keys]

    async def _ask(self, scope: Scope, call: Callable[[Member], Awaitable[T]]) -> list[T]:
        """What the members say that may hold items of a scope; while nothing moves."""
        members = [route.member for route in self.routes if self.placing is not None or route.may_hold(scope)]

        async def ask() -> list[T]:
            return await all_of([call(member) for member in members])

        return await (ask() if self.placing is None else self.placing.steady(ask))

    async def _scan(self, op: Scan) -> Page:
        asked, exact = op, True
        if self.placing is not None and names_version(op.where):
            asked, exact = replace(op, where=None), False
        pages = await self._ask(op.scope, lambda member: member.scan(asked))
        page = await merged_page(self, op, [self._plain_page(page) for page in pages])
        return page if exact else Page(page.rows, False, page.more)

    async def _count(self, op: Count) -> int | None:
        if self.placing is not None and names_version(op.where):
            return None
        counts = await self._ask(op.scope, lambda member: member.ask(member.store._do_count, op))
        return None if None in counts else sum(count or 0 for count in counts)

    async def _namespaces(self, op: Count) -> list[tuple[str, ...]]:
        if self.placing is not None and names_version(op.where):
            return await fallbacks.namespaces(self, op)
        return merged_namespaces(await self._ask(op.scope, lambda member: member.ask(member.store._do_namespaces, op)))

    async def _match(self, op: Match) -> Matched:
        if self.placing is not None and names_version(op.where):
            return await fallbacks.match(self, op)
        found: list[Matched] = await self._ask(op.scope, lambda member: member.ask(member.store._do_match, op))
        holding = [matched for matched in found if any(matched.df)]
        if len(holding) > 1:
            # How rare a word is depends on all members, so which candidates are best is not for one of them to say.
            whole = replace(op, limit=CANDIDATES_PER_TERM * len(op.terms))
            found = await self._ask(op.scope, lambda member: member.ask(member.store._do_match, whole))
            matched = merged_matches(op.terms, found)
        else:
            matched = (holding or found)[0]
        if self.placing is None:
            return matched
        return Matched(matched.df, [replace(one, row=plain(one.row)) for one in matched.candidates])

    async def _nearest(self, op: Nearest) -> list[Row]:
        if self.placing is not None and names_version(op.where):
            return await fallbacks.nearest(self, op)
        try:
            found = await self._ask(op.scope, lambda member: member.ask(member.store._do_nearest, op))
        finally:
            self._learn_space()
        return self._plain([row for rows in found for row in rows])

    async def _around(self, op: Around) -> list[tuple[list[Row], list[Row]]]:
        sides = merged_sides(op, await self._ask(op.scope, lambda member: member.ask(member.store._do_around, op)))
        return [(self._plain(before), self._plain(after)) for before, after in sides]

    def _plain(self, rows: list[Row]) -> list[Row]:
        return rows if self.placing is None else [plain(row) for row in rows]

    def _plain_page(self, page: Page) -> Page:
        return page if self.placing is None else Page(self._plain(page.rows), page.exact, page.more)

    # --- upkeep --------------------------------------------------------------------------------

    async def _sweep(self, now: int) -> int:
        swept = [await route.member.ask(route.store._sweep, now) for route in self.routes]
        if self.placing is not None:
            await self.placing.promote(now)
        return sum(swept)

    def _reads_backup(self, head: bytes) -> bool:
        return False

    async def _backup(self, path: Path) -> int | None:
        return None

    def _backup_rows(self, path: Path) -> AsyncIterator[list[Row]]:
        return MemoryStore._backup_rows(self, path)

    async def _verify(self) -> tuple[int, list[Problem]]:
        """Each member, and that every item lies in one place, where it is looked for."""
        if self.placing is not None:
            await self.placing.mover.finish_all()
        found = [await route.member.ask(route.store._verify) for route in self.routes]
        problems = [problem for _, part in found for problem in part]
        problems += [Problem("misplaced record", key, why) async for key, why in self.misplaced()]
        return sum(checked for checked, _ in found), problems

    async def misplaced(self) -> AsyncIterator[tuple[Key, str]]:
        """Keys of which a copy lies where it does not count, and where."""
        for route in self.routes:
            async for row in every_row(route, WHOLE, self._clock(), None):
                key = decode(row, vector=False).key
                home = await self.home_of(key)
                if home is not None and home is not route:
                    yield key, f"it lies in {route.name!r} and is looked for in {home.name!r}"

    async def home_of(self, key: Key) -> Route | None:
        """Where a key is looked for; None where nothing is there."""
        return self.route_of(key) if self.placing is None else await self.placing.home_of(key)

    async def _unlisted(self) -> list[Problem]:
        return [problem for route in self.routes for problem in await route.member.ask(route.store._unlisted)]

    async def _repair(self) -> RepairReport:
        if self.placing is not None:
            await self.placing.mover.finish_all()
        reports = [await route.member.ask(route.store._repair) for route in self.routes]
        actions = [action for report in reports for action in report.actions]
        moved = await mended(self)
        if moved:
            actions.append(f"took {moved} records to where they are looked for")
        return RepairReport(actions, [key for report in reports for key in report.quarantined])
