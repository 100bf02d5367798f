"""Servers that die, fall silent or lose their replies, under a store that has to come through it.

``kills``: the server is ended by SIGKILL under load and started again on the same data, over and over; the store recovers
by itself, and what it had acknowledged is there. ``silence``: SIGSTOP; every call ends by its deadline. ``losses``: a proxy
cuts connections when a request has been carried out and before its answer arrives; ``retry()`` finishes each write once.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec

from memory.errors import UnknownOutcome
from memory.model import MemoryItem
from memory.registry import accepted, resolve
from memory.store import MemoryStore
from memory.testing import services
from memory.testing.faults.counting import AWAY, PAUSE_SECONDS, Counting, settled, until
from memory.testing.faults.examine import compare
from memory.testing.faults.history import History, Kind, Name, State
from memory.testing.faults.silence import silence
from memory.testing.faults.table import Outcome, Print, out
from memory.testing.faults.workload import WEIGHTS, Writer
from memory.testing.making import MakeAt, maker
from memory.testing.proxy import Proxy

RECOVERY_SECONDS = 5.0
"""After the server answers again, a write is acknowledged within this time."""
WRITERS, TASKS = 2, 2
PROOFS = ("kills", "silence", "losses")


class Settings(msgspec.Struct, frozen=True):
    """Which server, and how long."""

    server: str = "redis"
    """A function of memory.testing.services, started with ``durable=True``."""
    proofs: tuple[str, ...] = PROOFS
    rounds: int = 50
    """Kills."""
    silent: float = 10.0
    """Seconds of SIGSTOP."""
    timeout: float = 2.0
    """Seconds of the store's own deadline, in ``silence``."""
    steps: int = 300
    """Of each counting caller, in ``losses``."""
    share: float = 0.1
    """Of replies that are lost."""
    seed: int = 1
    store: str = ""
    """``module:Class`` in place of what the server's URL means."""


class LastingWriter(Writer):
    """A writer whose server may be gone for a while: it goes on, and what is unknown it finishes by retry."""

    refused = (*Writer.refused, *AWAY)

    def __init__(self, *args: Any, load: Load, **named: Any) -> None:
        super().__init__(*args, **named)
        self.load = load

    async def _task(self, own: tuple[Name, ...], limit: int | None) -> None:
        while not self.load.ending:
            try:
                await self.step(own)
            except self.refused:
                await asyncio.sleep(PAUSE_SECONDS)  # the read before a compare-and-set
            except Exception as error:
                self.load.foreign.append(repr(error))
                await asyncio.sleep(PAUSE_SECONDS)

    async def do(self, kind: Kind, names: list[Name], expect: int = 0) -> list[int]:
        self.load.flying += 1
        try:
            results = await super().do(kind, names, expect)
        finally:
            self.load.flying -= 1
        if any(result > 0 for result in results):
            self.load.newest = time.monotonic()
        else:
            await asyncio.sleep(PAUSE_SECONDS)
        return results

    async def settle(self, error: UnknownOutcome) -> int:
        result = await settled(error, self.load.tally, self.load.foreign)
        if isinstance(result, MemoryItem):
            return result.version
        return -1 if isinstance(result, UnknownOutcome) else int(bool(result))


class Load:
    """Writers of one round, and what they have said."""

    def __init__(self, store: MemoryStore, base: dict[Name, State], number: int, chance: random.Random) -> None:
        self.history = History(base)
        self.tally: Counter[str] = Counter()
        self.foreign: list[str] = []
        """Errors of a retry that nobody should see."""
        self.flying = 0
        """Writes that are under way."""
        self.newest = 0.0
        self.ending = False
        ids = range(number * WRITERS + 1, number * WRITERS + 1 + WRITERS)
        weights = {
            kind: weight for kind, weight in WEIGHTS.items() if kind != "atomic" or store.capabilities.atomic_batches
        }
        self.writers = [
            LastingWriter(
                store,
                self.history.add,
                writer=id,
                slot=id % WRITERS,
                seed=chance.randrange(1 << 30),
                now=time.monotonic_ns,
                weights=weights,
                load=self,
            )
            for id in ids
        ]

    async def run(self) -> None:
        """Write until ``ending``."""
        async with asyncio.TaskGroup() as group:
            for writer in self.writers:
                group.create_task(writer.run(TASKS))


