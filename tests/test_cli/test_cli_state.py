"""The command: what there is, how it fares, completions, and the page that is made from it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory import MemoryManager, errors
from memory.cli.app import app
from memory.cli.reference import page
from memory.cli.state import human_size
from memory.store import Health

Memory = Callable[..., Any]
ROOT = Path(__file__).parents[2]


# --- namespaces and stats ----------------------------------------------------------------------


def test_namespaces_are_listed_with_how_many_memories_each_holds(nuts: Memory) -> None:
    nuts("add", "below", "-n", "team")
    assert nuts("namespaces", "--json").json == {
        "namespaces": [
            {"namespace": ["default"], "items": 2},
            {"namespace": ["team"], "items": 1},
            {"namespace": ["team", "red"], "items": 1},
        ]
    }
    assert [line.split() for line in nuts("namespaces").out.splitlines() if "/" in line] == [["team", "/", "red", "1"]]
    assert len(nuts("namespaces", "--under", "team", "--json").json["namespaces"]) == 2
    assert len(nuts("namespaces", "-n", "team", "--json").json["namespaces"]) == 1


def test_namespaces_of_others_are_neither_listed_nor_counted(nuts: Memory) -> None:
    nuts("add", "also here", "--user", "bob")
    assert nuts("namespaces", "--user", "ana", "--json").json == {
        "namespaces": [{"namespace": ["default"], "items": 2}]
    }
    nobody = nuts("namespaces", "--user", "zoe")
    assert (nobody.code, nobody.out, "other options of scope" in nobody.err) == (0, "", True)


def test_stats_tell_kinds_namespaces_and_the_file(nuts: Memory, empty: Path) -> None:
    nuts("add", "dreams", "--kind", "dream", "-n", "night")
    told = nuts("stats", "--json").json
    assert (told["items"], told["kinds"], told["backend"]) == (4, {"note": 3, "dream": 1}, "sqlite")
    assert {"namespace": ["team", "red"], "items": 1} in told["namespaces"]
    assert told["details"]["path"] == str(empty / "memory.db")
    shown = nuts("stats")
    lines = [line.split() for line in shown.out.splitlines()]
    for line in (["memories", "4"], ["namespaces", "3"], ["note", "3"], ["dream", "1"], ["default", "2"]):
        assert line in lines
    assert "kB" in shown.out


def test_many_kinds_and_namespaces_are_summed_up(memory: Memory) -> None:
    with MemoryManager() as manager:
        for number in range(22):
            manager.add_sync("x", kind=f"kind{number}", namespace=f"space{number}")
    told = memory("stats", "--json").json
    assert (len(told["kinds"]), told["kinds"]["(others)"], len(told["namespaces"])) == (21, 2, 22)
    assert "12 smaller ones" in memory("stats").err


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 bytes"), (999, "999 bytes"), (1_500, "1.5 kB"), (2_000_000, "2.0 MB"), (3e9, "3.0 GB"), (4e12, "4.0 TB")],
)
def test_sizes_are_told_in_the_unit_that_fits(size: float, shown: str) -> None:
    assert human_size(size) == shown


def test_stats_of_a_memory_without_a_file_tell_no_size(memory: Memory) -> None:
    done = memory("stats", "--backend", "in_memory")
    assert (done.code, "size" in done.out, "file" in done.out) == (0, False, False)


def test_an_empty_memory_says_what_to_do_next(memory: Memory) -> None:
    memory("add", "x", "--id", "x")
    memory("delete", "x")
    for line in ("stats", "list", "namespaces", "search x"):
        done = memory(*line.split())
        assert (done.code, "`memory add`" in done.err) == (0, True), line


# --- health ------------------------------------------------------------------------------------


def test_health_is_one_line_and_a_code(nuts: Memory) -> None:
    done = nuts("health")
    assert (done.code, done.out, done.err) == (0, "healthy (sqlite, durability power)\n", "")
    told = nuts("health", "--json").json
    assert (told["status"], told["exit_code"], told["details"]["layout"] > 0) == ("healthy", 0, True)


def test_what_is_not_there_or_no_memory_is_unhealthy_on_stdout(memory: Memory, empty: Path) -> None:
    (empty / "junk.db").write_text("junk")
    for path in ("none.db", "junk.db"):
        done = memory("health", "--path", path)
        assert (done.code, done.out.startswith("unhealthy: "), done.err) == (3, True, "")
        assert len(done.out.splitlines()) == 1
        assert memory("health", "--path", path, "--json").json["status"] == "unhealthy"
    assert not (empty / "none.db").exists()
    assert memory("health", "--backend", "oracle").code == 2, "a mistake of the one who asks is no illness"


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        (
            Health("degraded", "sqlite", "power", {"warnings": ["the log is long", "x"]}),
            1,
            "degraded (sqlite, durability power): the log is long; x",
        ),
        (
            Health("unhealthy", "sqlite", "power", {"error": "server down"}),
            3,
            "unhealthy (sqlite, durability power): server down",
        ),
        (errors.CorruptData("page 3 is damaged"), 5, "unhealthy: page 3 is damaged"),
        (RuntimeError("a fault"), 70, "unhealthy: RuntimeError: a fault"),
    ],
)
def test_health_has_a_code_for_each_state(
    nuts: Memory, monkeypatch: pytest.MonkeyPatch, answer: Health | Exception, code: int, words: str
) -> None:
    async def health(_self: object) -> Health:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("memory.store.view.Operations.health", health)
    done = nuts("health")
    assert (done.code, words in done.out, len(done.out.splitlines()), done.err) == (code, True, 1, "")
    assert nuts("health", "--json").json["exit_code"] == code


def test_health_waits_no_longer_than_it_is_told(nuts: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_self: object) -> Health:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("memory.store.view.Operations.health", never)
    done = nuts("health", "--timeout", "0.05")
    assert (done.code, done.out, done.err) == (3, "unhealthy: no answer within 0.05 s\n", "")


# --- completions -------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions_print_the_script_of_a_shell(memory: Memory, shell: str) -> None:
    done = memory("completions", shell)
    assert (done.code, f"_MEMORY_COMPLETE=complete_{shell}" in done.out) == (0, True)
    assert memory("completions", shell, "--json").json == {"shell": shell, "script": done.out.rstrip("\n")}
    assert "~/.bashrc" in memory("completions", "--help").out


def test_an_unknown_shell_is_a_mistake(memory: Memory) -> None:
    done = memory("completions", "tcsh")
    assert (done.code, "'bash', 'zsh', 'fish'" in done.err) == (2, True)


def test_bash_completes_commands_options_and_values_with_the_script() -> None:
    script = """
        eval "$(memory completions bash)"
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _memory_completion memory
        echo "${COMPREPLY[@]}"
    """
    for words, expected in {
        ("memory", "rest"): "restore",
        ("memory", "search", "--neigh"): "--neighbours",
        ("memory", "completions", "f"): "fish",
    }.items():
        done = subprocess.run(
            ["bash", "-c", script, "bash", *words],
            env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert (done.stdout, done.stderr) == (f"{expected}\n", "")


# --- the reference -----------------------------------------------------------------------------


def test_the_committed_reference_is_what_the_command_says_now() -> None:
    assert (ROOT / "docs" / "command.md").read_text() == page(), "python -m memory.cli.reference > docs/command.md"


def test_the_reference_names_every_command_and_option() -> None:
    told = page()
    for info in app.registered_commands:
        assert f"### `memory {info.name}`" in told
        assert f"$ memory {info.name}" in told
    for words in (
        "`--neighbours N`",
        "`--user TEXT`, `-u TEXT`",
        "(default `10`)",
        "| `70` | a fault",
        "`--map FIELD=PATH`",
    ):
        assert words in told
