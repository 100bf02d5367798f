"""What is in the way, and what the target cannot hold: told item by item before the first write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from migrations import (
    around_write,
    every_kind,
    fill,
    made,
    moment,
    plain,
    records,
    rows,
)

from memory import MemoryItem
from memory.backends.in_memory import InMemoryStore
from memory.errors import BackendUnavailable, UnsupportedOperation
from memory.migration import MigrationReport, migrate
from memory.ops import Problem

# --- what is in the way ----------------------------------------------------------------------------


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


# --- vectors ---------------------------------------------------------------------------------------


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


async def test_a_plan_that_stopped_is_not_resumed_but_made_anew(tmp_path: Path, state: Path) -> None:
    """Though the process died after its plan was told and before its end was."""
    source, target = made("in_memory-sqlite", tmp_path)
    async with source, target:
        await source.put_many(plain(5))
        await target.put(MemoryItem(id="i00002", content="in the way"))
        assert (await migrate(source, target, state=state)).stopped == "conflicts"
        raw = state.read_bytes()
        assert raw.splitlines()[-1].startswith(b'{"t":"end"')
        state.write_bytes(raw[: raw.rindex(b'{"t":"end"')])
        await target.delete("i00002")
        report = await migrate(source, target, state=state)
        assert (report.ok, report.resumed, report.created) == (True, False, 5)


async def test_a_view_is_no_target(tmp_path: Path, state: Path) -> None:
    source, target = made("in_memory-sqlite", tmp_path)
    async with source, target:
        with pytest.raises(UnsupportedOperation, match="whole store"):
            await migrate(source, target.scoped("team"), state=state)  # type: ignore[arg-type]


class WithStrays(InMemoryStore):
    """Something lies beside its items that it cannot list."""

    async def _unlisted(self) -> list[Problem]:
        return [Problem("of another program", (("team",), "stray"), "no item"), Problem("without a key")]


async def test_what_the_source_cannot_list_is_told_and_stays_told(tmp_path: Path, state: Path) -> None:
    down = True

    async def failing(number: int, hook: Any, ops: Any, atomic: bool) -> Any:
        if number == 2 and down:
            raise BackendUnavailable("down")
        return await hook(ops, atomic)

    _, target = made("in_memory-sqlite", tmp_path, layers=[around_write(failing)])
    async with WithStrays() as source, target:
        await source.put_many(plain(20))
        report = await migrate(source, target, state=state)
        assert (report.ok, report.stopped, report.plan.unlisted, report.plan.create) == (False, "refused", 1, 20)
        assert [(one.kind, one.key, one.why) for one in report.findings] == [
            ("unlisted", (("team",), "stray"), "of another program: no item")
        ]
        assert await target.count() == 0
        with pytest.raises(BackendUnavailable):
            await migrate(source, target, state=state, skip_refused=True, batch_size=10)
        down = False
        output = tmp_path / "report.json"
        moved = await migrate(source, target, state=state, skip_refused=True, batch_size=10, output=output)
        assert (moved.ok, moved.resumed, moved.created, moved.unlisted, moved.differences) == (False, True, 20, 1, 0)
        assert json.loads(output.read_text())["listed"]["unlisted"] == [
            {"namespace": ["team"], "id": "stray", "why": "of another program: no item"}
        ]
        for part in ({"under": "other"}, {"where": {"kind": "note"}}):
            assert (await migrate(source, target, state=tmp_path / "part.jsonl", dry_run=True, **part)).unlisted == 0  # type: ignore[arg-type]
        view = source.scoped(user_id="ana")
        assert (await migrate(view, target, state=tmp_path / "view.jsonl", dry_run=True)).unlisted == 0
