"""repair, of a file in which pages cannot be read too: the records are taken out, and put back as a sound file.

SQLite can neither drop nor rebuild a table or index of which it cannot read a page. So everything that can be read goes into a
new file beside the store, where what is derived is built anew, and that replaces the pages of the damaged one in a single
transaction, as SQLite's own backup does: whoever has the file open sees the old state or the new one. The lock for writing is
held from before the first record is read, so no write falls between. The damaged pages are kept in a file of their own.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

import apsw

from memory.backends.sqlite.faults import ENGINE_ERRORS, translate
from memory.backends.sqlite.repairing import rebuild, repair_within
from memory.backends.sqlite.salvaging import OTHERS, Salvage, new_file
from memory.backends.sqlite.schema import connect, declared
from memory.backends.sqlite.statements import fetch, scalar
from memory.backends.sqlite.upkeep import BACKUP_STEP, sync
from memory.errors import CorruptData, MemoryStoreError
from memory.search.analysis import Analyser
from memory.store.types import RepairReport
from memory.telemetry import get_logger

_log = get_logger("sqlite")
_DEEPEST = 1_000
"""Lines of SQLite's check that are read."""


def repair(db: apsw.Connection, language: str, now: int, busy_timeout: float) -> RepairReport:
    """Build what is derived from the records anew; where pages cannot be read, in a new file that takes the place of the old.

    In the writer's thread. Raises CorruptData, with nothing changed, when no record can be read.
    """
    why = _unreadable(db)
    if not why:
        try:
            return repair_within(db, language, now)
        except (*ENGINE_ERRORS, MemoryStoreError) as error:
            if not isinstance(error, apsw.ConstraintError) and not _is_damage(error, db):
                raise
            why = str(error)
    _log.warning("pages cannot be read: taking the records out", path=db.filename, error=why)
    try:
        return _mend(db, language, now, busy_timeout, why)
    except ENGINE_ERRORS as error:
        if not _is_damage(error, db):
            raise
        raise _beyond(db.filename, str(error)) from error


def _is_damage(error: BaseException, db: apsw.Connection) -> bool:
    return isinstance(translate(error, db.filename, db), CorruptData)


def _beyond(path: str, why: str) -> CorruptData:
    return CorruptData(
        f"{path} is damaged beyond what repair can mend ({why}); nothing was changed. Restore a backup", path=path
    )


def _unreadable(db: apsw.Connection) -> str:
    """What SQLite says of pages that it cannot read; nothing where it can. Of the text index nothing either, which is
    always built anew."""
    try:
        lines = [str(line) for (line,) in fetch(db, f"PRAGMA quick_check({_DEEPEST})")]
    except ENGINE_ERRORS as error:
        if not _is_damage(error, db):
            raise
        return str(error)
    return "\n".join(line for line in lines if line != "ok" and "FTS5" not in line)


def _mend(db: apsw.Connection, language: str, now: int, busy_timeout: float, why: str) -> RepairReport:
    path = db.filename
    fields = declared(db)
    beside = Path(f"{path}.{os.getpid()}.mending")
    kept = _free_name(f"{path}.damaged")
    done = False
    with contextlib.ExitStack() as ending:
        ending.callback(_remove, beside)
        fresh = new_file(str(beside), db.pragma("page_size"), fields)
        ending.callback(fresh.close, True)
        held = connect(path, busy_timeout=busy_timeout, vfs=db.open_vfs)
        ending.callback(held.close, True)
        held.execute(f"PRAGMA synchronous = {db.pragma('synchronous')}")
        steps = held.backup("main", fresh, "main")
        ending.callback(steps.close, True)
        steps.step(0)  # from here to the end nobody else can write
        db.execute("BEGIN")
        ending.callback(_end, db)
        ending.callback(lambda: None if done else _remove(kept))
        _keep(db, kept)
        salvage = Salvage(db, fresh, _broken(db, why), now)
        fresh.execute("BEGIN")
        salvage.run()
        if not salvage.saved and salvage.lost:
            raise _beyond(path, "no record can be read")
        rebuild(fresh, Analyser(language))
        if salvage.feed_begins_anew():
            fresh.execute("UPDATE counter SET floor = version + 1 WHERE feed IS NOT NULL")
        fresh.execute("UPDATE counter SET layout = layout + 1")
        fresh.execute("COMMIT")
        if _unreadable(fresh) or scalar(fresh, "SELECT count(*) FROM items") != salvage.saved:
            raise _beyond(path, "the records taken out are not whole either")
        while not steps.done:
            steps.step(BACKUP_STEP)
        steps.finish()
        done = True
    db.execute("PRAGMA wal_checkpoint(PASSIVE)")
    return RepairReport(_told(salvage, kept), salvage.lost)


def _told(salvage: Salvage, kept: Path) -> list[str]:
    actions = [
        f"the file itself was damaged: took {salvage.saved} records out and built everything else anew from them",
        f"kept the damaged file as {kept}; delete it when nothing in it is missed",
    ]
    for names, what in (
        (salvage.owed, "have lost their vectors, which 'memory reembed' makes anew"),
        (salvage.bare, "have lost the vectors that were given with them; give them again"),
    ):
        if names:
            actions.append(f"{len(names)} records {what}: {', '.join(names)}")
    return actions + salvage.notes


def _broken(db: apsw.Connection, why: str) -> set[str]:
    """The tables and indexes that SQLite's check finds damaged."""
    roots = {int(number) for number in re.findall(r"\bTree (\d+) ", why)}  # the numbers of their first pages
    broken = {name for name, root in fetch(db, "SELECT name, rootpage FROM sqlite_schema") if root in roots}
    for table in OTHERS:  # where the check of the whole ended with an error, it has not come to these
        try:
            if scalar(db, f"PRAGMA quick_check({table})") != "ok":
                broken.add(table)
        except ENGINE_ERRORS as error:
            if not _is_damage(error, db):
                raise
            broken.add(table)
    return broken


def _keep(db: apsw.Connection, kept: Path) -> None:
    """A copy of all pages as they are, damaged ones too."""
    copy = apsw.Connection(str(kept))
    try:
        with copy.backup("main", db, "main") as steps:
            while not steps.done:
                steps.step(BACKUP_STEP)
        with contextlib.suppress(apsw.Error):  # so that it needs no log; where its first page is damaged it stays
            copy.execute("PRAGMA journal_mode = delete")
    finally:
        copy.close(True)
    sync(kept)


def _free_name(name: str) -> Path:
    number = 1
    while (path := Path(name if number == 1 else f"{name}-{number}")).exists():
        number += 1
    return path


def _end(db: apsw.Connection) -> None:
    if db.in_transaction:
        db.execute("ROLLBACK")


def _remove(path: Path) -> None:
    for leftover in (path, *(Path(f"{path}{end}") for end in ("-journal", "-wal", "-shm"))):
        with contextlib.suppress(OSError):
            leftover.unlink()
