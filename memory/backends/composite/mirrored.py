"""``mirrored``: one primary that acknowledges, and mirrors that its feed supplies."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from memory.backends.composite.answering import Answering
from memory.backends.composite.copies import FORBIDDEN, original
from memory.backends.composite.following import POLL_SECONDS, Follower
from memory.backends.composite.members import DOWN, Member, together
from memory.backends.composite.mirror import Mirror
from memory.backends.composite.queue import Queue
from memory.errors import InvalidSetting, MemoryStoreError
from memory.model import Key
from memory.ops import Event, Problem, Read, Result, Status, Write
from memory.store import Capabilities, MemoryStore
from memory.store.types import RepairReport
from memory.telemetry import get_logger

_log = get_logger("composite")


class MirroredStore(Answering):
    """Every write is the primary's, which alone acknowledges; its feed brings it to the mirrors, stored with the write.

    ``mirrors``: by name. ``stale_reads``: while the primary is down, the first mirror answers reads; ``stale`` names it then,
    ``stale_answers`` rises, and ``health`` says how far it is behind. ``vectors`` and ``text`` name the mirror that is searched
    by vector and by text; it is brought up to date before it answers, and what it finds is read from the primary. ``queue``: a
    store of its own that keeps writes while the primary is down. Each is UnknownOutcome until it is applied, and its ``retry``
    tells when it is.
    Further options as in CompositeStore.
    """

    name = "mirrored"
    capabilities: ClassVar[Capabilities] = Capabilities(
        persistent=True, shared=True, atomic_batches=True, feed=True, indexes_terms=True
    )

    def __init__(
        self,
        primary: MemoryStore,
        mirrors: Mapping[str, MemoryStore],
        *,
        stale_reads: bool = False,
        vectors: str | None = None,
        text: str | None = None,
        queue: MemoryStore | None = None,
        **options: Any,
    ) -> None:
        if not mirrors or mirrors.keys() & {"primary", "queue"}:
            raise InvalidSetting("name at least one mirror; the names primary and queue are taken", setting="mirrors")
        for setting, name in (("vectors", vectors), ("text", text)):
            if name not in (None, *mirrors):
                raise InvalidSetting(
                    f"there is no mirror {name!r} to search; there are: {', '.join(mirrors)}", setting=setting
                )
        for name, store in mirrors.items():
            if primary.capabilities.namespaces and not store.capabilities.namespaces:
                raise InvalidSetting(
                    f"the mirror {name!r} ({store.name}) holds one namespace, the primary any", setting=name
                )
        self.primary = Member("primary", primary)
        self.mirrors = {name: Member(name, store) for name, store in mirrors.items()}
        self.members, self.leads, self.fed = (self.primary, *self.mirrors.values()), self.primary, (self.primary,)
        self.optional = tuple(self.mirrors.values())
        self.queue: Queue | None = None
        if queue is not None:
            if primary.capabilities.persistent and not queue.capabilities.persistent:
                raise InvalidSetting(f"the queue ({queue.name}) does not outlast what it is for", setting="queue")
            self.queue = Queue(Member("queue", queue), self.primary)
            self.members = (*self.members, self.queue.member)
        self.searched = {"vectors": vectors, "text": text}
        self.stale_reads = self.works_without_lead = stale_reads
        all_of = (primary, *mirrors.values())
        limits = together(all_of)
        own = primary.capabilities
        self.declare(
            together(
                (primary,),
                reembeds=False,
                forbidden_ids="|".join(one for one in (limits.forbidden_ids, FORBIDDEN) if one),
                max_dimension=limits.max_dimension,
                recall=own.recall if vectors is None else min(own.recall, mirrors[vectors].capabilities.recall),
            )
        )
        super().__init__(**options)
        self._follow()

    def _follow(self) -> None:
        self.copies = {name: Mirror(self.primary, member) for name, member in self.mirrors.items()}
        self.followers = {}
        for name, copies in self.copies.items():

            async def apply(events: list[Event], copies: Mirror = copies) -> None:
                await copies.apply([event.key for event in events])

            async def lost(copies: Mirror = copies) -> None:
                await copies.heal()

            self.followers[name] = Follower(self.primary, apply, lost, copies.keep_position, f"the mirror {name!r}")

    # --- lifecycle -----------------------------------------------------------------------------

    async def _open(self) -> None:
        await super()._open()
        self._follow()
        self.stale = None
        for name, follower in self.followers.items():
            self._watchers.add(follower.wake)
            try:
                follower.starts_at(await self.copies[name].position())
            except MemoryStoreError as error:
                _log.warning("mirror does not answer", member=name, error=error)
            self._tasks.append(asyncio.get_running_loop().create_task(follower.run()))
        if self.queue is not None:
            await self.queue.open()
            self._tasks.append(asyncio.get_running_loop().create_task(self._empty_queue(self.queue)))

    async def _stop(self) -> None:
        await super()._stop()
        for follower in self.followers.values():
            self._watchers.discard(follower.wake)

    async def _empty_queue(self, queue: Queue) -> None:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if queue.waiting:
                try:
                    await queue.drain()
                except MemoryStoreError as error:
                    _log.debug("queue not emptied", error=error)

    # --- writing -------------------------------------------------------------------------------

    async def _write(self, ops: Sequence[Write], atomic: bool) -> list[Result]:
        queue = self.queue
        try:
            results = await super()._write(ops, atomic)
        except DOWN:
            if queue is None or atomic:
                raise
            kept: list[Result] = []
            for op in ops:
                try:
                    await queue.add(op, await self._known(op.key))
                    kept.append(Result(Status.UNKNOWN))
                except MemoryStoreError as error:
                    if not kept:
                        raise
                    kept.append(Result(Status.FAILED, error=error))
            return kept
        if queue is not None and queue.waiting:
            queue.learn(ops, results)
        return results

    async def _known(self, key: Key) -> int:
        """The highest version of a key that is known here: also of what others have written, as far as a mirror has it."""
        known = self._floor(key)
        for member in self.mirrors.values():
            try:
                (row,) = await member.read(Read(keys=(key,), now=self._clock()))
            except MemoryStoreError:
                continue
            known = max(known, 0 if row is None else original(row).version)
        return known

    # --- upkeep --------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Bring every mirror up to what is committed by now. Raises what the members raise."""
        for follower in self.followers.values():
            await follower.drain()

    async def _sweep(self, now: int) -> int:
        removed = await super()._sweep(now)
        for member in self.mirrors.values():
            try:
                await member.ask(member.store._sweep, now)
            except MemoryStoreError as error:
                _log.warning("sweep failed", backend=member.store.name, error=error)
        return removed

    async def _verify(self) -> tuple[int, list[Problem]]:
        """The primary, and each mirror against it, record by record."""
        checked, problems = await super()._verify()
        for name, copies in self.copies.items():
            await self.followers[name].drain()
            async for found in copies.differing():
                if not found:
                    continue
                # What is being written differs for a moment; what differs after the feed was followed once more is wrong.
                await self.followers[name].drain()
                again = dict(await copies.compare([key for key, _ in found]))
                problems += [Problem("divergent copy", key, f"in {name!r}: {what}") for key, what in again.items()]
        return checked, problems

    async def _repair(self) -> RepairReport:
        report = await super()._repair()
        actions = list(report.actions)
        for name, copies in self.copies.items():
            await self.followers[name].drain()
            healed = await copies.heal(anew=True)
            actions.append(f"made {healed} records of {name!r} equal to the primary's")
        return RepairReport(actions, report.quarantined)

    async def _health(self) -> dict[str, Any]:
        told = await super()._health()
        warnings = list(told.get("warnings", ()))
        for name, follower in self.followers.items():
            facts = told["members"][name]
            facts["behind_events"] = None if follower.position is None else max(0, follower.head - follower.position)
            facts["behind_seconds"] = None if follower.behind == float("inf") else round(follower.behind, 3)
            if follower.error is not None:
                warnings.append(f"the mirror {name!r} does not follow: {follower.error}")
            if self.copies[name].refused:
                warnings.append(f"the mirror {name!r} cannot hold {len(self.copies[name].refused)} items")
        if self.queue is not None:
            told["queued_writes"], told["given_up_writes"] = len(self.queue.waiting), self.queue.overtaken
            if self.queue.waiting:
                warnings.append(f"{len(self.queue.waiting)} writes wait for the primary")
        if self.stale is not None:
            behind = told["members"][self.stale]["behind_seconds"]
            warnings.append(f"reads come from the mirror {self.stale!r}, {behind} s behind")
        return told | ({"warnings": warnings} if warnings else {})
