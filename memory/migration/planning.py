"""Before the first write: what a migration would do, what the target cannot hold, what is in the way."""

from __future__ import annotations

import time
from contextlib import aclosing
from typing import TYPE_CHECKING

from memory.errors import MemoryStoreError
from memory.migration.deciding import Do
from memory.migration.moving import Entry
from memory.migration.report import Finding, OnConflict, Plan
from memory.migration.sources import pages

if TYPE_CHECKING:
    from collections.abc import Callable

    from memory.migration.moving import Mover
    from memory.migration.sources import Source

MOVING_COSTS = 3.0
"""Moving and comparing an item is taken for so many times the work of planning it: two readings more, and a write."""


async def plan(
    source: Source,
    mover: Mover,
    *,
    policy: OnConflict,
    skip_refused: bool,
    size: int,
    throttle: float | None,
    progress: Callable[[int], None],
) -> Plan:
    """Goes through the source once, looking every item up in the target; findings go to the journal. Writes nothing else."""
    told = Plan()
    started = time.perf_counter()
    async with aclosing(pages(source, None, size)) as stream:
        async for pairs in stream:
            rows = await mover.held([item.key for _, item in pairs])
            found: list[Finding] = []
            entries = [Entry(pair[1].key, pair, row) for pair, row in zip(pairs, rows, strict=True)]
            async for part in mover.target._slices(entries):
                for entry in part:
                    found += await _count(told, mover, entry)
            for one in found:
                mover.note(one)
            if found:
                await mover.journal.sync()
            progress(told.items)
    for one in await source.unlisted():
        told.unlisted += one.kind == "unlisted"
        mover.note(one)
    told.read_seconds = time.perf_counter() - started
    told.estimate = MOVING_COSTS * told.read_seconds
    if throttle is not None:
        told.estimate = max(told.estimate, told.writes / throttle)
    if (told.refused or told.unlisted) and not skip_refused:
        told.stopped = "refused"
    elif told.conflicts and policy == "refuse":
        told.stopped = "conflicts"
    return told


async def _count(told: Plan, mover: Mover, entry: Entry) -> list[Finding]:
    """Count what will be done about an item; a finding if that is nothing though it differs."""
    assert entry.pair is not None  # it comes from the source
    row = entry.pair[0]
    told.items += 1
    told.size += len(row.body) + len(row.embedding or b"")
    do, why = mover.decide(entry)
    if do is Do.SAME:
        told.unchanged += 1
    elif do is Do.KEEP:
        told.kept += 1
    elif do is Do.CONFLICT:
        told.conflicts += 1
        return [Finding(kind="conflict", key=entry.key, why=why)]
    else:
        try:
            await mover.putting.put(entry.pair, entry.held)
        except MemoryStoreError as error:
            told.refused += 1
            return [Finding(kind="refused", key=entry.key, why=error.message)]
        told.create += do is Do.CREATE
        told.update += do is Do.UPDATE
        told.replace += do is Do.REPLACE
    return []
