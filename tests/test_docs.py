"""Every code block of the README and of docs/ runs: Python as a program, `memory ...` lines as commands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LIVE = [ROOT / "docs" / "migration" / f"{name}.md" for name in ("firestore_v1_to_v2", "memory")]
"""Pages whose commands need a server: test_docs_firestore and test_docs_compat run them."""
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LEFT_TO_PEOPLE = ("make ", "pip install ", "git clone ", "cd ", "python -m benchmarks", "python -m memory.testing")
"""Commands a page may show but a test does not run: they set up, measure or take long."""

pytestmark = pytest.mark.docs


def blocks(language: str) -> list[object]:
    found: list[object] = []
    for page in PAGES:
        text = page.read_text()
        for match in BLOCK.finditer(text):
            if match[1] == language and page not in LIVE:
                line = text.count("\n", 0, match.start()) + 1
                found.append(pytest.param(page, line, match[2], id=f"{page.relative_to(ROOT)}:{line}"))
    return found


def run(arguments: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MEMORY_", "COV_", "COVERAGE_"))
    }
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(("page", "line", "code"), blocks("python"))
def test_a_python_block_runs_as_it_stands(page: Path, line: int, code: str, tmp_path: Path) -> None:
    ended = run([sys.executable, "-W", "error", "-c", code], tmp_path)
    assert ended.returncode == 0, f"{page.name}, line {line}:\n{ended.stderr}"
    for expected in re.findall(r"^\s*print\(.*\)  # (.+)$", code, re.MULTILINE):
        assert expected in ended.stdout, f"{page.name}, line {line} promises {expected!r} but prints:\n{ended.stdout}"


@pytest.mark.parametrize(("page", "line", "code"), blocks("bash"))
def test_the_commands_of_a_block_run_in_order(page: Path, line: int, code: str, tmp_path: Path) -> None:
    commands = [command for command in code.replace("\\\n", " ").splitlines() if command.strip()]
    for command in commands:
        if command.startswith(LEFT_TO_PEOPLE):
            continue
        words = shlex.split(command, comments=True)
        if not words:
            continue
        assert words[0] == "memory", f"{page.name}, line {line}: this test does not know how to run {command!r}"
        ended = run(words, tmp_path)
        assert ended.returncode == 0, f"{page.name}, line {line}: {command}\n{ended.stdout}{ended.stderr}"


def test_the_pages_link_only_to_what_exists() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_page_of_settings_is_up_to_date() -> None:
    code = "import configuration; print(configuration.page(), end='')"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "docs")}
    made = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert made.stdout == (ROOT / "docs" / "configuration.md").read_text(), "run: python docs/configuration.py"
