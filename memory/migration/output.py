"""The report as a file: JSON with every finding, written a piece at a time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from memory.migration.state import findings_of
from memory.store.transfer import to_the_end, whole_file

if TYPE_CHECKING:
    from memory.migration.report import MigrationReport
    from memory.migration.state import State

_LISTS = (
    *(("unlisted", "unlisted"), ("expired", "expired"), ("refused", "refused")),
    *(("conflicts", "conflict"), ("differences", "difference")),
)


async def write_report(path: Path, report: MigrationReport, journal: Path, state: State) -> None:
    """Write a report and all findings of its round, which the journal holds. Replaces the file.

    An object: what ``MigrationReport.plain`` says, and ``listed``: for each kind of finding, all of them, by key
    (namespace, id), why, and the names of the fields that differ.
    """
    head = msgspec.json.encode(report.plain())
    async with whole_file(path) as file:
        await to_the_end(file.write, head[:-1] + b',"listed":{')
        for number, (name, kind) in enumerate(_LISTS):
            await to_the_end(file.write, b'%s"%s":[' % (b"," if number else b"", name.encode()))
            empty = True
            async for found in findings_of(journal, state, kind):
                raw = b",\n".join(msgspec.json.encode(one.plain()) for one in found)
                if raw:
                    await to_the_end(file.write, (b"\n" if empty else b",\n") + raw)
                    empty = False
            await to_the_end(file.write, b"]")
        await to_the_end(file.write, b"}}\n")


async def write_list(path: Path, report: MigrationReport) -> None:
    """Write a report whose findings are all in it, in the same form. Replaces the file."""
    listed = {name: [one.plain() for one in report.findings if one.kind == kind] for name, kind in _LISTS}
    async with whole_file(path) as file:
        await to_the_end(file.write, msgspec.json.encode({**report.plain(), "listed": listed}) + b"\n")
