"""A command line run in this process, in an empty directory and environment."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from blockbuster import BlockBuster

import memory as memory_package
from memory import MemoryManager
from memory.cli.app import run


class Done(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err)["error"]


Memory = Callable[..., Done]


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_blocks_a_loop: BlockBuster) -> Iterator[Path]:
    """An empty directory and environment. The loop of a command runs nothing beside it, so it may block."""
    for name in list(os.environ):
        if name.upper().startswith("MEMORY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(Path(memory_package.__file__).parents[1]))  # for children, wherever they run
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.chdir(tmp_path)
    nothing_blocks_a_loop.deactivate()
    yield tmp_path
    nothing_blocks_a_loop.activate()


@pytest.fixture
def memory(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Memory:
    """Runs a command line in this process."""

    def call(*arguments: str, stdin: str = "") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        capfd.readouterr()
        code = run(list(arguments))
        return Done(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that holds three memories."""
    file = tmp_path_factory.mktemp("three") / "memory.db"
    with MemoryManager(path=file) as manager:
        manager.add_sync("Ana is allergic to nuts", id="a1", user_id="ana", tags=["health"])
        manager.add_sync("Ana likes almond croissants", id="a2", user_id="ana", session_id="s1")
        manager.add_sync("Bob eats nuts by the handful", id="b1", user_id="bob", namespace=("team", "red"))
    return file


@pytest.fixture
def nuts(memory: Memory, empty: Path, three: Path) -> Memory:
    """Runs a command line on a memory of three."""
    shutil.copy(three, empty)
    return memory
