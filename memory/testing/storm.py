"""A storm of cancellations: many callers on one store, a third of their calls cancelled at random awaits.

Every value carries its own name, tenant and serial number, so a reply that was meant for somebody else is recognised, and
so is an acknowledged write that is gone. ``python -m memory.testing storm --backend URL`` runs it by hand; in a test::

    outcome = await storm(store, operations=2_000)
    assert outcome.ok, outcome.table()

The store must be open and empty. A store with connections says in ``health().details["connections_in_use"]`` how many
are lent out or not yet given back: it has to be 0 when the storm is over.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from memory.errors import BatchError, MemoryStoreError, NotFound, Overloaded, UnknownOutcome, VersionConflict
from memory.model import MemoryItem
from memory.store import MemoryStore
from memory.testing.faults.table import Outcome

PATIENCE_SECONDS = 10.0
"""How long a single call may take, and how long what is left behind has time to go away."""
NAMES = 6
"""That one caller writes alone."""
STEPS = 30
"""Turns of the loop after which a call is cancelled, at most; half of the calls are cancelled after a time instead."""
CROSSED, LOST, FOREIGN, UNKNOWN, LEFT = (
    "crossed replies",
    "wrong or lost values",
    "foreign errors",
    "unknown outcomes",
    "left behind",
)


class _Known(msgspec.Struct):
    """What may stand under a name that one caller writes alone."""

    last: int | None = None
    """The serial number that was acknowledged last; None: there is no item."""
    maybe: set[int | None] = msgspec.field(default_factory=set)
    """Those of writes that were cancelled: they may have happened, or may do so yet."""

    def allows(self, serial: int | None) -> bool:
        return serial == self.last or serial in self.maybe


class _Storm:
    """One run: its counts, and what every caller shares."""

    def __init__(self, store: MemoryStore, share: float, tenants: int, seed: int) -> None:
        self.store, self.share, self.tenants = store, share, tenants
        self.random = random.Random(seed)
        self.outcome = Outcome(f"storm: cancelled calls on {store.name}")
        names = (
            "operations",
            "cancelled",
            "of them before they began",
            "ended before they were cancelled",
            "acknowledged writes",
            "items checked",
        )
        self.outcome.counts.update(dict.fromkeys((*names, "overloaded", CROSSED, LOST, FOREIGN, UNKNOWN, LEFT), 0))
        self.phase = "operations"
        self.latency = 0.001
        self.reach = 1.0
        """How far into a call it is cancelled, from 0 to 1.2 of what calls take: so that enough are caught under way."""
        self.serial = 0

    def chance(self) -> float:
        """Of a call to be cancelled: higher while fewer have been than asked for, since many end before."""
        behind = self.outcome.counts["cancelled"] < self.share * self.outcome.counts["operations"]
        return 0.9 if behind and self.share else self.share

    def blame(self, what: str, detail: str) -> None:
        self.outcome.counts[what] += 1
        self.outcome.failures.append(f"{what}: {detail}")

    def count(self, what: str, number: int = 1) -> None:
        self.outcome.counts[what] += number


class _Caller:
    """One caller: it works for one tenant, writes some names alone and shares others."""

    def __init__(self, storm: _Storm, number: int) -> None:
        self.storm, self.number = storm, number
        self.tenant = f"tenant-{number % storm.tenants}"
        self.view = storm.store.scoped(namespace=(self.tenant,), user_id=self.tenant)
        self.known = {f"own-{number}-{i}": _Known() for i in range(NAMES)}
        self.calls: list[tuple[int, Callable[[], Coroutine[Any, Any, None]]]] = [
            (24, self.put), (6, self.compare_and_set), (8, self.update), (4, self.touch), (4, self.delete), (4, self.put_many),
            (20, self.get), (8, self.get_many), (4, self.exists), (7, self.list_own), (4, self.count_own), (7, self.search), (6, self.share_name),
        ]  # fmt: skip

    async def run(self, operations: int) -> None:
        """So many operations, one after the other."""
        weights = [weight for weight, _ in self.calls]
        for _ in range(operations):
            (chosen,) = self.storm.random.choices(self.calls, weights)
            await chosen[1]()

    async def call(self, work: Awaitable[Any]) -> tuple[bool, Any]:
        """(whether it ended by itself, its result or its error); a third of the calls is cancelled."""
        storm = self.storm
        storm.count(storm.phase)
        began = time.perf_counter()
        task = asyncio.ensure_future(work)
        told, begun = storm.random.random() < storm.chance(), True
        if told:
            begun = await self._a_little(task)
            told = task.cancel()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                result = await task
        except asyncio.CancelledError:
            if not told:
                raise
            storm.count("cancelled")
            storm.count("of them before they began", int(not begun))
            return False, None
        except TimeoutError:
            storm.blame(LEFT, f"a call of {self.tenant} hung for {PATIENCE_SECONDS:g} s")
            return False, None
        except Overloaded:
            storm.count("overloaded")
            return False, None
        except UnknownOutcome as error:
            storm.blame(UNKNOWN, repr(error))
            return False, None
        except (NotFound, VersionConflict, BatchError) as error:
            return True, error
        except Exception as error:
            storm.blame(FOREIGN, repr(error))
            return False, None
        if told:
            storm.count("ended before they were cancelled")
        else:
            storm.latency += 0.05 * (time.perf_counter() - began - storm.latency)
        return True, result

    async def _a_little(self, task: asyncio.Future[Any]) -> bool:
        """Some turns of the loop, mostly few, or about as long as a call takes; whether there was any wait."""
        storm = self.storm
        if storm.random.random() < 0.5:
            await asyncio.sleep(storm.random.random() * storm.reach * storm.latency)
            early = True
        else:
            turns = int(STEPS * storm.random.random() ** 3 * storm.reach)
            for _ in range(turns):
                await asyncio.sleep(0)
            early = turns > 0
        storm.reach = max(0.01, storm.reach * 0.97) if task.done() else min(1.2, storm.reach * 1.03)
        return early

    # --- what is written and what may come back ----------------------------------------------------

    def item(self, name: str, serial: int) -> MemoryItem:
        """The item that a write leaves: it says its name, its tenant and the write."""
        return MemoryItem(
            id=name,
            namespace=(self.tenant,),
            content={"name": name, "tenant": self.tenant, "serial": serial},
            text=f"{word_of(name)} {self.tenant} {'weather ' * (serial % 40)}",
            metadata={"caller": self.number},
            user_id=self.tenant,
        )

    def next(self) -> int:
        self.storm.serial += 1
        return self.storm.serial

    def one(self) -> tuple[str, _Known]:
        return self.storm.random.choice(list(self.known.items()))

    def check(self, found: Any, name: str | None = None, *, alone: bool = True) -> int | None:
        """The serial number of an item that came back, after seeing that it is what was asked for."""
        self.storm.count("items checked")
        serial: int | None
        if found is None:
            serial = None
        elif not isinstance(found, MemoryItem) or not isinstance(found.content, dict):
            self.storm.blame(CROSSED, f"{self.tenant} asked for {name} and got {found!r:.120}")
            return None
        else:
            said = found.content
            mine = (found.namespace, found.user_id, said.get("tenant")) == ((self.tenant,), self.tenant, self.tenant)
            if not mine or found.id != said.get("name") or (name is not None and found.id != name):
                self.storm.blame(
                    CROSSED, f"{self.tenant} asked for {name} and got {found.id} of {found.namespace}: {said}"
                )
                return None
            name, serial = found.id, int(said["serial"])
        if alone and name in self.known and not self.known[name].allows(serial):
            known = self.known[name]
            self.storm.blame(LOST, f"{name} is at {serial}, acknowledged is {known.last}, cancelled were {known.maybe}")
        return serial

    def wrote(self, ended: bool, result: Any, name: str, serial: int) -> None:
        """Take down what a write of one name came to."""
        known = self.known.get(name)
        if isinstance(result, MemoryItem):
            self.storm.count("acknowledged writes")
            if known is not None:
                known.last = serial
            if self.check(result, name, alone=False) != serial:
                self.storm.blame(CROSSED, f"the write {serial} of {name} was answered with {result.content}")
        elif not ended and known is not None:
            known.maybe.add(serial)
        elif isinstance(result, MemoryStoreError) and not isinstance(result, (NotFound, VersionConflict)):
            self.storm.blame(FOREIGN, repr(result))

    async def put(self) -> None:
        name, _ = self.one()
        serial = self.next()
        self.wrote(*await self.call(self.view.put(self.item(name, serial))), name, serial)

    async def share_name(self) -> None:
        """A name that others of this tenant write too."""
        name, serial = f"shared-{self.storm.random.randrange(8)}", self.next()
        self.wrote(*await self.call(self.view.put(self.item(name, serial))), name, serial)
        self.check((await self.call(self.view.get(name)))[1], name)

    async def compare_and_set(self) -> None:
        name, _ = self.one()
        _, found = await self.call(self.view.get(name))
        if isinstance(found, MemoryItem):
            serial = self.next()
            call = self.view.put(self.item(name, serial), if_version=found.version)
            self.wrote(*await self.call(call), name, serial)

    async def update(self) -> None:
        name, _ = self.one()
        serial = self.next()
        self.wrote(*await self.call(self.view.update(name, content={"serial": serial})), name, serial)

    async def touch(self) -> None:
        await self.truth(self.view.touch(self.one()[0]))

    async def delete(self) -> None:
        name, known = self.one()
        if await self.truth(self.view.delete(name)) is None:
            known.maybe.add(None)
        else:
            known.last = None

    async def truth(self, work: Awaitable[bool]) -> bool | None:
        """The answer of a call that says yes or no; None when it was cancelled."""
        ended, result = await self.call(work)
        if ended and not isinstance(result, bool):
            self.storm.blame(CROSSED, f"yes or no was asked for and {result!r:.120} came")
        return result if ended else None

    async def put_many(self) -> None:
        serials = {name: self.next() for name in self.storm.random.sample(list(self.known), 3)}
        ended, result = await self.call(self.view.put_many([self.item(*one) for one in serials.items()]))
        each = result.results if isinstance(result, BatchError) else result
        for (name, serial), one in zip(serials.items(), each or [None] * len(serials), strict=True):
            self.wrote(ended and one is not None, one, name, serial)

    async def get(self) -> None:
        name, _ = self.one()
        ended, found = await self.call(self.view.get(name))
        if ended:
            self.check(found, name)

    async def get_many(self) -> None:
        names = self.storm.random.sample(list(self.known), 4)
        ended, found = await self.call(self.view.get_many(names))
        if ended:
            for name, one in zip(names, found, strict=True):
                self.check(one, name)

    async def exists(self) -> None:
        name, known = self.one()
        there = await self.truth(self.view.exists(name))
        sure = {one is not None for one in (known.last, *known.maybe)}
        if there is not None and there not in sure:
            self.storm.blame(LOST, f"exists({name}) is {there}, acknowledged is {known.last}")

    async def list_own(self) -> None:
        ended, page = await self.call(
            self.view.list({"metadata.caller": self.number, "id": {"$startswith": "own"}}, limit=50)
        )
        if ended:
            there = {one.id: self.check(one) for one in page.items}
            for name in self.known.keys() - there.keys():
                self.check(None, name)

    async def count_own(self) -> None:
        ended, found = await self.call(self.view.count({"metadata.caller": self.number, "id": {"$startswith": "own"}}))
        sure = sum(known.last is not None and None not in known.maybe for known in self.known.values())
        most = sum(known.last is not None or bool(known.maybe - {None}) for known in self.known.values())
        if ended and not (type(found) is int and sure <= found <= most):
            self.storm.blame(LOST, f"count is {found!r} instead of {sure} to {most}")

    async def search(self) -> None:
        name, _ = self.one()
        ended, page = await self.call(self.view.search(word_of(name), mode="text", limit=5))
        if ended:
            for hit in page.hits:
                self.check(hit.item, name)


def word_of(name: str) -> str:
    """A word that stands in the text of this name's item and in no other."""
    return "word" + name.replace("-", "x")


