"""migrate, import-legacy and rollback: everything from one backend or from older data to another, and back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from memory.cli.command import At, Namespace, Under, WhereJson, command, file_of, is_there, segments
from memory.cli.failures import CONFLICT, MISSING, USAGE, UsageProblem, as_typed
from memory.cli.output import note, print_json, progress, safe
from memory.cli.typed import confirm, parse_where
from memory.model import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from memory.manager import MemoryManager
    from memory.migration import Finding, MigrationReport, Plan

PANEL = "Moving and upkeep"
_SHOWN = 10
_PHASES = {"planning": "Planning", "moving": "Moving", "comparing": "Comparing"}

DryRun = Annotated[bool, typer.Option("--dry-run", help="Plan, and write nothing")]
OnConflict = Annotated[
    Literal["refuse", "skip", "newer", "replace"],
    typer.Option(
        "--on-conflict",
        help="Where the target holds another item under a key: write nothing at all, leave it, let the later one win, "
        "or replace it",
    ),
]
Reembed = Annotated[
    bool, typer.Option("--reembed", help="Make all vectors anew by the embedder in use (MEMORY_EMBEDDER)")
]
DropVectors = Annotated[bool, typer.Option("--drop-vectors", help="Leave vectors behind")]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Items read and written at once")]
State = Annotated[
    Path | None,
    typer.Option("--state", metavar="FILE", help="The journal, to go on and to undo; without: named here, and told"),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FILE", help="The report with every finding, as JSON; replaces an earlier one"
    ),
]


@command(
    "migrate",
    "memory migrate sqlite:///old.db sqlite:///new.db --dry-run",
    "memory migrate sqlite:///old.db sqlite:///new.db --output report.json",
    "memory migrate sqlite:///all.db sqlite:///team.db --under team --throttle 500",
    'memory migrate sqlite:///all.db sqlite:///facts.db --where \'{"kind": "semantic"}\' --on-conflict newer',
    panel=PANEL,
    scope=False,
    opens=False,
)
async def migrate(
    at: At,
    source: Annotated[str, typer.Argument(help="Where from: a backend's name or URL, or module:Class")],
    target: Annotated[str, typer.Argument(help="Where to")],
    namespace: Namespace = None,
    under: Under = None,
    where: WhereJson = None,
    dry_run: DryRun = False,
    on_conflict: OnConflict = "refuse",
    skip_refused: Annotated[
        bool, typer.Option("--skip-refused", help="Move the rest though the target cannot hold some items")
    ] = False,
    reembed: Reembed = False,
    drop_vectors: DropVectors = False,
    batch_size: BatchSize = 500,
    throttle: Annotated[float | None, typer.Option("--throttle", help="Items a second, at most")] = None,
    no_validate: Annotated[bool, typer.Option("--no-validate", help="Do not compare both sides at the end")] = False,
    sample_size: Annotated[
        int | None, typer.Option("--sample-size", metavar="N", help="Compare so many items at random, not all")
    ] = None,
    state: State = None,
    output: Output = None,
) -> int | None:
    """Move everything, or a part, from one backend to another.

    Ids, times, expiry, counts and vectors are kept. All is planned first, and nothing is written while an item is in the way or
    cannot be held by the target. Then both sides are compared in full. Stopped or killed, the same command goes on where it
    stopped; done, it moves what has changed since. `memory rollback` undoes it.

    The exit code is 0 only when everything is there and equal; 4 when items are in the way, 2 when the target cannot hold some,
    1 when there are differences.
    """
    from memory import migration
    from memory.manager import MemoryManager
    from memory.migration.output import check_places

    vectors = _vectors(reembed, drop_vectors)
    reads = _manager(source, sweep_interval=None)
    place = file_of(reads.store)
    if place is not None and not is_there(place):
        raise UsageProblem(f"there is no memory at {place} to migrate from")
    writes = _manager(target) if not reembed else MemoryManager(target)
    filter = parse_where(where)
    check_places([reads.store, writes.store], state, output)
    async with reads, writes:
        try:
            with _bars(at.json) as tell:
                report = await migration.migrate(
                    reads.store,
                    writes.store,
                    namespace=segments(namespace),
                    under=segments(under),
                    where=filter,
                    vectors=vectors,
                    on_conflict=on_conflict,
                    skip_refused=skip_refused,
                    batch_size=batch_size,
                    throttle=throttle,
                    validate=not no_validate,
                    sample_size=sample_size,
                    dry_run=dry_run,
                    state=state,
                    output=output,
                    progress=tell,
                )
        except asyncio.CancelledError:
            note("stopped; the same command goes on where this one was")
            raise
    if at.json:
        print_json({**report.plain(), "findings": [one.plain() | {"kind": one.kind} for one in report.findings]})
    else:
        _print_report(report)
    if report.ok:
        return None
    return {"refused": USAGE, "conflicts": CONFLICT}.get(report.stopped or "", MISSING)


@command(
    "import-legacy",
    "memory import-legacy capabilities 'redis://localhost:6379?prefix=memory' --dry-run",
    "memory import-legacy capabilities 'postgresql://postgres@localhost/pepperpy?table=memory' sqlite:///new.db",
    "memory import-legacy capabilities data/vector_store --drop-vectors --output report.json",
    "memory import-legacy capabilities data/vector_store --drop-vectors --verify-only",
    panel=PANEL,
    scope=False,
    opens=False,
)
async def import_legacy(
    at: At,
    system: Annotated[Literal["capabilities"], typer.Argument(help="What wrote the data: capabilities.memory")],
    source: Annotated[str, typer.Argument(help="Where they lie: redis://, postgresql://, or the folder of vectors")],
    target: Annotated[
        str | None, typer.Argument(help="Where to: a backend's name or URL; without: the memory of the settings")
    ] = None,
    namespace: Namespace = None,
    dry_run: DryRun = False,
    verify_only: Annotated[
        bool, typer.Option("--verify-only", help="Compare all of it with the target, and write nothing")
    ] = False,
    on_conflict: OnConflict = "refuse",
    model: Annotated[
        str | None, typer.Option("--model", metavar="NAME", help="Who made the vectors of a folder [all-MiniLM-L6-v2]")
    ] = None,
    reembed: Reembed = False,
    drop_vectors: DropVectors = False,
    batch_size: BatchSize = 500,
    state: State = None,
    output: Output = None,
) -> int | None:
    """Bring in what an older system has stored, and compare.

    Nothing at the source is changed. Keys, times, expiry and vectors are kept, and fields that are unknown here are found in
    metadata.legacy. What is no entry is left where it is and told with the reason, as is what has expired. The same command
    again changes nothing; stopped or killed, it goes on where it stopped. `memory rollback` undoes it.

    The exit code is 0 only when everything is there and equal; 4 when items are in the way, 1 when something stayed behind or
    differs.
    """
    from memory.manager import MemoryManager
    from memory.migration.capabilities import import_capabilities
    from memory.migration.output import check_places

    vectors = _vectors(reembed, drop_vectors)
    memory = MemoryManager(target) if reembed else _manager(target)
    place = file_of(memory.store)
    if verify_only and place is not None and not is_there(place):
        raise UsageProblem(f"there is no memory at {place} to compare with")
    check_places([memory.store], state, output)
    async with memory:
        with _bars(at.json) as tell:
            report = await import_capabilities(
                source,
                memory.store,
                namespace=segments(namespace) or DEFAULT_NAMESPACE,
                vectors=vectors,
                model=model,
                on_conflict=on_conflict,
                batch_size=batch_size,
                dry_run=dry_run,
                verify_only=verify_only,
                state=state,
                output=output,
                progress=tell,
            )
    if at.json:
        print_json({**report.plain(), "findings": [one.plain() | {"kind": one.kind} for one in report.findings]})
    else:
        _print_report(report, compared_only=verify_only)
    if report.ok:
        return None
    return CONFLICT if report.stopped == "conflicts" else MISSING


@command(
    "rollback",
    "memory rollback memory-migration-0f3a5c7d9e1b.jsonl",
    "memory rollback report.json --target sqlite:///new.db --yes",
    panel=PANEL,
    scope=False,
    opens=False,
)
async def rollback(
    at: At,
    file: Annotated[Path, typer.Argument(help="The journal of a migration, or its report")],
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="ADDRESS", help="The target, where its address needs a password"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")] = False,
) -> int | None:
    """Undo a migration.

    What it wrote anew is deleted, what it replaced is brought back as it was. What somebody has changed in the target since is
    left alone and listed, and the exit code is 1.
    """
    from memory import migration

    with file.open("rb"):  # the plain error now, before anybody is asked
        pass
    if not yes:
        confirm(f"Undo what the migration of {file} wrote?")
    async with _manager(target or await migration.target_of(file)) as memory:
        with progress("Undoing", None, at.json) as tell:
            report = await migration.rollback(file, memory.store, progress=tell)
    if at.json:
        print_json(report.plain())
    else:
        parts = [f"{report.deleted} deleted", f"{report.restored} restored"]
        if report.already:
            parts.append(f"{report.already} as before already")
        if report.conflicts:
            parts.append(f"{report.conflicts} left as they are")
        print(safe(f"{', '.join(parts)} (in {report.target})"))
        _print_findings(report.findings, report.conflicts)
    return None if report.ok else MISSING


def _vectors(reembed: bool, drop: bool) -> Literal["copy", "reembed", "drop"]:
    if reembed and drop:
        raise UsageProblem("--reembed or --drop-vectors, not both")
    return "reembed" if reembed else "drop" if drop else "copy"


def _manager(spec: str | None, **given: Any) -> MemoryManager:
    """The memory at one end. Vectors are moved as they are, so it needs no embedder unless one is given."""
    from memory.manager import MemoryManager

    return MemoryManager(spec, **{"embedder": "none", **given})


@contextmanager
def _bars(quiet: bool) -> Iterator[Any]:
    """A progress bar for each phase, one after the other."""
    with ExitStack() as stack:
        bars: dict[str, Any] = {}

        def tell(phase: str, done: int, total: int | None) -> None:
            if phase not in bars:
                stack.close()
                bars[phase] = stack.enter_context(progress(_PHASES[phase], total, quiet))
            if bars[phase] is not None:
                bars[phase](done)

        yield tell


def _print_report(report: MigrationReport, *, compared_only: bool = False) -> None:
    print(safe(f"{report.source} -> {report.target}"))
    if not compared_only:
        print(_plan_line(report.plan))
    if compared_only:
        print(_validation_line(report))
    elif report.stopped == "refused":
        print("nothing is written: some items cannot be moved; --skip-refused moves the rest")
    elif report.stopped == "conflicts":
        print("nothing is written: the target holds other items under these keys; see --on-conflict")
    elif report.dry_run:
        print(f"about {_duration(report.plan.estimate)} to move and compare")
    else:
        parts = [f"{report.created} created", f"{report.updated} updated", f"{report.replaced} replaced"]
        print(", ".join([*parts, f"{report.removed} removed"] if report.removed else parts))
        print(_validation_line(report))
    for kind, count in (
        ("unlisted", report.unlisted),
        ("expired", report.expired),
        ("refused", report.refused),
        ("conflict", report.conflicts),
        ("difference", report.differences),
    ):
        _print_findings([one for one in report.findings if one.kind == kind], count)
    if report.state is not None and report.written + report.removed:
        note(f"the journal is {report.state}; `memory rollback {report.state}` undoes this migration")


def _plan_line(plan: Plan) -> str:
    counts = (
        ("new", plan.create),
        ("changed since they were moved", plan.update),
        ("to replace", plan.replace),
        ("there already", plan.unchanged),
        ("later in the target", plan.kept),
        ("in conflict", plan.conflicts),
        ("refused", plan.refused),
        ("beside the items, which stay behind", plan.unlisted),
    )
    told = ", ".join(f"{count} {name}" for name, count in counts if count)
    return f"{plan.items} items, {plan.size / 1e6:.1f} MB" + (f": {told}" if told else "")


def _validation_line(report: MigrationReport) -> str:
    if report.validation == "none":
        return "not compared"
    line = f"{report.compared} compared, {report.differences or 'no'} differences"
    if report.validation == "sample":
        line = f"a sample of {line}"
    return line + (f"; {report.meanwhile} changed meanwhile and followed" if report.meanwhile else "")


def _print_findings(findings: list[Finding], count: int) -> None:
    for one in findings[:_SHOWN]:
        fields = f" ({', '.join(one.fields)})" if one.fields else ""
        print(safe(f"  {' / '.join((*one.key[0], one.key[1]))}: {as_typed(one.why)}{fields}"))
    if count > _SHOWN:
        print(f"  and {count - _SHOWN} more; --output writes them all to a file")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5_400 else f"{seconds / 3_600:.1f} h"
