"""The command says what is so: why nothing is shown, and what a file that cannot be looked at is."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

Memory = Callable[..., Any]
NOBODY = 65_534


# --- nothing is shown --------------------------------------------------------------------------


def test_what_matches_nothing_is_told_apart_from_an_empty_memory(nuts: Memory) -> None:
    for line, said in (
        (("list", "--where", '{"kind": "dream"}'), "no memory matches --where; without it there are 3"),
        (("list", "--under", "x"), "no memory matches --under; without it there are 3"),
        (
            ("list", "--where", '{"kind": "dream"}', "--user", "ana"),
            "no memory matches --where; without it there are 2",
        ),
        (("list", "--under", "x", "--where", '{"kind": "a"}'), "matches --where and --under; without them there are 3"),
        (("namespaces", "--under", "x"), "no memory matches --under; without it there are 3"),
        (("list", "-n", "x", "--where", '{"kind": "dream"}'), "there are no memories here; other options of scope"),
        (("list", "--user", "zoe", "--where", '{"kind": "a"}'), "there are no memories here; other options of scope"),
        (("namespaces", "--user", "zoe"), "there are no memories here; other options of scope"),
    ):
        done = nuts(*line)
        assert (done.code, done.out, said in done.err) == (0, "", True), (line, done.err)


def test_a_page_after_the_last_is_told_as_that(nuts: Memory) -> None:
    cursor = nuts("list", "--limit", "2", "--json").json["cursor"]
    assert nuts("delete", "b1", "-n", "team", "-n", "red").code == 0
    assert "no memory matches --cursor; without it there are 2" in nuts("list", "--cursor", cursor).err


def test_a_query_without_a_word_is_told_as_that(nuts: Memory) -> None:
    for query in ("", "!!!"):
        assert nuts("search", query).err == "memory: nothing found. The query holds no word to look for\n"


def test_a_file_of_nothing_is_no_mistake(memory: Memory, empty: Path) -> None:
    for text in ("", "\n", "[]", " [ ]\n"):
        (empty / "in.json").write_text(text)
        done = memory("import", "in.json")
        assert (done.code, done.out, done.err) == (0, "0 imported (there is no record in it)\n", ""), text
    assert memory("import", "in.json", "--json").json["imported"] == 0
    assert memory("import", "-", stdin="[]").code == 0
    (empty / "in.json").write_text("[1]")
    assert memory("import", "in.json").code == 2


# --- a file that cannot be looked at -----------------------------------------------------------


@contextmanager
def without_rights() -> Iterator[None]:
    """Root may read everything; somebody else may not."""
    if os.getuid() != 0:
        yield
        return
    os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@pytest.fixture
def open_to_all(nuts: Memory, empty: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that everybody may enter, with a memory in it; directories of pytest are for their owner only."""
    for line in (("health",), ("health", "--json"), ("list",), ("add", "x")):
        nuts(*line)  # what a command imports it has imported when it comes to be without rights
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    shutil.copy(empty / "memory.db", folder)
    monkeypatch.chdir("/")
    yield folder
    folder.chmod(0o777)
    shutil.rmtree(folder)


def test_a_file_in_a_directory_that_lets_nobody_in_is_not_available(
    nuts: Memory, open_to_all: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = open_to_all / "memory.db"
    open_to_all.chmod(0)
    said = f"{file} cannot be looked at: Permission denied"
    with without_rights():
        for line in (("list",), ("add", "x"), ("stats",)):
            done = nuts(*line, "--path", str(file))
            assert (done.code, done.err) == (3, f"memory: {said}\n"), line
        health = nuts("health", "--path", str(file))
        told = nuts("health", "--path", str(file), "--json")
        monkeypatch.setenv("MEMORY_PATH", str(file))
        assert nuts("health", "--json") == told
        assert nuts("migrate", f"sqlite:///{file}", "memory://").code == 3
    assert (health.code, health.out, health.err) == (3, f"unhealthy: {said}\n", "")
    assert (told.code, told.json["exit_code"], told.json["details"]["error"]) == (3, 3, said)


def test_a_file_that_cannot_be_read_is_not_called_read_only(
    nuts: Memory, open_to_all: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = open_to_all / "memory.db"
    file.chmod(0)
    with without_rights():
        told = nuts("health", "--path", str(file), "--json")
        line = nuts("health", "--path", str(file))
        monkeypatch.setenv("MEMORY_PATH", str(file))
        assert nuts("health", "--json") == told
        assert nuts("list").code == 3
    assert (line.code, line.err, "read-only" in line.out) == (3, "", False)
    assert line.out.startswith(f"unhealthy: {file} cannot be read; ")
    assert (told.code, told.json["status"]) == (3, "unhealthy")
