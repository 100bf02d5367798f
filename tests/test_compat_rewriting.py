"""The command that rewrites old imports: what it changes, what it leaves alone, what it asks."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from memory.compat.__main__ import main
from memory.compat.rewriting import Note, rewrite

ROOT = Path(__file__).parent.parent


def new(source: str) -> str:
    """The new source, where nothing is left to decide."""
    done = rewrite(source.encode())
    assert done.open == []
    assert rewrite(done.source).source == done.source
    return done.source.decode()


@pytest.mark.parametrize(
    ("old", "wanted"),
    [
        ("from capabilities.memory.base import MemoryEntry", "from memory.compat import MemoryEntry"),
        ("from pepperpy.capabilities.memory import MemoryEntry as E", "from memory.compat import MemoryEntry as E"),
        ("from capabilities.memory.exceptions import *  # all", "from memory.compat import *  # all"),
        (
            "from  capabilities . memory.base  import  MemoryType ,MemoryScope",
            "from  memory.compat  import  MemoryType ,MemoryScope",
        ),
        ("from capabilities import memory", "from memory import compat as memory"),
        ("from capabilities import memory as m", "from memory import compat as m"),
        ("from capabilities.memory import storage", "from memory import compat as storage"),
        (
            "from capabilities.memory.storage import (  # here\n    redis,\n)",
            "from memory import (  # here\n    compat as redis,\n)",
        ),
        ("import capabilities.memory.base as b\nb.MemoryType", "import memory.compat as b\nb.MemoryType"),
        ("import os, capabilities.memory.base as b, sys", "import os, memory.compat as b, sys"),
        (
            "import capabilities.memory.base\nx = capabilities.memory.base.MemoryType.WORKING",
            "import memory.compat\nx = memory.compat.MemoryType.WORKING",
        ),
        (
            "import capabilities.memory\nx = (capabilities.memory . storage.redis).RedisStorage",
            "import memory.compat\nx = memory.compat.RedisStorage",
        ),
        ("import capabilities.memory.base, capabilities.memory.config", "import memory.compat"),
        (
            "import capabilities.memory\nmemory = capabilities.memory.MemoryManager(a)",
            "import memory.compat as memory_compat\nmemory = memory_compat.MemoryManager(a)",
        ),
        (
            "from capabilities import tools, memory, web  # three",
            "from capabilities import tools, web  # three\nfrom memory import compat as memory",
        ),
        (
            "if a:\n    from capabilities.memory import base, MemoryType as T, manager\n",
            "if a:\n    from memory.compat import MemoryType as T\n    from memory import compat as base, compat as manager\n",
        ),
        (
            "try:\n\tfrom capabilities.memory import MemoryType\nexcept ImportError: pass",
            "try:\n\tfrom memory.compat import MemoryType\nexcept ImportError: pass",
        ),
        (
            "a = 1; from capabilities.memory import MemoryType; b = 2",
            "a = 1; from memory.compat import MemoryType; b = 2",
        ),
        ("m = import_module('capabilities.memory.base')", "m = import_module('memory.compat')"),
        ('importlib.util.find_spec(r"pepperpy.capabilities.memory")', 'importlib.util.find_spec(r"memory.compat")'),
        (
            "def f():\n    from capabilities.memory.factory import create_store\n    return create_store",
            "def f():\n    from memory.compat import create_store\n    return create_store",
        ),
    ],
)
def test_old_imports_become_new_ones(old: str, wanted: str) -> None:
    assert new(old) == wanted
    compile(new(old), "new", "exec")


def test_formatting_comments_and_line_ends_stay() -> None:
    old = (
        "# first\r\n\r\nfrom capabilities.memory.base import (  # why\r\n    # before\r\n    MemoryEntry as Entry,  # ours\r\n\r\n"
        "    MemoryQuery\r\n    , # late\r\n)  # end\r\n\r\n\r\nx   =  [ 1,2 ]\r\n"
    )
    assert new(old) == old.replace("capabilities.memory.base", "memory.compat")
    latin = "# -*- coding: latin-1 -*-\nfrom capabilities.memory import MemoryType  # \xe9t\xe9\n".encode("latin-1")
    assert rewrite(latin).source == latin.replace(b"capabilities.memory", b"memory.compat")


@pytest.mark.parametrize(
    "source",
    [
        "from capabilities.tools import memory\n",
        "import capabilities.tools.memory\ncapabilities.tools.memory.base.MemoryType\n",
        "from memory import MemoryItem\nfrom memory.compat import MemoryType\n",
        "from other.capabilities.memory import base\n",
        '"""About capabilities.memory and its base."""\n# from capabilities.memory import x\n',
        "memory.base.MemoryType\nself.capabilities.memory.base.MemoryType\n",
    ],
)
def test_what_is_not_old_is_left_alone(source: str) -> None:
    assert new(source) == source


@pytest.mark.parametrize(
    ("source", "line", "why"),
    [
        ("\nmock.patch('capabilities.memory.storage.redis.RedisStorage')", 2, "a string names"),
        ("from ..memory.base import MemoryType", 1, "a relative import"),
        ("from .capabilities.memory.base import MemoryType", 1, "a relative import"),
        ("from capabilities.memory.base import Nothing", 1, "is none of the old names"),
        ("from capabilities.memory.deeper import MemoryType", 1, "is none of the old names"),
        ("import capabilities.memory.nothing", 1, "is none of the old names"),
        ("from capabilities.memory.nothing import *", 1, "is none of the old names"),
        ("x = capabilities.memory.base.MemoryType", 1, "imported by another file"),
        ("from capabilities import (\n    tools,  # a\n    memory,\n)", 1, "with comments between them"),
        ("a = 1; from capabilities import tools, memory", 1, "on a line with other statements"),
    ],
)
def test_what_a_person_must_decide_is_left_and_told(source: str, line: int, why: str) -> None:
    done = rewrite(source.encode())
    assert done.source == source.encode()
    assert [(note.line, why in note.text) for note in done.open] == [(line, True)]


def test_what_keeps_its_old_form_is_told_with_what_new_code_writes() -> None:
    done = rewrite(b"from capabilities.memory import MemoryManager, MemoryEntry\n")
    assert done.later == [
        Note(1, "MemoryManager: new code writes one memory.MemoryManager, with ttl= for what is kept for a short term")
    ]


def test_the_command_shows_first_and_writes_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, wanted = "from capabilities.memory import MemoryType\n", "from memory.compat import MemoryType\n"
    folder = tmp_path / "app"
    for name in ("a.py", "below/b.py", "c.pyi", ".hidden/d.py", "env/lib/e.py", "notes.txt", "__pycache__/f.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(old)
    (folder / "env" / "pyvenv.cfg").write_text("")
    (folder / "a.py").chmod(0o750)
    (folder / "link.py").symlink_to(folder / "a.py")
    (folder / "broken.py").write_text("from capabilities.memory import (\n")
    (folder / "asks.py").write_text("x = 'capabilities.memory.base'\n")
    assert main(["rewrite", str(folder)]) == 1
    shown = capsys.readouterr()
    assert shown.out.count(f"-{old}+{wanted}") == 3
    assert "3 files to rewrite (--write does it); 2 left to decide" in shown.err
    assert f"{folder}/broken.py: not rewritten: line" in shown.err
    assert f"{folder}/asks.py:1: a string names capabilities.memory.base" in shown.err
    assert (folder / "a.py").read_text() == old
    assert main(["rewrite", str(folder), str(folder / "a.py"), "--write"]) == 1
    done = capsys.readouterr()
    assert (done.out, "3 files rewritten" in done.err) == ("", True)
    changed = {path.name for path in folder.rglob("*.*") if path.is_file() and path.read_text() == wanted}
    assert changed == {"a.py", "link.py", "b.py", "c.pyi"}
    assert ((folder / "a.py").stat().st_mode & 0o777, (folder / "link.py").is_symlink()) == (0o750, True)
    assert main(["rewrite", str(folder / "a.py")]) == 0
    assert "0 files to rewrite (--write does it); nothing left to decide" in capsys.readouterr().err
    assert not list(folder.glob(".*.py.*"))


def test_a_folder_that_cannot_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "program" / "closed"
    closed.mkdir(parents=True)
    real = os.scandir

    def scandir(path: str | os.PathLike[str]) -> Any:
        if Path(path) == closed:  # these tests may run as root, whom no mode keeps out
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    for named in (closed, closed.parent):
        assert main(["rewrite", str(named)]) == 2
        assert f"{closed} cannot be read: Permission denied\n" in capsys.readouterr().err


def test_mistakes_end_with_a_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rewrite", str(tmp_path / "nothing")]) == 2
    assert "there is no" in capsys.readouterr().err
    code = "import sys; sys.modules['libcst'] = None; from memory.compat.__main__ import main; sys.exit(main())"
    told = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code, "rewrite", str(tmp_path)]
    done = subprocess.run(command, env=told, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "pip install 'agent-memory-backends[compat]'" in done.stderr) == (3, True)
