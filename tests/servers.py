"""The servers of this run: each started when a test first asks for it, all stopped when the run ends."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

import pytest

from memory.testing import services

running = ExitStack()
_started: dict[str, Any] = {}
_missing: dict[str, str] = {}


def server(name: str) -> Any:
    """The server of this name (a function of memory.testing.services); ``pgbouncer`` is before ``postgres_plain``.

    One that this machine does not have skips the test with what to install; in CI it fails.
    """
    if name not in _started and name not in _missing:
        start = getattr(services, name)
        try:
            made = start(server("postgres_plain")) if name == "pgbouncer" else start()
            _started[name] = running.enter_context(made)
        except services.ServiceMissing as error:
            _missing[name] = str(error)
    if name in _missing:
        missing(_missing[name])
    return _started[name]


def missing(what: str) -> None:
    """Skip the test that needs what this machine lacks; fail it in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)
