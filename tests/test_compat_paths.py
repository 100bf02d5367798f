"""The old import paths: found where nothing else is, seen through in every way that a program may import, taken away again.

Each test is a program of its own, in a process of its own, with its own tree of modules.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
INSTALLED = "import memory.compat\nmemory.compat.install()\n"


def run(code: str, place: Path, *options: str, installed: bool = True) -> subprocess.CompletedProcess[str]:
    """A program in a folder, which is on its path."""
    told = {name: value for name, value in os.environ.items() if not name.startswith("MEMORY_")}
    told |= {"PYTHONPATH": f"{place}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    program = place / "program.py"
    program.write_text((INSTALLED if installed else "") + textwrap.dedent(code))
    return subprocess.run(
        [sys.executable, *(options or ("-W", "ignore::DeprecationWarning")), str(program)],
        cwd=place,
        env=told,
        capture_output=True,
        text=True,
        timeout=60,
    )


def passes(code: str, place: Path, *options: str, installed: bool = True) -> str:
    done = run(code, place, *options, installed=installed)
    assert done.returncode == 0, done.stderr
    return done.stdout


def tree(place: Path, files: dict[str, str]) -> None:
    """Modules of a real package: path -> source."""
    for name, code in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)


ALL_WAYS = """
    import importlib, importlib.util, sys
    import capabilities.memory.storage.postgres
    import capabilities.memory.base as base
    from capabilities import memory as whole
    from capabilities.memory import base as again, storage
    from capabilities.memory.storage import redis, config as settings
    from capabilities.memory.base import MemoryEntry as Entry, MemoryType
    from capabilities.memory.exceptions import *
    from pepperpy.capabilities.memory.base import MemoryType as Other
    import memory.compat

    assert capabilities.memory is whole is sys.modules["capabilities.memory"]
    assert base is again is whole.base is importlib.import_module("capabilities.memory.base")
    assert importlib.import_module(".base", "capabilities.memory") is base
    assert Entry is base.MemoryEntry is whole.MemoryEntry is memory.compat.MemoryEntry
    assert MemoryType is Other is memory.compat.MemoryType
    assert MemoryError is memory.compat.MemoryError and MemoryCleanupError is memory.compat.MemoryCleanupError
    assert storage.postgres.PostgresStorage is capabilities.memory.PostgresStorage is storage.PostgresStorage
    assert issubclass(storage.postgres.PostgresStorage, memory.compat.PostgresStorage)
    assert redis.RedisStorage is whole.RedisStorage and settings.PostgresConfig is whole.config.PostgresConfig

    spec = importlib.util.find_spec("capabilities.memory.manager")
    assert (spec.name, spec.parent, spec.submodule_search_locations) == ("capabilities.memory.manager", "capabilities.memory", None)
    assert base.__spec__.name == base.__name__ == "capabilities.memory.base" and base.__package__ == "capabilities.memory"
    assert whole.__path__ == [] and whole.__package__ == "capabilities.memory" and storage.__path__ == []
    assert not hasattr(base, "__path__") and base.__doc__.startswith("The old")

    entry = base.MemoryEntry
    assert importlib.reload(base) is base and base.MemoryEntry is entry
    assert set(dir(base)) >= {"MemoryEntry", "BaseMemory"} and "MemoryManager" not in dir(base)
    for wrong in ("capabilities.memory.nothing", "capabilities.tools", "pepperpy.hub", "capabilities.memory.base.deeper"):
        try:
            importlib.import_module(wrong)
        except ModuleNotFoundError:
            pass
        else:
            raise AssertionError(wrong)
    try:
        from capabilities.memory.base import MemoryManager
    except ImportError as error:
        assert "MemoryManager" in str(error)
    else:
        raise AssertionError("a name of another module")
    assert not hasattr(base, "MemoryManager")
