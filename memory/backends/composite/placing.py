"""Where items lie when their keys do not tell: found by looking, written one at a time for each key, moved under a journal.

Members issue versions by themselves, so an item that moves would meet lower ones. Each record has a base at the end of its
body, which its member's version is added to; a base is chosen so that the sum is above all that this composite has issued.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec

from memory.backends.composite.copies import marked, unmarked
from memory.backends.composite.lanes import Lanes
from memory.backends.composite.moving import Mover
from memory.backends.composite.recent import Recent, Sent
from memory.backends.composite.routes import Route
from memory.clock import from_micros
from memory.codec import content_hash, decode
from memory.errors import MemoryStoreError, Overloaded
from memory.filters import parse
from memory.keys import encode_key
from memory.model import Key
from memory.ops import (
    ABSENT,
    WHOLE,
    Owner,
    Position,
    Put,
    Read,
    Remove,
    Result,
    Row,
    Scan,
    Scope,
    Status,
    Write,
    refusal,
)
from memory.store.settle import BATCH
from memory.store.together import all_of
from memory.telemetry import get_logger

if TYPE_CHECKING:
    from memory.backends.composite.journal import Journal
    from memory.backends.composite.routed import RoutedStore

T = TypeVar("T")
ATTEMPTS = 8
MOST_HOMES = 100_000
UNEXPECTED = (Status.EXISTS, Status.CONFLICT, Status.MISSING)
_replace = msgspec.structs.replace
_log = get_logger("composite")
Found = tuple[Route, Row]
"""Where a record lies, and the record as the member has it."""


def plain(row: Row) -> Row:
    """A member's record as the composite tells it."""
    body, base = unmarked(row.body)
    return _replace(row, body=body, version=row.version + base) if base else row


