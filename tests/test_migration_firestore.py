"""Migrations to and from Firestore while its server is gone, silent, or resets connections: nothing is lost, and it goes on."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from firestore_raw import raw_client
from migrations import file, plain, records
from servers import server

from memory import BackendUnavailable, DeadlineExceeded, MemoryItem, MemoryStore, UnknownOutcome
from memory.backends.firestore.v2 import FirestoreV2Store
from memory.migration import MigrationReport, migrate, rollback
from memory.testing.making import name_of
from memory.testing.proxy import Proxy

TIMEOUT = 1.5
"""Seconds of a call to Firestore."""
ITEMS = 60


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy before the emulator."""
    host, _, port = server("firestore").url.rpartition(":")
    with Proxy(int(port), host) as proxy:
        yield proxy


def behind(proxy: Proxy, place: Path) -> FirestoreV2Store:
    return FirestoreV2Store(
        project_id=name_of(place), emulator=f"127.0.0.1:{proxy.port}", timeout=TIMEOUT, sweep_interval=None,
        breaker_failures=100,
    )  # fmt: skip


def before(place: Path) -> FirestoreV2Store:
    """The same data without the proxy, and with patience: an emulator that has just been started takes seconds for a call."""
    return FirestoreV2Store(project_id=name_of(place), emulator=server("firestore").url, sweep_interval=None)


def stopped(proxy: Proxy) -> None:
    proxy.refuse()
    proxy.cut()


FAULTS: dict[str, Callable[[Proxy], Any]] = {
    "stopped": stopped,
    "silent": lambda proxy: proxy.inject("drop"),
    "answers lost": lambda proxy: proxy.inject("drop", "replies"),
    "resetting": lambda proxy: proxy.inject("reset", share=0.5),
    "answers reset": lambda proxy: proxy.inject("lose_reply", share=0.5),
}


async def until_it_answers(work: Callable[[], Any]) -> Any:
    """The client waits a moment before it connects again; until then calls fail at once."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await work()
            except (BackendUnavailable, DeadlineExceeded, UnknownOutcome):
                await asyncio.sleep(0.1)


async def struck(
    fault: str, source: MemoryStore, target: MemoryStore, proxy: Proxy, state: Path
) -> tuple[BaseException | None, float]:
    """Migrate with a fault from the first written batch on: what it ended with, and seconds from the fault to the end."""
    began = 0.0

    def tell(phase: str, done: int, total: int | None) -> None:
        nonlocal began
        if phase == "moving" and not began:
            began = time.monotonic()
            threading.Thread(target=FAULTS[fault], args=(proxy,)).start()  # the loop does not wait for the proxy

    caught: BaseException | None = None
    async with source, target:
        try:
            await migrate(source, target, state=state, batch_size=10, progress=tell)
        except Exception as error:
            caught = error
        spent = time.monotonic() - began
        assert began
        proxy.heal()
    return caught, spent


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", ["into", "out of"])
async def test_a_fault_in_the_middle_is_told_in_time_and_the_next_run_ends_the_work(
    way: str, fault: str, proxy: Proxy, tmp_path: Path, state: Path
) -> None:
    there, here = behind(proxy, tmp_path), file(tmp_path / "here.db")
    source, target = (here, there) if way == "into" else (there, here)
    async with before(tmp_path) as emulated, here:
        await (here if way == "into" else emulated).put_many(plain(ITEMS))
        await (emulated if way == "into" else here).put(MemoryItem(id="mine", content="mine"))
    caught, spent = await struck(fault, source, target, proxy, state)
    assert isinstance(caught, BackendUnavailable | DeadlineExceeded | UnknownOutcome | None), repr(caught)
    if fault in ("stopped", "silent", "answers lost"):
        assert caught is not None
    # A batch in doubt is asked for a few times, each within the deadline.
    assert spent < 10 * TIMEOUT

    async def again() -> MigrationReport:
        async with source, target:
            return await migrate(source, target, state=state, batch_size=10)

    report = await until_it_answers(again)
    assert (report.ok, report.resumed, report.differences, report.compared) == (True, caught is not None, 0, ITEMS)
    if caught is not None:
        assert report.created == ITEMS, "each once: of what was in doubt it is known what became of it"
    async with source, target:
        wanted = await records(source)
        assert {key: row for key, row in (await records(target)).items() if key[1] != "mine"} == wanted
        undone = await rollback(state, target)
        assert (undone.ok, undone.deleted, await target.count()) == (True, ITEMS, 1)


async def test_a_slow_server_only_takes_longer(proxy: Proxy, tmp_path: Path, state: Path) -> None:
    there, here = behind(proxy, tmp_path), file(tmp_path / "here.db")
    async with before(tmp_path) as emulated:
        await emulated.count()
    async with here, there:
        await here.put_many(plain(ITEMS))
        proxy.inject("delay", "replies", seconds=0.02)
        report = await migrate(here, there, state=state, batch_size=30)
        assert (report.ok, report.created, report.compared) == (True, ITEMS, ITEMS)


async def test_what_another_program_left_beside_the_items_is_told_before_anything_is_written(
    tmp_path: Path, state: Path
) -> None:
    project, emulator = name_of(tmp_path), server("firestore").url
    source = FirestoreV2Store(project_id=project, emulator=emulator, sweep_interval=None)
    target = file(tmp_path / "here.db")

    def write() -> None:
        with raw_client(project, emulator) as client:
            client.document("default_agent_data_standard/agent_1").set({"id": "agent_1", "agent_id": "a", "content": 1})
            client.document("default_memory_items_standard/odd").set({"id": "odd", "text_content": "no time"})

    await asyncio.to_thread(write)
    async with source, target:
        await source.put_many(plain(5))
        report = await migrate(source, target, state=state)
        assert (report.ok, report.stopped, report.plan.items, report.plan.unlisted) == (False, "refused", 5, 2)
        assert [(one.key, one.why.partition(":")[0]) for one in report.findings] == [
            ((("default",), "agent_1"), "a document of default_agent_data_standard, where V2 programs keep agent data"),
            ((("default",), "odd"), "a document that is no item"),
        ]
        assert await target.count() == 0
        moved = await migrate(source, target, state=state, skip_refused=True)
        assert (moved.ok, moved.created, moved.unlisted, moved.differences) == (False, 5, 2, 0)
        part = await migrate(source, target, state=tmp_path / "part.jsonl", where={"kind": "note"})
        assert (part.ok, part.plan.unlisted) == (True, 0)
