"""An old program, not a letter of it changed, on today's stores; and its rewritten copy."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from legacy_capabilities import PROGRAM
from servers import server

ROOT = Path(__file__).parent.parent
START = """
import runpy, sys
if {backend!r} != "None" or {installed}:
    import memory.compat
    memory.compat.install({backend})
sys.path.insert(0, {program!r})
runpy.run_path({program!r} + "/main.py", run_name="__main__")
"""
WARNED = re.compile(r"^(\S+?)([a-z]+\.py):(\d+): DeprecationWarning: (.*)$", re.MULTILINE)

OPEN, CLOSE = "await memory.open(), or async with", "await memory.close(), or async with"
PUT = "await memory.store.put(MemoryItem(id=key, content=value, kind=type), ttl=seconds)"
GET = "await memory.get(key), which is None when there is none"
MANY = "CompositeStoreConfig, MemoryStoreConfig, RedisConfig, StoreType, VectorStoreConfig"
DESCRIBED = "a backend's name or URL, or MEMORY_BACKEND_TYPE"
MADE = {
    "postgres": ("PostgresStorage", 'MemoryManager("postgresql://user@host/database")', 60),
    "redis": ("RedisStorage", 'MemoryManager("redis://host:6379")', 50),
}


def expected(kind: str) -> dict[tuple[str, int], tuple[str, str]]:
    """Every line of the program that is to warn: what is old there, and what to write."""
    storage, made, place = MADE[kind]
    config = (26, "RedisConfig", "the address redis://host:6379, or MEMORY_REDIS_URL")
    if kind == "postgres":
        config = (35, "PostgresConfig", "the address postgresql://user@host/database, or MEMORY_POSTGRES_DSN")
    old, older = "capabilities.memory", "pepperpy.capabilities.memory"
    told: dict[str, list[tuple[int, str, str]]] = {
        "documents.py": [
            (5, f"{older}.storage.config", "from memory.compat import PostgresConfig"),
            (6, f"{older}.storage.postgres", "from memory.compat import PostgresStorage"),
            (8, f"{older}.base", "import memory.compat"),
            (18, f"{older}.base.BaseMemory", "memory.compat.BaseMemory"),
        ],
        "provider.py": [
            (6, f"{old}.config", f"from memory.compat import {MANY}"),
            (13, f"{old}.factory", "from memory.compat import StoreError, create_store"),
            (14, f"{old}.storage.composite", "from memory.compat import CompositeStorage"),
            (15, f"{old}.storage.config", "from memory.compat import PostgresConfig"),
            (16, f"{old}.storage.inmemory", "from memory.compat import InMemoryStorage"),
            (17, f"{old}.storage.postgres", "from memory.compat import PostgresStorage"),
            (18, f"{old}.storage.redis", "from memory.compat import RedisStorage"),
            (19, f"{old}.storage.vector", "from memory.compat import VectorStorage"),
            config,
            (place, storage, made),
            (65, "InMemoryStorage", 'MemoryManager("in_memory")'),
            (71 if kind == "redis" else 73, "MemoryStoreConfig", DESCRIBED),
            (74, "create_store", "memory.create_store(name or URL)"),
            (80, "MemoryStoreConfig", DESCRIBED),
        ],
        "agent.py": [
            (5, f"{old}.exceptions", "import memory.compat"),
            (6, f"{old}.base", "from memory.compat import MemoryIndex, MemoryQuery, MemoryScope, MemoryType"),
            (12, f"{old}.manager", "from memory.compat import MemoryManager"),
            (14, f"{old}.exceptions.MemoryRetrievalError", "memory.compat.MemoryRetrievalError"),
            (22, "MemoryManager", "one memory.MemoryManager, with ttl= for what is kept for a short term"),
            (26, f"{storage}.start", OPEN),
            (27, "MemoryManager.start", OPEN),
            (31, "MemoryManager.stop", CLOSE),
            (32, f"{storage}.stop", CLOSE),
            (36, f"{storage}.store", PUT),
            (47, "MemoryManager.store", PUT),
            (53, f"{storage}.store", PUT),
            (60, f"{storage}.retrieve", GET),
            (68, f"{storage}.search", "await memory.search(query, where=filter, limit=n)"),
            (74, f"{storage}.similar", 'await memory.search(vector=item.embedding, mode="vector", limit=n)'),
            (78, f"{storage}.delete", "await memory.delete(key)"),
            (82, f"{storage}.reindex", "await memory.store.reembed() for vectors; other indexes are always in step"),
        ],
        "main.py": [
            (10, old, "from memory import compat as memory"),
            (11, old, "from memory.compat import MemoryEntry, MemoryError"),
            (37, f"{old}.MemoryType", "memory.compat.MemoryType"),
            (42, "MemoryManager.retrieve", GET),
            (43, f"{old}.MemoryType", "memory.compat.MemoryType"),
            (45, f"{storage}.retrieve", GET),
            (46, f"{storage}.stop", CLOSE),
            (51, f"{storage}.retrieve", GET),
        ],
    }
    return {(file, line): (what, new) for file, lines in told.items() for line, what, new in lines}


SEEN: dict[str, Any] = {
    "misconfigured": "a storage of the kind vector needs vector_config",
    "storage": True,
    "learned": [
        *("nuts", {"content": "Ana is allergic to nuts"}, "long_term", "agent"),
        *({"author": "ana"}, ["contextual", "semantic"]),
    ],
    "is entry": True,
    "expires_at": True,
    "times": True,
    "recalled": ["soon", {"content": "Call Ben"}, "long_term", "session", {}],
    "lower case": ["str", "str"],
    "missing": None,
    "found": ["nuts", "tea"],
    "scores": True,
    "filtered": [],
    "related": ["tea", "boat"],
    "upkeep": [4, 0],
    "noted": ["now", "short_term", "session", True],
    "by manager": {"content": "The door is open"},
    "of the long term": {"content": "Ana is allergic to nuts"},
    "by the factory": {"content": "The boat leaves at noon"},
    "forgotten": [True, False],
    "stopped": True,
}


def environment(kind: str) -> dict[str, str]:
    """What the program is told: where its servers are."""
    told = {name: value for name, value in os.environ.items() if not name.startswith(("MEMORY_", "COV_", "COVERAGE_"))}
    told |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    if kind == "sqlite":
        return told
    place = urlsplit(server(kind).url)
    where = {"OLD_STORE": kind, f"OLD_{kind.upper()}_HOST": place.hostname, f"OLD_{kind.upper()}_PORT": place.port}
    if kind == "postgres":
        where |= {"OLD_POSTGRES_DATABASE": place.path.strip("/"), "OLD_POSTGRES_USER": place.username}
    return told | {name: str(value) for name, value in where.items() if value is not None} | {"OLD_PREFIX": "old"}


def run(kind: str, program: Path, place: Path, *, installed: bool) -> tuple[Any, str]:
    """What the program printed, and what it said on stderr."""
    backend = "sqlite:///agent.db" if kind == "sqlite" else None
    code = START.format(
        backend=repr(backend) if installed or backend else "None", installed=installed, program=str(program)
    )
    options = ["-W", "always::DeprecationWarning"] if installed else ["-W", "error"]
    done = subprocess.run(
        [sys.executable, *options, "-c", code],
        cwd=place,
        env=environment(kind),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The program somewhere else."""
    return Path(shutil.copytree(PROGRAM, tmp_path / "program"))


