"""verify, repair, backup, restore, reembed: the whole store."""

from __future__ import annotations

import asyncio
import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from memory.cli.command import At, command
from memory.cli.failures import DAMAGED, MISSING, UsageProblem
from memory.cli.output import note, print_json, progress, safe
from memory.cli.typed import confirm

PANEL = "Moving and upkeep"
_SHOWN = 20


@command("verify", "memory verify", "memory verify --json", panel=PANEL, scope=False)
async def verify(at: At) -> int | None:
    """Check every stored record and index.

    Changes nothing. The exit code is 1 when something is wrong.
    """
    async with at.open(reads=True) as store:
        with progress("Verifying", None, at.json):
            report = await store.verify()
    if at.json:
        print_json({"ok": report.ok, "checked": report.checked, "problems": [_problem(one) for one in report.problems]})
    else:
        print(f"{report.checked} records checked, {len(report.problems) or 'no'} problems found")
        for one in report.problems[:_SHOWN]:
            facts = _problem(one)
            place = " / ".join((*facts["namespace"], facts["id"])) + ": " if facts["id"] else ""
            print(safe(f"  {place}{facts['what']}" + (f" ({facts['detail']})" if facts["detail"] else "")))
        if len(report.problems) > _SHOWN:
            print(f"  and {len(report.problems) - _SHOWN} more; --json lists them all")
        if report.problems:
            note("`memory backup` first, if it can copy this; then `memory repair`, which keeps what it cannot save")
    return None if report.ok else MISSING


@command("repair", "memory repair", panel=PANEL, scope=False)
async def repair(at: At) -> int | None:
    """Rebuild what is derived from the records.

    Damaged records are set aside and named. The exit code is 5 when some could not be saved.
    """
    async with at.open(reads=True) as store:
        with progress("Repairing", None, at.json):
            report = await store.repair()
    if at.json:
        print_json({"actions": report.actions, "quarantined": report.quarantined})
    else:
        for action in report.actions:
            print(safe(action))
        if report.quarantined:
            note(f"{len(report.quarantined)} records could not be saved and were set aside:")
            for key in report.quarantined:
                print(safe(f"  {key}"))
    return DAMAGED if report.quarantined else None


@command("backup", "memory backup memory-2026-03-01.backup", panel=PANEL, scope=False)
async def backup(at: At, file: Annotated[Path, typer.Argument(help="The file to write; it must not exist")]) -> None:
    """Copy the whole store to a file.

    The copy is a point in time where the backend can take one (see `memory backends`: snapshots). The memory may be in use.
    """
    async with at.open(reads=True) as store:
        with progress("Backing up", await store.count(), at.json) as tell:
            total = await store.backup(file, progress=tell)
    print_json({"records": total, "file": str(file)}) if at.json else print(f"{total} records backed up to {file}")


@command(
    "restore",
    "memory restore memory-2026-03-01.backup --path fresh.db",
    "memory restore memory-2026-03-01.backup --replace",
    panel=PANEL,
    scope=False,
)
async def restore(
    at: At,
    file: Annotated[Path, typer.Argument(help="A file that backup wrote")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Make the store equal to the backup; what is not in it goes")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")] = False,
) -> None:
    """Bring back the records of a backup.

    They keep their times and counts. The store must be empty, or is made equal to the backup with --replace.
    """
    from memory.store.upkeep import check_backup

    with file.open("rb"):  # the plain error now, before a memory is made
        if not file.is_file():
            raise UsageProblem(f"{file} is not a file; a backup is read more than once")
    async with at.open(before=lambda store: check_backup(store, file)) as store:
        there = await store.count() if replace else 0
        if there and not yes:
            confirm(f"Replace the {there} memories in this store by the backup?")
        with progress("Restoring", None, at.json) as tell:
            total = await store.restore(file, replace=replace, progress=tell)
    print_json({"records": total}) if at.json else print(f"{total} records restored")


@command(
    "reembed",
    "memory reembed",
    "memory reembed --to sentence-transformers:all-MiniLM-L6-v2 --yes",
    "MEMORY_EMBEDDER=hashing memory reembed",
    panel=PANEL,
    scope=False,
)
async def reembed(
    at: At,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="EMBEDDER", help="Make all vectors anew by this one; without: those that lack"),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", help="Texts given to the embedder at once")] = 256,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")] = False,
) -> None:
    """Give memories the vectors that a search by meaning needs.

    By the embedder in use (MEMORY_EMBEDDER) those that have none get one: what was added with --embed later, or before there was
    an embedder. By another one all get new vectors; the old ones serve until all are made, then the memory switches at once.
    Stopped in the middle, the same command goes on where it stopped.
    """
    from memory.settings import embedder_from

    async with at.open(reads=True) as store:
        assert at.settings is not None  # it was not given ready-made
        embedder = None if to is None else embedder_from(at.settings.changed(embedder=to))
        if to is not None and embedder is None:
            raise UsageProblem("--to names an embedder; none makes no vectors")
        maker = embedder or store.embedding
        wanted = None if maker is None else maker.name
        told = (await store.stats()).details
        held, total = told.get("embedder"), await store.count()
        changes = held is not None and wanted not in (None, held)
        if changes and total and not yes:
            confirm(f"Replace the vectors of {total} memories, made by {held}, by those of {wanted}?")
        try:
            with progress("Embedding", total if changes else told.get("vectors_owed", total), at.json) as tell:
                report = await store.reembed(embedder, batch=batch, progress=tell)
        except asyncio.CancelledError:
            note("stopped; the same command goes on where this one was")
            raise
        used = store.embedding.name if store.embedding else None
    if at.json:
        print_json({name: getattr(report, name) for name in report.__struct_fields__})
        return
    parts = [f"{report.embedded} embedded", f"{report.kept} had their vector"]
    if report.without_text:
        parts.append(f"{report.without_text} have no text")
    print(safe(f"{', '.join(parts)} (embedder {report.embedder})"))
    if report.embedder != used:
        note(f"from now on set MEMORY_EMBEDDER={shlex.quote(to or str(report.embedder))}, for all who use this memory")


def _problem(one: Any) -> dict[str, Any]:
    namespace, id = one.key or ((), "")
    return {"what": one.what, "detail": one.detail, "namespace": list(namespace), "id": id}
