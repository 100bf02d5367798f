"""The command and the files that it is told to write or to read: what would do harm is refused before anything is done."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Memory = Callable[..., Any]
SOURCE, TARGET = "sqlite:///memory.db", "sqlite:///new.db"


def held(folder: Path) -> dict[str, bytes]:
    """The files of a folder and what is in them; SQLite's index of its log changes by being read."""
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.is_file() and not one.name.endswith("-shm")}


# --- the report of a migration -----------------------------------------------------------------


@pytest.mark.parametrize(
    "output", ["memory.db", "memory.db-wal", "memory.db-shm", "./memory.db", "link.db", "hard.db", "j", "new.db", "."]
)
def test_a_report_takes_no_file_of_the_migration_and_nothing_is_moved(nuts: Memory, empty: Path, output: str) -> None:
    (empty / "link.db").symlink_to("memory.db")
    (empty / "hard.db").hardlink_to("memory.db")
    before = held(empty)
    done = nuts("migrate", SOURCE, TARGET, "--state", "j", "--output", output)
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
    assert held(empty) == before


def test_a_report_takes_no_file_of_the_target(nuts: Memory, empty: Path) -> None:
    assert nuts("add", "there already", "--path", "new.db").code == 0
    before = held(empty)
    for line in (("--output", "new.db"), ("--output", "new.db-wal"), ("--state", "new.db-wal")):
        done = nuts("migrate", SOURCE, TARGET, *line)
        assert (done.code, "a file of the source or of the target" in done.err) == (2, True)
    assert held(empty) == before


def test_a_report_does_not_take_the_place_of_what_is_no_file(nuts: Memory, empty: Path) -> None:
    os.mkfifo(empty / "pipe")
    (empty / "full").symlink_to("/dev/full")
    (empty / "folder").mkdir()
    for output in ("pipe", "full", "folder"):
        done = nuts("migrate", SOURCE, TARGET, "--output", output)
        assert (done.code, "is not a file that can be replaced" in done.err) == (2, True), output
    assert stat.S_ISFIFO((empty / "pipe").stat().st_mode)
    assert (empty / "full").is_symlink()
    missing = nuts("migrate", SOURCE, TARGET, "--output", "no/where/report.json")
    assert (missing.code, "the directory no/where does not exist" in missing.err) == (2, True)
    assert not (empty / "new.db").exists()


def test_a_report_replaces_an_earlier_report_and_nothing_else(nuts: Memory, empty: Path) -> None:
    (empty / "thesis.txt").write_text("precious")
    for dry in ([], ["--dry-run"]):
        done = nuts("migrate", SOURCE, TARGET, "--output", "thesis.txt", *dry)
        assert (done.code, "choose another name" in done.err) == (4, True)
    assert (empty / "thesis.txt").read_text() == "precious"
    assert not (empty / "new.db").exists()
    (empty / "report.json").touch()  # as mktemp makes it
    for _ in range(2):
        assert nuts("migrate", SOURCE, TARGET, "--output", "report.json").code == 0
    assert b'"listed"' in (empty / "report.json").read_bytes()


def test_the_report_of_an_import_of_older_data_is_as_careful(nuts: Memory, empty: Path) -> None:
    (empty / "old").mkdir()
    (empty / "thesis.txt").write_text("precious")
    before = held(empty)
    for only in ([], ["--verify-only"]):
        line = ["import-legacy", "capabilities", "old", SOURCE, "--drop-vectors", *only]
        assert nuts(*line, "--output", "memory.db").code == 2
        assert nuts(*line, "--output", "thesis.txt").code == 4
    assert held(empty) == before


def test_a_journal_is_a_file_in_a_directory_that_is_there(nuts: Memory, empty: Path) -> None:
    os.mkfifo(empty / "pipe")
    for state, said in (("no/where/j", "no/where, does not exist"), ("pipe", "is not a file")):
        done = nuts("migrate", SOURCE, TARGET, "--state", state)
        assert (done.code, said in done.err) == (2, True), done.err
    assert not (empty / "no").exists()


def test_an_undo_looks_for_its_journal_before_it_asks(memory: Memory) -> None:
    done = memory("rollback", "nothing.jsonl")
    assert (done.code, done.err) == (2, "memory: nothing.jsonl: No such file or directory\n")


# --- export, backup and restore ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["memory.db", "memory.db-wal", "memory.db-shm", "link.db"])
def test_a_memory_is_never_written_over_by_what_is_in_it(nuts: Memory, empty: Path, name: str) -> None:
    (empty / "link.db").symlink_to("memory.db")
    for line in (("export", name, "--force"), ("export", name, "--user", "ana", "--force"), ("backup", name)):
        done = nuts(*line)
        assert (done.code, "a file of the memory itself" in done.err) == (2, True), (line, done.err)
    assert (empty / "link.db").is_symlink()
    assert nuts("count").out == "3\n"


def test_a_directory_that_is_not_there_is_named(nuts: Memory) -> None:
    for line in (("export", "no/where/file"), ("backup", "no/where/file")):
        done = nuts(*line)
        assert (done.code, done.err) == (2, "memory: the directory no/where does not exist\n"), line


def test_a_disk_without_room_for_the_copy_is_not_told_of_the_memory(nuts: Memory, empty: Path) -> None:
    for _ in range(2):
        nuts("add", "long " * 20_000, "--embed", "later")
    for name in ("export", "backup"):
        line = f"ulimit -f 64; exec {sys.executable} -m memory {name} copy"  # no file beyond 64 kB
        told = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=False)
        assert (told.returncode, "no room left for copy" in told.stderr) == (3, True), told.stderr
    assert not [one.name for one in empty.iterdir() if "copy" in one.name]


def test_what_is_no_backup_is_named_and_no_memory_is_made(nuts: Memory, empty: Path) -> None:
    (empty / "notes").write_text("these are my notes")
    (empty / "other.db").write_bytes(b"SQLite format 3\0" + bytes(200))
    for name in ("notes", "other.db"):
        done = nuts("restore", name, "--path", "new.db")
        assert (done.code, done.err) == (2, f"memory: {name} is neither a backup nor an export that sqlite can read\n")
    assert not (empty / "new.db").exists()
    (empty / "cut.backup").write_bytes((empty / "memory.db").read_bytes()[:3_000])
    cut = nuts("restore", "cut.backup", "--path", "new.db")
    assert (cut.code, "the backup cut.backup is damaged" in cut.err, "new.db" in cut.err) == (5, True, False)
