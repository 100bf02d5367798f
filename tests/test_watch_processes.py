"""Watching what other processes write: every acknowledged change is seen once, in order by key, and soon."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import server

from memory.store import Change, MemoryStore
from memory.testing.contract.feed import changes, start
from memory.testing.making import MakeAt, maker

BOUND_SECONDS = 10.0
"""How long after its acknowledgement a change may be seen, on a machine that others keep busy too. By itself it is the time
between two looks at the feed; in a burst as here the watcher, who reads each item, is up to a second or two behind."""
WRITERS = 2
BACKENDS: dict[str, Callable[[], tuple[str, dict[str, Any]]]] = {
    "sqlite": lambda: ("sqlite", {}),
    "redis": lambda: (server("redis").url, {}),
    "redis_cluster": lambda: (server("redis_cluster").url, {}),
    "postgres": lambda: (server("postgres").url, {}),
    "pgbouncer": lambda: (server("pgbouncer").url, {"pgbouncer": True}),
}
"""What `maker` takes, here and in the processes that write. Each process has a store of its own on the same data."""

WRITER = """
import asyncio, json, sys, time
from pathlib import Path
from memory import MemoryItem
from memory.testing.making import maker

TURNS = 24

async def main(backend, options, place, name):
    acknowledged = []

    def note(kind, id, version=None):
        acknowledged.append((kind, id, version, time.monotonic()))

    async def alone(id):
        for turn in range(TURNS):
            note("put", id, (await store.put(MemoryItem(id=id, content=turn))).version)
            if turn % 4 == 3:
                assert await store.delete(id)
                note("delete", id)

    async def shared():
        for turn in range(TURNS):
            note("put", "shared", (await store.put(MemoryItem(id="shared", content=[name, turn]))).version)

    async def many():
        for turn in range(TURNS):
            for stored in await store.put_many([MemoryItem(id=f"{name}-many-{i}", content=turn) for i in range(5)]):
                note("put", stored.id, stored.version)

    async with maker(backend, **options)(Path(place), feed=True) as store:
        print("open", flush=True)
        sys.stdin.readline()
        await asyncio.gather(alone(f"{name}-one"), alone(f"{name}-other"), shared(), many())
    print(json.dumps(acknowledged))

asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], sys.argv[4]))
"""


async def written(together: asyncio.Barrier, *arguments: str) -> list[tuple[str, str, int | None, float]]:
    """What another process wrote and was told is stored: kind, id, version, and when it was told."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, *arguments, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert process.stdout is not None
    try:
        await process.stdout.readline()  # its store is open
        await together.wait()
        out, err = await process.communicate(b"begin\n")
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()[-2_000:]
    told: list[tuple[str, str, int | None, float]] = [tuple(one) for one in json.loads(out)]
    return told


async def watch(store: MemoryStore, token: str, seen: list[tuple[Change, float]]) -> None:
    async for change in store.watch(resume=token):
        seen.append((change, time.monotonic()))  # noqa: PERF401 - one by one: somebody waits for their number


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> tuple[MakeAt, str, dict[str, Any]]:
    """Made before there is a loop, which the start of a server and the import of a driver would hold."""
    address, options = BACKENDS[request.param]()
    return maker(address, **options), address, options


@pytest.mark.realtime
async def test_what_other_processes_write_is_watched_whole_in_order_and_soon(
    tmp_path: Path, backend: tuple[MakeAt, str, dict[str, Any]]
) -> None:
    make, address, options = backend
    async with make(tmp_path, feed=True) as store:
        token = await start(store)
        seen: list[tuple[Change, float]] = []
        watching = asyncio.create_task(watch(store, token, seen))
        async with asyncio.timeout(120), asyncio.TaskGroup() as group:
            together = asyncio.Barrier(WRITERS)
            arguments = address, json.dumps(options), str(tmp_path)
            writers = [group.create_task(written(together, *arguments, f"w{number}")) for number in range(WRITERS)]
        told = [writer.result() for writer in writers]
        total = sum(map(len, told))
        end = time.monotonic() + BOUND_SECONDS
        while len(seen) < total and not watching.done() and time.monotonic() < end:
            await asyncio.sleep(0.01)
        assert not watching.done(), watching.exception()
        watching.cancel()
        await asyncio.wait({watching})
        late = await changes(store, seen[-1][0].token)

    assert (len(seen), late) == (total, [])
    by_key: dict[str, list[tuple[Change, float]]] = defaultdict(list)
    for change, at in seen:
        by_key[change.key[1]].append((change, at))
        if change.item is not None:
            assert change.item.version >= change.version, "an item was read older than its event"
    for one in told:  # what a process wrote alone: in the order in which it was acknowledged
        for id in {id for _, id, _, _ in one if id != "shared"}:
            mine = [(kind, version, at) for kind, of, version, at in one if of == id]
            assert [change.kind for change, _ in by_key[id]] == [kind for kind, _, _ in mine]
            for (change, at), (kind, version, acknowledged) in zip(by_key[id], mine, strict=True):
                assert kind == "delete" or change.version == version
                assert at - acknowledged <= BOUND_SECONDS
    both = sorted((version, at) for one in told for _, id, version, at in one if id == "shared" and version is not None)
    assert [change.version for change, _ in by_key["shared"]] == [version for version, _ in both]
    assert all(
        at - acknowledged <= BOUND_SECONDS for (_, at), (_, acknowledged) in zip(by_key["shared"], both, strict=True)
    )
