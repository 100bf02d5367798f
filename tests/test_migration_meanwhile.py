"""Migrations of stores in use: what changes at the source is followed, what is written in the target is not overwritten."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from migrations import (
    FED,
    PAIRS,
    around_write,
    before_write,
    made,
    plain,
    records,
    rows,
)

from memory import ManualClock, MemoryItem
from memory.errors import (
    BackendUnavailable,
    ResumeExpired,
)
from memory.migration import migrate, rollback

# --- the source is in use --------------------------------------------------------------------------


WITHOUT_OR_WITH_A_FEED = pytest.mark.parametrize(
    ("pair", "feed"),
    [(pair, False) for pair in PAIRS] + [pytest.param(pair, True, id=f"{pair}-with a feed") for pair in FED],
    indirect=["pair"],
)


@WITHOUT_OR_WITH_A_FEED
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


@pytest.mark.parametrize("pair", FED, indirect=True)
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


# --- feeds -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("validate", [False, True])
async def test_a_feed_that_no_longer_reaches_back_is_made_up_for_by_the_comparison_only(
    tmp_path: Path, state: Path, validate: bool
) -> None:
    async def meanwhile() -> None:
        await source.delete("i00002")
        clock.advance(100)
        await source.sweep()

    clock = ManualClock()
    options: dict[str, Any] = {"clock": clock, "feed": True, "feed_retention": 10}
    source, target = made("in_memory-sqlite", tmp_path, source=options, layers=[before_write(2, meanwhile)])
    async with source, target:
        await source.put_many(plain(30))
        if validate:
            report = await migrate(source, target, state=state, batch_size=10)
            assert (report.ok, report.meanwhile) == (True, 1)
            assert await records(target) == await records(source)
            return
        with pytest.raises(ResumeExpired, match="feed_retention"):
            await migrate(source, target, state=state, batch_size=10, validate=False)


async def test_what_both_sides_change_meanwhile_is_a_conflict_that_the_feed_finds(tmp_path: Path, state: Path) -> None:
    async def meanwhile() -> None:
        await source.update("i00002", metadata={"n": "theirs"})
        await target.update("i00002", metadata={"n": "ours"})

    source, target = made("in_memory-sqlite", tmp_path, source={"feed": True}, layers=[before_write(2, meanwhile)])
    async with source, target:
        await source.put_many(plain(30))
        report = await migrate(source, target, state=state, batch_size=10, validate=False)
        assert (report.ok, report.conflicts, report.findings[0].key[1]) == (False, 1, "i00002")
        kept = await target.get("i00002")
        assert kept is not None
        assert kept.metadata == {"n": "ours"}


@WITHOUT_OR_WITH_A_FEED
async def test_what_was_deleted_between_a_crash_and_the_next_run_does_not_come_back(
    pair: str, tmp_path: Path, state: Path, feed: bool
) -> None:
    async def failing(number: int, hook: Any, ops: Any, atomic: bool) -> Any:
        if number == 2:
            raise BackendUnavailable("down")
        return await hook(ops, atomic)

    source, target = made(pair, tmp_path, source={"feed": feed}, layers=[around_write(failing)])
    async with source, target:
        await source.put_many(plain(30))
        with pytest.raises(BackendUnavailable):
            await migrate(source, target, state=state, batch_size=10)
        await source.delete("i00001")
        await source.delete("i00021")
        report = await migrate(source, target, state=state, batch_size=10, validate=not feed)
        assert (report.ok, report.resumed, report.removed) == (True, True, 1)
        assert await records(target) == await records(source)


async def test_a_removal_that_was_cut_off_is_found_out_and_undone(pair: str, tmp_path: Path, state: Path) -> None:
    cut = False

    async def dying(number: int, hook: Any, ops: Any, atomic: bool) -> Any:
        results = await hook(ops, atomic)
        if cut:
            raise BackendUnavailable("gone after it was done")
        return results

    source, target = made(pair, tmp_path, layers=[around_write(dying)])
    async with source, target:
        await source.put_many(plain(5))
        await target.put(MemoryItem(id="i00001", content="was there"))
        before = await records(target)
        await migrate(source, target, state=state, on_conflict="replace")
        await source.delete("i00001")
        cut = True
        with pytest.raises(BackendUnavailable):
            await migrate(source, target, state=state, on_conflict="replace")
        cut = False
        report = await migrate(source, target, state=state, on_conflict="replace")
        assert (report.ok, report.resumed, report.removed) == (True, True, 1)
        undone = await rollback(state, target)
        assert (undone.ok, undone.deleted, undone.restored) == (True, 4, 1)
        assert await records(target) == before


async def test_a_part_outside_a_view_is_nothing_and_one_that_must_be_counted_is_counted(
    tmp_path: Path, state: Path
) -> None:
    def uncounted(name: str, hook: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def none(*args: Any) -> Any:
            return None

        return none if name == "count" else hook

    totals: set[int | None] = set()
    source, target = made("in_memory-sqlite", tmp_path, source={"layers": [uncounted]})
    async with source, target:
        await source.put_many(plain(5))
        outside = await migrate(source.scoped("team"), target, state=tmp_path / "view.jsonl", namespace="other")
        assert (outside.ok, outside.plan.items, outside.others) == (True, 0, 0)
        await migrate(source, target, state=state, progress=lambda phase, done, total: totals.add(total))
    assert totals == {5}
