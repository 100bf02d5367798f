"""Moves all memories from Firestore's V1 layout to V2, with the options that the earlier tool of this name had.

    python scripts/migrate_memory_v1_to_v2.py --project-id my-project --dry-run
    python scripts/migrate_memory_v1_to_v2.py --project-id my-project --output report.json

It is a front to the engine of ``memory migrate``: items of every type and agent data, under their own ids, with their
times, expiry, metadata and vectors. Stopped or killed, the same command goes on; run again, it moves what has changed.
What the target holds already is never overwritten. V1's own collections are read only. See docs/migration/firestore_v1_to_v2.md.

Exit codes: 0 everything is there and equal (of a dry run: it would be); 1 something is left behind or differs, and is
listed; 2 bad usage; 3 Firestore cannot be used now; 4 another run is under way; 5 damaged data; 6 the outcome of a write
is unknown, run it again; 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # a plain checkout, where nothing is installed

from memory.cli.failures import code_of, message_of

if TYPE_CHECKING:
    from memory.migration import MigrationReport

LOG_FILE = "memory_migration.log"
EVERY_SECONDS = 5.0
"""Between two lines about how far it is."""
SHOWN = 20
log = logging.getLogger("memory_migration")


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """The command line, as it always was."""
    parser = argparse.ArgumentParser(
        description="Move all memories of a project from Firestore's V1 layout to V2.",
        epilog=f"What happens is logged here and in ./{LOG_FILE}. The journal, a file memory-migration-....jsonl in the "
        "working directory, lets the same command go on after a crash and `memory rollback FILE` undo everything.",
    )
    parser.add_argument("--project-id", required=True, help="the Google Cloud project")
    parser.add_argument(
        "--credentials-path", help="a service account's JSON file (default: the environment's credentials)"
    )
    parser.add_argument("--batch-size", type=int, default=100, help="items read and written at once (default 100)")
    parser.add_argument("--dry-run", action="store_true", help="plan, tell what would be moved, and move nothing")
    parser.add_argument("--no-validate", action="store_true", help="do not compare both sides at the end")
    parser.add_argument(
        "--sample-size",
        type=int,
        metavar="N",
        help="compare only N items picked at random; without it every item is compared in every field "
        "(the earlier tool looked at 10)",
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="write the report there, as JSON with every finding"
    )
    return parser.parse_args(given)


async def move(told: argparse.Namespace) -> MigrationReport:
    """Move everything. Raises what the stores raise."""
    from memory.migration import migrate
    from memory.registry import create_store

    # Nothing is swept: what has expired in V1 is left as it is.
    place = {"project_id": told.project_id, "credentials_path": told.credentials_path, "sweep_interval": None}
    return await migrate(
        create_store("firestore_v1", **place),
        create_store("firestore_v2", **place),
        batch_size=told.batch_size,
        dry_run=told.dry_run,
        validate=not told.no_validate,
        sample_size=told.sample_size,
        # One item that cannot be moved does not keep the others from it; the exit code and the report tell of it.
        on_conflict="skip",
        skip_refused=True,
        output=told.output,
        progress=Progress().tell,
    )


class Progress:
    """How far it is, a line now and then."""

    def __init__(self) -> None:
        self._phase, self._due = "", 0.0

    def tell(self, phase: str, done: int, total: int | None) -> None:
        """Called by the engine after each batch."""
        now = time.monotonic()
        if phase != self._phase or now >= self._due:
            self._phase, self._due = phase, now + EVERY_SECONDS
            log.info("%s: %s of %s items", phase, done, "?" if total is None else total)


def conclude(report: MigrationReport) -> int:
    """Tell how it went; returns the exit code."""
    plan = report.plan
    left = report.unlisted + report.refused + report.conflicts
    log.info(
        "%d items in V1: %d new, %d changed since they were moved, %d there already",
        plan.items, plan.create, plan.update, plan.unchanged,
    )  # fmt: skip
    told = {one.key for one in report.findings if one.kind != "difference"}  # what is left behind differs as well
    findings = [one for one in report.findings if one.kind != "difference" or one.key not in told]
    for one in findings[:SHOWN]:
        fields = f" ({', '.join(one.fields)})" if one.fields else ""
        log.warning("%s: %s: %s%s", one.kind, one.key[1], one.why, fields)
    if len(findings) > SHOWN:
        log.warning("and more like these; --output lists them all")
    if report.dry_run:
        log.info("dry run: nothing was moved; moving takes about %.0f s", max(1.0, plan.estimate))
    else:
        log.info("%d created, %d updated, %d removed", report.created, report.updated, report.removed)
        what = {"full": "compared", "sample": "compared, a sample"}.get(report.validation, "compared: --no-validate")
        log.info("%d %s; %d differences", report.compared, what, report.differences)
        log.info("undo it with: memory rollback %s", report.state)
    if left or report.differences:
        log.error("NOT complete: %d left behind, %d of V1's items not equal in V2", left, report.differences)
        return 1
    log.info("complete" if not report.dry_run else "everything can be moved")
    return 0


def main(given: Sequence[str] | None = None) -> int:
    """Run the command line; the exit code."""
    told = arguments(given)
    form = logging.Formatter("%(asctime)s - %(name)s - %(levelname)s - %(message)s")
    try:
        handlers: list[logging.Handler] = [logging.StreamHandler(), logging.FileHandler(LOG_FILE, encoding="utf-8")]
    except OSError as error:
        sys.stderr.write(f"{LOG_FILE} cannot be written: {error.strerror}; run it in another directory\n")
        return 2
    for handler in handlers:
        handler.setFormatter(form)
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.info("from V1 to V2 in %s%s", told.project_id, ", dry run" if told.dry_run else "")
    try:
        return conclude(asyncio.run(move(told)))
    except (Exception, KeyboardInterrupt) as error:
        log.error(
            "%s; the same command goes on where this one stopped", message_of(error), exc_info=code_of(error) == 70
        )
        return code_of(error)


if __name__ == "__main__":
    sys.exit(main())
