"""What every composite is: members that are opened, swept, told of and closed together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from memory.backends.composite.members import Member, adopt, check_member
from memory.errors import InvalidSetting, MemoryStoreError
from memory.model import Key
from memory.ops import (
    Around,
    Count,
    Events,
    FeedRead,
    Match,
    Matched,
    Nearest,
    Page,
    Problem,
    Read,
    Result,
    Row,
    Scan,
    Write,
)
from memory.store import Capabilities, MemoryStore
from memory.store.options import check_counts, check_seconds
from memory.store.types import Durability, RepairReport


class CompositeStore(MemoryStore):
    """Several stores as one. A shape says what each member is for, before it calls ``__init__`` here.

    ``failures`` calls in a row that find a member down open its circuit breaker for ``recovery`` seconds. Further options
    as in MemoryStore; the clock, the language and the declared fields are those of all members.
    """

    name = "composite"
    capabilities: ClassVar[Capabilities] = Capabilities(
        persistent=True, shared=True, atomic_batches=True, feed=True, snapshots=True, indexes_terms=True
    )
    searches_at_once: ClassVar[int] = 2
    members: tuple[Member, ...]
    fed: tuple[Member, ...] = ()
    """Those that keep a feed whether or not the whole is asked for one."""
    leads: Member
    """The one whose word counts."""
    optional: tuple[Member, ...] = ()
    """Those that may be down when the whole is opened."""
    works_without_lead = False
    """Whether reads are answered while it is down."""

    def __init__(self, *, failures: int = 5, recovery: float = 5.0, **options: Any) -> None:
        check_counts(failures=failures)
        check_seconds(recovery=recovery)
        super().__init__(**options)
        stores = [id(member.store) for member in self.members]
        if len(set(stores)) < len(stores):
            raise InvalidSetting("one store is named for two members; each needs a store of its own", setting="members")
        for member in self.members:
            member.breaker.failures, member.breaker.recovery = failures, recovery
            check_member(member, self, feed=self._feeds(member))
        self._tasks: list[asyncio.Task[None]] = []

    def declare(self, capabilities: Capabilities) -> None:
        """What the members can do together; said before ``__init__`` of the base asks."""
        vars(self)["capabilities"] = capabilities

    async def _open(self) -> None:
        await self._stop()
        for member in self.members:
            adopt(member, self, feed=self._feeds(member))
            await member.open(needed=member not in self.optional)
        self._seen = max(member.store._seen for member in self.members)
        self._learn_space()

    def _feeds(self, member: Member) -> bool:
        return member in self.fed or (self.feed and member is self.leads)

    async def _close(self) -> None:
        await self._stop()
        for member in reversed(self.members):
            await member.close()

    async def _stop(self) -> None:
        """End what runs in the background, if its loop still runs."""
        loop = asyncio.get_running_loop()
        tasks, self._tasks = [task for task in self._tasks if task.get_loop() is loop], []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def _learn_space(self) -> None:
        """The space of the vectors, as the leading member has come to know it."""
        self._space = self.leads.store._space

    # --- hooks: what a shape does not say differently is asked of the leading member ------------

    @property
    def durability(self) -> Durability:
        """What the member that acknowledges writes says."""
        return self.leads.store.durability

    @property
    def location(self) -> str | None:
        """Where the member is that acknowledges writes."""
        return self.leads.store.location

    def _floor(self, key: Key) -> int:
        return self.leads.store._floor(key)

    async def _read(self, op: Read) -> list[Row | None]:
        return await self.leads.read(op)

    async def _write(self, ops: Sequence[Write], atomic: bool) -> list[Result]:
        results = await self.leads.write(ops, atomic)
        self._learn_space()
        return results

    async def _scan(self, op: Scan) -> Page:
        return await self.leads.scan(op)

    async def _count(self, op: Count) -> int | None:
        return await self.leads.ask(self.leads.store._do_count, op)

    async def _namespaces(self, op: Count) -> list[tuple[str, ...]]:
        return await self.leads.ask(self.leads.store._do_namespaces, op)

    async def _match(self, op: Match) -> Matched:
        return await self.leads.ask(self.leads.store._do_match, op)

    async def _nearest(self, op: Nearest) -> list[Row]:
        try:
            return await self.leads.ask(self.leads.store._do_nearest, op)
        finally:
            self._learn_space()

    async def _around(self, op: Around) -> list[tuple[list[Row], list[Row]]]:
        return await self.leads.ask(self.leads.store._do_around, op)

    async def _feed(self, op: FeedRead) -> Events:
        return await self.leads.ask(self.leads.store._do_feed, op)

    def _lives_in(self, path: Path) -> bool:
        return any(member.store._lives_in(path) for member in self.members)

    def _reads_backup(self, head: bytes) -> bool:
        return self.leads.store._reads_backup(head)

    async def _backup(self, path: Path) -> int | None:
        return await self.leads.ask(self.leads.store._backup, path)

    def _backup_rows(self, path: Path) -> AsyncIterator[list[Row]]:
        return self.leads.store._backup_rows(path)

    async def _sweep(self, now: int) -> int:
        return await self.leads.ask(self.leads.store._sweep, now)

    async def _verify(self) -> tuple[int, list[Problem]]:
        return await self.leads.ask(self.leads.store._verify)

    async def _unlisted(self) -> list[Problem]:
        return await self.leads.ask(self.leads.store._unlisted)

    async def _repair(self) -> RepairReport:
        return await self.leads.ask(self.leads.store._repair)

    async def _health(self) -> dict[str, Any]:
        """Facts of each member, and warnings that name those that are sick. Raises where the leading one does not answer."""
        told: dict[str, Any] = {}
        warnings: list[str] = []
        for member in self.members:
            told[member.name] = facts = member.told()
            try:
                found = await member.ask(member.store._health)
            except MemoryStoreError as error:
                if member is self.leads and not self.works_without_lead:
                    raise
                facts["error"] = str(error)
                warnings.append(f"the member {member.name!r} does not answer: {error}")
                continue
            facts.update(found)
            warnings += [f"the member {member.name!r}: {one}" for one in found.get("warnings", ())]
        in_use = sum(facts.get("connections_in_use", 0) for facts in told.values())
        return {"members": told, "connections_in_use": in_use, **({"warnings": warnings} if warnings else {})}