async def storm(
    store: MemoryStore,
    *,
    operations: int = 20_000,
    callers: int = 64,
    cancelled: float = 0.3,
    tenants: int = 4,
    seed: int = 1,
) -> Outcome:
    """Let so many callers make so many calls, and cancel this share of them; then see that everything is as it should be."""
    began = time.monotonic()
    tasks, threads = asyncio.all_tasks(), threading.active_count()
    run = _Storm(store, cancelled, tenants, seed)
    crowd = [_Caller(run, number) for number in range(callers)]
    async with asyncio.TaskGroup() as group:
        for number, caller in enumerate(crowd):
            group.create_task(caller.run(operations // callers + (number < operations % callers)))
    run.share, run.phase = 0.0, "operations afterwards"
    await _nothing_is_left(run, tasks, threads)
    await _everything_works(run, crowd)
    run.outcome.seconds = time.monotonic() - began
    return run.outcome


async def _nothing_is_left(run: _Storm, tasks: set[asyncio.Task[Any]], threads: int) -> None:
    """Tasks, threads and connections that the storm has used are gone or given back, within seconds."""
    until = time.monotonic() + PATIENCE_SECONDS
    left: list[str] = []
    details: dict[str, Any] = {}
    while time.monotonic() < until:
        left = [f"the task {task.get_name()}: {task.get_coro()}" for task in asyncio.all_tasks() - tasks]
        details = (await run.store.health()).details
        if details.get("connections_in_use"):
            left.append(f"{details['connections_in_use']} connections in use")
        if threading.active_count() > threads + 8:
            left.append(f"{threading.active_count() - threads} threads")
        if not left:
            break
        await asyncio.sleep(0.02)
    for one in left:
        run.blame(LEFT, one)
    if "connections_in_use" in details:
        run.outcome.counts["connections in use afterwards"] = details["connections_in_use"]


async def _everything_works(run: _Storm, crowd: list[_Caller]) -> None:
    """Every name is readable and writable, the store is whole, and holds nothing that nobody wrote."""
    for caller in crowd:
        for name in caller.known:
            caller.check((await caller.call(caller.view.get(name)))[1], name)
            serial = caller.next()
            caller.wrote(*await caller.call(caller.view.put(caller.item(name, serial))), name, serial)
            caller.known[name].maybe.clear()  # by now nothing that was cancelled can still arrive
            caller.check((await caller.call(caller.view.get(name)))[1], name)
    callers = {caller.tenant: caller for caller in crowd}
    there = 0
    async for batch in run.store.stream():
        for item in batch:
            there += item.id.startswith("own")
            caller = callers.get(item.namespace[0], crowd[0])
            caller.check(item, item.id, alone=False)
    if there != len(crowd) * NAMES:
        run.blame(LOST, f"{there} items are there instead of {len(crowd) * NAMES}")
    for problem in (await run.store.verify()).problems:
        run.blame(LOST, f"verify: {problem}")


__all__ = ["storm"]
