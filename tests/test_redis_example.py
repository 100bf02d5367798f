"""The example for Redis runs as it stands, and says what is wrong where nothing listens."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from servers import server

from memory.testing.services import free_port

EXAMPLE = Path(__file__).parent.parent / "examples" / "on_redis.py"


def run(address: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE), address], capture_output=True, text=True, timeout=60
    )


def test_the_example_runs_on_every_kind_of_redis() -> None:
    for flavour in ("redis", "redis_cluster"):
        ended = run(server(flavour).url)
        assert ended.returncode == 0, ended.stderr
        assert "found: Maya likes window seats" in ended.stdout
        assert "in Lisbon: ['m2']" in ended.stdout
        assert "not overwritten: it was changed meanwhile (True)" in ended.stdout
        assert "verified: 3 records, 0 problems" in ended.stdout


def test_the_example_says_what_is_wrong_where_nothing_listens() -> None:
    ended = run(f"redis://me:hunter2@127.0.0.1:{free_port()}")
    assert ended.returncode == 1
    assert ended.stderr.startswith("BackendUnavailable: ")
    assert "Is it running" in ended.stderr
    assert "hunter2" not in ended.stderr
