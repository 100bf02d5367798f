"""Room set aside for a full disk: it is there, and taking it harms nothing that another process writes meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import apsw

from memory.backends.sqlite.room import Reserve
from memory.backends.sqlite.schema import connect

PAGES = 3_000
CHECKPOINT = """
import sys, time, apsw
db = apsw.Connection(sys.argv[1])
db.pragma("page_count")
print("ready", flush=True)
sys.stdin.readline()
time.sleep(float(sys.argv[2]))
db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
print("done", flush=True)
sys.stdin.readline()
"""


def filled(path: Path) -> apsw.Connection:
    """A file whose pages are all in its log."""
    db = connect(str(path), busy_timeout=5, create=True)
    db.pragma("journal_mode", "wal")
    db.execute("CREATE TABLE t(x)")
    db.close()
    db = connect(str(path), busy_timeout=5)
    db.pragma("wal_autocheckpoint", 0)
    with db:
        db.executemany("INSERT INTO t VALUES (?)", [(b"\xff" * 4_050,) for _ in range(PAGES)])
    return db


def test_a_file_has_blocks_for_all_its_pages_and_some_more(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    db = filled(path)
    assert path.stat().st_blocks * 512 < 100_000
    reserve = Reserve(str(path))
    reserve.ensure(db)
    pages = db.pragma("page_count") * db.pragma("page_size")
    assert path.stat().st_blocks * 512 >= pages + 64 * 4_096
    assert not reserve.missing(db)
    reserve.forget()
    assert reserve.missing(db)


def test_room_is_taken_while_another_process_moves_the_log_into_the_file(tmp_path: Path) -> None:
    for number, milliseconds in enumerate((0, 1, 2, 4, 6, 8, 12, 16) * 2):
        path = tmp_path / f"{number}.db"
        db = filled(path)
        child = subprocess.Popen(
            [sys.executable, "-c", CHECKPOINT, str(path), str(milliseconds / 1_000)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        grown = threading.Thread(target=Reserve(str(path)).ensure, args=(db,))
        os.write(child.stdin.fileno(), b"\n")
        grown.start()
        grown.join()
        assert child.stdout.readline() == "done\n"
        child.communicate("\n", timeout=30)
        db.close()
        again = connect(str(path), busy_timeout=5)
        assert again.pragma("integrity_check") == "ok"
        wrong = [row for (row,) in again.execute("SELECT x FROM t") if row != b"\xff" * 4_050]
        assert not wrong, f"{len(wrong)} of {PAGES} records are damaged"
        again.close()
