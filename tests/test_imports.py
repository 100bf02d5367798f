"""What importing costs: nothing heavy comes with a name that does not need it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    *("numpy", "pydantic", "pydantic_settings", "typer", "rich", "structlog", "apsw", "Stemmer", "sortedcontainers"),
    *("httpx", "torch", "importlib.metadata"),
}


def imported(code: str) -> set[str]:
    """The heavy modules that are loaded after the code has run in a new interpreter."""
    ask = f"import json, sys\n{code}\nprint(json.dumps([name for name in {sorted(HEAVY)!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import memory; assert 'msgspec' not in sys.modules and 'asyncio' not in sys.modules",
        "from memory import MemoryManager",
        "from memory import F, MemoryItem, MemoryStore, create_store; MemoryItem(content='x').searchable",
        "import memory.cli",
        "from memory.telemetry import get_logger; get_logger('x').warning('nobody listens')",
    ],
)
def test_what_needs_nothing_heavy_imports_nothing_heavy(code: str) -> None:
    assert imported(code) == set()


def test_a_manager_imports_settings_and_the_backend_it_opens_and_no_more() -> None:
    code = "from memory import MemoryManager\nwith MemoryManager('in_memory') as m: m.add_sync('x'); m.history_sync()"
    assert imported(code) <= {
        "pydantic",
        "pydantic_settings",
        "sortedcontainers",
        "importlib.metadata",
        "numpy",
    }  # vectors


def test_the_help_of_the_command_imports_no_engine() -> None:
    code = "from memory.cli.app import run\nassert run(['--help']) == 0 and run(['search', '--help']) == 0"
    assert imported(code) <= {"typer", "rich", "pydantic", "importlib.metadata"}


def test_every_public_name_can_be_imported_and_says_what_it_is() -> None:
    import memory

    for name in memory.__all__:
        assert getattr(memory, name) is not None
        assert name in dir(memory)
        assert name == "__version__" or getattr(memory, name).__doc__
    with pytest.raises(AttributeError, match="colour"):
        memory.colour  # type: ignore[attr-defined]  # noqa: B018
