"""The example for FAISS runs as it stands, and says what is wrong with a file that is not ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent / "examples" / "on_faiss.py"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE), *arguments], capture_output=True, text=True, timeout=120
    )


def test_the_example_runs() -> None:
    ended = run()
    assert ended.returncode == 0, ended.stderr
    assert "nearest to m42: ['m42']" in ended.stdout
    assert "about food: 5 of 5 are {'food'}" in ended.stdout
    assert "after a change: m42 is found False" in ended.stdout
    assert "of the true ten 10 are found" in ended.stdout or "of the true ten 9 are found" in ended.stdout
    assert "index: generation 1," in ended.stdout


def test_the_example_says_what_is_wrong_with_another_file(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no database")
    ended = run(str(tmp_path / "notes.txt"))
    assert ended.returncode == 1
    assert ended.stderr.startswith("BackendUnavailable: ")
