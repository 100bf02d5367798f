"""The example of composites runs as it stands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent / "examples" / "composite.py"


def test_the_example_shows_each_shape() -> None:
    ended = subprocess.run([sys.executable, "-W", "error", str(EXAMPLE)], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines() == [
        "tiered: {'Maya likes window seats'}, what is acknowledged survives power",
        "mirrored: found m7 in the mirror",
        "mirrored: divergent copy, in 'search': missing",
        "mirrored: repaired, 0 problems left",
        "routed: route 'short' (in_memory): kind working",
        "routed: one search over all: ['gate', 'seat']",
        "routed: promoted, 0 short-term items left",
        "refused: memory.toml, line 7: a cycle: memory > memory",
    ]
