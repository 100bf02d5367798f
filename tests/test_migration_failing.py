"""Targets that fail on the way: unknown outcomes, a full disk, a lost connection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from migrations import (
    around_write,
    made,
    plain,
)

from memory.errors import (
    BackendUnavailable,
    StorageFull,
    UnknownOutcome,
)
from memory.migration import migrate, rollback
from memory.ops import Result, Status


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
