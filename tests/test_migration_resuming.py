"""Killed at any moment a migration goes on, and so does its undoing. The journal: torn, damaged, locked, somebody else's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from migrations import LOCAL, around_write, every_kind, file, fill, killed, made, plain, records

from memory import MemoryItem
from memory.errors import AlreadyExists, BackendUnavailable, CorruptData, InvalidSetting, StorageFull
from memory.migration import migrate, rollback
from memory.migration.journal import Done, Intent, Journal, lines
from memory.migration.state import State, load
from memory.migration.written import Index, Written
from memory.ops import Position
from memory.testing.heartbeat import assert_calm


async def proof(count: int, kills: int, batch: int, growth: int, tmp_path: Path, state: Path) -> None:
    """Move, being killed on the way; nothing lost, nothing twice, undone to the byte, being killed on the way."""
    source, target = file(tmp_path / "source.db"), file(tmp_path / "target.db")
    items = [*every_kind(), *(msgspec.structs.replace(one, embedding=[1.0, 2.0, 3.0]) for one in plain(count - 60))]
    async with source:
        await fill(source, items)
        wanted = await records(source)
    async with target:
        await target.put(MemoryItem(id="mine", content="mine"))
        await fill(target, [msgspec.structs.replace(one, content="was", embedding=None) for one in plain(20)])
        before = await records(target)
    addresses = [f"sqlite:///{tmp_path}/{name}.db?synchronous=off" for name in ("source", "target")]
    command = ["migrate", *addresses, "--state", str(state), "--batch-size", str(batch), "--on-conflict", "replace"]
    told = killed(kills, 1, state, *command, "--output", str(tmp_path / "report.json"), growth=growth)
    assert (told["kills"], told["code"]) == (kills, 0), "the last one ended well"
    assert told["writing"] >= kills // 4, "enough of the kills came while something was being written"
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["ok"], report["resumed"], report["created"], report["replaced"]) == (True, True, count - 20, 20)
    async with target:
        assert {key: row for key, row in (await records(target)).items() if key[1] != "mine"} == wanted
        assert not (await target.verify()).problems
    again = killed(0, 1, state, *command)
    assert again["code"] == 0
    undo = killed(kills // 4, 2, state, "rollback", str(state), "--target", addresses[1], "--yes")
    assert undo["code"] == 0
    async with target:
        assert await records(target) == before


@pytest.mark.crash
async def test_killed_twenty_times_on_the_way_it_arrives_whole(tmp_path: Path, state: Path) -> None:
    await proof(2_000, 20, 20, 1_000, tmp_path, state)


@pytest.mark.full
@pytest.mark.timeout(1_200)
async def test_ten_thousand_items_and_sixty_kills(tmp_path: Path, state: Path) -> None:
    await proof(10_000, 60, 50, 3_000, tmp_path, state)


# --- every moment, one by one ------------------------------------------------------------------


@pytest.mark.parametrize("target", LOCAL)
async def test_cut_off_at_any_line_the_journal_still_resumes_and_undoes_everything(target: str, tmp_path: Path) -> None:
    """The target has all that was written; of the journal only a beginning is left, at each line and within it.

    What was written is always said before, so a journal that ends with a batch's intents knows all of it.
    """
    source, into = made(f"in_memory-{target}", tmp_path)
    async with source, into:
        await source.put_many(plain(12))
        await into.put_many([msgspec.structs.replace(one, content="was") for one in plain(3)])
        before = await records(into)
        await migrate(source, into, state=tmp_path / "whole.jsonl", batch_size=12, on_conflict="replace")
        wanted = await records(into)
        raw = (tmp_path / "whole.jsonl").read_bytes().splitlines(keepends=True)
        intents = [place for place, line in enumerate(raw) if line.startswith(b'{"t":"intent"')]
        assert len(intents) == 12
        for end in range(intents[-1] + 1, len(raw) + 1):
            for torn in (b"", raw[end][:-3] if end < len(raw) else b""):
                state = tmp_path / f"{end}-{len(torn)}.jsonl"
                state.write_bytes(b"".join(raw[:end]) + torn)
                report = await migrate(source, into, state=state, on_conflict="replace")
                assert (report.ok, report.written in (0, 12)) == (True, True)
                assert await records(into) == wanted
                told, _ = await load(state)
                assert all(told.index.find(key) is not None for key in wanted)
        state = tmp_path / "last.jsonl"
        state.write_bytes(b"".join(raw[: intents[-1] + 1]))
        undone = await rollback(state, into)
        assert (undone.ok, undone.deleted, undone.restored) == (True, 9, 3)
        assert await records(into) == before


async def test_intents_that_did_not_happen_are_not_undone(tmp_path: Path, state: Path) -> None:
    """The process died between saying what it would write and writing it."""

    async def dying(number: int, hook: Any, ops: Any, atomic: bool) -> Any:
        raise BackendUnavailable("died here")

    source, target = made("in_memory-sqlite", tmp_path, layers=[around_write(dying)])
    async with source, target:
        await source.put_many(plain(10))
        with pytest.raises(BackendUnavailable):
            await migrate(source, target, state=state)
        await target._write([target._privileged(target, MemoryItem(id="i00003", content="somebody's"), None)], False)
        undone = await rollback(state, target)
        assert (undone.ok, undone.deleted, undone.already) == (True, 0, 0)
        assert await target.exists("i00003")


async def test_a_write_that_lands_after_its_process_died_is_known_as_its_own(tmp_path: Path, state: Path) -> None:
    """A server may still apply a batch when its client is dead, and after the next run has looked."""
    late: list[Any] = []

    async def delayed(number: int, hook: Any, ops: Any, atomic: bool) -> Any:
        if number == 1:
            late.append((hook, ops))
            raise BackendUnavailable("the connection is gone")
        if late:
            before, held = late.pop()
            await before(held, False)
        return await hook(ops, atomic)

    source, target = made("in_memory-sqlite", tmp_path, layers=[around_write(delayed)])
    async with source, target:
        await source.put_many(plain(10))
        with pytest.raises(BackendUnavailable):
            await migrate(source, target, state=state)
        report = await migrate(source, target, state=state)
        assert (report.ok, report.created, report.conflicts) == (True, 10, 0)
        assert (await rollback(state, target)).deleted == 10


# --- the journal -------------------------------------------------------------------------------


async def test_a_journal_is_used_by_one_migration_at_a_time(tmp_path: Path, state: Path) -> None:
    source, target = made("in_memory-in_memory", tmp_path)
    async with source, target:
        await source.put_many(plain(3))
        async with Journal(state):
            with pytest.raises(AlreadyExists, match="another migration"):
                await migrate(source, target, state=state)
        assert (await migrate(source, target, state=state)).ok


async def test_a_file_that_is_no_journal_is_refused_and_not_touched(tmp_path: Path, state: Path) -> None:
    source, target = made("in_memory-in_memory", tmp_path)
    async with source, target:
        for raw in (b"my notes", b"my notes\n", b'{"some": "json"}\n', b"\0" * 10_000, b'{"t":"intent"}\n'):
            state.write_bytes(raw)
            with pytest.raises((InvalidSetting, CorruptData)):
                await migrate(source, target, state=state)
            assert state.read_bytes() == raw
        state.write_bytes(b'{"t":"migr')
        assert (await migrate(source, target, state=state)).ok
        with pytest.raises(InvalidSetting, match="cannot be opened"):
            await migrate(source, target, state=tmp_path)


async def test_the_journal_of_another_migration_is_refused(tmp_path: Path, state: Path) -> None:
    source, target = made("sqlite-in_memory", tmp_path)
    other, _ = made("in_memory-sqlite", tmp_path)
    async with source, target, other:
        await migrate(source, target, state=state)
        for again in ({"vectors": "drop"}, {"namespace": "a"}, {"where": {"kind": "note"}}):
            with pytest.raises(InvalidSetting, match="another part"):
                await migrate(source, target, state=state, **again)  # type: ignore[arg-type]
        with pytest.raises(InvalidSetting, match="another source"):
            await migrate(other, target, state=state)
        with pytest.raises(InvalidSetting, match="another part"):
            await migrate(source.scoped(user_id="ana"), target, state=state)


async def test_damage_in_the_middle_of_a_journal_is_told_and_not_cut(tmp_path: Path, state: Path) -> None:
    source, target = made("in_memory-in_memory", tmp_path)
    async with source, target:
        await source.put_many(plain(30))
        await migrate(source, target, state=state, batch_size=10)
        raw = state.read_bytes()
        state.write_bytes(raw.replace(b"i00004", b'i0"004', 1))
        for again in (migrate(source, target, state=state), rollback(state, target)):
            with pytest.raises(CorruptData, match="damaged"):
                await again
        assert len(state.read_bytes()) == len(raw)
        state.write_bytes(raw.replace(b'"v":1', b'"v":9', 1))
        with pytest.raises(CorruptData, match="Upgrade"):
            await migrate(source, target, state=state)


async def test_a_full_disk_under_the_journal_ends_the_run_before_anything_is_written(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = made("in_memory-in_memory", tmp_path)
    async with source, target:
        await source.put_many(plain(3))
        syncs = 0

        def full(handle: int) -> None:
            nonlocal syncs
            syncs += 1
            if syncs > 3:
                raise OSError(28, "No space left on device")

        monkeypatch.setattr("memory.migration.journal.os.fsync", full)
        with pytest.raises(StorageFull, match="make room"):
            await migrate(source, target, state=state)
        assert await target.count() == 0
        monkeypatch.undo()
        assert (await migrate(source, target, state=state)).created == 3


async def test_lines_are_told_with_where_they_begin(state: Path) -> None:
    async with Journal(state) as journal:
        places = [journal.hold(Done(at=Position(("a",), str(n)))) for n in range(5)]
        await journal.sync(Intent(n=1, key=(("a",), "b"), what="create"))
        size = journal.size
    found = [one async for piece in lines(state) for one in piece]
    assert [place for place, _ in found][:5] == places
    assert size == state.stat().st_size


async def test_the_index_finds_the_last_write_of_each_key_and_the_first_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory.migration.written.RECENT", 40)
    index = Index()
    assert index.find((("a",), "0")) is None
    assert index.undoing() == ([], [])
    for round in range(3):
        for n in range(100):
            index.add((("a",), str(n)), Written(1_000 * round + n + 1, round), 10_000 * round + n)
            await index.settle()
    assert [index.find((("a",), str(n))) for n in range(100)] == [Written(2_001 + n, 2) for n in range(100)]
    assert index.find((("a",), "100")) is None
    assert index.undoing() == (list(range(100)), [2_001 + n for n in range(100)])


def test_a_fresh_state_is_nobody_elses() -> None:
    one = State()
    one.pending[1] = (0, Intent(n=1, key=(("a",), "b"), what="create"))
    one.index.add((("a",), "b"), Written(1, 1), 0)
    assert State().pending == {}
    assert State().index.find((("a",), "b")) is None


# --- the loop ----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", LOCAL)
async def test_neither_moving_nor_comparing_nor_undoing_holds_the_loop(target: str, tmp_path: Path) -> None:
    source, into = made(f"in_memory-{target}", tmp_path)
    number = 0
    async with source, into:
        items = [msgspec.structs.replace(one, embedding=[0.5] * 256, text="word " * 200) for one in plain(1_200)]
        await source.put_many(items)
        await into.put_many([msgspec.structs.replace(one, content="was") for one in items[:600]])

        async def work() -> None:
            nonlocal number
            number += 1
            state = tmp_path / f"{number}.jsonl"
            report = await migrate(source, into, state=state, batch_size=1_000, on_conflict="replace")
            assert (report.ok, report.written) == (True, 1_200)
            assert (await rollback(state, into)).ok

        await assert_calm(work)
