"""The examples for servers say in one line what is wrong with their settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("example", "settings", "said"),
    [
        ("firestore.py", {}, "InvalidSetting: name the Google Cloud project"),
        ("postgres.py", {"MEMORY_POSTGRES_DSN": "foo"}, "InvalidSetting: the address of the Postgres server"),
        ("on_redis.py", {"MEMORY_REDIS_URL": "foo"}, "InvalidSetting: "),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(example: str, settings: dict[str, str], said: str, tmp_path: Path) -> None:
    unset = ("MEMORY_", "FIRESTORE_", "GOOGLE_", "GCLOUD_", "DATASTORE_")
    bare = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / example)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**bare, "PYTHONPATH": str(ROOT), **settings},
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done.stderr
    assert done.stderr.startswith(said)
