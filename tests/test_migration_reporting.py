"""Plans, reports, progress; and that memory and speed stay bounded."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from migrations import (
    every_kind,
    fill,
    made,
    plain,
    rows,
)

from memory import MemoryItem
from memory.migration import migrate
from memory.migration import report as reports
from memory.migration.moving import Throttle
from memory.migration.sources import StoreSource, pages


async def test_a_dry_run_writes_nothing_and_tells_the_plan(pair: str, tmp_path: Path, state: Path) -> None:
    source, target = made(pair, tmp_path)
    async with source, target:
        await fill(source, every_kind())
        await target.put(MemoryItem(id="a/b", content="in the way"))
        before = await rows(target)
        report = await migrate(source, target, state=state, dry_run=True, output=tmp_path / "plan.json")
        assert (report.ok, report.stopped, report.plan.create, report.plan.conflicts) == (False, "conflicts", 59, 1)
        assert report.plan.size > 100_000
        assert report.plan.estimate > 0
        assert await rows(target) == before
        assert (report.state, state.exists()) == (None, False)
        listed = json.loads((tmp_path / "plan.json").read_text())["listed"]
        assert [one["id"] for one in listed["conflicts"]] == ["a/b"]
        assert (await migrate(source, target, state=state, dry_run=True, on_conflict="skip")).ok


async def test_the_report_file_lists_every_finding_though_memory_holds_the_first_only(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory.migration.state.SHOWN", 5)
    source, target = made("in_memory-in_memory", tmp_path)
    async with source, target:
        await source.put_many(plain(300))
        await target.put_many([msgspec.structs.replace(one, content="other") for one in plain(300)])
        report = await migrate(source, target, state=state, output=tmp_path / "r.json", on_conflict="skip")
        assert (report.conflicts, report.differences, len(report.findings)) == (300, 300, 10)
        told = json.loads((tmp_path / "r.json").read_text())
        assert [one["id"] for one in told["listed"]["conflicts"]] == [f"i{n:05}" for n in range(300)]
        assert [one["id"] for one in told["listed"]["differences"]] == [f"i{n:05}" for n in range(300)]
        assert (told["ok"], told["conflicts"], told["plan"]["conflicts"]) == (False, 300, 300)
        assert "thing number" not in (tmp_path / "r.json").read_text(), "never content"
    assert reports.SHOWN > 5


async def test_progress_tells_each_phase_to_its_end(tmp_path: Path, state: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    source, target = made("in_memory-in_memory", tmp_path)
    async with source, target:
        await source.put_many(plain(25))
        await migrate(source, target, state=state, batch_size=10, progress=lambda *one: told.append(one))
    assert [done for phase, done, _ in told if phase == "moving"] == [10, 20, 25]
    assert {phase: (done, total) for phase, done, total in told} == dict.fromkeys(
        ("planning", "moving", "comparing"), (25, 25)
    )


async def test_a_sample_is_compared_or_nothing_at_all(pair: str, tmp_path: Path) -> None:
    source, target = made(pair, tmp_path)
    async with source, target:
        await source.put_many(plain(50))
        sampled = await migrate(source, target, state=tmp_path / "1.jsonl", sample_size=7)
        assert (sampled.ok, sampled.validation, sampled.compared) == (True, "sample", 7)
        trusted = await migrate(source, target, state=tmp_path / "2.jsonl", validate=False)
        assert (trusted.ok, trusted.validation, trusted.compared) == (True, "none", 0)


@pytest.mark.realtime
async def test_a_throttle_bounds_the_items_a_second(tmp_path: Path, state: Path) -> None:
    source, target = made("in_memory-in_memory", tmp_path)
    async with source, target:
        await source.put_many(plain(60))
        started = time.monotonic()
        await migrate(source, target, state=state, throttle=200, batch_size=10)
        assert time.monotonic() - started >= 0.2
    throttle = Throttle(None)
    started = time.monotonic()
    await throttle.spend(1_000_000)
    assert time.monotonic() - started < 0.1


async def test_memory_does_not_grow_with_what_is_moved(tmp_path: Path) -> None:
    peaks: list[int] = []
    for count in (500, 2_000):
        (tmp_path / str(count)).mkdir()
        source, target = made("sqlite-sqlite", tmp_path / str(count))
        async with source, target:
            await source.put_many([MemoryItem(id=f"{n:05}", content=f"{n} " + "x" * 8_000) for n in range(count)])
            tracemalloc.start()
            assert (await migrate(source, target, state=tmp_path / f"{count}.jsonl", batch_size=100)).ok
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
    assert peaks[1] < peaks[0] * 1.3 + 1_000_000, (
        f"1,500 items more, 12 MB of them, took {peaks[1] - peaks[0]:,} bytes more"
    )


async def test_no_more_than_a_batch_is_asked_for_at_once(tmp_path: Path, state: Path) -> None:
    most: list[int] = []

    def watch(name: str, hook: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def seen(*args: Any) -> Any:
            if name in ("scan", "read", "write"):
                op = args[0]
                most.append(op.limit if name == "scan" else len(op.keys) if name == "read" else len(op))
            return await hook(*args)

        return seen

    source, target = made("sqlite-sqlite", tmp_path, source={"layers": [watch]}, layers=[watch])
    async with source, target:
        await source.put_many(plain(90))
        most.clear()
        await migrate(source, target, state=state, batch_size=20)
    assert max(most) == 20


async def test_large_items_come_in_short_pages(tmp_path: Path) -> None:
    source, _ = made("in_memory-in_memory", tmp_path)
    async with source:
        await source.put_many([MemoryItem(id=f"{n:03}", content="x" * 200_000) for n in range(100)])
        await source.put_many([MemoryItem(id=f"{n:04}", content="x") for n in range(1_000, 3_000)])
        async with aclosing(pages(StoreSource(source), None, 500)) as stream:
            lengths = [len(page) async for page in stream]
    assert lengths[0] == 32
    assert max(lengths[1:4]) <= 20
    assert (sum(lengths), max(lengths)) == (2_100, 500)
