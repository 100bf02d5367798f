"""Writers whose every item carries its own name, writer and serial number, so that a wrong memory is recognised.

Several writers share some names, where they race; others are written by one task alone, where the outcome is
known exactly. ``item_for`` is a pure function of what the record says, so the checker rebuilds each item whole.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable

from memory.errors import (
    AlreadyExists,
    BatchError,
    MemoryStoreError,
    NotFound,
    StorageFull,
    UnknownOutcome,
    VersionConflict,
)
from memory.model import Key, MemoryItem
from memory.store import MemoryStore
from memory.testing.faults.history import Ack, By, Intent, Kind, Name

Emit = Callable[[Intent | Ack], None]
Now = Callable[[], int]

WORDS = (
    *("amber", "basalt", "cobalt", "damask", "ebony", "flint", "garnet", "hazel", "indigo", "jasper", "khaki"),
    *("lapis", "mauve", "nickel", "ochre", "pearl", "quartz", "russet", "sienna", "topaz", "umber", "violet"),
)
KINDS = ("note", "episodic", "semantic")
SHARED = tuple(f"shared/{i:02}" for i in range(12))
WEIGHTS: dict[Kind, int] = {
    "put": 24,
    "add": 12,
    "cas": 18,
    "update": 18,
    "delete": 9,
    "delete_cas": 4,
    "batch": 8,
    "atomic": 4,
    "delete_batch": 3,
}


def private_names(slot: int, task: int) -> tuple[Name, ...]:
    """The names that one task alone writes."""
    return tuple(f"own-{slot}-{task}/{i}" for i in range(6))


def key_of(name: Name) -> Key:
    """Where an item of the workload lies: the part before the slash is a namespace below ``faults``."""
    return (("faults", name.split("/", maxsplit=1)[0]), name)


def _fill(name: Name, by: By) -> str:
    """Words and length that only this name and write have; a few items span several pages."""
    rng = random.Random(f"{name} {by}")
    words = rng.choices(WORDS, k=rng.choice((4, 8, 8, 16, 30, 60, 200)))
    return f"{' '.join(words)} {name} {by[0]}.{by[1]}"


def item_for(name: Name, by: By, born: By | None = None, trail: Iterable[By] = ()) -> MemoryItem:
    """The item that operation ``by`` leaves under a name: a put, or the last of ``trail``'s updates of ``born``."""
    return MemoryItem(
        id=name,
        namespace=key_of(name)[0],
        kind=KINDS[(born or by)[1] % len(KINDS)],
        content={
            "name": name,
            "born": list(born or by),
            "by": list(by),
            "fill": _fill(name, by),
            "trail": {f"{writer}.{serial}": 1 for writer, serial in trail},
        },
        metadata={"by": f"{by[0]}.{by[1]}", "shade": by[1] % 4},
        tags=(f"writer-{by[0]}", WORDS[by[1] % len(WORDS)]),
        user_id=f"user-{by[0] % 3}",
        session_id=f"session-{name.split('/', maxsplit=1)[0]}",
        importance=(by[1] % 11) / 10,
    )