class Placing:
    """The items of a routed store whose rules ask for more than the key."""

    def __init__(self, store: RoutedStore, journal: Journal) -> None:
        self.store, self.journal = store, journal
        self.routes = store.routes
        self.recent = Recent()
        self._reset()

    def _reset(self) -> None:
        self.lanes = Lanes()
        self.homes: dict[Key, Route] = {}
        self.mover = Mover(self)

    async def open(self) -> None:
        """Learn the versions that were issued, and finish the moves that were begun. Raises what the members raise."""
        self._reset()
        highest = max(route.store._seen for route in self.routes)
        self.store._seen = max(self.store._seen, highest, await self.journal.reserved())
        await self.mover.resume()

    # --- finding -------------------------------------------------------------------------------

    async def steady(self, ask: Callable[[], Awaitable[T]]) -> T:
        """An answer during which nothing moved, so that every item was seen in exactly one place."""
        return await self.mover.steady(ask)

    async def read(self, op: Read) -> list[Row | None]:
        """Point reads."""
        while True:
            moves = self.mover.moves
            found = await self.locate(op.keys, op.now, op.scope)
            if len(found) == len(op.keys) or self.mover.moves == moves:
                return [plain(found[key][1]) if key in found else None for key in op.keys]

    async def locate(self, keys: Sequence[Key], now: int, scope: Scope = WHOLE) -> dict[Key, Found]:
        """Where the live records of these keys are: first where they were last, then everywhere."""
        found: dict[Key, Found] = {}
        likely: dict[Route, list[Key]] = {}
        for key in keys:
            home = self.mover.place_of(key) or self.homes.get(key)
            if home is not None:
                likely.setdefault(home, []).append(key)
        await self._look(likely, found, now, scope)
        lacking = [key for key in keys if key not in found and self.mover.place_of(key) is None]
        if lacking:
            await self._look(dict.fromkeys(self.routes, lacking), found, now, scope)
        return found

    async def _look(self, where: dict[Route, list[Key]], found: dict[Key, Found], now: int, scope: Scope) -> None:
        reads = [route.member.read(Read(keys=tuple(keys), now=now, scope=scope)) for route, keys in where.items()]
        for (route, keys), rows in zip(where.items(), await all_of(reads), strict=True):
            for key, row in zip(keys, rows, strict=True):
                if row is not None and (key not in found or plain(found[key][1]).version < plain(row).version):
                    found[key] = (route, row)
                    self.settled(key, route)

    def settled(self, key: Key, route: Route | None) -> None:
        """Where a key is now."""
        if route is None:
            self.homes.pop(key, None)
            return
        if len(self.homes) >= MOST_HOMES:
            self.homes.clear()
        self.homes[key] = route

    async def home_of(self, key: Key) -> Route | None:
        """Where the copy of a key lies that counts; None where there is none."""
        self.settled(key, None)
        found = await self.locate((key,), self.store._clock())
        return found[key][0] if key in found else None

    # --- writing -------------------------------------------------------------------------------

    async def write(self, ops: Sequence[Write]) -> list[Result]:
        """Writes in order; one result each."""
        names = [encode_key(op.key) for op in ops] + [op.digest for op in ops if type(op) is Put and op.dedup]
        results: list[Result] = []
        async with self.lanes.hold(names):
            wave: list[Write] = []
            taken: set[object] = set()
            for op in ops:
                wanted = {op.key, op.digest} if type(op) is Put and op.dedup else {op.key}
                if wanted & taken:
                    results += await self._waves(wave)
                    wave, taken = [], set()
                wave.append(op)
                taken |= wanted
            results += await self._waves(wave)
        await self._reserve()
        return results

    async def _reserve(self) -> None:
        """Reserve what was issued, before it is told: a member that issues instants may be far ahead of what was known."""
        try:
            await self.journal.reserve(self.store._seen)
        except MemoryStoreError as error:
            _log.warning("versions not reserved", error=error)  # what is written is written; the next write tries again

    async def _waves(self, ops: Sequence[Write]) -> list[Result]:
        results: list[Result] = []
        while len(results) < len(ops):
            results += await self._wave(ops[len(results) :])
        return results

    async def _wave(self, ops: Sequence[Write]) -> list[Result]:
        """Writes of different keys, up to the first that cannot be decided before those ahead of it are done. What changed
        between looking and writing is looked at again."""
        results: dict[int, Result] = {}
        end = len(ops)
        for attempt in range(ATTEMPTS):
            todo = [place for place in range(end) if place not in results]
            if not todo:
                break
            for place in list(todo):
                try:
                    await self.mover.finish_those([ops[place].key])
                except MemoryStoreError as why:
                    results[place] = _not_found_out(ops[place], why)
                    todo.remove(place)
            try:
                found = await self.locate([ops[place].key for place in todo], ops[0].now)
            except MemoryStoreError as why:
                results.update((place, _not_found_out(ops[place], why)) for place in todo)
                break
            sent: dict[Route, list[tuple[int, Sent]]] = {}
            ahead: dict[Key, bool] = {}
            async for part in self.store._slices(todo):
                for place in part:
                    op = ops[place]
                    try:
                        decided = await self._decide(op, found.get(op.key), {} if attempt else ahead)
                    except MemoryStoreError as why:
                        decided = _not_found_out(op, why)
                    if decided is None:
                        end = place
                        break
                    if isinstance(decided, Result):
                        results[place] = decided
                    else:
                        ahead[op.key] = type(op) is Put and op.dedup
                        sent.setdefault(decided.route, []).append((place, decided))
                if end <= part[-1]:
                    break
            for done in await all_of([self._send(part) for part in sent.values()]):
                results.update(done)
        error = Overloaded("an item is written elsewhere faster than here; try again later")
        return [results.get(place) or Result(Status.FAILED, error=error) for place in range(end)]

    async def _decide(self, op: Write, found: Found | None, ahead: Mapping[Key, bool]) -> Result | Sent | None:
        """What becomes of one write: its result, or the write of a member. ``ahead``: what is about to be written, and whether
        it dedups; None: that has to be done first, as it changes this one's twin, or may be a twin of what this one moves."""
        if op.floor is not None:
            again = await self._repeat(op, found)
            if again is not None:
                return again
        row = None if found is None else plain(found[1])
        owner: Owner = (None, None, None)
        if row is not None and not op.scope.covers_owner(*owner):
            item = decode(row, vector=False)
            owner = (item.user_id, item.agent_id, item.session_id)
        refused = refusal(op) if row is None else refusal(op, row.version, owner)
        if refused is not None:
            return Result(refused, row if refused is Status.CONFLICT else None)
        if type(op) is not Put:
            assert found is not None  # a Remove or Touch of an absent item is refused
            return self._sent(op, found[0], unmarked(found[1].body)[1], found[1].version)
        target = self.target(op, row)
        if op.dedup:
            twin = await self._twin(op, [route for route in self.routes if route is not target or found is not None])
            if twin is not None:
                if decode(twin, vector=False).key in ahead:
                    return None
                return Result(Status.DUPLICATE, plain(twin))
        if found is None:
            base = await self.base_for(op.key, target)
            return self._sent(_replace(op, body=marked(op.body, base) if base else op.body), target, base, ABSENT)
        source, held = found
        if source is not target:
            if any(ahead.values()):
                return None
            return await self.mover.move_by(op, held, source, target)
        base = unmarked(held.body)[1]
        return self._sent(_replace(op, body=marked(op.body, base) if base else op.body), target, base, held.version)

    def _sent(self, op: Write, route: Route, base: int, expect: int) -> Sent:
        return Sent(_replace(op, expect=expect, floor=None), route, base, route.store._floor(op.key))

    async def _send(self, part: list[tuple[int, Sent]]) -> dict[int, Result]:
        """Give a member its writes. What it finds changed is left out: it is decided anew."""
        member = part[0][1].route.member
        try:
            results = await member.write([sent.op for _, sent in part])
        except MemoryStoreError as error:
            results = [Result(Status.FAILED, error=error) for _ in part]
        except BaseException:
            for _, sent in part:
                self.settled(sent.op.key, None)
            raise
        return {
            place: self.noted(sent, result)
            for (place, sent), result in zip(part, results, strict=True)
            if result.status not in UNEXPECTED
        }

    def noted(self, sent: Sent, result: Result) -> Result:
        """A member's result as the composite tells it; remembered, in case somebody asks again."""
        op, row = sent.op, result.row
        if result.status is Status.DONE and row is not None:
            row = _replace(row, body=unmarked(row.body)[0] if row.body else b"", version=row.version + sent.base)
            self.store._seen = max(self.store._seen, row.version)
            self.recent.done(op.key, op.token, row)
            self.settled(op.key, None if type(op) is Remove else sent.route)
            return Result(Status.DONE, row)
        if result.status is Status.DUPLICATE and row is not None:
            return Result(Status.DUPLICATE, plain(row))
        if result.status is Status.UNKNOWN:
            self.recent.doubt(sent)
            self.settled(op.key, None)
        return result

    async def _repeat(self, op: Write, found: Found | None) -> Result | None:
        """What a repeat of a write finds: its own first result, an undecidable state, or None: it may be applied."""
        floor = op.floor or 0
        first = self.recent.first_result(op.key, op.token)
        if first is not None:
            return Result(Status.DONE, first)
        later = self.recent.version(op.key) > floor
        sent = None if later else self.recent.doubtful(op.token)
        if sent is not None:
            (result,) = await sent.route.member.write([_replace(sent.op, floor=sent.floor)])
            if result.status is not Status.UNKNOWN:
                self.recent.decided(op.token)
            return None if result.status in UNEXPECTED else self.noted(sent, result)
        if later or (found is not None and plain(found[1]).version > floor):
            return Result(Status.UNKNOWN)
        return None

    # --- rules ---------------------------------------------------------------------------------

    def target(self, op: Put, row: Row | None) -> Route:
        """Where an item belongs: the first route that takes it and that it is not promoted from."""
        item, size = op.item, len(op.body)
        created = op.created if row is None else row.created
        aged = _replace(
            item,
            access_count=0 if row is None else row.count,
            created_at=from_micros(op.now if created is None else created),
        )
        for route in self.routes:
            if route.takes(item, size) and not (route.promote is not None and route.promote.holds(aged, op.now)):
                return route
        raise AssertionError("the last route takes everything")

    async def base_for(self, key: Key, route: Route) -> int:
        """What is added to a member's versions, so that the next one is above all that were issued."""
        self.store._seen += 1  # so that what is created together in several members differs in its versions, too
        await self.journal.reserve(self.store._seen)
        return max(0, self.store._seen - route.store._floor(key))

    async def _twin(self, op: Put, routes: Iterable[Route]) -> Row | None:
        """A live item with the same content elsewhere, for dedup."""
        item = op.item
        where = parse({"kind": item.kind} | ({"content": item.content} if type(item.content) is str else {}))
        scope = Scope(item.namespace, False, item.user_id, item.agent_id, item.session_id)
        for route in routes:
            async for row in every_row(route, scope, op.now, where):
                if content_hash(decode(row, vector=False)) == op.digest:
                    return row
        return None

    async def promote(self, now: int) -> int:
        """Move what its route promotes; returns how many items moved. Raises what the members raise."""
        await self.mover.finish_all()
        moved = 0
        for route in self.routes:
            if route.promote is None:
                continue
            async for row in every_row(route, Scope(), now, None):
                item = decode(plain(row), vector=False)
                if route.promote.holds(item, now):
                    async with self.lanes.hold([encode_key(item.key)]):
                        moved += await self.mover.move_on(item.key, route)
        await self._reserve()
        return moved


def _not_found_out(op: Write, why: MemoryStoreError) -> Result:
    """A write is not sent where it cannot be told where its key lies; what became of an earlier attempt is as unknown as before."""
    return Result(Status.UNKNOWN) if op.floor is not None else Result(Status.FAILED, error=why)


async def every_row(route: Route, scope: Scope, now: int, where: object) -> AsyncIterator[Row]:
    """The live records of a member in scope that satisfy a filter, in key order."""
    after: Position | None = None
    while True:
        pairs = await route.store._filled(Scan(now=now, scope=scope, where=where, after=after, limit=BATCH))  # type: ignore[arg-type]
        for row, _ in pairs:
            yield row
        if len(pairs) < BATCH:
            return
        after = Position(*pairs[-1][1].key)
