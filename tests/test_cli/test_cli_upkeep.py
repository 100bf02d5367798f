"""The command: moving memories, looking after the store, and what is set."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory import registry

Memory = Callable[..., Any]


# --- export and import -------------------------------------------------------------------------


def test_what_is_exported_can_be_imported_elsewhere(nuts: Memory, empty: Path) -> None:
    assert nuts("export", "out.jsonl").out == "3 exported to out.jsonl\n"
    lines = [json.loads(line) for line in (empty / "out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["a1", "a2", "b1"]
    assert nuts("import", "out.jsonl", "--path", "other.db").out == "3 imported (an export of memories)\n"
    before = nuts("get", "a1", "--json").json
    after = nuts("get", "a1", "--json", "--path", "other.db").json
    assert {**before, "version": 0} == {**after, "version": 0}


def test_an_export_can_be_scoped_and_go_to_standard_output(nuts: Memory, empty: Path) -> None:
    done = nuts("export", "-", "--user", "ana", "--where", '{"tags": {"$contains": "health"}}')
    assert [json.loads(line)["id"] for line in done.out.splitlines()] == ["a1"]
    assert done.err == "memory: 1 exported\n"
    assert nuts("export", "team.jsonl", "--under", "team", "--json").json == {"exported": 1, "file": "team.jsonl"}
    assert sorted(path.name for path in empty.iterdir() if path.suffix == ".jsonl") == ["team.jsonl"]


def test_an_export_does_not_write_over_a_file_unless_forced(nuts: Memory, empty: Path) -> None:
    (empty / "out.jsonl").write_text("precious")
    refused = nuts("export", "out.jsonl")
    assert (refused.code, "--force" in refused.err) == (4, True)
    assert (empty / "out.jsonl").read_text() == "precious"
    assert nuts("export", "out.jsonl", "--force").code == 0
    assert nuts("export", "no/such/folder/out.jsonl").code == 2


GOOD, BAD = '{"content": "good", "id": "g"}', '{"content": "bad", "colour": "red"}'


def test_a_bad_line_is_named_and_nothing_or_the_rest_is_imported(memory: Memory, empty: Path) -> None:
    (empty / "in.jsonl").write_text(f"{GOOD}\n\n{BAD}\nnot json\n")
    refused = memory("import", "in.jsonl")
    assert refused.code == 2
    assert "line 3: unknown field 'colour'" in refused.err
    assert "Nothing was imported" in refused.err
    assert memory("import", "in.jsonl", "--json").error["lines"]["3"].startswith("unknown field")
    assert memory("count").out == "0\n"
    some = memory("import", "in.jsonl", "--skip-bad")
    assert (some.code, some.out) == (1, "1 imported, 2 refused (an export of memories)\n")
    assert "line 3: unknown field" in some.err
    assert "line 4: this is not JSON" in some.err
    told = memory("import", "in.jsonl", "--skip-bad", "--json").json
    assert (told["imported"], sorted(told["refused"])) == (1, ["3", "4"])


def test_many_bad_lines_are_not_all_printed(memory: Memory, empty: Path) -> None:
    (empty / "in.jsonl").write_text(f"{BAD}\n" * 50)
    done = memory("import", "in.jsonl", "--skip-bad")
    assert len(done.err.splitlines()) == 11
    assert "and 40 more; --json lists them all" in done.err


def test_an_import_reads_standard_input_and_comes_to_lie_in_its_scope(memory: Memory) -> None:
    assert (
        memory("import", "-", "--user", "ana", "-n", "team", stdin=GOOD).out == "1 imported (an export of memories)\n"
    )
    item = memory("get", "g", "-n", "team", "--json").json
    assert (item["user_id"], item["namespace"]) == ("ana", ["team"])
    outside = memory("import", "-", "--user", "ana", stdin='{"content": 1, "user_id": "bob"}')
    assert (outside.code, "user_id is set by an option (--user" in outside.err) == (2, True)


def test_an_import_reads_a_pipe_which_can_be_read_only_once(memory: Memory, empty: Path) -> None:
    os.mkfifo(empty / "pipe")
    with subprocess.Popen([sys.executable, "-c", f"open('pipe', 'w').write({GOOD!r})"]) as writer:
        assert memory("import", "pipe").out == "1 imported (an export of memories)\n"
    assert writer.returncode == 0


def test_what_is_no_file_is_neither_replaced_nor_restored(nuts: Memory, empty: Path) -> None:
    for target in ("/dev/null", str(empty)):
        done = nuts("export", target, "--force")
        assert (done.code, "for standard output write -" in done.err) == (2, True)
    assert nuts("restore", "/dev/null", "--path", "new.db").code == 2
    assert nuts("import", str(empty)).code == 2


def test_a_file_that_is_not_there_makes_no_memory(memory: Memory, empty: Path) -> None:
    for line in (("import", "nothing.jsonl"), ("restore", "nothing.backup")):
        done = memory(*line)
        assert (done.code, done.err) == (2, f"memory: {line[1]}: No such file or directory\n")
    assert list(empty.iterdir()) == []


# --- verify, repair, backup, restore -----------------------------------------------------------


def test_a_sound_store_verifies_and_a_damaged_one_does_not(nuts: Memory, empty: Path) -> None:
    assert nuts("verify").out == "3 records checked, no problems found\n"
    assert nuts("verify", "--json").json == {"ok": True, "checked": 3, "problems": []}
    file = empty / "memory.db"
    data = file.read_bytes()
    assert b"Ana is allergic" in data
    file.write_bytes(data.replace(b"Ana is allergic", b"Bob is allergic"))
    damaged = nuts("verify")
    assert (damaged.code, "1 problems found" in damaged.out or "problems found" in damaged.out) == (1, True)
    assert damaged.err == (
        "memory: `memory backup` first, if it can copy this; then `memory repair`, which keeps what it cannot save\n"
    )
    assert nuts("backup", "whole.backup").code == 0
    assert nuts("verify", "--json").json["ok"] is False
    assert nuts("get", "a1").code == 5
    repaired = nuts("repair")
    assert (repaired.code, "set aside" in repaired.err) == (5, True)
    assert nuts("verify").code == 0
    assert nuts("count").out == "2\n"


def test_a_file_with_a_damaged_page_is_not_backed_up_and_repair_keeps_it(nuts: Memory, empty: Path) -> None:
    file = empty / "memory.db"
    with contextlib.closing(sqlite3.connect(file)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'items_kind'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    with file.open("r+b") as pages:
        pages.seek((page - 1) * size)
        pages.write(bytes(range(1, 51)))
    data = file.read_bytes()
    verified = nuts("verify")
    assert (verified.code, "if it can copy this" in verified.err) == (1, True)
    refused = nuts("backup", "whole.backup")
    assert (refused.code, "run 'memory repair' first" in refused.err) == (5, True)
    assert not (empty / "whole.backup").exists()
    assert "kept the damaged file as" in nuts("repair").out
    assert (empty / "memory.db.damaged").read_bytes()[(page - 1) * size :][:50] == data[(page - 1) * size :][:50]
    assert (nuts("verify").code, nuts("count").out) == (0, "3\n")


def test_a_sound_store_is_repaired_without_loss(nuts: Memory) -> None:
    assert nuts("repair").code == 0
    assert nuts("repair", "--json").json["quarantined"] == []
    assert nuts("count").out == "3\n"


def test_a_mirror_that_diverges_is_found_and_repaired(
    memory: Memory, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty / "memory.toml").write_text(
        'store = "memory"\n[stores.memory]\nshape = "mirrored"\nprimary = "main"\nmirrors = ["copy"]\n'
        '[stores.main]\nbackend = "sqlite:///main.db"\n[stores.copy]\nbackend = "sqlite:///copy.db"\n'
    )
    monkeypatch.setenv("MEMORY_BACKEND_TYPE", "composite")
    assert memory("add", "Ana is allergic to nuts", "--id", "a1").code == 0
    assert memory("verify").code == 0
    assert memory("delete", "a1", "--backend", "sqlite", "--path", "copy.db").code == 0
    found = memory("verify", "--json").json
    assert [problem["what"] for problem in found["problems"]] == ["divergent copy"]
    repaired = memory("repair")
    assert (repaired.code, "made 1 records of 'copy' equal" in repaired.out) == (0, True)
    assert memory("verify").code == 0
    assert memory("get", "a1", "--backend", "sqlite", "--path", "copy.db").code == 0


def test_a_backup_is_restored_into_an_empty_store_or_in_place_of_another(nuts: Memory) -> None:
    assert nuts("backup", "m.backup").out == "3 records backed up to m.backup\n"
    taken = nuts("backup", "m.backup")
    assert (taken.code, "choose another name" in taken.err) == (4, True)
    assert nuts("restore", "m.backup", "--path", "new.db", "--json").json == {"records": 3}
    nuts("delete", "a1")
    nuts("add", "later", "--id", "z")
    full = nuts("restore", "m.backup")
    assert (full.code, "restore with --replace" in full.err) == (4, True)
    unsure = nuts("restore", "m.backup", "--replace")
    assert (unsure.code, "say --yes" in unsure.err) == (2, True)
    assert nuts("restore", "m.backup", "--replace", "--yes").out == "3 records restored\n"
    assert [item["id"] for item in nuts("list", "--json").json["items"]] == ["a1", "a2", "b1"]


def test_what_is_no_backup_is_refused(nuts: Memory, empty: Path) -> None:
    (empty / "junk").write_bytes(b"\x00junk" * 100)
    done = nuts("restore", "junk", "--path", "new.db")
    assert done.code in (2, 3, 5)
    assert len(done.err.splitlines()) == 1


# --- config and backends -----------------------------------------------------------------------


def test_config_tells_every_setting_its_origin_and_the_path_in_use(
    memory: Memory, empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty / ".env").write_text("MEMORY_FEED=true\n")
    monkeypatch.setenv("MEMORY_SQLITE_SYNCHRONOUS", "normal")
    monkeypatch.setenv("MEMORY_LIMIT_OF_SOMEBODY_ELSE", "1")
    told = memory("config", "--path", "x.db", "--json").json
    settings = told["settings"]
    assert settings["feed"] == {"value": True, "from": ".env file", "variable": "MEMORY_FEED"}
    assert settings["sqlite_synchronous"]["from"] == "environment"
    assert settings["path"]["from"] == "argument"
    assert settings["language"]["from"] == "default"
    assert (told["backend"], told["path"], told["exists"]) == ("sqlite", str(empty / "x.db"), False)
    assert told["durability"] == "process"
    assert told["unknown_variables"] == ["MEMORY_LIMIT_OF_SOMEBODY_ELSE"]
    shown = memory("config", "--path", "x.db")
    assert "not there yet" in shown.out
    assert str(empty / "x.db") in shown.out.replace("\n", "")
    assert "MEMORY_LIMIT_OF_SOMEBODY_ELSE" in shown.err
    assert not (empty / "x.db").exists(), "config opens nothing"


def test_config_and_errors_hide_secrets(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_SOURCE", '{"api_key": "hunter2", "writer": "w"}')
    for line in (("config",), ("config", "--json")):
        done = memory(*line, "--backend", "memory://?language=english")
        assert "hunter2" not in done.out + done.err
        assert "writer" in done.out
    for address, code in (("redis://me:hunter2@host/0", 0), ("nothing://me:hunter2@host/0", 2)):
        done = memory("config", "--backend", address)
        assert (done.code, "hunter2" in done.out + done.err) == (code, False)


def test_backends_tells_what_each_can_do_and_how_to_install_what_is_missing(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        registry.BACKENDS, "absent", registry.Backend("memory.backends.absent:Store", "absent", ("absent",))
    )
    shown = memory("backends").out
    assert "sqlite://" in shown
    assert "not available" in shown
    monkeypatch.setenv("COLUMNS", "400")
    lines = {line.split()[0]: line for line in memory("backends").out.splitlines() if line.strip()}
    able = registry.named("sqlite").capabilities
    assert f"max dimension {able.max_dimension}, recall {able.recall}" in lines["sqlite"]
    assert "max dimension" in lines["in_memory"]
    assert "recall" not in lines["in_memory"], "what is always exact needs no word"
    told = {one["name"]: one for one in memory("backends", "--json").json["backends"]}
    assert told["sqlite"]["capabilities"]["persistent"] is True
    assert told["in_memory"]["capabilities"]["persistent"] is False
    assert told["redis"]["capabilities"]["shared"] is True
    assert told["absent"]["available"] is False


# --- at a terminal -----------------------------------------------------------------------------


def at_a_terminal(*arguments: str, answer: str = "") -> tuple[int, str]:
    """Runs a command line in a child whose streams are a terminal; the exit code and all it showed."""
    ours, theirs = pty.openpty()
    child = subprocess.Popen([sys.executable, "-m", "memory", *arguments], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, answer.encode())
    shown = b""
    with contextlib.suppress(OSError):  # how the end of a terminal is told
        while chunk := os.read(ours, 65_536):
            shown += chunk
    os.close(ours)
    return child.wait(60), shown.decode()


@pytest.mark.usefixtures("nuts")
def test_at_a_terminal_it_asks_before_it_forgets() -> None:
    code, shown = at_a_terminal("delete", "--all", "--user", "ana", answer="n\n")
    assert (code, "Forget 2 memories for good?" in shown, "nothing was deleted" in shown) == (1, True, True)
    code, shown = at_a_terminal("delete", "--all", "--user", "ana", answer="y\n")
    assert (code, "2 deleted" in shown) == (0, True)


@pytest.mark.usefixtures("nuts")
def test_at_a_terminal_it_asks_before_it_replaces_and_shows_progress() -> None:
    code, shown = at_a_terminal("backup", "m.backup")
    assert (code, "Backing up" in shown) == (0, True)
    code, shown = at_a_terminal("restore", "m.backup", "--replace", answer="n\n")
    assert (code, "Replace the 3 memories" in shown, "nothing was changed" in shown) == (1, True, True)
    code, shown = at_a_terminal("restore", "m.backup", "--replace", answer="y\n")
    assert (code, "3 records restored" in shown, "Restoring" in shown) == (0, True, True)


@pytest.mark.usefixtures("nuts")
def test_at_a_terminal_the_table_is_as_wide_as_it_is_and_has_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setenv("TERM", "xterm-256color")
    code, shown = at_a_terminal("search", "nuts")
    assert (code, "\x1b[1m" in shown) == (0, True)
