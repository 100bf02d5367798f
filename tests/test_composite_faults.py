"""Members that fail at every step of everything: nothing acknowledged is lost, nothing else is claimed, all heals."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np  # noqa: F401 - loaded before the loop runs
import pytest
from composites import COMPOSITIONS, OUTAGES, STEPS, WHOLE_STEPS, WRITE_STEPS, Cell, Faults

from memory import MemoryItem, MemoryStore
from memory.errors import BatchError, MemoryStoreError, NotFound, UnknownOutcome

KEYS = 3
NAMESPACES = (("a", "x"), ("n",), ("b",), ("a",))
"""One for each writer; every route has some."""
SAME = -1
"""What a write leaves stored that changes no content."""
ROUNDS = 240
"""After so many rounds every member has failed at every step, or the test is no good: the rarest is met in one round of twenty."""

KEYED = ("read", "write")
LISTED = (*KEYED, "scan")
ASKED = (*LISTED, "count", "namespaces", "match", "nearest", "around")
ALL = (*ASKED, "feed")
ROUTED = {"a": ASKED, "rest": ASKED}
MIRRORED = {"primary": ALL, "copy": LISTED, "index": (*LISTED, "match", "nearest")}
MEMBERS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "tiered": {"fast": LISTED, "truth": ALL},
    "tiered_files": {"fast": LISTED, "truth": ALL},
    "mirrored": MIRRORED,
    "mirrored_in_memory": MIRRORED,
    "by_namespace": {"n": ASKED, **ROUTED},
    "by_content": {**dict.fromkeys(("working", "tagged", "odd", "rest"), ASKED), "journal": LISTED},
    "nested": {"fast": LISTED, "truth": ALL, "primary": ALL, "routed": LISTED, "a": LISTED, "rest": LISTED},
    "queued": {"primary": ALL, "copy": LISTED, "queue": ("write", "scan")},
    "queued_and_stale": {"primary": ALL, "copy": ASKED, "index": ASKED, "queue": ("write", "scan")},
    "stale": {"primary": ALL, "copy": ASKED},
    "tiered_queued": {"fast": LISTED, "primary": ALL, "copy": LISTED, "queue": ("write", "scan")},
}
"""Every member of every composition, and every hook that is called of it while the composition works."""
ONE_BY_ONE = {"journal", "queue"}
"""Members that are given one write at a time, which cannot stop half way."""


def cells(name: str) -> set[Cell]:
    """Every step at which each member of a composition can fail."""

    def steps(member: str, hook: str) -> tuple[str, ...]:
        return STEPS if hook != "write" else WHOLE_STEPS if member in ONE_BY_ONE else WRITE_STEPS

    return {
        (member, hook, step)
        for member, hooks in MEMBERS[name].items()
        for hook in hooks
        for step in steps(member, hook)
    }  # fmt: skip


class Writer:
    """Writes a few items that nobody else writes, so that it knows what may be stored of each: what was acknowledged
    last, or what was sent since and is not known of. Whatever it is told it compares with that."""

    def __init__(self, store: MemoryStore, number: int, seed: int, told: Counter[str], faults: Faults) -> None:
        self.store, self.number, self.namespace = store, number, NAMESPACES[number]
        self.told, self.faults = told, faults
        self.random = random.Random(f"{seed} {number}")
        self.may_be: dict[str, set[int | None]] = {f"{number}-{i}": {None} for i in range(KEYS)}
        self.versions: dict[str, int] = {}
        self.turn = 0

    def item(self, id: str) -> MemoryItem:
        self.turn += 1
        kinds, tags = ("note", "working"), ((), ("x",))
        return MemoryItem(
            id=id, namespace=self.namespace, content=self.turn, text=f"marmot {self.turn}", session_id="s",
            kind=self.random.choice(kinds), tags=self.random.choice(tags), metadata={"n": self.random.randrange(10)},
            embedding=[1.0, float(self.turn)],
        )  # fmt: skip

    async def steps(self, count: int) -> None:
        for _ in range(count):
            await self.step()

    async def step(self) -> None:
        calls = {
            self.put: 4, self.put_many: 2, self.update: 2, self.delete: 1, self.delete_many: 1, self.touch: 2,
            self.get: 4, self.list: 1, self.count: 1, self.found_by_text: 1, self.found_by_vector: 1, self.spaces: 1,
            self.upkeep: 1,
        }  # fmt: skip
        (call,) = self.random.choices(list(calls), list(calls.values()))
        await call()

    def some(self) -> list[str]:
        """Ids of two of the items, or three."""
        return self.random.sample(list(self.may_be), self.random.randint(2, KEYS))

    # --- writing -------------------------------------------------------------------------------

    async def put(self) -> None:
        item = self.item(self.random.choice(list(self.may_be)))
        await self.sent({item.id: item.content}, self.store.put(item))

    async def put_many(self) -> None:
        items = [self.item(id) for id in self.some()]
        await self.sent({item.id: item.content for item in items}, self.store.put_many(items))

    async def update(self) -> None:
        item = self.item(self.random.choice(list(self.may_be)))
        changes = {"content": item.content, "tags": item.tags, "kind": item.kind}
        await self.sent({item.id: item.content}, self.store.update(item.id, namespace=self.namespace, **changes))

    async def delete(self) -> None:
        id = self.random.choice(list(self.may_be))
        await self.sent({id: None}, self.store.delete(id, namespace=self.namespace))

    async def delete_many(self) -> None:
        ids = self.some()
        await self.sent(dict.fromkeys(ids), self.store.delete_many(ids, namespace=self.namespace))

    async def touch(self) -> None:
        id = self.random.choice(list(self.may_be))
        await self.sent({id: SAME}, self.store.touch(id, namespace=self.namespace))

    async def sent(self, wanted: Mapping[str, int | None], call: Awaitable[Any]) -> None:
        """A write, and what is told of each of its items."""
        try:
            done = await call
            outcomes = done if isinstance(done, list) else [done]
        except BatchError as error:
            outcomes = list(error.results)
        except MemoryStoreError as error:
            outcomes = [error] * len(wanted)
        for (id, value), outcome in zip(wanted.items(), outcomes, strict=True):
            await self.hear(id, value, outcome)

    async def hear(self, id: str, value: int | None, outcome: Any) -> None:
        may_be = self.may_be[id]
        if isinstance(outcome, UnknownOutcome):
            if value != SAME:
                may_be.add(value)
            if self.random.random() < 0.5:
                return
            outcome = await self.retried(id, outcome)
        self.told["claims"] += 1
        if isinstance(outcome, NotFound) or outcome is False:
            assert None in may_be, f"{id} is said to be absent; it holds one of {may_be}"
        elif isinstance(outcome, MemoryStoreError):
            return  # certainly not applied, or as unknown as before
        elif outcome is True:
            assert may_be != {None}, f"{id} is said to have been there"
        else:
            assert outcome.content == value
            assert outcome.version > self.versions.get(id, 0), f"the version of {id} did not rise"
            self.versions[id] = outcome.version
        if value != SAME and not isinstance(outcome, NotFound):
            self.may_be[id] = {value}

    async def retried(self, id: str, error: UnknownOutcome) -> Any:
        try:
            return await error.retry()
        except MemoryStoreError as failed:
            return failed

    async def healed(self) -> None:
        """Told that every member is well again and nothing waits any more."""

    # --- reading -------------------------------------------------------------------------------

    async def get(self) -> None:
        id = self.random.choice(list(self.may_be))
        await self.asked(lambda: self.store.get(id, namespace=self.namespace), lambda item: self.check(id, item))

    async def list(self) -> None:
        await self.asked(lambda: self.store.list(limit=50, **self.where()), self.check_all)

    async def found_by_text(self) -> None:
        neighbours = self.random.choice((0, 1))
        await self.asked(
            lambda: self.store.search("marmot", limit=50, neighbours=neighbours, **self.where()),
            lambda hits: self.check_all([hit.item for hit in hits]),
        )

    async def found_by_vector(self) -> None:
        await self.asked(
            lambda: self.store.search(vector=[1.0, 2.0], limit=50, **self.where()),
            lambda hits: self.check_all([hit.item for hit in hits]),
        )

    async def count(self) -> None:
        def check(count: int) -> None:
            least = sum(None not in may_be for may_be in self.may_be.values())
            assert least <= count <= sum(may_be != {None} for may_be in self.may_be.values())

        await self.asked(lambda: self.store.count(namespace=self.namespace), check)

    async def spaces(self) -> None:
        def check(namespaces: list[tuple[str, ...]]) -> None:
            assert len(set(namespaces)) == len(namespaces)
            if self.namespace in namespaces:
                assert any(may_be != {None} for may_be in self.may_be.values())
            else:
                assert all(None in may_be for may_be in self.may_be.values())

        await self.asked(self.store.namespaces, check)

    async def upkeep(self) -> None:
        await self.asked(self.random.choice((self.store.sweep, self.store.verify)), lambda _: None)

    def where(self) -> dict[str, Any]:
        """Its own namespace, or all of the store."""
        return self.random.choice(({"namespace": self.namespace}, {}))

    async def asked(self, call: Callable[[], Awaitable[Any]], check: Callable[[Any], None]) -> None:
        try:
            answer = await call()
        except MemoryStoreError:
            return
        self.told["claims"] += 1
        check(answer)

    def check_all(self, items: list[MemoryItem]) -> None:
        """Everything is there that has to be, once, and nothing else."""
        assert len({(item.namespace, item.id) for item in items}) == len(items)
        listed = {item.id: item for item in items if item.namespace == self.namespace}
        assert listed.keys() <= self.may_be.keys()
        for id in self.may_be:
            self.check(id, listed.get(id))

    def check(self, id: str, found: MemoryItem | None) -> None:
        value = None if found is None else found.content
        assert value in self.may_be[id], f"{id} holds {value}, not one of {self.may_be[id]}"
        if found is not None:
            assert found.text == f"marmot {value}" or found.updated_at > found.created_at
            assert found.version >= self.versions.get(id, 0), f"the version of {id} fell"


async def storm(
    name: str, place: Path, *, wanted: int, seed: int, kind: type[Writer] = Writer
) -> tuple[Faults, Counter[str]]:
    """Writers among faults until so many were injected, at every step of every member. Now and then all is healed,
    drained and compared, every other time by a store that is made anew."""
    faults, told = Faults(seed), Counter[str]()

    def composed() -> Any:
        return {**COMPOSITIONS, **OUTAGES}[name](place, faults, failures=1_000, recovery=0.001, sweep_interval=None)

    store = await composed().open()
    writers = [kind(store, number, seed, told, faults) for number in range(len(NAMESPACES))]
    try:
        while faults.total < wanted or cells(name) - faults.injected.keys():
            assert told["rounds"] < ROUNDS, f"never failed: {sorted(cells(name) - faults.injected.keys())}"
            told["rounds"] += 1
            faults.rate = 0.12
            async with asyncio.TaskGroup() as group:
                for writer in writers:
                    group.create_task(writer.steps(50))
            faults.down.clear()
            if told["rounds"] % 2:
                await store.close()
                store = composed()
                await opened(store, faults)
                for writer in writers:
                    writer.store = store
            faults.rate = 0.0
            await heal(store, writers, told)
    finally:
        await store.close()
    assert faults.injected.keys() == cells(name), "a member was asked something that MEMBERS does not say"
    return faults, told


async def opened(store: Any, faults: Faults) -> None:
    """Open a store whose members go on failing for a while."""
    for _ in range(5):
        try:
            await store.open()
            return
        except MemoryStoreError:
            pass
    faults.rate = 0.0
    await store.open()


async def emptied(store: Any) -> None:
    """Whatever has waited for a primary is applied, or given up, and nothing is left of it."""
    inner = store.truth.store if hasattr(store, "truth") else store
    queue = getattr(inner, "queue", None)
    if queue is not None:
        await queue.drain()
        assert not queue.waiting
        assert await queue.member.store.count() == 0


async def heal(store: Any, writers: list[Writer], told: Counter[str]) -> None:
    """With the members well again and the feeds followed, every copy is right and every key holds what it may hold."""
    await emptied(store)
    for writer in writers:
        await writer.healed()
    await store.sweep()
    report = await store.verify()
    assert report.ok, report.problems[:3]
    listed = [item async for page in store.stream() for item in page]
    assert len(listed) == await store.count()
    told["records compared"] += report.checked
    for writer in writers:
        writer.check_all(listed)
        for id in writer.may_be:
            found = await store.get(id, namespace=writer.namespace)
            writer.check(id, found)
            assert found is None or found in listed
            assert (found is None) == (id not in {item.id for item in listed})
            writer.may_be[id] = {None if found is None else found.content}
            told["claims"] += 2


def show(name: str, faults: Counter[Cell], told: Counter[str]) -> None:
    """How often each member failed at each step (pytest -rP shows it)."""
    print(f"{name}: {faults.total()} faults, {dict(told)}")
    for member, hooks in MEMBERS[name].items():
        for hook in hooks:
            counts = {step: count for (one, what, step), count in faults.items() if (one, what) == (member, hook)}
            print(
                f"  {member:9} {hook:11}",
                ", ".join(f"{step} {counts[step]}" for step in WRITE_STEPS + STEPS[1:] if step in counts),
            )


@pytest.mark.parametrize("name", COMPOSITIONS)
async def test_nothing_is_lost_or_made_up_among_faults(name: str, tmp_path: Path) -> None:
    faults, told = await storm(name, tmp_path, wanted=150, seed=1)
    show(name, faults.injected, told)


@pytest.mark.full
@pytest.mark.parametrize("name", COMPOSITIONS)
async def test_nothing_is_lost_or_made_up_among_five_thousand_faults(name: str, tmp_path: Path) -> None:
    injected, told = Counter[Cell](), Counter[str]()
    for seed in range(10):
        place = tmp_path / str(seed)
        place.mkdir()
        faults, heard = await storm(name, place, wanted=500, seed=seed)
        injected += faults.injected
        told += heard
    show(name, injected, told)
