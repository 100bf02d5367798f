"""Children that move items between the routes of a store, are killed while they do, and what they leave.

``python kill_moves.py KILLS SEED PLACE [forgetful]``: each child tells what it is about to write and what was
acknowledged; it is ended by SIGKILL at a random moment, and the next one, which nobody kills, opens the same files and
compares. Prints JSON: how many were killed, how many of them within a move and how far it was, how many writes were
acknowledged, and what was wrong. ``forgetful``: nobody looks into the journal when the store is opened, which has to be
noticed.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy  # noqa: F401, ICN001 - loaded before anything is forked

from memory import MemoryItem
from memory.backends.composite import Route, RoutedStore
from memory.backends.composite.moving import Mover
from memory.backends.sqlite import SqliteStore
from memory.layers import Hook, Layer
from memory.ops import Read
from memory.testing.faults.processes import Child, Say, finish, pump_until

ITEMS = [f"{i}" for i in range(6)]
TAGGED = ("x",)
TASKS = 3


def composed(place: Path, *layers: Layer) -> RoutedStore:
    """Two routes, of which a tag decides, and the journal, each in a file."""
    tagged, rest, journal = [
        SqliteStore(place / f"{name}.db", synchronous="off", layers=layers) for name in ("tagged", "rest", "journal")
    ]
    routes = {"tagged": Route(tagged, tag="x"), "rest": Route(rest)}
    return RoutedStore(routes, journal=journal, sweep_interval=None)


def slow(name: str, hook: Hook) -> Hook:
    """Writes that take as long as those of a server, so that a move is seldom over before a signal arrives."""

    async def slowly(*args: Any) -> Any:
        await asyncio.sleep(0.001)
        answer = await hook(*args)
        await asyncio.sleep(0.001)
        return answer

    return slowly if name == "write" else hook


def moving(place: Path, turns: dict[str, int], seed: int, say: Say) -> None:
    """Write items again and again so that they move, until killed. Says "intent" with the id and the content before each
    write, and "done" with the version after it. ``turns``: what was written last of each."""

    async def task(store: RoutedStore, number: int) -> None:
        rng = random.Random(f"{seed} {number}")
        while True:
            id = rng.choice(ITEMS[number::TASKS])
            turn = turns[id] = turns[id] + 1
            tags = TAGGED if turn % 2 else ()
            say(json.dumps(["intent", id, turn]).encode())
            stored = await store.put(MemoryItem(id=id, content=turn, text=f"marmot {turn}", tags=tags))
            say(json.dumps(["done", id, turn, stored.version]).encode())

    async def live() -> None:
        async with composed(place, slow) as store, asyncio.TaskGroup() as group:
            for number in range(TASKS):
                group.create_task(task(store, number))

    asyncio.run(live())


def looking(place: Path, say: Say) -> None:
    """What a killed child has left: the moves that were under way, by how far they were; then, opened, everything."""

    async def look() -> dict[str, Any]:
        store = composed(place)
        journal = store.journal
        assert journal is not None
        opened = [journal.member.store, *(route.store for route in store.routes)]
        for each in opened:
            await each.open()
        left = []
        for move in await journal.left():
            places = {route.name: await route.store._do_read(Read(keys=(move.key,), now=1)) for route in store.routes}
            held = [places[name][0] is not None for name in (move.source, move.target)]
            left.append({(True, False): "noted", (True, True): "copied", (False, True): "removed"}[tuple(held)])
        for each in opened:
            await each.close()
        async with composed(place) as store:
            assert store.journal is not None
            wrong = [str(problem) for problem in (await store.verify()).problems]
            listed = list(await store.list(limit=50))
            if [item for id in ITEMS if (item := await store.get(id))] != listed:
                wrong.append("get and list differ")
            if sorted([hit.item.id for hit in await store.search("marmot", limit=50)]) != [item.id for item in listed]:
                wrong.append("search and list differ")
            if await store.count() != len(listed):
                wrong.append("count and list differ")
            members = {route.name: [item.id for item in await route.store.list(limit=50)] for route in store.routes}
            for item in listed:
                holding = [name for name, ids in members.items() if item.id in ids]
                if holding != ["tagged" if item.tags else "rest"]:
                    wrong.append(f"{item.id} lies in {holding}")
            if sum(map(len, members.values())) != len(listed) or await store.journal.left():
                wrong.append("a copy or a note was left")
            return {"left": left, "wrong": wrong, "items": {item.id: [item.content, item.version] for item in listed}}

    say(json.dumps(asyncio.run(look())).encode())


def main(kills: int, seed: int, place: Path) -> dict[str, Any]:
    """The whole run."""
    rng = random.Random(seed)
    told: Counter[str] = Counter(kills=0, within=0, noted=0, copied=0, removed=0, acknowledged=0, compared=0)
    wrong: list[str] = []
    held: dict[str, list[int]] = {}
    turns = dict.fromkeys(ITEMS, 0)
    for number in range(kills):
        child = Child(partial(moving, place, turns, rng.randrange(1 << 30)))
        wanted = rng.randint(0, 60)
        pump_until([child], time.monotonic() + 30, lambda wanted=wanted, child=child: len(child.lines) >= wanted)
        pump_until([child], time.monotonic() + rng.uniform(0.0, 0.01))
        child.kill()
        if not finish(child, 10) or child.error:
            wrong.append(f"kill {number}: the child had ended: {child.error}")
        may_be = {id: {content[0]} for id, content in held.items()}
        least = {id: content[1] for id, content in held.items()}
        for what, id, turn, *version in map(json.loads, child.lines):
            turns[id] = turn
            if what == "intent":
                may_be.setdefault(id, {None}).add(turn)
            else:
                may_be[id], least[id] = {turn}, version[0]
                told["acknowledged"] += 1
        checker = Child(partial(looking, place))
        if not finish(checker, 60) or checker.error:
            wrong.append(f"kill {number}: not opened: {checker.error}")
            break
        seen = json.loads(checker.lines[-1])
        held = seen["items"]
        wrong += [f"kill {number}: {one}" for one in seen["wrong"]]
        for id, contents in may_be.items():
            content, version = held.get(id, [None, 0])
            told["compared"] += 1
            if content not in contents or version < least.get(id, 0):
                wrong.append(
                    f"kill {number}: {id} is {content} at {version}, not of {contents} from {least.get(id)} on"
                )
        told["kills"] += 1
        told["within"] += bool(seen["left"])
        told.update(seen["left"])
    return {**told, "wrong": wrong}


async def forget(mover: Mover) -> None:
    """In place of finishing what an earlier process has begun."""


if __name__ == "__main__":
    if sys.argv[4:] == ["forgetful"]:
        Mover.resume = forget  # type: ignore[method-assign]
    print(json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
