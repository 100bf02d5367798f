"""What surrounds the hooks and runs beside them: deadlines, observers, access tracking, exit without close."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory.clock import ManualClock
from memory.errors import BatchError, Closed, DeadlineExceeded, UnknownOutcome, WrongLoop
from memory.layers import deadline, observe, wrap
from memory.model import MemoryItem
from memory.store import MemoryStore
from memory.sync import Home
from memory.testing.__main__ import maker
from memory.testing.contract.suite import settle

Make = Callable[..., MemoryStore]


@pytest.fixture(params=["in_memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    kind = maker(request.param)
    return lambda **options: kind(tmp_path, **options)


def item(id: str = "a", content: Any = "text") -> MemoryItem:
    return MemoryItem(id=id, content=content)


def slow(names: set[str], seconds: float = 0.2, *, before: bool = False) -> Any:
    def layer(name: str, hook: Any) -> Any:
        async def late(*args: Any) -> Any:
            if name in names and before:
                await asyncio.sleep(seconds)
            result = await hook(*args)
            if name in names and not before:
                await asyncio.sleep(seconds)
            return result

        return late

    return layer


async def test_a_read_past_its_deadline_says_so(make: Make) -> None:
    async with make(layers=(deadline(0.02), slow({"read", "scan"}))) as store:
        await store.put(item())
        for call in (lambda: store.get("a"), store.list, lambda: store.update("a", metadata={"x": 1})):
            with pytest.raises(DeadlineExceeded) as caught:
                await call()
            assert caught.value.seconds == 0.02  # type: ignore[attr-defined]
        await store.put(item("b"))


async def test_a_write_past_its_deadline_is_unknown_and_can_be_finished(make: Make) -> None:
    for before in (True, False):
        late = slow({"write"}, before=before)
        async with make(layers=(deadline(0.02), late)) as store:
            with pytest.raises(UnknownOutcome) as caught:
                await store.put(item(str(before)))
            with pytest.raises(BatchError) as batch:
                await store.put_many([item("x"), item("y")])
            assert all(isinstance(one, UnknownOutcome) for one in batch.value.results)
            happened = await store.exists(str(before))
            assert happened is not before
            with pytest.raises(UnknownOutcome):  # the connection is still as slow
                await caught.value.retry()


async def test_a_callers_own_timeout_stays_the_callers(make: Make) -> None:
    async with make(layers=(deadline(5), slow({"read"}, 1))) as store:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await store.get("a")


async def test_a_call_that_waits_several_times_is_bounded_as_a_whole() -> None:
    async def steps(pauses: list[float]) -> str:
        for pause in pauses:
            await asyncio.sleep(pause)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.sleep(1)
        return "done"

    bounded = wrap("read", steps, [deadline(0.2)])
    assert await bounded([0, 0.001, 0]) == "done"
    with pytest.raises(DeadlineExceeded):
        await bounded([0.001] * 1_000)


async def test_a_cancellation_reaches_a_call_within_its_deadline() -> None:
    heard: list[str] = []

    async def waits() -> None:
        await asyncio.sleep(0)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise

    task = asyncio.create_task(wrap("read", waits, [deadline(5)])())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert heard == ["cancelled"]


async def test_an_error_within_the_deadline_passes_through() -> None:
    async def hook() -> None:
        raise TimeoutError("the driver's own")

    with pytest.raises(TimeoutError, match="own"):
        await wrap("read", hook, (deadline(5),))()


async def test_an_observer_hears_of_every_operation_and_error(make: Make) -> None:
    heard: list[tuple[str, float, BaseException | None]] = []
    async with make(layers=(observe(lambda *told: heard.append(told)),)) as store:
        await store.put(item())
        await store.get("a")
        await store.list()
        await store.count()
        await store.search("text")
        await store.namespaces()
    names = [name for name, _, _ in heard]
    assert [name for name in names if name in ("write", "read", "scan", "count", "match", "namespaces")][:2] == [
        "write",
        "read",
    ]
    assert {"write", "read", "scan", "count", "match", "namespaces"} <= set(names)
    assert all(seconds >= 0 and error is None for _, seconds, error in heard)

    async def failing() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await wrap("read", failing, (observe(lambda *told: heard.append(told)),))()
    assert isinstance(heard[-1][2], ValueError)


async def test_without_layers_the_hook_itself_is_called(make: Make) -> None:
    async with make() as store:
        assert store._do_write == store._write
        assert store._do_read == store._read


async def test_layers_go_around_each_other_from_the_first_outside() -> None:
    order: list[str] = []

    def layer(tag: str) -> Any:
        def around(name: str, hook: Any) -> Any:
            async def call() -> None:
                order.append(tag)
                await hook()

            return call

        return around

    async def hook() -> None:
        order.append("hook")

    await wrap("read", hook, (layer("outer"), layer("inner")))()
    assert order == ["outer", "inner", "hook"]


# --- access tracking -----------------------------------------------------------------------------


@pytest.mark.realtime
async def test_tracked_reads_are_counted_a_moment_later(make: Make) -> None:
    clock = ManualClock()
    async with make(track_access=True, clock=clock) as store:
        first = await store.put(item("a", "marmot"))
        await store.put(item("b"))
        clock.advance(7)
        await store.get("a")
        await store.get_many(["a", "nobody"])
        await store.search("marmot")

        async def counted() -> bool:
            (found,) = (await store.list({"id": "a"})).items
            return found.access_count == 3 and found.accessed_at > first.accessed_at

        await settle(10, counted)
        (other,) = (await store.list({"id": "b"})).items
        assert other.access_count == 0


async def test_what_was_tracked_is_written_at_close(tmp_path: Path) -> None:
    make = maker("sqlite")
    async with make(tmp_path, track_access=True) as store:
        await store.put(item())
        view = store.scoped(user_id="u")
        await view.put(item("b"))
        for _ in range(5):
            await store.get("a")
        await view.get("b")
    async with make(tmp_path) as store:
        found = await store.get_many(["a", "b"])
        assert [one.access_count for one in found if one] == [5, 1]


async def test_reads_of_what_is_gone_by_then_are_forgotten(make: Make) -> None:
    async with make(track_access=True) as store:
        await store.put(item())
        await store.get("a")
        await store.delete("a")
    assert store is not None


# --- twins and exits -----------------------------------------------------------------------------


def test_a_store_can_be_used_without_a_loop_of_ones_own(make: Make) -> None:
    with make() as store:
        store.put_sync(item("a", "marmot"))
        with pytest.raises(Closed, match="open"):
            make().get_sync("a")
        assert [one.id for batch in store.stream_sync() for one in batch] == ["a"]
        assert store.health_sync().status == "healthy"
        view = store.scoped(user_id="ann")
        view.put_sync(item("b"))
        assert view.count_sync() == 1
    with pytest.raises(Closed):
        store.get_sync("a")
    with store:
        assert store.count_sync() in (0, 2)


def test_a_twin_after_its_loop_has_ended_says_closed(make: Make) -> None:
    store = make()

    async def open_only() -> None:
        await store.open()

    asyncio.run(open_only())
    with pytest.raises(Closed, match="loop"):
        store.get_sync("a")


def test_a_store_whose_loop_died_opens_again_on_another(make: Make) -> None:
    store = make()

    async def work(first: bool) -> bool:
        await store.open()
        await store.put(item("a" if first else "b"))
        return await store.exists("b")

    assert asyncio.run(work(True)) is False
    assert asyncio.run(work(False)) is True

    async def finish() -> None:
        await store.open()
        await store.close()

    asyncio.run(finish())


def test_an_iterator_twin_left_early_is_closed(make: Make) -> None:
    with make() as store:
        store.put_many_sync([item(str(i)) for i in range(9)])
        batches = store.stream_sync(batch_size=2)
        next(batches)
        batches.close()  # type: ignore[attr-defined]
        assert store.count_sync() == 9


async def test_a_home_loop_refuses_to_be_blocked_by_itself() -> None:
    home = Home()
    home.settle()

    async def never() -> None:
        raise AssertionError("this must not run")

    with pytest.raises(WrongLoop, match="await get"):
        home.run(never, "get_sync")


EXITS = {
    "async, left open": """
        async def main():
            store = make()
            await store.open()
            await store.put(MemoryItem(content="x"))
            {more}
        asyncio.run(main())
    """,
    "twins, left open": """
        store = make()
        store.open_sync()
        store.put_sync(MemoryItem(content="x"))
    """,
    "a watcher running": """
        async def main():
            store = make(feed=True)
            await store.open()
            watcher = asyncio.ensure_future(anext(store.watch()))
            await asyncio.sleep(0.05)
        asyncio.run(main())
    """,
    "an exception on the way": """
        async def main():
            store = make()
            await store.open()
            await store.put(MemoryItem(content="x"))
            raise SystemExit(7)
        asyncio.run(main())
    """,
}


@pytest.mark.parametrize("backend", ["in_memory", "sqlite"])
@pytest.mark.parametrize("how", EXITS)
def test_an_interpreter_ends_within_two_seconds_without_close(how: str, backend: str, tmp_path: Path) -> None:
    body = textwrap.dedent(EXITS[how].replace("{more}", "pass"))
    code = f"""
import asyncio, functools, pathlib
from memory.model import MemoryItem
from memory.testing.__main__ import maker
make = functools.partial(maker({backend!r}), pathlib.Path({str(tmp_path)!r}))
print("ready", flush=True)
{body}
print("done", flush=True)
"""
    child = subprocess.Popen(
        [sys.executable, "-W", "error::ResourceWarning", "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    started = time.monotonic()
    try:
        _, err = child.communicate(timeout=20)
    finally:
        child.kill()
    seconds = time.monotonic() - started
    assert child.returncode == (7 if "exception" in how else 0), err
    assert seconds < 2 + 1, f"{seconds:.1f} s"  # a second for the work itself on a busy machine
    assert "Traceback" not in err, err
