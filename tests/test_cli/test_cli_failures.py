"""The command when something is wrong: one line on stderr, an exit code, and JSON if asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from memory import errors
from memory.cli import main
from memory.cli.app import app
from memory.cli.command import EXAMPLES
from memory.cli.failures import code_of

Memory = Callable[..., Any]


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        (["serch", "x"], 2, "no such command 'serch'"),
        (["search", "x", "--limt", "3"], 2, "--limit"),
        (["search", "x", "--limit", "many"], 2, "--limit"),
        (["search"], 2, "See `memory search --help`"),
        (["add"], 2, "TEXT or with --content-json"),
        (["add", "x", "--content-json", "1"], 2, "TEXT or with --content-json; not both"),
        (["add", "--content-json", "{"], 2, "--content-json is not JSON"),
        (["add", "--content-json", "[" * 100_000], 2, "--content-json is not JSON"),
        (["add", "x", "--metadata", "[1]"], 2, "metadata must be a JSON object"),
        (["update", "a1", "--metadata", "[1]"], 2, "metadata must be a JSON object"),
        (["search", "x", "--mmr", "3"], 2, "--mmr must be"),
        (["search", "x", "--neighbours", "9"], 2, "--neighbours must be a whole number"),
        (["search", "x", "--min-text", "9"], 2, "--min-text must be"),
        (["add", "x", "--metadata", "{"], 2, "--metadata is not JSON"),
        (["add", "x", "--ttl", "soon"], 2, "--ttl takes seconds"),
        (["add", "x", "--ttl", "-5"], 2, "--ttl must be"),
        (["add", "x", "--importance", "2"], 2, "importance"),
        (["add", "x", "--id", "a1"], 4, "taken"),
        (["add", "x" * 300_000], 2, "the limit is"),
        (["get", "nope"], 1, "there is no memory 'nope'"),
        (["get", "nope", "--user", "ana"], 1, "that these options may see"),
        (["get", ""], 2, "must not be empty"),
        (["update", "nope", "--content", "x"], 1, "there is no item 'nope' in namespace default"),
        (["update", "nope", "-n", "a", "-n", "b", "--content", "x"], 1, "in namespace a / b"),
        (["update", "a1"], 2, "say what to change"),
        (["update", "a1", "--content", "x", "--content-json", "1"], 2, "not both"),
        (["delete"], 2, "say what to forget"),
        (["delete", "a1", "--all"], 2, "say what to forget"),
        (["delete", "a1", "--under", "x"], 2, "--under goes with"),
        (["delete", "a1", "a2", "--if-version", "1"], 2, "goes with one id"),
        (["delete", "--where", "{}"], 2, "say --all"),
        (["list", "--where", "{"], 2, "--where is not JSON"),
        (["list", "--where", "[]"], 2, "--where must be a JSON object"),
        (["list", "--where", '{"colour": 1}'], 2, "metadata.colour"),
        (["list", "--where", '{"kind": {"$like": "x"}}'], 2, "$like"),
        (["list", "--cursor", "rubbish"], 2, "cursor"),
        (["list", "--order", "colour"], 2, "order must be"),
        (["list", "--limit", "0"], 2, "--limit must be"),
        (["count", "-n", "a", "--under", "b"], 2, "not both"),
        (["list", "--backend", "oracle"], 2, "known: sqlite, in_memory"),
        (["list", "--backend", "sqlite://x.db"], 2, "three slashes"),
        (["list", "--path", "other.db"], 3, "there is no memory at"),
        (["list", "--path", "junk.db"], 3, "not a SQLite database"),
    ],
)
def test_a_mistake_is_one_line_and_a_code(nuts: Memory, empty: Path, line: list[str], code: int, words: str) -> None:
    (empty / "junk.db").write_text("junk")
    done = nuts(*line)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("memory: ")
    assert len(done.err.splitlines()) == 1
    assert words.lower() in done.err.lower()
    told = nuts(*line, "--json")
    assert (told.code, told.out) == (code, "")
    assert told.error["exit_code"] == code
    assert words.lower() in told.error["message"].lower()


def test_a_mistaken_variable_of_the_environment_is_named(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_BAKEND_TYPE", "in_memory")
    done = memory("list", "--json")
    assert (done.code, done.error["type"], done.error["setting"]) == (2, "InvalidSetting", "MEMORY_BAKEND_TYPE")


def test_reading_makes_no_file(memory: Memory, empty: Path) -> None:
    for line in (
        "get x",
        "list",
        "search x",
        "count",
        "verify",
        "repair",
        "backup b",
        "export e",
        "delete x",
        "update x -c y",
        "stats",
        "namespaces",
        "health",
        "reembed",
    ):
        assert memory(*line.split()).code == 3, line
    assert list(empty.iterdir()) == []


def test_a_memory_that_is_gone_at_once_says_so_but_not_to_programs(memory: Memory) -> None:
    assert "in_memory forgets everything" in memory("add", "x", "--backend", "in_memory").err
    assert memory("add", "x", "--backend", "in_memory", "--json").err == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.NotFound("x"), 1),
        (errors.InvalidItem("x"), 2),
        (errors.InvalidFilter("x"), 2),
        (errors.UnsupportedOperation("x"), 2),
        (errors.BackendUnavailable("x"), 3),
        (errors.StorageFull("x"), 3),
        (errors.Overloaded("x"), 3),
        (errors.DeadlineExceeded("x"), 3),
        (errors.AlreadyExists("x"), 4),
        (errors.VersionConflict("x"), 4),
        (errors.CorruptData("x"), 5),
        (errors.UnknownOutcome("x"), 6),
        (errors.BatchError("x", results=[1, errors.CorruptData("y"), errors.NotFound("z")]), 5),
        (PermissionError(13, "Permission denied", "file"), 2),
        (BrokenPipeError(), 141),
        (KeyboardInterrupt(), 130),
        (RuntimeError("a fault"), 70),
    ],
)
def test_every_kind_of_error_has_its_code(
    error: BaseException, code: int, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert code_of(error) == code
    if code == 141:
        return  # tried with a real pipe elsewhere

    def fail(*_args: object, **_options: object) -> None:
        raise error

    monkeypatch.setattr("memory.cli.command.At.manager", fail)
    done = memory("count")
    assert (done.code, done.out) == (code, "")
    assert ("Traceback" in done.err) == (code == 70), "only a fault of the program shows where it is"
    assert done.err.splitlines()[-1].startswith("memory: ")


def test_ctrl_c_while_working_ends_with_130(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupted(*_args: object, **_options: object) -> None:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    monkeypatch.setattr("memory.store.reads.Reads.count", interrupted)
    memory("add", "x")
    assert memory("count").code == 130


def test_without_arguments_it_shows_its_help_and_with_version_its_version(memory: Memory) -> None:
    assert "Start here" in memory().out
    assert memory("--version").out.startswith("memory 0.")
    for name in EXAMPLES:
        done = memory(name, "--help")
        assert (done.code, f"$ memory {name}" in done.out or "| memory" in done.out) == (0, True)


def test_main_exits_with_the_code(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["get", "nope", "--backend", "in_memory"])
    assert ended.value.code == 1
    assert "nope" in capfd.readouterr().err


def test_the_application_can_be_run_by_typers_own_runner() -> None:
    runner = CliRunner()
    assert runner.invoke(app, ["add", "x", "--id", "a"]).stdout == "a\n"
    assert runner.invoke(app, ["get", "nope"]).exit_code == 1
    assert runner.invoke(app, ["get", "a", "--json"]).exit_code == 0


def test_an_empty_answer_is_an_answer(nuts: Memory) -> None:
    assert nuts("list", "--user", "zoe").code == 0
    assert nuts("search", "zebra").code == 0
    assert nuts("count", "--user", "zoe").out == "0\n"