class Proof:
    """All that one command does to one server."""

    def __init__(self, settings: Settings, show: Print = out) -> None:
        self.settings, self.show = settings, show
        self.random = random.Random(settings.seed)
        self.outcome = Outcome(f"servers: {settings.server} killed, silent and cut off")
        self.server: Any = None
        self.place = Path()

    def run(self) -> Outcome:
        """Start the server, run the proofs that are asked for."""
        began = time.monotonic()
        with ExitStack() as stack:
            self.place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="memory-servers-")))
            self.server = stack.enter_context(getattr(services, self.settings.server)(durable=True))
            parts: dict[str, Callable[[], Awaitable[None]]] = {
                "kills": self.kills,
                "silence": self.silence,
                "losses": self.losses,
            }
            self.make(self.server.url)  # the driver is imported here, not on a loop
            for name in self.settings.proofs:
                asyncio.run(_done(parts[name]))
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    def make(self, url: str, **fixed: Any) -> MakeAt:
        """Makes stores on the server, or on a proxy before it."""
        kind = resolve(self.settings.store or url)[0]
        if self.settings.store:
            return maker(kind, url=url, **fixed)
        return maker(url, **{name: value for name, value in fixed.items() if name in accepted(kind)})

    def count(self, part: str, **counts: float) -> None:
        for name, number in counts.items():
            key = f"{part}: {name.replace('_', ' ')}"
            self.outcome.counts[key] = self.outcome.counts.get(key, 0) + round(number)

    def blame(self, part: str, *details: str) -> None:
        self.outcome.failures += [f"{part}: {detail}" for detail in details]

    # --- SIGKILL ---------------------------------------------------------------------------------

    async def kills(self) -> None:
        """Load, SIGKILL, start, load, comparison; the next round goes on from what was found."""
        counters = self.make(self.server.url)(self.place / "counters", feed=True)
        async with counters, self.make(self.server.url)(self.place / "kills", feed=True) as store:
            counting = Counting(counters, callers=3, seed=self.settings.seed)
            await counting.prepare()
            if store.durability not in ("power", "replicated"):
                self.blame("kills", f"the store says {store.durability!r}: there is no promise to prove")
            base: dict[Name, State] = {}
            worst = 0.0
            for number in range(self.settings.rounds):
                load = Load(store, base, number, self.random)
                took = await self._round(number, load, counting)
                worst = max(worst, took)
                findings = await compare(store, load.history)
                base = findings.states
                self.blame("kills", *(f"round {number}: {violation}" for violation in findings.violations))
                self.blame("kills", *(f"round {number}: a foreign error: {error}" for error in load.foreign))
                self.count("kills", records_compared=findings.records, acknowledged=load.history.acknowledged())
                self.count("kills", **{name.replace(" ", "_"): amount for name, amount in load.tally.items()})
            self.count("kills", acknowledged=counting.acknowledged)
            self.count("kills", **{name.replace(" ", "_"): amount for name, amount in counting.tally.items()})
            self.count("kills", slowest_recovery_in_ms=worst * 1_000)
            self.blame("kills", *await counting.check())

    async def _round(self, number: int, load: Load, counting: Counting) -> float:
        """One kill under load; the seconds that the store needed to come back."""
        counting.ending = False
        work = [asyncio.ensure_future(load.run()), asyncio.ensure_future(counting.run())]
        try:
            await asyncio.sleep(self.random.uniform(0.05, 0.4))
            await asyncio.to_thread(self.server.kill)
            self.count("kills", kills=1, kills_mid_write=load.flying > 0)
            await asyncio.sleep(self.random.uniform(0, 0.3))
            await asyncio.to_thread(self.server.start)
            ready = time.monotonic()
            took = await until(lambda: min(load.newest, counting.newest) >= ready, 2 * RECOVERY_SECONDS)
            if took > RECOVERY_SECONDS:
                self.blame("kills", f"round {number}: no write was acknowledged for {took:.1f} s after the restart")
            await asyncio.sleep(self.random.uniform(0.05, 0.2))
        finally:
            load.ending = counting.ending = True
            _, late = await asyncio.wait(work, timeout=60)
        for task in late:
            task.cancel()
            self.blame("kills", f"round {number}: a writer hung")
        for task in set(work) - late:
            task.result()
        return took

    # --- SIGSTOP ---------------------------------------------------------------------------------

    async def silence(self) -> None:
        """See memory.testing.faults.silence."""
        make = self.make(self.server.url, timeout=self.settings.timeout)
        async with make(self.place / "silence", feed=True) as store:
            found = await silence(store, self.server, seconds=self.settings.silent, deadline=self.settings.timeout)
        self.count("silence", **{name.replace(" ", "_"): number for name, number in found.counts.items()})
        self.blame("silence", *found.wrong)

    # --- lost replies ----------------------------------------------------------------------------

    async def losses(self) -> None:
        """Counters through a proxy that loses replies: each count is what was acknowledged."""
        with Proxy(self.server.port, seed=self.settings.seed) as proxy:
            async with self.make(proxy.url(self.server.url))(self.place / "losses", feed=True) as store:
                counting = Counting(store, callers=4, seed=self.settings.seed)
                await counting.prepare()
                proxy.inject("lose_reply", share=self.settings.share)
                await counting.run(self.settings.steps)
                proxy.heal()
                self.blame("losses", *await counting.check())
            self.count("losses", replies_lost=proxy.counts["lose_reply"], acknowledged=counting.acknowledged)
            self.count("losses", **{name.replace(" ", "_"): number for name, number in counting.tally.items()})
            if not counting.tally["finished by retry"]:
                self.blame("losses", "no lost write was finished by retry: nothing was shown")


async def _done(work: Callable[[], Awaitable[None]]) -> None:
    await work()


def servers(settings: Settings, show: Print = out) -> Outcome:
    """Run the proofs. Raises ServiceMissing where this machine lacks the server."""
    return Proof(settings, show).run()
