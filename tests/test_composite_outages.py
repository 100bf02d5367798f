"""A primary that is down for a while, among faults at every step: what waits for it is applied once, in order, or told as
given up; what is read meanwhile is marked stale, and was true once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np  # noqa: F401 - loaded before the loop runs
import pytest
from composites import OUTAGES, Cell, Faults, met
from test_composite_faults import SAME, Writer, show, storm

from memory import MemoryItem, MemoryStore
from memory.errors import MemoryStoreError, NotFound, UnknownOutcome


class Outlasting(Writer):
    """A writer that goes on while the primary is down: for a third of its steps, and in the next round to the end."""

    def __init__(self, store: MemoryStore, number: int, seed: int, told: Counter[str], faults: Faults) -> None:
        super().__init__(store, number, seed, told, faults)
        self.waiting: dict[str, set[int | None]] = {id: set() for id in self.may_be}
        """What was sent, is not known of, and may be applied at any later time."""
        self.order: dict[str, list[tuple[int | None, bool | None]]] = {id: [] for id in self.may_be}
        """What was sent since the last write whose outcome is known; whether it certainly waits, None: it may not have had to."""
        self.ever: dict[str, set[int | None]] = {id: {None} for id in self.may_be}
        """All that may ever have been stored."""
        self.contents: dict[tuple[str, int], int | None] = {}
        """What was acknowledged, by version."""
        self.compared = False
        """What is written now depends on what is stored."""
        self.tidying = False
        """What is called is no question."""
        self.down = self.sure = False
        """The last call was made while the primary was down, and nothing else failed."""

    async def steps(self, count: int) -> None:
        await self.asked(self.store.verify, lambda _: None)
        for step in range(count):
            if self.number == 0 and step == count // 3:
                self.told["outages"] += 1
                self.faults.down.add("primary")
                if self.told["outages"] % 2 == 0 and len(getattr(self.store, "mirrors", ())) > 1:
                    self.faults.down.add("copy")  # so that another mirror stands in
            if self.number == 0 and step == 2 * count // 3 and self.told["outages"] % 2:
                self.faults.down.clear()
            await self.step()

    @property
    def outage(self) -> int:
        """Which outage there is; 0 while there is none."""
        return self.told["outages"] if self.faults.down else 0

    # --- writing -------------------------------------------------------------------------------

    async def update(self) -> None:
        self.compared = True
        try:
            await super().update()
        finally:
            self.compared = False

    async def sent(self, wanted: Mapping[str, int | None], call: Awaitable[Any]) -> None:
        async def watched() -> Any:
            outage, faults = self.outage, list[Cell]()
            met.set(faults)
            try:
                return await call
            finally:
                self.down = 0 < outage == self.outage
                self.sure = self.down and not faults and not self.compared and "copy" not in self.faults.down

        await super().sent(wanted, watched())

    async def hear(self, id: str, value: int | None, outcome: Any) -> None:
        old, waiting, version = self.may_be[id], self.waiting[id], self.versions.get(id)
        unknown = isinstance(outcome, UnknownOutcome)
        if self.down:
            self.told["writes in outages"] += 1
            self.told["queued"] += unknown
            assert isinstance(outcome, MemoryStoreError), f"{outcome} was claimed while the primary was down"
            assert not isinstance(outcome, NotFound) or hasattr(self.store, "truth"), "absent, says a mirror"
        self.waits: bool | None = self.sure if self.down else None
        await super().hear(id, value, outcome)
        settled = self.may_be[id] is not old
        if unknown and not settled:
            self.order[id].append((value, self.waits))
            if value != SAME:
                waiting.add(value)
        elif unknown or outcome is False:  # what has waited longer may still follow
            waiting.discard(value)
            self.may_be[id] |= waiting
            if unknown:  # at which version it was removed nobody here may know
                self.order[id] = [(SAME, None)] if value is None else []
        elif not isinstance(outcome, MemoryStoreError):
            self.order[id].clear()
            waiting.intersection_update(waiting if value == SAME else ())
        self.ever[id] |= self.may_be[id]
        if self.versions.get(id) != version:
            self.contents[id, self.versions[id]] = value

    async def retried(self, id: str, error: UnknownOutcome) -> Any:
        outage, faults = self.outage, list[Cell]()
        met.set(faults)
        result = await super().retried(id, error)
        self.waits = self.waits and not faults if 0 < outage == self.outage else None
        return result

    async def healed(self) -> None:
        """What has certainly waited, each after the other, has come to be, the last one last."""
        for id, order in self.order.items():
            written = [(value, sure) for value, sure in order if value != SAME]
            found = await self.store.get(id, namespace=self.namespace)
            value = None if found is None else found.content
            if written and written[-1][1] and all(sure is not None for _, sure in order):
                self.told["applied in order"] += 1
                assert value == written[-1][0], f"{id} holds {value}, not the last of {order}"
            order.clear()
            if found is None:
                order.append((SAME, None))
            self.waiting[id].clear()

    # --- reading -------------------------------------------------------------------------------

    async def asked(self, call: Callable[[], Awaitable[Any]], check: Callable[[Any], None]) -> None:
        before = getattr(self.store, "stale_answers", 0)
        down = self.outage

        async def marked() -> Any:
            answer = await call()
            return answer, getattr(self.store, "stale_answers", 0) > before

        def checked(answer: tuple[Any, bool]) -> None:
            told, stale = answer
            if not stale:
                assert self.tidying or not down or down != self.outage or hasattr(self.store, "truth"), (
                    "who knows this?"
                )
                check(told)
                return
            self.told["stale answers"] += 1
            kept = self.may_be, self.versions
            self.may_be, self.versions = self.ever, {}
            try:
                check(told)
            finally:
                self.may_be, self.versions = kept

        await super().asked(marked, checked)

    async def upkeep(self) -> None:
        self.tidying = True
        try:
            await super().upkeep()
        finally:
            self.tidying = False

    def check(self, id: str, found: MemoryItem | None) -> None:
        super().check(id, found)
        if found is not None:
            assert self.contents.get((id, found.version), found.content) == found.content


def not_in_vain(name: str, told: Counter[str]) -> None:
    """That what the composition is for did happen."""
    assert told["writes in outages"]
    assert ("queued" in name) == bool(told["queued"])
    assert (name in ("stale", "queued_and_stale")) == bool(told["stale answers"])


@pytest.mark.parametrize("name", OUTAGES)
async def test_what_waits_is_applied_and_what_is_stale_is_marked(name: str, tmp_path: Path) -> None:
    faults, told = await storm(name, tmp_path, wanted=150, seed=1, kind=Outlasting)
    show(name, faults.injected, told)
    not_in_vain(name, told)


@pytest.mark.full
@pytest.mark.parametrize("name", OUTAGES)
async def test_what_waits_and_what_is_stale_among_five_thousand_faults(name: str, tmp_path: Path) -> None:
    injected, told = Counter[Cell](), Counter[str]()
    for seed in range(10):
        place = tmp_path / str(seed)
        place.mkdir()
        faults, heard = await storm(name, place, wanted=500, seed=seed, kind=Outlasting)
        injected += faults.injected
        told += heard
    show(name, injected, told)
    not_in_vain(name, told)
    assert bool(told["queued"]) == bool(told["applied in order"])
