"""What surrounds operations: deadlines, observers, counted accesses, twins whose loop has gone."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from memory import Closed, DeadlineExceeded, ManualClock, MemoryItem, MemoryStore, UnknownOutcome, WrongLoop
from memory.backends.in_memory import InMemoryStore
from memory.backends.sqlite import SqliteStore
from memory.layers import deadline, observe
from memory.store.tracking import DELAY_SECONDS


class SlowStore(InMemoryStore):
    """in_memory whose reads and writes wait for a moment first, and then happen."""

    delay = 0.0

    async def _read(self, op: Any) -> Any:
        await asyncio.sleep(self.delay)
        return await super()._read(op)

    async def _write(self, ops: Any, atomic: bool) -> Any:
        results = await super()._write(ops, atomic)
        await asyncio.sleep(self.delay)
        return results


async def test_a_read_beyond_its_deadline_says_so() -> None:
    async with SlowStore(layers=[deadline(0.02)]) as store:
        store.delay = 10
        with pytest.raises(DeadlineExceeded) as caught:
            await store.get("x")
        assert caught.value.seconds == 0.02  # type: ignore[attr-defined]


async def test_a_write_beyond_its_deadline_is_unknown_and_can_be_finished_once() -> None:
    async with SlowStore(layers=[deadline(0.02)]) as store:
        store.delay = 10
        with pytest.raises(UnknownOutcome) as caught:
            await store.put(MemoryItem(id="x", content="once"))
        store.delay = 0
        first = await store.get("x")
        assert first is not None
        again = await caught.value.retry()
        assert again.version == first.version


async def test_a_hook_that_times_out_by_itself_is_not_taken_for_the_deadline() -> None:
    class Impatient(InMemoryStore):
        async def _read(self, op: Any) -> Any:
            raise TimeoutError

    async with Impatient(layers=[deadline(5)]) as store:
        with pytest.raises(TimeoutError):
            await store.get("x")


async def test_an_observer_hears_of_every_operation_and_its_error() -> None:
    heard: list[tuple[str, str | None]] = []

    def observer(name: str, seconds: float, error: BaseException | None) -> None:
        assert seconds >= 0
        heard.append((name, type(error).__name__ if error else None))

    async with SlowStore(layers=[observe(observer), deadline(0.02)]) as store:
        await store.put(MemoryItem(id="x", content="x"))
        await store.search("x")
        store.delay = 10
        with pytest.raises(DeadlineExceeded):
            await store.get("x")
    # A search reads its best candidates before it ends.
    assert heard == [("write", None), ("read", None), ("match", None), ("read", "DeadlineExceeded")]


async def test_without_layers_the_hook_itself_is_called() -> None:
    async with InMemoryStore() as store:
        assert store._do_read == store._read


@pytest.mark.parametrize("engine", ["in_memory", "sqlite"])
async def test_tracked_reads_count_as_accesses_and_are_written_together(engine: str, tmp_path: Path) -> None:
    clock = ManualClock()
    options: dict[str, Any] = {"clock": clock, "track_access": True}
    store: MemoryStore = (
        InMemoryStore(**options) if engine == "in_memory" else SqliteStore(tmp_path / "memory.db", **options)
    )
    async with store:
        stored = await store.put_many([MemoryItem(id=name, content=f"tea {name}") for name in "abc"])
        clock.advance(60)
        await store.get("a")
        await store.get("a")
        await store.get_many(["a", "b", "missing"])
        await store.search("tea", limit=2)
        assert (await store.list({"access_count": {"$gt": 0}})).items == []
        await asyncio.sleep(DELAY_SECONDS * 2)
        counts = {item.id: item.access_count for item in await store.list()}
        assert counts == {"a": 4, "b": 2, "c": 0}
        touched = (await store.list({"id": "a"})).items[0]
        assert touched.updated_at == stored[0].updated_at
        assert touched.accessed_at > stored[0].accessed_at
        assert touched.version > stored[0].version


async def test_accesses_not_yet_written_are_written_at_close(tmp_path: Path) -> None:
    async with SqliteStore(tmp_path / "memory.db", track_access=True) as store:
        await store.put(MemoryItem(id="a", content="tea"))
        await store.get("a")
    async with SqliteStore(tmp_path / "memory.db") as store:
        found = await store.get("a")
        assert found is not None
        assert found.access_count == 1


def test_a_twin_of_a_store_whose_loop_has_ended_raises_closed() -> None:
    store = InMemoryStore()

    async def opened() -> None:
        await store.open()

    asyncio.run(opened())
    with pytest.raises(Closed, match="not running any more"):
        store.get_sync("x")


def test_a_twin_that_waits_while_its_loop_ends_raises_closed() -> None:
    store = SlowStore()
    store.delay = 60
    ready, loops = threading.Event(), []

    async def home() -> None:
        await store.open()
        loops.append(asyncio.get_running_loop())
        ready.set()
        await asyncio.sleep(0.2)

    thread = threading.Thread(target=lambda: asyncio.run(home()))
    thread.start()
    assert ready.wait(5)
    began = time.monotonic()
    with pytest.raises(Closed):
        store.get_sync("x")
    assert time.monotonic() - began < 5
    thread.join()


def test_a_store_can_be_opened_again_after_its_loop_ended_without_close(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "memory.db")

    async def first() -> None:
        await store.open()
        await store.put(MemoryItem(id="a", content="kept"))

    async def second() -> str:
        async with store:
            found = await store.get("a")
            assert found is not None
            return str(found.content)

    asyncio.run(first())
    assert asyncio.run(second()) == "kept"


def test_a_store_open_on_one_loop_refuses_another() -> None:
    store = InMemoryStore()
    with store:

        async def elsewhere() -> None:
            with pytest.raises(WrongLoop):
                await store.get("x")
            with pytest.raises(WrongLoop):
                await store.open()

        asyncio.run(elsewhere())


def test_a_private_loop_ends_with_the_store() -> None:
    before = threading.active_count()
    with InMemoryStore() as store:
        assert store._home.private
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_an_iterator_twin_can_be_left_early() -> None:
    with InMemoryStore() as store:
        store.put_many_sync([MemoryItem(content=str(n)) for n in range(10)])
        for batch in store.stream_sync(batch_size=2):
            assert len(batch) == 2
            break
        assert store.count_sync() == 10