class Writer:
    """One writer: ``tasks`` tasks that write until cancelled or ``limit`` operations are done."""

    refused: tuple[type[MemoryStoreError], ...] = (AlreadyExists, VersionConflict, NotFound)
    """Errors that may come and say for certain that nothing was written."""

    def __init__(
        self,
        store: MemoryStore,
        emit: Emit,
        *,
        writer: int,
        slot: int,
        seed: int,
        now: Now,
        weights: dict[Kind, int] = WEIGHTS,
    ) -> None:
        self.store, self.emit, self.writer, self.slot, self.now = store, emit, writer, slot, now
        self.random = random.Random(seed)
        self.serial = 0
        self.kinds = tuple(weights)
        self.weights = tuple(weights.values())
        self.full = 0
        """How many operations ended with StorageFull."""
        self.failed = 0
        """How many ended with an error that has no place here; each is a violation."""

    async def run(self, tasks: int, limit: int | None = None) -> None:
        """Write; each task has its own names and shares others."""
        async with asyncio.TaskGroup() as group:
            for task in range(tasks):
                group.create_task(self._task(private_names(self.slot, task), limit))

    async def _task(self, own: tuple[Name, ...], limit: int | None) -> None:
        done = 0
        while limit is None or done < limit:
            done += 1
            await self.step(own)

    async def step(self, own: tuple[Name, ...]) -> None:
        """One operation, chosen at random."""
        (kind,) = self.random.choices(self.kinds, self.weights)
        names = own if kind == "atomic" or self.random.random() < 0.5 else SHARED
        if kind in ("batch", "atomic", "delete_batch"):
            await self.do(kind, self.random.sample(names, self.random.randint(2, min(6, len(names)))))
            return
        name = self.random.choice(names)
        expect = 0
        if kind in ("cas", "delete_cas"):
            key = key_of(name)
            item = await self.store.get(key[1], namespace=key[0])
            if item is None:
                kind = "add"
            else:
                expect = item.version
        await self.do(kind, [name], expect)

    async def do(self, kind: Kind, names: list[Name], expect: int = 0) -> list[int]:
        """One operation with its intent and its acknowledgement."""
        self.serial += 1
        by = (self.writer, self.serial)
        self.emit(Intent(*by, self.now(), kind, names, expect))
        error = ""
        try:
            results = await self._apply(kind, names, by, expect)
        except self.refused:
            results = [0] * len(names)
        except StorageFull:
            self.full += 1
            results = [0] * len(names)
        except UnknownOutcome as unknown:
            results = [await self.settle(unknown)] * len(names)
        except BatchError as failed:
            results = [await self._result_of(outcome) for outcome in failed.results]
            self.full += any(isinstance(outcome, StorageFull) for outcome in failed.results)
            expected = (*self.refused, StorageFull, UnknownOutcome)
            error = next((repr(e) for e in failed.errors.values() if not isinstance(e, expected)), "")
        except Exception as failed:
            results = [-1] * len(names)
            error = repr(failed)
        self.failed += bool(error)
        self.emit(Ack(*by, self.now(), results, error))
        return results

    async def _apply(self, kind: Kind, names: list[Name], by: By, expect: int) -> list[int]:
        store = self.store
        namespace, id = key_of(names[0])
        if kind == "put":
            return [(await store.put(item_for(id, by))).version]
        if kind == "add":
            return [(await store.add(item_for(id, by))).version]
        if kind == "cas":
            return [(await store.put(item_for(id, by), if_version=expect)).version]
        if kind == "delete":
            return [int(await store.delete(id, namespace=namespace))]
        if kind == "delete_cas":
            return [int(await store.delete(id, namespace=namespace, if_version=expect))]
        if kind == "delete_batch":
            return [int(gone) for gone in await store.delete_many(names, namespace=namespace)]
        if kind == "update":
            new = item_for(id, by)
            changed = await store.update(
                id,
                namespace=namespace,
                content={"by": list(by), "fill": new.content["fill"], "trail": {f"{by[0]}.{by[1]}": 1}},
                metadata=new.metadata,
                tags=new.tags,
                user_id=new.user_id,
                importance=new.importance,
            )
            return [changed.version]
        items = [item_for(name, by) for name in names]
        return [item.version for item in await store.put_many(items, atomic=kind == "atomic")]

    async def settle(self, error: UnknownOutcome) -> int:
        """What an unknown outcome turns out to be, as the record keeps it; here it stays unknown."""
        return -1

    async def _result_of(self, outcome: object) -> int:
        """One result of a batch, as the record keeps it."""
        if isinstance(outcome, MemoryItem):
            return outcome.version
        if isinstance(outcome, bool):
            return int(outcome)
        if isinstance(outcome, UnknownOutcome):
            return await self.settle(outcome)
        return 0 if isinstance(outcome, (*self.refused, StorageFull)) else -1
