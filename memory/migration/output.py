"""The report as a file: JSON with every finding, written a piece at a time."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from memory.errors import AlreadyExists, InvalidSetting
from memory.migration.state import findings_of
from memory.store.transfer import check_place, to_the_end, whole_file

if TYPE_CHECKING:
    from memory.migration.report import MigrationReport
    from memory.migration.state import State
    from memory.store import MemoryStore

_LISTS = (
    *(("unlisted", "unlisted"), ("expired", "expired"), ("refused", "refused")),
    *(("conflicts", "conflict"), ("differences", "difference")),
)


_REPORT = re.compile(rb'\{"ok":(true|false),"source":"')
"""How each report begins."""


def check_places(stores: Iterable[MemoryStore], journal: Path | None, output: Path | None) -> None:
    """What a migration is going to write to, looked at before it writes anything. Blocking.

    Raises InvalidSetting (a file of the source or of the target, one file for both, no directory), InvalidItem (no file
    can be put there), AlreadyExists (a file that is no report).
    """
    ends = list(stores)
    for setting, path in (("state", journal), ("output", output)):
        if path is not None and any(store._lives_in(path) for store in ends):
            raise InvalidSetting(
                f"{path} is a file of the source or of the target; choose another name", setting=setting
            )
    if journal is not None and not journal.parent.is_dir():
        raise InvalidSetting(f"the directory of the journal, {journal.parent}, does not exist", setting="state")
    if output is None:
        return
    if journal is not None and journal.resolve() == output.resolve():
        raise InvalidSetting(f"{output} is the journal; the report needs a file of its own", setting="output")
    check_place(output)
    if output.exists() and not _may_be_replaced(output):
        raise AlreadyExists(f"{output} exists and is not a migration's report; choose another name", file=str(output))


def _may_be_replaced(path: Path) -> bool:
    """Whether a file is an earlier report, or empty."""
    with path.open("rb") as file:
        head = file.read(64)
    return not head or _REPORT.match(head) is not None


async def write_report(path: Path, report: MigrationReport, journal: Path, state: State) -> None:
    """Write a report and all findings of its round, which the journal holds. Replaces the file (see ``check_places``).

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
