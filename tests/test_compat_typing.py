"""Type checkers see the real types: of the new names, and through the one line that an old tree may keep."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINE = "from memory.compat.in_place import *\n"
PROGRAM = """
import memory.compat
from capabilities.memory import MemoryManager
from capabilities.memory.base import MemoryEntry, MemoryQuery, MemoryType
from capabilities.memory.storage.postgres import PostgresStorage
from memory.compat import PostgresConfig, create_store


async def main() -> None:
    storage = PostgresStorage[str, dict[str, int]](PostgresConfig(port=5432))
    entry = await storage.store("a", {"n": 1}, MemoryType.WORKING)
    reveal_type(entry.value)
    reveal_type(entry.expires_at)
    async for result in storage.search(MemoryQuery(query="n")):
        reveal_type(result.score)
        reveal_type(result.entry.value)
    reveal_type(await storage.delete("a"))
    reveal_type((await MemoryManager(storage).retrieve("a")).type)
    reveal_type(memory.compat.MemoryScope.AGENT.value)
    await storage.store("a", "no dict")  # wrong: value
    PostgresConfig(port="5432")  # wrong: port
    await create_store("redis")  # wrong: config
    MemoryType.NEVER  # wrong: no such type
"""
REVEALED = ["dict[str, int]", "datetime | None", "float", "dict[str, int]", "bool", "str", "str"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An old tree, each of whose modules consists of the one line."""
    package = tmp_path / "capabilities" / "memory"
    (package / "storage").mkdir(parents=True)
    (tmp_path / "capabilities" / "__init__.py").touch()
    for name in ("__init__", "base", "storage/__init__", "storage/postgres"):
        (package / f"{name}.py").write_text(LINE)
    (tmp_path / "program.py").write_text(PROGRAM)
    return tmp_path


def said(tree: Path, *command: str) -> str:
    told = {name: value for name, value in os.environ.items() if not name.startswith(("COV_", "COVERAGE_"))}
    told |= {"MYPYPATH": f"{tree}{os.pathsep}{ROOT}", "PYTHONPATH": f"{tree}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, cwd=tree, env=told, capture_output=True, text=True, timeout=240)
    return done.stdout + done.stderr


def holds(told: str, revealed: str, wrong: str) -> None:
    """What a checker revealed, and the lines it found wrong."""
    types = [re.sub(r"\b(builtins|datetime)\.", "", found) for found in re.findall(revealed, told)]
    assert [re.sub(r"^Literal\['agent'\]\??$", "str", one) for one in types] == REVEALED, told
    lines = {place for place, line in enumerate(PROGRAM.splitlines(), 1) if "# wrong" in line}
    assert {int(line) for line in re.findall(wrong, told)} == lines, told


def test_mypy_sees_the_types(tree: Path) -> None:
    told = said(tree, sys.executable, "-m", "mypy", "--config-file=", "--cache-dir", str(tree / "cache"), "program.py")
    holds(told, r'Revealed type is "(.+)"', r"program\.py:(\d+): error")


def test_pyright_sees_the_types(tree: Path) -> None:
    told = said(tree, sys.executable, "-m", "pyright", "program.py")
    holds(told, r'Type of ".+" is "(.+)"', r"program\.py:(\d+):\d+ - error")
