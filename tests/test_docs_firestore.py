"""The guide from Firestore V1 to V2: its commands run as they stand, one after the other, in one shell, on the emulator."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from firestore_v1_filling import V1
from servers import server
from test_docs import BLOCK, ROOT

PAGE = ROOT / "docs" / "migration" / "firestore_v1_to_v2.md"
pytestmark = pytest.mark.docs


def test_the_commands_of_the_guide_move_everything_and_take_it_back(tmp_path: Path) -> None:
    project = "guide-" + uuid.uuid4().hex[:8]
    v1 = V1(project, server("firestore").url)
    v1.fill(60)
    (tmp_path / "scripts").symlink_to(ROOT / "scripts")
    commands = "\n".join(match[2] for match in BLOCK.finditer(PAGE.read_text()) if match[1] == "bash")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MEMORY_", "GCP_", "GOOGLE_", "ORCHESTRA_", "COV_", "COVERAGE_"))
    }
    environment |= {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}",
        "FIRESTORE_EMULATOR_HOST": v1.host,
    }
    ended = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", commands.replace("my-project", project)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    counts = [int(line) for line in re.findall(r"^(\d+)$", ended.stdout, re.MULTILINE)]
    live = v1.live(60)
    assert counts == [live, live, 0, live], "V1 before; V2 moved, taken back; V1 after"
    assert {"report.json", "memory_migration.log", "firestore.indexes.json"} <= {one.name for one in tmp_path.iterdir()}
