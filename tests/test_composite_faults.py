"""Members that fail at every step of everything: nothing acknowledged is lost, nothing else is claimed, all heals."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any

import numpy as np  # noqa: F401 - loaded before the loop runs
import pytest
from composites import COMPOSITIONS, Faults

from memory import MemoryItem, MemoryStore
from memory.errors import MemoryStoreError, NotFound, UnknownOutcome, VersionConflict

KEYS = 3
TASKS = 4


class Writer:
    """Writes a few items that nobody else writes, so that it knows what may be stored of each: what was acknowledged last, or
    what was sent since and is not known of."""

    def __init__(self, store: MemoryStore, number: int, seed: int) -> None:
        self.store, self.number = store, number
        self.random = random.Random(f"{seed} {number}")
        self.may_be: dict[str, set[int | None]] = {f"{number}-{i}": {None} for i in range(KEYS)}
        self.versions: dict[str, int] = {}
        self.turn = 0

    def item(self, id: str) -> MemoryItem:
        self.turn += 1
        kinds, tags = ("note", "working"), ((), ("x",))
        return MemoryItem(
            id=id, namespace=("a",) if self.number % 2 else ("b",), content=self.turn, text=f"marmot {self.turn}",
            kind=self.random.choice(kinds), tags=self.random.choice(tags), metadata={"n": self.random.randrange(10)},
            embedding=[1.0, float(self.turn)],
        )  # fmt: skip

    async def step(self) -> None:
        id = self.random.choice(list(self.may_be))
        namespace = ("a",) if self.number % 2 else ("b",)
        what = self.random.choice(("put", "put", "delete", "touch", "get", "get", "update"))
        if what == "get":
            await self.check(id, namespace)
            return
        item = self.item(id)
        wanted: int | None = None if what == "delete" else self.turn
        try:
            try:
                if what == "put":
                    self.rose(id, (await self.store.put(item)).version)
                elif what == "delete":
                    await self.store.delete(id, namespace=namespace)
                elif what == "touch":
                    await self.store.touch(id, namespace=namespace)
                else:
                    self.rose(id, (await self.store.update(id, namespace=namespace, content=wanted)).version)
            except UnknownOutcome as error:
                if what != "touch":
                    self.may_be[id].add(wanted)
                if self.random.random() < 0.5:
                    raise
                await error.retry()
        except UnknownOutcome:
            return
        except (NotFound, VersionConflict):
            return
        except MemoryStoreError:
            return  # certainly not applied
        if what in ("put", "delete", "update"):
            self.may_be[id] = {wanted}

    def rose(self, id: str, version: int) -> None:
        assert version > self.versions.get(id, 0), f"the version of {id} did not rise"
        self.versions[id] = version

    async def check(self, id: str, namespace: tuple[str, ...]) -> None:
        try:
            found = await self.store.get(id, namespace=namespace)
        except MemoryStoreError:
            return
        value = None if found is None else found.content
        assert value in self.may_be[id], f"{id} holds {value}, not one of {self.may_be[id]}"


async def storm(name: str, place: Path, *, wanted: int, seed: int) -> Faults:
    """Writers among faults until so many were injected; then all is healed, drained and compared."""
    faults = Faults(seed)
    store: Any = COMPOSITIONS[name](place, faults, failures=1_000, recovery=0.001, sweep_interval=None)
    async with store:
        writers = [Writer(store, number, seed) for number in range(TASKS)]
        while faults.total < wanted:
            faults.rate = 0.12
            async with asyncio.TaskGroup() as group:
                for writer in writers:
                    group.create_task(steps(writer, 50))
            faults.rate = 0.0
            await heal(store, writers)
    return faults


async def steps(writer: Writer, count: int) -> None:
    for _ in range(count):
        await writer.step()


async def heal(store: Any, writers: list[Writer]) -> None:
    """With the members well again and the feeds followed, every copy is right and every key holds what it may hold."""
    await store.sweep()
    report = await store.verify()
    assert report.ok, report.problems[:3]
    listed = {item.id: item.content async for page in store.stream() for item in page}
    assert len(listed) == await store.count()
    for writer in writers:
        namespace = ("a",) if writer.number % 2 else ("b",)
        for id, may_be in writer.may_be.items():
            await writer.check(id, namespace)
            found = await store.get(id, namespace=namespace)
            assert (None if found is None else found.content) == listed.get(id)
            writer.may_be[id] = {listed.get(id)}
            assert may_be


@pytest.mark.parametrize("name", COMPOSITIONS)
async def test_nothing_is_lost_or_made_up_among_faults(name: str, tmp_path: Path) -> None:
    faults = await storm(name, tmp_path, wanted=150, seed=1)
    assert {step for _, _, step in faults.injected} >= {"before", "request lost", "reply lost"}


@pytest.mark.full
@pytest.mark.parametrize("name", COMPOSITIONS)
async def test_nothing_is_lost_or_made_up_among_five_thousand_faults(name: str, tmp_path: Path) -> None:
    for seed in range(10):
        place = tmp_path / str(seed)
        place.mkdir()
        await storm(name, place, wanted=500, seed=seed)
