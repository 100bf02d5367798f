"""The guide from `capabilities.memory`: each block runs; before and after print the same; the commands run one after the other."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from legacy_capabilities import PROGRAM, fill_folder, fill_postgres, fill_redis
from servers import server
from test_docs import BLOCK, LEFT_TO_PEOPLE, ROOT, run

PAGE = ROOT / "docs" / "migration" / "memory.md"
BLOCKS = [(match[1], match[2]) for match in BLOCK.finditer(PAGE.read_text())]
OLD = [code for language, code in BLOCKS if language == "python" and code.startswith("# before\n")]
NEW = [code for language, code in BLOCKS if language == "python" and code.startswith("# after\n")]
INSTALLED = "import memory.compat\nmemory.compat.install('sqlite:///old.db')\n"
JUNK = ("cut", "list", "valueless", "undated", "pickled", "statistics")

pytestmark = pytest.mark.docs


def addressed(code: str) -> str:
    """The code with the servers of this run in place of those on the page."""
    for shown, name in (
        ("postgresql://postgres:postgres@localhost:5432/pepperpy", "postgres"),
        ("postgresql://postgres@localhost/pepperpy", "postgres"),
        ("redis://localhost:6379", "redis"),
    ):
        if shown in code:
            code = code.replace(shown, server(name).url)
    return code


def printed(code: str, place: Path, *options: str) -> str:
    place.mkdir()
    done = run([sys.executable, *options, "-c", addressed(code)], place)
    assert done.returncode == 0, f"{code}\n{done.stderr}"
    return done.stdout


def test_every_block_is_run_and_every_old_name_is_in_one() -> None:
    from memory.compat.names import NAMES

    kinds = [code.partition("\n")[0] if language == "python" else language for language, code in BLOCKS]
    assert set(kinds) == {"# before", "# after", "# in place", "bash", "text"}
    assert (len(OLD), kinds.count("# in place")) == (len(NEW) + 1, 1)  # the first shows that old imports work
    shown = "".join(OLD)
    assert [name for name in NAMES if name not in shown and name != "MemoryResult"] == []


@pytest.mark.parametrize("number", range(len(NEW)))
def test_before_and_after_print_the_same(number: int, tmp_path: Path) -> None:
    before = printed(INSTALLED + OLD[number + 1], tmp_path / "old", "-W", "ignore::DeprecationWarning")
    after = printed(NEW[number], tmp_path / "new", "-W", "error")
    assert before == after != ""


def test_the_first_blocks_run(tmp_path: Path) -> None:
    assert printed(OLD[0], tmp_path / "old") == "working InMemoryStorage\n"
    (line,) = [code for language, code in BLOCKS if language == "python" and code.startswith("# in place\n")]
    package = tmp_path / "new" / "capabilities" / "memory"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(line)
    told = run(
        [sys.executable, "-c", "from capabilities.memory.base import MemoryType; print(MemoryType.WORKING)"],
        tmp_path / "new",
    )
    assert (told.returncode, told.stdout) == (0, "working\n"), told.stderr


async def test_the_commands_run_in_order(tmp_path: Path) -> None:
    import redis

    prefix, schema = f"guide-{uuid4()}", f"guide_{uuid4().hex[:8]}"
    fill_redis(server("redis").url, prefix)
    with redis.Redis.from_url(server("redis").url) as client:
        client.delete(*[f"{prefix}:{name}" for name in JUNK])
    await fill_postgres(server("postgres").url, "value", schema)
    (tmp_path / "data").mkdir()
    folder = fill_folder(tmp_path / "data")
    (folder / "cut.json").unlink()
    (folder / "keys.json").write_text('["doc-2", "doc-1"]')
    shutil.copytree(PROGRAM, tmp_path / "my_program")
    lines = "".join(code for language, code in BLOCKS if language == "bash").splitlines()
    commands = addressed("\n".join(line for line in lines if not line.startswith(LEFT_TO_PEOPLE)))
    commands = commands.replace("prefix=memory'", f"prefix={prefix}'").replace("schema=public", f"schema={schema}")
    told = {name: value for name, value in os.environ.items() if not name.startswith(("MEMORY_", "COV_", "COVERAGE_"))}
    told["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{told['PATH']}"
    script = ["bash", "-euxo", "pipefail", "-c", commands]
    done = subprocess.run(script, cwd=tmp_path, env=told, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert re.findall(r"^(\d+) created", done.stdout, re.MULTILINE) == ["7", "3", "3", "3", "7", "3"]
    assert "7 deleted" in done.stdout
    assert "from memory.compat import MemoryManager" in (tmp_path / "my_program" / "agent.py").read_text()
