"""export and import: memories as JSON lines."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from memory.cli.command import At, Embed, Under, WhereJson, command, segments
from memory.cli.failures import MISSING, UsageProblem
from memory.cli.output import note, print_json, progress, safe, written
from memory.cli.typed import interruptible, parse_where

if TYPE_CHECKING:
    from memory.cli.arriving import Arrived

PANEL = "Moving and upkeep"
_SHOWN = 10


@command(
    "export",
    "memory export everything.jsonl",
    "memory export ana.jsonl --user ana",
    'memory export - --where \'{"kind": "semantic"}\' | jq .content',
    panel=PANEL,
)
async def export(
    at: At,
    file: Annotated[Path, typer.Argument(help="The file to write; - is standard output")],
    where: WhereJson = None,
    under: Under = None,
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace the file if it exists")] = False,
) -> None:
    """Write memories to a file, a line of JSON each.

    Times, counts and vectors are kept. The file appears whole or not at all.
    """
    filter = parse_where(where)
    scope: dict[str, Any] = {"namespace": at.segments, "under": segments(under)}
    to_stdout = str(file) == "-"
    if not to_stdout:
        _free(file, force)
    async with at.open(reads=True) as store:
        view = at.view(store)
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "export.jsonl" if to_stdout else file
            with progress("Exporting", await view.count(filter, **scope), at.json) as tell:
                total = await view.export_jsonl(target, filter, **scope, progress=tell)
            if to_stdout:
                with target.open("rb") as lines, written(done=False):
                    sys.stdout.flush()
                    shutil.copyfileobj(lines, sys.stdout.buffer)
                    sys.stdout.buffer.flush()
    if to_stdout:
        note(f"{total} exported")
    elif at.json:
        print_json({"exported": total, "file": str(file)})
    else:
        print(f"{total} exported to {file}")


@command(
    "import",
    "memory import everything.jsonl",
    "memory import chat.jsonl --user ana --session trip",
    "memory import mail.json --map content=body.text --map user_id=from --map created_at=ts --map metadata.topic=labels",
    "memory import mixed.jsonl --skip-bad",
    "zcat old.jsonl.gz | memory import - --user ana",
    panel=PANEL,
)
async def import_items(
    at: At,
    file: Annotated[Path, typer.Argument(help="The file to read; - is standard input")],
    pairs: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="FIELD=PATH",
            help="What becomes a field of the memory; repeat for more. PATH is dotted, . is the whole record",
        ),
    ] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Import the good lines though some are bad")] = False,
    drop_vectors: Annotated[
        bool,
        typer.Option("--drop-vectors", help="Leave out the vectors of an export; the embedder in use makes new ones"),
    ] = False,
    embed: Embed = "now",
) -> int | None:
    """Read memories from a file: an export, a chat, or records of any form.

    An export keeps times and counts; equal ids are replaced.

    A chat is JSON lines (or an array) of {"role", "content", ...}, one conversation. Its session is --session, else the
    file's name; a message's time is its created_at or timestamp (ISO 8601, seconds or milliseconds); the rest becomes metadata.

    With --map any JSON lines or array will do. content must be mapped; what is not mapped is left out.

    Which of the first two a file is, its first lines tell. Every line is checked first: a bad one is named, and nothing is
    imported unless --skip-bad says so. Ids that records do not bring are made of owner, session, place and content, so the same
    file again changes nothing, and a chat that has grown adds its new messages only. With a scope (--user, --namespace...) what
    lies outside it is bad, and what names none comes to lie inside.
    """
    from memory.cli.arriving import Arrived, import_foreign
    from memory.cli.foreign import Chat, Mapped, Owner, form_of, is_empty_array

    owner = Owner(at.user, at.agent, at.session)
    mapped = Mapped(pairs, owner) if pairs else None
    policy: Literal["abort", "skip"] = "skip" if skip_bad else "abort"
    with _readable(file) as source:
        form = "records" if mapped is not None else form_of(source)
        if form == "chat" and owner.session_id is None:
            if source != file:
                raise UsageProblem("this is a chat; say with --session which conversation it is")
            owner.session_id = file.stem
        if form == "memories" and embed == "later":
            raise UsageProblem("--embed later is for chats and records; an export brings its vectors or gets them now")
        if form != "memories" and drop_vectors:
            raise UsageProblem("--drop-vectors is for exports; chats and records bring no vectors")
        async with at.open() as store:
            scoped = at.scoped or at.segments is not None
            view = (
                store.scoped(at.segments, user_id=at.user, agent_id=at.agent, session_id=at.session)
                if scoped
                else store
            )
            with progress("Importing", None, at.json) as tell:
                if is_empty_array(source):
                    report = Arrived(0, 0, {})
                elif form == "memories":
                    whole = await view.import_jsonl(
                        source, on_error=policy, vectors="drop" if drop_vectors else "keep", progress=tell
                    )
                    report = Arrived(whole.imported, 0, whole.refused)
                else:
                    report = await import_foreign(
                        view, source, mapped or Chat(owner), policy, embed=embed, progress=tell
                    )
    _print_report(at, report, form, owner.session_id)
    return MISSING if report.refused else None


def _print_report(at: At, report: Arrived, form: str, session: str | None) -> None:
    if at.json:
        refused = {str(line): why for line, why in report.refused.items()}
        counts = {"imported": report.imported, "unchanged": report.unchanged, "refused": refused}
        print_json({"form": form, "session": session, **counts})
        return
    parts = [f"{report.imported} imported"]
    if report.unchanged:
        parts.append(f"{report.unchanged} there already")
    if report.refused:
        parts.append(f"{len(report.refused)} refused")
    taken = {"memories": "an export of memories", "chat": f"a chat, session {session}", "records": "records, by --map"}
    nothing = not (report.imported or report.unchanged or report.refused)
    print(safe(f"{', '.join(parts)} ({'there is no record in it' if nothing else taken[form]})"))
    for line, why in list(report.refused.items())[:_SHOWN]:
        note(f"{report.unit} {line}: {why}")
    if len(report.refused) > _SHOWN:
        note(f"and {len(report.refused) - _SHOWN} more; --json lists them all")


def _free(file: Path, force: bool) -> None:
    """Refuses to write over a file, or in place of a device. Raises AlreadyExists, UsageProblem."""
    from memory.errors import AlreadyExists

    if file.exists() and not file.is_file():
        raise UsageProblem(f"{file} is not a file that can be replaced; for standard output write -")
    if file.exists() and not force:
        raise AlreadyExists(f"{file} exists; choose another name, or replace it with --force", file=str(file))


@contextmanager
def _readable(file: Path) -> Iterator[Path]:
    """A file that can be read twice: standard input and pipes are copied to one first."""
    piped = str(file) == "-"
    if not piped and (file.is_file() or not file.exists()):
        with file.open("rb"):  # the plain error now, before a memory is made
            pass
        yield file
        return
    handle, name = tempfile.mkstemp(suffix=".jsonl")
    try:
        with os.fdopen(handle, "wb") as copy:
            if piped:
                with interruptible():
                    shutil.copyfileobj(sys.stdin.buffer, copy)
            else:
                with file.open("rb") as source:
                    shutil.copyfileobj(source, copy)
        yield Path(name)
    finally:
        Path(name).unlink()