"""


@pytest.mark.parametrize("kind", ["absent", "regular", "namespace"])
def test_every_way_of_importing_works_beside_whatever_package_is_there(kind: str, tmp_path: Path) -> None:
    code = ALL_WAYS
    if kind != "absent":
        tree(tmp_path, {"capabilities/web.py": "PAGE = 1\n", "pepperpy/core.py": "CORE = 1\n"})
        code += "\n    import capabilities.web, pepperpy.core\n    assert capabilities.web.PAGE == pepperpy.core.CORE == 1\n"
    if kind == "regular":
        tree(tmp_path, {"capabilities/__init__.py": "OWN = 1\n", "pepperpy/__init__.py": ""})
        code += "\n    assert capabilities.OWN == 1\n"
    passes(code, tmp_path)


def test_a_real_module_wins_and_the_rest_is_found_beside_it(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {
            "capabilities/__init__.py": "",
            "capabilities/memory/__init__.py": "from capabilities.memory.base import MemoryType\n",
            "capabilities/memory/base.py": "class MemoryType: real = True\n",
        },
    )
    passes(
        """
        from capabilities.memory import MemoryType
        from capabilities.memory.base import MemoryType as same
        from capabilities.memory.manager import MemoryManager
        from pepperpy.capabilities.memory.base import MemoryType as other
        import capabilities.memory, memory.compat
        assert MemoryType is same and MemoryType.real and not hasattr(capabilities.memory, "MemoryEntry")
        assert issubclass(MemoryManager, memory.compat.MemoryManager) and other is memory.compat.MemoryType
        """,
        tmp_path,
    )


def test_nothing_is_touched_before_and_everything_is_taken_away_after(tmp_path: Path) -> None:
    tree(tmp_path, {"capabilities/__init__.py": ""})
    passes(
        """
        import sys
        finders, names = list(sys.meta_path), set(sys.modules)
        import memory, memory.compat
        assert sys.meta_path == finders
        assert not [name for name in sys.modules if name.startswith(("capabilities", "pepperpy"))]

        def missing():
            try:
                import capabilities.memory.base
            except ModuleNotFoundError:
                return True
            return False

        assert missing()
        for _ in range(2):
            memory.compat.install(), memory.compat.install()
            assert len(sys.meta_path) == len(finders) + 1
            import capabilities.memory.storage.redis, pepperpy.capabilities.memory
            held = capabilities.memory.storage.redis
            memory.compat.uninstall(), memory.compat.uninstall()
            assert sys.meta_path == finders and not hasattr(capabilities, "memory") and missing()
            assert [name for name in sys.modules if name.startswith(("capabilities", "pepperpy"))] == ["capabilities"]
            assert held.RedisStorage.__name__ == "RedisStorage"  # who holds a module keeps it
        """,
        tmp_path,
        installed=False,
    )


def test_many_threads_import_at_once(tmp_path: Path) -> None:
    passes(
        """
        import importlib, sys, threading
        sys.setswitchinterval(1e-6)
        names = ["base", "manager", "factory", "config", "exceptions", "storage.postgres", "storage.redis", "storage"]
        seen, start = [], threading.Barrier(16)

        def work(number):
            start.wait()
            for name in names[number % 8:] + names[:number % 8]:
                memory.compat.install()
                root = ("pepperpy." if number % 2 else "") + "capabilities.memory."
                module = importlib.import_module(root + name)
                assert module is sys.modules[root + name]
                seen.append((name, *(id(getattr(module, one)) for one in module.__all__)))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        [thread.start() for thread in threads], [thread.join() for thread in threads]
        assert len(seen) == 128 and len(set(seen)) == 8, set(seen)
        assert len([one for one in sys.meta_path if type(one).__name__ == "OldPaths"]) == 1
        """,
        tmp_path,
    )


def test_one_line_in_an_old_tree_stands_for_its_modules(tmp_path: Path) -> None:
    line = "from memory.compat.in_place import *\n"
    old = {"capabilities/__init__.py": "", "capabilities/memory/__init__.py": line, "capabilities/memory/base.py": line}
    tree(tmp_path, old)
    done = run(
        """
        from capabilities.memory import MemoryEntry
        from capabilities.memory.base import MemoryType
        from capabilities.memory.storage.redis import RedisStorage
        import capabilities.memory, memory.compat
        assert (MemoryEntry, MemoryType) == (memory.compat.MemoryEntry, memory.compat.MemoryType)
        assert issubclass(RedisStorage, memory.compat.RedisStorage)
        assert capabilities.memory.__file__ and not hasattr(capabilities.memory, "nothing")
        """,
        tmp_path,
        *("-W", "default"),
        installed=False,
    )
    assert done.returncode == 0, done.stderr
    assert [f"program.py:{line}: DeprecationWarning" in done.stderr for line in (1, 2, 3, 4, 5)] == [
        False,
        *[True] * 3,
        False,
    ]


def test_each_line_warns_once_and_again_when_it_was_made_an_error(tmp_path: Path) -> None:
    done = run(
        """
        import warnings
        from capabilities.memory.base import (
            MemoryType,
            MemoryScope as Scope,
        )
        import capabilities.memory.config
        import capabilities.memory.config as again
        import importlib
        importlib.import_module("capabilities.memory.config")
        for _ in range(3):
            capabilities.memory.config.RedisConfig(port=1)
            from capabilities.memory import manager
        kinds = [capabilities.memory.config.StoreType for _ in range(3)]
        warnings.simplefilter("error", DeprecationWarning)
        raised = 0
        for _ in range(2):
            try:
                from capabilities.memory.base import MemoryIndex
            except DeprecationWarning as error:
                raised += 1
                assert str(error) == (
                    "capabilities.memory.base is deprecated; write: from memory.compat import MemoryIndex"
                )
        print(raised)
        """,
        tmp_path,
        *("-W", "always::DeprecationWarning"),
    )
    assert (done.returncode, done.stdout) == (0, "2\n"), done.stderr
    told = [line.partition("program.py:")[2] for line in done.stderr.splitlines() if "Warning: " in line]
    old, is_old = "capabilities.memory", "is deprecated; write:"
    again = f"{old}.config {is_old} import memory.compat"
    assert told == [
        f"5: DeprecationWarning: {old}.base {is_old} from memory.compat import MemoryType, MemoryScope",
        *(f"{line}: DeprecationWarning: {again}" for line in (9, 10, 12)),
        f"14: DeprecationWarning: {old}.config.RedisConfig {is_old} memory.compat.RedisConfig",
        f"15: DeprecationWarning: {old}.manager {is_old} from memory import compat as manager",
        f"16: DeprecationWarning: {old}.config.StoreType {is_old} memory.compat.StoreType",
    ]


def test_this_library_and_the_new_names_do_not_warn(tmp_path: Path) -> None:
    code = """
        import asyncio
        from memory.compat import InMemoryStorage, MemoryManager, MemoryQuery, RedisConfig, install

        async def main():
            RedisConfig()
            manager = MemoryManager(InMemoryStorage())
            await manager.start()
            await manager.store("a", {"content": "a nut"})
            assert [one.entry.key async for one in manager.search(MemoryQuery(query="nut"))] == ["a"]
            await manager.stop()

        asyncio.run(main())
    """
    passes(code, tmp_path, "-W", "error")


def test_a_class_of_the_program_s_own_may_stand_on_an_old_one(tmp_path: Path) -> None:
    passes(
        """
        import asyncio
        from typing import Any
        from capabilities.memory.storage.inmemory import InMemoryStorage
        from capabilities.memory.base import BaseMemory, BaseMemoryStore
        import memory.compat

        class Counting(InMemoryStorage[str, dict]):
            def __init__(self):
                super().__init__()
                self.stored = 0

            async def store(self, *args, **more):
                self.stored += 1
                return await super().store(*args, **more)

        class Own(BaseMemoryStore[dict[str, Any]]):
            store = retrieve = delete = search = similar = cleanup_expired = None

        async def main():
            storage = Counting()
            await storage.start()
            await storage.store("a", {})
            assert storage.stored == 1 and isinstance(storage, (BaseMemory, memory.compat.InMemoryStorage))
            await storage.stop()
            own = Own()
            await own.start(), await own.stop()
            assert await own.reindex() == 0

        asyncio.run(main())
        """,
        tmp_path,
    )
