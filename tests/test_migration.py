"""Migrations: everything arrives as it was, between every two backends; what is in the way is told before the first write."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from migrations import (
    MAKERS,
    PAIRS,
    around_write,
    before_write,
    every_kind,
    fill,
    made,
    moment,
    plain,
    records,
    rows,
    versions,
)

from memory import ManualClock, MemoryItem
from memory.backends.in_memory import InMemoryStore
from memory.errors import BackendUnavailable, InvalidFilter, InvalidItem, InvalidSetting, StorageFull, UnknownOutcome
from memory.migration import MigrationReport, migrate, migrate_sync, rollback
from memory.migration import report as reports
from memory.migration.moving import Throttle
from memory.ops import Result, Status

KEY = ("default",)


@pytest.fixture(params=PAIRS)
def pair(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


# --- everything arrives ------------------------------------------------------------------------


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


# --- the source is in use ----------------------------------------------------------------------


@pytest.mark.parametrize("feed", [False, True], ids=["without a feed", "with a feed"])
async def test_what_changes_at_the_source_meanwhile_is_followed(
    pair: str, tmp_path: Path, state: Path, feed: bool
) -> None:
    async def meanwhile() -> None:
        await source.update("i00001", metadata={"n": "changed behind"})
        await source.delete("i00002")
        await source.put(MemoryItem(id="a-new", content="new behind"))
        await source.update("i00028", metadata={"n": "changed ahead"})
        await source.delete("i00029")

    source, target = made(pair, tmp_path, source={"feed": feed}, layers=[before_write(2, meanwhile)])
    async with source, target:
        await source.put_many(plain(30))
        report = await migrate(source, target, state=state, batch_size=10)
        assert report.ok
        assert 3 <= report.meanwhile <= 5  # the page ahead may have been read before
        assert await records(target) == await records(source)
        assert "i00002" not in [id for _, id in await rows(target)]


async def test_with_a_feed_changes_are_followed_even_without_a_comparison(
    pair: str, tmp_path: Path, state: Path
) -> None:
    async def meanwhile() -> None:
        await source.delete("i00002")

    source, target = made(pair, tmp_path, source={"feed": True}, layers=[before_write(2, meanwhile)])
    async with source, target:
        await source.put_many(plain(30))
        report = await migrate(source, target, state=state, batch_size=10, validate=False)
        assert (report.ok, report.meanwhile, report.validation, report.compared) == (True, 1, "none", 0)
        assert await records(target) == await records(source)


async def test_what_is_deleted_at_the_source_and_changed_in_the_target_is_left_and_told(
    tmp_path: Path, state: Path
) -> None:
    async def meanwhile() -> None:
        await source.delete("i00002")
        await target.update("i00002", metadata={"mine": True})

    source, target = made("sqlite-in_memory", tmp_path, layers=[before_write(2, meanwhile)])
    async with source, target:
        await source.put_many(plain(30))
        report = await migrate(source, target, state=state, batch_size=10)
        assert (report.ok, report.differences) == (False, 1)
        assert "gone at the source" in report.findings[0].why
        assert await target.exists("i00002")


async def test_what_somebody_writes_in_the_target_meanwhile_is_never_overwritten(
    pair: str, tmp_path: Path, state: Path
) -> None:
    async def meanwhile() -> None:
        await target.put(MemoryItem(id="i00015", content="somebody else's"))

    source, target = made(pair, tmp_path, layers=[before_write(2, meanwhile)])
    async with source, target:
        await source.put_many(plain(30))
        report = await migrate(source, target, state=state, batch_size=10)
        assert (report.ok, report.created, report.conflicts, report.differences) == (False, 29, 1, 1)
        kept = await target.get("i00015")
        assert kept is not None
        assert kept.content == "somebody else's"


# --- what is in the way ------------------------------------------------------------------------


async def _in_conflict(
    pair: str, tmp_path: Path, state: Path, **options: Any
) -> tuple[MigrationReport, dict[str, Any]]:
    """Of five items one is equal in the target, one earlier, one later there."""
    source, target = made(pair, tmp_path)
    async with source, target:
        items = plain(5, created_at=moment(0), updated_at=moment(10), accessed_at=moment(10))
        await fill(source, items)
        theirs = [
            items[1],
            msgspec.structs.replace(items[2], content="earlier", updated_at=moment(5)),
            msgspec.structs.replace(items[3], content="later", updated_at=moment(15)),
        ]
        await fill(target, theirs)
        report = await migrate(source, target, state=state, **options)
        return report, {id: (await target.get(id)).content for _, id in await rows(target)}  # type: ignore[union-attr]


async def test_by_default_a_conflict_stops_everything_before_the_first_write(
    pair: str, tmp_path: Path, state: Path
) -> None:
    report, there = await _in_conflict(pair, tmp_path, state)
    assert (report.ok, report.stopped, report.written, report.conflicts) == (False, "conflicts", 0, 2)
    assert sorted(there) == ["i00001", "i00002", "i00003"]
    assert [one.key[1] for one in report.findings] == ["i00002", "i00003"]
    assert "another item" in report.findings[0].why


async def test_conflicts_can_be_skipped_and_stay_differences(pair: str, tmp_path: Path, state: Path) -> None:
    report, there = await _in_conflict(pair, tmp_path, state, on_conflict="skip")
    assert (report.ok, report.stopped, report.created, report.conflicts, report.differences) == (False, None, 2, 2, 2)
    assert (there["i00002"], there["i00003"], len(there)) == ("earlier", "later", 5)
    assert [one.fields for one in report.findings if one.kind == "difference"] == [("updated_at", "content")] * 2


async def test_the_later_one_can_win(pair: str, tmp_path: Path, state: Path) -> None:
    report, there = await _in_conflict(pair, tmp_path, state, on_conflict="newer")
    assert (report.ok, report.created, report.replaced, report.plan.kept) == (True, 2, 1, 1)
    assert (there["i00002"], there["i00003"]) == ("thing number 2", "later")


async def test_conflicts_can_be_replaced(pair: str, tmp_path: Path, state: Path) -> None:
    report, there = await _in_conflict(pair, tmp_path, state, on_conflict="replace")
    assert (report.ok, report.created, report.replaced, report.plan.unchanged) == (True, 2, 2, 1)
    assert (there["i00002"], there["i00003"]) == ("thing number 2", "thing number 3")


async def test_what_was_deleted_in_the_target_since_comes_back_only_when_asked(tmp_path: Path, state: Path) -> None:
    source, target = made("in_memory-sqlite", tmp_path)
    async with source, target:
        await source.put_many(plain(5))
        await migrate(source, target, state=state)
        await target.delete("i00002")
        await target.update("i00003", metadata={"mine": 1})
        refused = await migrate(source, target, state=state)
        assert (refused.stopped, [one.why for one in refused.findings]) == (
            "conflicts",
            ["deleted in the target since it was moved", "changed in the target since it was moved"],
        )
        again = await migrate(source, target, state=state, on_conflict="replace")
        assert (again.ok, again.created, again.replaced) == (True, 1, 1)
        assert await records(target) == await records(source)


# --- vectors -----------------------------------------------------------------------------------


async def test_vectors_of_another_kind_are_refused_item_by_item_before_the_first_write(
    pair: str, tmp_path: Path
) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"embedder": "hashing"}, "hashing"),
        ({"dimension": 7}, "is for 7 numbers"),
    ]
    for number, (options, why) in enumerate(wrong):
        (tmp_path / str(number)).mkdir()
        source, target = made(pair, tmp_path / str(number), **options)
        async with source, target:
            await fill(source, every_kind(20))
            report = await migrate(source, target, state=tmp_path / f"{number}.jsonl")
            assert (report.ok, report.stopped, report.refused, report.written) == (False, "refused", 16, 0)
            assert all(why in one.why for one in report.findings)
            assert await target.count() == 0
            rest = await migrate(source, target, state=tmp_path / f"{number}.jsonl", skip_refused=True)
            assert (rest.ok, rest.created, rest.refused, rest.differences) == (False, 4, 16, 16)


async def test_vectors_are_refused_by_a_target_that_holds_others(pair: str, tmp_path: Path, state: Path) -> None:
    source, target = made(pair, tmp_path)
    async with source, target:
        await fill(source, [MemoryItem(id="a", content="x", embedding=[1.0, 2.0])])
        await fill(target, [MemoryItem(id="b", content="x", embedding=[1.0, 2.0])], "somebody")
        report = await migrate(source, target, state=state)
        assert (report.stopped, report.refused) == ("refused", 1)
        assert "somebody" in report.findings[0].why


async def test_vectors_can_be_made_anew_by_the_targets_embedder(pair: str, tmp_path: Path, state: Path) -> None:
    source, target = made(pair, tmp_path, embedder="hashing")
    async with source, target:
        await fill(source, every_kind(20))
        report = await migrate(source, target, state=state, vectors="reembed")
        without_text = {one.key[1] for one in report.findings}
        assert report.stopped == "refused"
        assert all("no text to make another from" in one.why for one in report.findings)
        report = await migrate(source, target, state=state, vectors="reembed", skip_refused=True)
        made_by = {row.embedder for row in (await rows(target)).values() if row.embedding is not None}
        assert (report.created, made_by) == (20 - len(without_text), {target.embedding.name})  # type: ignore[union-attr]
        again = await migrate(source, target, state=state, vectors="reembed", skip_refused=True)
        assert (again.written, again.plan.unchanged) == (0, 20 - len(without_text))


async def test_vectors_can_be_left_behind(pair: str, tmp_path: Path, state: Path) -> None:
    source, target = made(pair, tmp_path, embedder="hashing")
    async with source, target:
        await fill(source, every_kind(20))
        assert (await migrate(source, target, state=state, vectors="drop")).ok
        assert all(row.embedding is None for row in (await rows(target)).values())
        await target.reembed()
        again = await migrate(source, target, state=state, vectors="drop")
        assert (again.ok, again.written) == (True, 0), "vectors made since do not count"


# --- plans, reports, progress ------------------------------------------------------------------


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


# --- when something fails ----------------------------------------------------------------------


async def test_an_unknown_outcome_is_asked_for_again(pair: str, tmp_path: Path, state: Path) -> None:
    async def vague(number: int, hook: Any, ops: Any, atomic: bool) -> Any:
        results = await hook(ops, atomic)
        return [Result(Status.UNKNOWN) for _ in ops] if number == 2 else results

    source, target = made(pair, tmp_path, layers=[around_write(vague)])
    async with source, target:
        await source.put_many(plain(30))
        report = await migrate(source, target, state=state, batch_size=10)
        assert (report.ok, report.created) == (True, 30)
        assert (await rollback(state, target)).deleted == 30


@pytest.mark.parametrize("applied", [False, True], ids=["and did not happen", "though it happened"])
async def test_what_stays_unknown_ends_the_run_and_the_next_one_finds_out(
    pair: str, tmp_path: Path, state: Path, applied: bool
) -> None:
    broken = True

    async def vague(number: int, hook: Any, ops: Any, atomic: bool) -> Any:
        if number < 2 or not broken:
            return await hook(ops, atomic)
        if applied:
            await hook(ops, atomic)
        return [Result(Status.UNKNOWN) for _ in ops]

    source, target = made(pair, tmp_path, layers=[around_write(vague)])
    async with source, target:
        await source.put_many(plain(30))
        with pytest.raises(UnknownOutcome):
            await migrate(source, target, state=state, batch_size=10)
        broken = False
        report = await migrate(source, target, state=state, batch_size=10)
        assert (report.ok, report.resumed, report.created) == (True, True, 30)
        assert (await rollback(state, target)).deleted == 30
        assert await target.count() == 0


async def test_a_full_target_ends_the_run_and_the_next_one_goes_on(pair: str, tmp_path: Path, state: Path) -> None:
    full = True

    async def filling(number: int, hook: Any, ops: Any, atomic: bool) -> Any:
        if number == 2 and full:
            return [
                *(await hook(ops[:4], atomic)),
                *(Result(Status.FAILED, error=StorageFull("full")) for _ in ops[4:]),
            ]
        return await hook(ops, atomic)

    source, target = made(pair, tmp_path, layers=[around_write(filling)])
    async with source, target:
        await source.put_many(plain(30))
        with pytest.raises(StorageFull):
            await migrate(source, target, state=state, batch_size=10)
        assert await target.count() == 14
        full = False
        report = await migrate(source, target, state=state, batch_size=10)
        assert (report.ok, report.resumed, report.created, report.conflicts) == (True, True, 30, 0)


async def test_a_whole_batch_that_fails_ends_the_run_and_the_next_one_goes_on(tmp_path: Path, state: Path) -> None:
    down = True

    async def failing(number: int, hook: Any, ops: Any, atomic: bool) -> Any:
        if number == 3 and down:
            raise BackendUnavailable("down")
        return await hook(ops, atomic)

    source, target = made("in_memory-sqlite", tmp_path, layers=[around_write(failing)])
    async with source, target:
        await source.put_many(plain(50))
        with pytest.raises(BackendUnavailable):
            await migrate(source, target, state=state, batch_size=10)
        report = await migrate(source, target, state=state, batch_size=10)
        assert (report.ok, report.resumed, report.created) == (True, True, 50)


# --- what is asked for -------------------------------------------------------------------------


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
    store = MAKERS["sqlite"](tmp_path / "source")
    async with store:
        await store.put_many(plain(5))
    assert (await migrate(source, target, state=state)).created == 5
    closed = MAKERS["sqlite"](tmp_path / "target")
    assert (await migrate(source, closed, state=state)).plan.unchanged == 5
    async with closed:
        assert await closed.count() == 5


def test_the_twins_do_the_same(tmp_path: Path, state: Path) -> None:
    from memory.migration import rollback_sync

    with MAKERS["sqlite"](tmp_path / "source") as store:
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
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        Path(str(one.state)).name for one in (first, part)
    )
    assert Path(str(first.state)).stat().st_mode & 0o77 == 0, "it may hold records, so it is nobody else's to read"


async def test_a_file_of_any_name_is_found_again_by_its_address(tmp_path: Path, state: Path) -> None:
    source, _ = made("in_memory-in_memory", tmp_path)
    target = MAKERS["sqlite"](tmp_path / "odd # name? 100% é")
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
        assert (await rollback(state, target)).deleted == 3
