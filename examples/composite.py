"""Several stores as one, each of the three shapes, with a member that fails: python examples/composite.py"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from memory import MemoryItem
from memory.backends.composite import MirroredStore, Promotion, Route, RoutedStore, TieredStore
from memory.backends.in_memory import InMemoryStore
from memory.backends.sqlite import SqliteStore
from memory.errors import InvalidSetting
from memory.registry import create_store

CONFIGURATION = """
store = "memory"

[stores.memory]
shape = "tiered"
fast = "cache"
truth = "memory"

[stores.cache]
backend = "in_memory"
"""


async def tiered(place: Path) -> None:
    async with TieredStore(InMemoryStore(), SqliteStore(place / "truth.db"), staleness=0.5) as store:
        await store.put(MemoryItem(id="m1", content="Maya likes window seats"))
        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(store.get("m1")) for _ in range(100)]
        found = {item.content for reader in readers if (item := reader.result()) is not None}
        print(f"tiered: {found}, what is acknowledged survives {store.durability}")


async def mirrored(place: Path) -> None:
    mirrors = {"search": SqliteStore(place / "search.db")}
    async with MirroredStore(SqliteStore(place / "records.db"), mirrors, text="search") as store:
        await store.put_many([MemoryItem(id=f"m{i}", content=f"note {i} about Lisbon") for i in range(20)])
        hits = (await store.search("note 7")).hits
        print(f"mirrored: found {hits[0].item.id} in the mirror")
        await store.mirrors["search"].store.delete("m3")  # somebody else's hand
        problems = (await store.verify()).problems
        print(f"mirrored: {problems[0].what}, {problems[0].detail}")
        await store.repair()
        print(f"mirrored: repaired, {len((await store.verify()).problems)} problems left")


async def routed(place: Path) -> None:
    routes = {
        "short": Route(InMemoryStore(), kind="working", order=1, promote=Promotion(accesses=2)),
        "acme": Route(SqliteStore(place / "acme.db"), under="acme", order=2),
        "rest": Route(SqliteStore(place / "rest.db")),
    }
    async with RoutedStore(routes, journal=SqliteStore(place / "journal.db")) as store:
        gate = await store.put(MemoryItem(id="gate", kind="working", content="the gate is B12"))
        await store.put(MemoryItem(id="seat", namespace=("acme", "travel"), content="window seats near the gate"))
        print(f"routed: {store.explain(gate)}")
        print(f"routed: one search over all: {[hit.item.id for hit in await store.search('gate')]}")
        await store.touch("gate")
        await store.touch("gate")
        await store.sweep()
        print(f"routed: promoted, {await store.routes[0].store.count()} short-term items left")


def refused(place: Path) -> None:
    (place / "memory.toml").write_text(CONFIGURATION)
    try:
        create_store(f"composite:///{place}/memory.toml")
    except InvalidSetting as error:
        print(f"refused: {error.message.removeprefix(str(place))[1:]}")


async def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for shape in (tiered, mirrored, routed):
            await shape(place)
        refused(place)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
