"""``tiered``: a fast store before the one that holds the truth."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from msgspec.structs import replace

from memory.backends.composite.copies import FORBIDDEN, GONE, HELD, PLACE, gone
from memory.backends.composite.fast import FastTier
from memory.backends.composite.flights import Flight, Flights
from memory.backends.composite.following import PAGE, POLL_SECONDS, Follower
from memory.backends.composite.members import Member, together
from memory.backends.composite.store import CompositeStore
from memory.codec import decode
from memory.errors import InvalidSetting, MemoryStoreError
from memory.model import Key
from memory.ops import WHOLE, Event, Position, Problem, Put, Read, Remove, Result, Row, Scan, Status, Write
from memory.store import Capabilities, MemoryStore
from memory.store.options import check_seconds
from memory.store.types import RepairReport
from memory.telemetry import get_logger

_log = get_logger("composite")


class TieredStore(CompositeStore):
    """Reads by key come from ``fast`` where it has a copy, all else from ``truth``, which every write goes to first.

    ``keep``: seconds that a copy lasts. ``keep_missing``: seconds for which it is remembered that there is no such item.
    ``staleness``: seconds by which a read may be behind what another process wrote. The truth's feed is followed, and when
    it cannot be, reads go to the truth; where the truth keeps no feed, copies last no longer than this. Further options as
    in CompositeStore.
    """

    name = "tiered"
    capabilities: ClassVar[Capabilities] = Capabilities(
        persistent=True, shared=True, atomic_batches=True, feed=True, indexes_terms=True, staleness=1.0
    )

    def __init__(
        self,
        fast: MemoryStore,
        truth: MemoryStore,
        *,
        keep: float = 300.0,
        keep_missing: float = 30.0,
        staleness: float = 1.0,
        **options: Any,
    ) -> None:
        check_seconds(keep=keep, keep_missing=keep_missing, staleness=staleness)
        if not fast.capabilities.namespaces or fast.capabilities.forbidden_ids:
            raise InvalidSetting(
                f"{fast.name} cannot be the fast tier: there are items that it cannot hold", setting="fast"
            )
        self.fast, self.truth = Member("fast", fast), Member("truth", truth)
        self.members, self.leads, self.optional = (self.truth, self.fast), self.truth, (self.fast,)
        self._followed = truth.capabilities.feed and truth.capabilities.shared
        self.fed = (self.truth,) if self._followed else ()
        others = truth.capabilities.shared
        if others and not self._followed and keep > staleness:
            keep, keep_missing = staleness, min(keep_missing, staleness)
        self.staleness = staleness if others else 0.0
        forbidden = "|".join(one for one in (truth.capabilities.forbidden_ids, FORBIDDEN) if one)
        late = max(self.staleness, truth.capabilities.staleness)
        self.declare(together((truth,), reembeds=False, forbidden_ids=forbidden, staleness=late))
        super().__init__(**options)
        self.tier = FastTier(self.fast, round(keep * 1e6), round(min(keep, keep_missing) * 1e6))
        self.flights = Flights()
        self.follower = Follower(self.truth, self._heard, self._lost, self._keep_position, "the truth's feed")

    # --- lifecycle -----------------------------------------------------------------------------

    async def _open(self) -> None:
        await super()._open()
        self.flights, now = Flights(), self._clock()
        self.tier = self.tier.anew()
        run = asyncio.get_running_loop().create_task
        if self._followed:
            self.follower = Follower(self.truth, self._heard, self._lost, self._keep_position, "the truth's feed")
            self._watchers.add(self.follower.wake)
            try:
                self.follower.starts_at(await self.tier.position(now))
            except MemoryStoreError as error:
                _log.warning("fast tier not used", error=error)
            self._tasks.append(run(self.follower.run()))
        elif not self.truth.store.capabilities.shared:
            self.tier.lost_all = True  # copies that an earlier process has left may be older than the truth
            await self._clean()
        self._tasks.append(run(self._mind()))

    async def _stop(self) -> None:
        await super()._stop()
        self._watchers.discard(self.follower.wake)
        if self.flights.loop is asyncio.get_running_loop():
            await self.flights.end()

    async def _mind(self) -> None:
        """Drop doubtful copies as soon as the fast tier lets that be done."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            await self._clean()

    async def _clean(self) -> None:
        try:
            await self.tier.clean(self._clock())
        except MemoryStoreError as error:
            _log.debug("fast tier not cleaned", error=error)

    # --- the truth's feed ----------------------------------------------------------------------

    async def _heard(self, events: list[Event]) -> None:
        newest = {event.key: event.version for event in events}
        self.flights.spoil(newest)
        await self.tier.drop_older(newest, self._clock())

    async def _lost(self) -> None:
        await self.tier.clear(self._clock())

    async def _keep_position(self, position: int) -> None:
        await self.tier.keep_position(position, self._clock())

    # --- reading -------------------------------------------------------------------------------

    async def _read(self, op: Read) -> list[Row | None]:
        tier, keys = self.tier, op.keys
        if self._followed and self.follower.behind > self.staleness:
            return await self.truth.read(op)
        if len(keys) == 1 and op.scope is WHOLE and tier.trusts(keys[0]):  # a hit by its shortest way
            row = await tier.look_for(op)
            if row is not None:
                tier.hits += 1
                return [_seen_by(op, keys[0], row)]
        trusted = tuple([key for key in keys if tier.trusts(key)])
        found = dict(zip(trusted, await tier.look(trusted, op.now), strict=True)) if trusted else {}
        lacking = [key for key, row in found.items() if row is None]
        tier.hits += len(found) - len(lacking)
        tier.misses += len(lacking)
        if lacking:
            found.update(await self.flights.rows(lacking, self._fetch, self._fill))
        if len(trusted) < len(keys):
            rest = tuple([key for key in keys if key not in found])
            found.update(zip(rest, await self._fetch(rest), strict=True))
        return [_seen_by(op, key, found[key]) for key in keys]

    async def _fetch(self, keys: tuple[Key, ...]) -> list[Row | None]:
        return await self.truth.read(Read(keys=keys, now=self._clock()))

    async def _fill(self, rows: dict[Key, Row | None], flights: dict[Key, Flight]) -> None:
        """Keep what was read, unless it was written meanwhile. Nobody trusts it before that is known."""
        tier, now = self.tier, self._clock()
        kept = {key: row for key, row in rows.items() if not flights[key].spoiled}
        tier.writing.update(list(kept))
        try:
            doubtful = await tier.fill(kept, now)
            spoiled = [key for key in kept if flights[key].spoiled]
            await tier.drop({*doubtful, *spoiled}, now)
        except BaseException:
            tier.doubtful.update(kept)
            raise
        finally:
            _release(tier.writing, kept)

    # --- writing -------------------------------------------------------------------------------

    async def _write(self, ops: Sequence[Write], atomic: bool) -> list[Result]:
        tier, keys = self.tier, [op.key for op in ops]
        tier.writing.update(keys)
        told: set[Key] = set()
        try:
            results = await self.truth.write(ops, atomic)
            self._learn_space()
            self.flights.spoil(keys)
            rows, unclear = self._outcome(ops, results)
            told = {key for key in keys if key not in rows and key not in unclear}
            await tier.replace(rows, ops[0].now)
            if unclear:
                await tier.drop(unclear, ops[0].now)
            told.update(keys)
        finally:
            self.flights.spoil(keys)
            tier.doubtful.update(key for key in keys if key not in told)
            _release(tier.writing, keys)
        return results

    def _outcome(self, ops: Sequence[Write], results: list[Result]) -> tuple[dict[Key, Row], set[Key]]:
        """What is stored now, by key, and the keys of which that is not known."""
        rows: dict[Key, Row] = {}
        unclear: set[Key] = set()
        space = self.truth.store._space
        for op, result in zip(ops, results, strict=True):
            row, key = result.row, op.key
            if result.status is not Status.DONE or row is None:
                if result.status not in (Status.SKIPPED, Status.FAILED, Status.DUPLICATE):
                    unclear.add(key)
            elif type(op) is Put:
                maker = op.embedder if op.embedding is None or space is None else space.embedder
                rows[key] = replace(row, body=op.body, embedding=op.embedding, embedder=maker)
            elif type(op) is Remove:
                rows[key] = gone(key, row.version, op.now)
            else:
                rows[key] = row if row.body else gone(key, row.version, op.now, HELD)
        return {key: row for key, row in rows.items() if key not in unclear}, unclear

    # --- upkeep --------------------------------------------------------------------------------

    async def _sweep(self, now: int) -> int:
        removed = await super()._sweep(now)
        try:
            await self.fast.ask(self.fast.store._sweep, now)
        except MemoryStoreError as error:
            _log.warning("sweep failed", backend=self.fast.store.name, error=error)
        return removed

    async def _verify(self) -> tuple[int, list[Problem]]:
        """The truth, and every copy against it."""
        checked, problems = await super()._verify()
        if self._followed:
            await self.follower.drain()
        now, after = self._clock(), None
        while True:
            page = await self.fast.scan(Scan(now=now, after=after, limit=PAGE))
            keys = [decode(row, vector=False).key for row in page.rows]
            for key in await self._stale(keys):
                problems.append(Problem("stale copy", key, "the fast tier holds another version than the truth"))
            if not page.more:
                return checked, problems
            after = Position(*keys[-1])

    async def _stale(self, keys: list[Key]) -> list[Key]:
        """Those of the keys whose copies are not what the truth holds; asked twice, since they may just be written."""
        for _ in range(2):
            now = self._clock()
            asked = tuple(key for key in keys if self.tier.trusts(key) and key != PLACE)
            copies, rows = await self.tier.look(asked, now), await self.truth.read(Read(keys=asked, now=now))
            keys = [
                key
                for key, copy, row in zip(asked, copies, rows, strict=True)
                if copy is not None and (copy if copy.count != GONE else None) != row
            ]
        return keys

    async def _repair(self) -> RepairReport:
        report = await super()._repair()
        await self.tier.clear(self._clock())
        return RepairReport([*report.actions, "dropped the copies of the fast tier"], report.quarantined)

    async def _health(self) -> dict[str, Any]:
        told, tier = await super()._health(), self.tier
        told.update(hits=tier.hits, misses=tier.misses, refused_copies=tier.refused, doubtful_copies=len(tier.doubtful))
        if tier.refused:
            warning = (
                f"the member 'fast' refused {tier.refused} copies, which are read from the truth; the log says why"
            )
            told["warnings"] = [*told.get("warnings", ()), warning]
        if self._followed:
            told["behind_seconds"] = round(self.follower.behind, 3)
        return told


def _seen_by(op: Read, key: Key, row: Row | None) -> Row | None:
    """A record as an operation sees it; None for a note that there is none."""
    if row is None or row.count == GONE or (row.expires is not None and row.expires <= op.now):
        return None
    scope = op.scope
    if scope is WHOLE:
        return row
    if not scope.covers_namespace(key[0]):
        return None
    if scope.user_id is scope.agent_id is scope.session_id is None:
        return row
    return row if scope.covers(decode(row, vector=False)) else None


def _release(writing: Counter[Key], keys: Iterable[Key]) -> None:
    """These are written no longer, as far as one writer is concerned."""
    for key in keys:
        if writing[key] > 1:
            writing[key] -= 1
        else:
            del writing[key]
