"""Rollback: what a migration wrote is undone to the byte, and nothing else is touched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from migrations import around_write, every_kind, fill, made, plain, records, rows, versions

from memory import ManualClock, MemoryItem
from memory.errors import BackendUnavailable, InvalidSetting
from memory.migration import migrate, rollback
from memory.ops import Result, Status


async def test_a_rollback_restores_the_target_to_the_byte(pair: str, tmp_path: Path, state: Path) -> None:
    source, target = made(pair, tmp_path)
    async with source, target:
        items = every_kind()
        await fill(source, items)
        await fill(target, [msgspec.structs.replace(one, content={"was": -0.0}, access_count=9) for one in items[:25]])
        await target.put(MemoryItem(id="mine", content="mine"))
        before = await records(target)
        report = await migrate(source, target, state=state, on_conflict="replace", batch_size=7)
        assert (report.ok, report.created, report.replaced) == (True, 35, 25)
        undone = await rollback(state, target)
        assert (undone.ok, undone.deleted, undone.restored, undone.already) == (True, 35, 25, 0)
        assert await records(target) == before
        there = await versions(target)
        again = await rollback(state, target)
        assert (again.ok, again.deleted, again.restored) == (True, 0, 0)
        assert await versions(target) == there


async def test_all_rounds_of_a_migration_are_undone_together(pair: str, tmp_path: Path, state: Path) -> None:
    source, target = made(pair, tmp_path)
    async with source, target:
        await source.put_many(plain(20))
        await target.put(MemoryItem(id="i00001", content="was there"))
        await target.put(MemoryItem(id="i00002", content="was there too"))
        before = await records(target)
        await migrate(source, target, state=state, on_conflict="replace")
        await source.update("i00001", metadata={"n": "again"})
        await source.delete("i00002")
        await source.update("i00003", metadata={"n": "again"})
        await source.delete("i00004")
        await source.put(MemoryItem(id="new", content="new"))
        second = await migrate(source, target, state=state, on_conflict="replace")
        assert (second.ok, second.created, second.updated, second.removed) == (True, 1, 2, 2)
        undone = await rollback(state, target)
        assert (undone.ok, undone.deleted, undone.restored, undone.already) == (True, 18, 2, 1)
        assert await records(target) == before


async def test_what_somebody_changed_since_is_left_and_listed(pair: str, tmp_path: Path, state: Path) -> None:
    source, target = made(pair, tmp_path)
    async with source, target:
        await source.put_many(plain(10))
        await target.put_many([msgspec.structs.replace(one, content="was") for one in plain(3)])
        await migrate(source, target, state=state, on_conflict="replace", output=tmp_path / "report.json")
        await target.update("i00000", metadata={"mine": 1})
        await target.delete("i00001")
        await target.touch("i00005")
        await target.delete("i00006")
        undone = await rollback(tmp_path / "report.json", target)
        assert (undone.ok, undone.deleted, undone.restored, undone.already, undone.conflicts) == (False, 5, 1, 1, 3)
        assert [(one.key[1], one.why.partition(";")[0]) for one in undone.findings] == [
            ("i00000", "changed since"),
            ("i00001", "deleted since"),
            ("i00005", "changed since"),
        ]
        assert [id for _, id in await rows(target)] == ["i00000", "i00002", "i00005"]
        assert json.dumps(undone.plain())


async def test_what_is_written_while_it_is_undone_is_left_too(tmp_path: Path, state: Path) -> None:
    async def racing(number: int, hook: Any, ops: Any, atomic: bool) -> Any:
        if number == 2:
            await target.touch("i00004")
        return await hook(ops, atomic)

    source, target = made("in_memory-sqlite", tmp_path, layers=[around_write(racing)])
    async with source, target:
        await source.put_many(plain(10))
        await migrate(source, target, state=state)
        undone = await rollback(state, target)
        assert (undone.deleted, undone.conflicts, await target.exists("i00004")) == (9, 1, True)


async def test_an_interrupted_rollback_goes_on(pair: str, tmp_path: Path, state: Path) -> None:
    undoing, writes = False, 0

    async def failing(number: int, hook: Any, ops: Any, atomic: bool) -> Any:
        nonlocal writes
        writes += undoing
        if writes == 2:
            raise BackendUnavailable("down")
        if writes == 1:
            await hook(ops, atomic)
            return [Result(Status.UNKNOWN) for _ in ops]  # and then it is asked for again
        return await hook(ops, atomic)

    source, target = made(pair, tmp_path, layers=[around_write(failing)])
    async with source, target:
        await source.put_many(plain(40))
        await target.put_many([msgspec.structs.replace(one, content="was") for one in plain(5)])
        before = await records(target)
        await migrate(source, target, state=state, on_conflict="replace")
        undoing = True
        with pytest.raises(BackendUnavailable):
            await rollback(state, target)
        undone = await rollback(state, target)
        assert undone.ok
        assert undone.deleted + undone.restored + undone.already == 40
        assert await records(target) == before


async def test_after_a_rollback_the_same_migration_begins_anew(tmp_path: Path, state: Path) -> None:
    source, target = made("in_memory-sqlite", tmp_path)
    async with source, target:
        await source.put_many(plain(10))
        await migrate(source, target, state=state)
        await rollback(state, target)
        again = await migrate(source, target, state=state)
        assert (again.ok, again.created) == (True, 10)
        assert (await rollback(state, target)).deleted == 10
        assert await target.count() == 0


async def test_what_would_have_expired_meanwhile_is_not_brought_back(tmp_path: Path, state: Path) -> None:
    clock = ManualClock()
    source, target = made("in_memory-sqlite", tmp_path, source={"clock": clock}, clock=clock)
    async with source, target:
        await source.put_many(plain(3))
        await target.put(MemoryItem(id="i00001", content="was there for a while"), ttl=10)
        await migrate(source, target, state=state, on_conflict="replace")
        clock.advance(11)
        assert (await rollback(state, target)).deleted == 3
        assert await target.count() == 0


async def test_a_rollback_needs_the_journal_and_its_own_target(tmp_path: Path, state: Path) -> None:
    source, target = made("in_memory-sqlite", tmp_path)
    async with source, target:
        await source.put_many(plain(3))
        await migrate(source, target, state=state, output=tmp_path / "r.json")
        with pytest.raises(InvalidSetting, match="belongs to a migration into"):
            await rollback(state, source)
        await migrate(source, target, state=state, dry_run=True, output=tmp_path / "dry.json")
        (tmp_path / "notes.txt").write_text("my notes")
        for name, why in (("dry.json", "dry run"), ("notes.txt", "neither"), ("none.jsonl", "cannot be read")):
            with pytest.raises(InvalidSetting, match=why):
                await rollback(tmp_path / name, target)
        state.rename(tmp_path / "moved.jsonl")
        with pytest.raises(InvalidSetting, match="is not there"):
            await rollback(tmp_path / "r.json", target)
        assert (await rollback(tmp_path / "moved.jsonl", target)).deleted == 3