@pytest.mark.parametrize("kind", ["sqlite", "redis", "postgres"])
def test_an_old_program_runs_and_warns_at_exactly_its_own_lines(kind: str, tmp_path: Path) -> None:
    seen, said = run(kind, PROGRAM, tmp_path, installed=True)
    assert seen == SEEN
    told = [((file, int(line)), text) for _, file, line, text in WARNED.findall(said)]
    wanted = expected("redis" if kind == "redis" else "postgres")
    assert dict(told) == {place: f"{old} is deprecated; write: {new}" for place, (old, new) in wanted.items()}
    assert len(told) == len(wanted)  # once for each line
    assert all(Path(folder) == PROGRAM for folder, *_ in WARNED.findall(said))


@pytest.mark.parametrize("kind", ["sqlite", "redis", "postgres"])
def test_its_rewritten_copy_runs_without_any_warning(kind: str, copy: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "memory.compat", "rewrite", "--write", str(copy)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, "5 files rewritten; nothing left to decide" in done.stderr) == (0, True)
    seen, said = run(kind, copy, tmp_path, installed=False)
    assert seen == SEEN
    assert said == ""


def pytest_of(program: Path, place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """The program's own tests."""
    (program / "conftest.py").write_text("import memory.compat\n\nmemory.compat.install()\n")
    (program / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(program / "checks.py")]
    told = {name: value for name, value in environment("sqlite").items() if not name.startswith("PYTEST_")}
    return subprocess.run(command, cwd=place, env=told, capture_output=True, text=True, timeout=60)


def test_its_own_tests_pass_and_as_errors_the_warnings_name_the_lines_to_change(copy: Path, tmp_path: Path) -> None:
    done = pytest_of(copy, tmp_path)
    assert "4 passed" in done.stdout, done.stdout
    old = re.compile(r"^from capabilities|InMemoryStorage\(\)|storage\.(start|store|retrieve|search|stop)\(")
    lines = {place for place, line in enumerate((copy / "checks.py").read_text().splitlines(), 1) if old.search(line)}
    assert {int(line) for line in re.findall(r"checks\.py:(\d+): DeprecationWarning", done.stdout)} == lines
    failed = pytest_of(copy, tmp_path, "-W", "error::DeprecationWarning")
    assert failed.returncode != 0
    assert "checks.py:7: in <module>" in failed.stdout
    assert "write: from memory.compat import MemoryQuery, MemoryScope, MemoryType" in failed.stdout
