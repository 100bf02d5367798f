"""Migrations: everything arrives as it was, between every two backends, by whatever it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from migrations import (
    EVERY_PAIR,
    every_kind,
    file,
    fill,
    made,
    plain,
    records,
    rows,
    versions,
)

from memory import ManualClock, MemoryItem
from memory.backends.in_memory import InMemoryStore
from memory.errors import (
    BackendUnavailable,
    InvalidFilter,
    InvalidItem,
    InvalidSetting,
)
from memory.migration import migrate, migrate_sync, rollback

KEY = ("default",)


# --- everything arrives ----------------------------------------------------------------------------


@pytest.mark.parametrize("pair", EVERY_PAIR, indirect=True)
async def test_a_thousand_items_move_between_every_two_backends(pair: str, tmp_path: Path, state: Path) -> None:
    source, target = made(pair, tmp_path)
    async with source, target:
        items = [*every_kind(), *plain(940)]
        await fill(source, items)
        report = await migrate(source, target, state=state, batch_size=200)
        assert (report.ok, report.created, report.compared, report.differences) == (True, 1_000, 1_000, 0)
        assert await records(target) == await records(source)


async def test_items_of_every_kind_arrive_as_they_were(pair: str, tmp_path: Path, state: Path) -> None:
    source, target = made(pair, tmp_path)
    async with source, target:
        await fill(source, every_kind())
        report = await migrate(source, target, state=state, batch_size=7)
        assert (report.ok, report.created, report.compared, report.differences) == (True, 60, 60, 0)
        assert await records(target) == await records(source)
        assert (report.plan.items, report.plan.create, report.validation) == (60, 60, "full")
        assert not (await target.verify()).problems
        text = await target.search("another text", mode="text", limit=5)
        assert text.hits
        assert [hit.item.id for hit in text] == [
            hit.item.id for hit in await source.search("another text", mode="text", limit=5)
        ]


async def test_a_second_run_changes_nothing_with_and_without_its_journal(
    pair: str, tmp_path: Path, state: Path
) -> None:
    source, target = made(pair, tmp_path)
    async with source, target:
        await fill(source, every_kind())
        await migrate(source, target, state=state)
        before = await versions(target)
        for journal in (state, tmp_path / "another.jsonl"):
            again = await migrate(source, target, state=journal)
            assert (again.ok, again.written, again.plan.unchanged, again.compared) == (True, 0, 60, 60)
        assert await versions(target) == before


async def test_a_later_run_moves_what_has_changed_since(pair: str, tmp_path: Path, state: Path) -> None:
    source, target = made(pair, tmp_path)
    async with source, target:
        await source.put_many(plain(30))
        await migrate(source, target, state=state)
        await source.update("i00003", metadata={"n": 33})
        await source.touch("i00004")
        await source.delete("i00005")
        await source.put(MemoryItem(id="new", content="new"))
        again = await migrate(source, target, state=state)
        assert (again.ok, again.created, again.updated, again.removed, again.plan.unchanged) == (True, 1, 2, 1, 27)
        assert await records(target) == await records(source)


async def test_ten_thousand_items_arrive(tmp_path: Path, state: Path) -> None:
    source, target = made("in_memory-sqlite", tmp_path)
    async with source, target:
        await source.put_many(plain(10_000))
        report = await migrate(source, target, state=state)
        assert (report.ok, report.created, report.compared) == (True, 10_000, 10_000)


async def test_an_owed_vector_stays_owed_and_a_made_one_keeps_its_maker(pair: str, tmp_path: Path, state: Path) -> None:
    source, target = made(pair, tmp_path, source={"embedder": "hashing"})
    async with source, target:
        await source.put(MemoryItem(id="made", content="a text"))
        await source.put(MemoryItem(id="owed", content="another text"), embed="later")
        assert (await migrate(source, target, state=state)).ok
        assert await records(target) == await records(source)
        assert (await rows(target))[KEY, "owed"].embedder == (await rows(source))[KEY, "owed"].embedder != None  # noqa: E711
        assert target._space == source._space


async def test_a_part_is_moved_by_namespace_by_filter_or_by_view(pair: str, tmp_path: Path) -> None:
    source, target = made(pair, tmp_path)
    async with source, target:
        await fill(source, every_kind())
        parts: list[dict[str, Any]] = [
            {"namespace": ("team",)},
            {"under": "team"},
            {"where": {"kind": "semantic"}},
            {"under": "team", "where": {"metadata.score": {"$gte": 20}}},
        ]
        for number, part in enumerate(parts):
            await target.delete_where({}, under=())
            report = await migrate(source, target, state=tmp_path / f"{number}.jsonl", **part)
            wanted = [item.key for batch in [b async for b in source.stream(**part)] for item in batch]
            assert (report.ok, report.created) == (True, len(wanted))
            assert list(await rows(target)) == wanted
        await target.delete_where({}, under=())
        view = source.scoped(user_id="ana")
        assert (await migrate(view, target, state=tmp_path / "view.jsonl")).created == await view.count() > 0
        assert await target.count() == await view.count()


async def test_other_items_of_the_target_are_left_alone(pair: str, tmp_path: Path, state: Path) -> None:
    source, target = made(pair, tmp_path)
    async with source, target:
        await source.put_many(plain(5))
        mine = await target.put(MemoryItem(id="mine", content="mine"))
        report = await migrate(source, target, state=state)
        assert (report.ok, report.created, report.others) == (True, 5, 1)
        assert await target.get("mine") == mine


async def test_what_has_expired_is_not_moved_and_what_expires_on_the_way_is_no_difference(
    pair: str, tmp_path: Path, state: Path
) -> None:
    clock = ManualClock()
    source, target = made(pair, tmp_path, source={"clock": clock}, clock=clock)
    async with source, target:
        await source.put(MemoryItem(id="gone", content="x"), ttl=1)
        clock.advance(2)
        await source.put_many(plain(20), ttl=10)
        await source.put(MemoryItem(id="stays", content="x"))

        def later(phase: str, done: int, total: int | None) -> None:
            if phase == "moving" and done == 10:
                clock.advance(11)

        report = await migrate(source, target, state=state, batch_size=5, progress=later)
        assert (report.ok, report.plan.items, report.differences) == (True, 21, 0)
        assert [id for _, id in await rows(target)] == ["stays"]


# --- what is asked for -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"vectors": "keep"}, InvalidSetting),
        ({"on_conflict": "panic"}, InvalidSetting),
        ({"batch_size": 0}, InvalidSetting),
        ({"batch_size": 1_001}, InvalidSetting),
        ({"throttle": 0}, InvalidSetting),
        ({"throttle": float("nan")}, InvalidSetting),
        ({"sample_size": 0}, InvalidSetting),
        ({"sample_size": 3, "validate": False}, InvalidSetting),
        ({"where": {"$or": 1}}, InvalidFilter),
        ({"namespace": ()}, InvalidItem),
        ({"namespace": "a", "under": "b"}, InvalidItem),
        ({"vectors": "reembed"}, InvalidSetting),
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_refused_before_anything_is_written(
    tmp_path: Path, state: Path, options: dict[str, Any], error: type[Exception]
) -> None:
    source, target = made("in_memory-in_memory", tmp_path)
    async with source, target:
        await source.put_many(plain(3))
        with pytest.raises(error):
            await migrate(source, target, state=state, **options)
        assert (await target.count(), state.exists()) == (0, False)


async def test_a_store_is_not_migrated_into_itself(tmp_path: Path, state: Path) -> None:
    store, _ = made("sqlite-in_memory", tmp_path)
    twin, _ = made("sqlite-in_memory", tmp_path)
    async with store, twin:
        for target in (store, twin):
            with pytest.raises(InvalidSetting, match="same store"):
                await migrate(store, target, state=state)


async def test_stores_can_be_named_and_are_opened_and_closed(tmp_path: Path, state: Path) -> None:
    source, target = (f"sqlite:///{tmp_path}/{name}.db" for name in ("source", "target"))
    with pytest.raises(BackendUnavailable, match="no memory at"):
        await migrate(source, target, state=state)
    assert list(tmp_path.iterdir()) == []
    store = file(tmp_path / "source.db")
    async with store:
        await store.put_many(plain(5))
    assert (await migrate(source, target, state=state)).created == 5
    closed = file(tmp_path / "target.db")
    assert (await migrate(source, closed, state=state)).plan.unchanged == 5
    async with closed:
        assert await closed.count() == 5


def test_the_twins_do_the_same(tmp_path: Path, state: Path) -> None:
    from memory.migration import rollback_sync

    with file(tmp_path / "source.db") as store:
        store.put_many_sync(plain(5))
    target = f"sqlite:///{tmp_path}/target.db"
    assert migrate_sync(f"sqlite:///{tmp_path}/source.db", target, state=state).created == 5
    assert rollback_sync(state, target).deleted == 5


async def test_without_a_name_the_journal_lies_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source, target = made("in_memory-in_memory", tmp_path)
    async with source, target:
        await source.put_many(plain(3))
        first = await migrate(source, target)
        again = await migrate(source, target)
        part = await migrate(source, target, where={"metadata.n": 1})
    assert (first.state, first.created) == (again.state, 3)
    assert part.state != first.state
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == sorted(
        Path(str(one.state)).name for one in (first, part)
    )
    assert Path(str(first.state)).stat().st_mode & 0o77 == 0, "it may hold records, so it is nobody else's to read"


async def test_a_file_of_any_name_is_found_again_by_its_address(tmp_path: Path, state: Path) -> None:
    source, _ = made("in_memory-in_memory", tmp_path)
    target = file(tmp_path / "odd # name? 100% é.db")
    async with source:
        await source.put_many(plain(3))
        assert (await migrate(source, target, state=state)).created == 3
    undone = await rollback(state)
    assert undone.deleted == 3
    assert "%23" in undone.target


async def test_passwords_of_addresses_are_neither_kept_nor_guessed(tmp_path: Path, state: Path) -> None:
    class Elsewhere(InMemoryStore):
        location = "redis://me:hunter2@host/0"

    source, _ = made("in_memory-in_memory", tmp_path)
    async with source, Elsewhere() as target:
        await source.put_many(plain(3))
        report = await migrate(source, target, state=state, output=tmp_path / "r.json")
        assert report.target == "redis://me:***@host/0"
        assert b"hunter2" not in state.read_bytes() + (tmp_path / "r.json").read_bytes()
        with pytest.raises(InvalidSetting, match="with its password"):
            await rollback(state)
        await migrate(source, await InMemoryStore().open(), state=tmp_path / "here.jsonl")
        with pytest.raises(InvalidSetting, match="name the target"):
            await rollback(tmp_path / "here.jsonl")
        assert (await rollback(state, target)).deleted == 3
