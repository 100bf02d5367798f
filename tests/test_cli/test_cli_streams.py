"""The command and its standard streams: closed, full, at a terminal, and an interrupt at any time."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

Memory = Callable[..., Any]
FULL = "standard output cannot be written (No space left on device)"


def by_shell(line: str, stdin: bytes = b"") -> tuple[int, str, str]:
    """What a shell makes of a line in which `memory` is the command: code, standard output, standard error."""
    told = subprocess.run(
        ["bash", "-c", f'memory() {{ "$PYTHON" -m memory "$@"; }}; {line}'],
        input=stdin,
        capture_output=True,
        timeout=60,
        env={**os.environ, "PYTHON": sys.executable},
        check=False,
    )
    return told.returncode, told.stdout.decode(), told.stderr.decode()


# --- streams that cannot be used ---------------------------------------------------------------


def test_a_full_standard_output_is_named_and_what_was_done_is_told(
    nuts: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONUNBUFFERED", "")  # each write fails when it is flushed
    code, _, said = by_shell("memory add 'the train leaves at nine' --id t >/dev/full")
    assert (code, said) == (74, f"memory: {FULL}; what was asked for is done, only the answer is lost\n")
    assert nuts("get", "t").code == 0
    assert by_shell("memory get nope 2>/dev/full") == (1, "", "")
    monkeypatch.setenv("PYTHONUNBUFFERED", "1")  # at once
    for line in ("memory --version >/dev/full", "memory list >/dev/full", "memory export - >/dev/full"):
        code, _, said = by_shell(line)
        assert (code, FULL in said, "Traceback" in said) == (74, True, False), (line, said)


def test_with_a_closed_standard_output_nothing_is_begun(nuts: Memory) -> None:
    said = "memory: standard output is closed; nothing was done\n"
    for line in ("memory add x >&-", "memory --help >&-"):
        assert by_shell(line) == (2, "", said)
    assert nuts("count").out == "3\n"
    assert by_shell("memory count <&- 2>&-") == (0, "3\n", "")
    assert by_shell("memory get nope 2>&-") == (1, "", "")


@pytest.mark.usefixtures("nuts")
def test_a_reader_that_goes_away_is_no_fault() -> None:
    for line in ("memory --help", "memory list", "memory export -"):
        code, _, said = by_shell(f"{{ sleep 0.01; {line}; echo $? >&2; }} | true")
        assert (code, said) == (0, "141\n"), line


# --- what is to be remembered ------------------------------------------------------------------


def test_an_empty_text_is_nothing_to_remember(memory: Memory) -> None:
    for line, stdin in ((("add", ""), ""), (("add", " \n"), ""), (("add", "-"), ""), (("add", "-"), "\n\n")):
        done = memory(*line, stdin=stdin)
        assert (done.code, done.out, "nothing to remember" in done.err) == (2, "", True)
    assert memory("add", "--content-json", '""').code == 0, "who writes JSON means it"


@pytest.mark.usefixtures("nuts")
def test_what_is_not_utf_8_is_named() -> None:
    for line, name in (
        ("memory add $'\\xff'", "TEXT"),
        ("printf '\\xff' | memory add -", "standard input"),
        ("printf '\\xff' | LC_ALL=C memory add -", "standard input"),
        ("memory update a1 --content $'\\xff'", "--content"),
        ("memory search $'\\xff'", "QUERY"),
    ):
        assert by_shell(line) == (2, "", f"memory: {name} is not UTF-8\n")


# --- interrupts and answers --------------------------------------------------------------------


@contextmanager
def at_a_terminal(*arguments: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """A command line whose input and error are a terminal, and that terminal's other end."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-m", "memory", *arguments], stdin=theirs, stderr=theirs) as child:
        os.close(theirs)
        try:
            yield ours, child
        finally:
            child.kill()
            os.close(ours)


def until(terminal: int, words: bytes) -> bytes:
    """What is shown until these words are."""
    shown = b""
    while words not in shown:
        shown += os.read(terminal, 4_096)
    return shown


@pytest.mark.parametrize(
    "line", [("delete", "--all"), ("restore", "m.backup", "--replace"), ("rollback", "j"), ("reembed", "--to", "other")]
)
def test_the_first_interrupt_ends_a_question(nuts: Memory, line: tuple[str, ...], monkeypatch: Any) -> None:
    monkeypatch.setenv("MEMORY_EMBEDDER", "hashing")
    assert nuts("backup", "m.backup").code == 0
    assert nuts("migrate", "sqlite:///memory.db", "sqlite:///new.db", "--state", "j").code == 0
    line = tuple("hashing:64" if word == "other" else word for word in line)
    with at_a_terminal(*line) as (terminal, child):
        until(terminal, b"[y/N]:")
        time.sleep(0.1)  # it has printed the question, and is about to wait
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 130
        assert b"memory: interrupted" in until(terminal, b"interrupted")
    assert nuts("count").out == nuts("count", "--path", "new.db").out == "3\n"


def test_the_first_interrupt_ends_the_wait_for_a_text(nuts: Memory) -> None:
    for line in (("add", "-"), ("import", "-")):
        with at_a_terminal(*line) as (_, child):
            time.sleep(1.5)  # nothing tells that it waits
            child.send_signal(signal.SIGINT)
            assert child.wait(10) == 130
    assert nuts("count").out == "3\n"


@pytest.mark.parametrize("answer", [b"n\n", b"\n", b"\x04"])
def test_no_is_an_answer_and_no_interrupt(nuts: Memory, answer: bytes) -> None:
    with at_a_terminal("delete", "--all") as (terminal, child):
        until(terminal, b"[y/N]:")
        os.write(terminal, answer)
        assert child.wait(10) == 1
        assert b"memory: nothing was deleted" in until(terminal, b"deleted")
    assert nuts("count").out == "3\n"


def test_an_interrupt_while_it_is_still_loading_ends_it_quietly() -> None:
    loading = """
import sys
from memory.cli import main
class Interrupted:
    def find_spec(self, name, *rest):
        if name == "memory.cli.items":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Interrupted())
main(["count"])
"""
    told = subprocess.run([sys.executable, "-c", loading], capture_output=True, timeout=60, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (130, b"", b"memory: interrupted\n")
