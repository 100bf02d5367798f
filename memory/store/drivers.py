"""What is told when a backend's driver is not installed: the same words whether the backend is chosen or imported."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

DISTRIBUTION = "agent-memory-backends"
_DISTRIBUTIONS = {"google": "google-cloud-firestore", "grpc": "google-cloud-firestore", "faiss": "faiss-cpu"}
"""Module -> what it is installed as, where that is another name."""


def not_installed(backend: str, module: str, extra: str | None) -> tuple[str, str]:
    """The message for a module that a backend of ours needs, and the command in it that installs it."""
    command = f"pip install '{DISTRIBUTION}[{extra}]'" if extra else f"pip install '{DISTRIBUTION}'"
    missing = _DISTRIBUTIONS.get(module.partition(".")[0], module)
    return f"the backend {backend!r} needs {missing!r}, which is not installed: {command}", command


@contextlib.contextmanager
def driver(backend: str, extra: str) -> Iterator[None]:
    """Around a backend's imports. The error stays a ModuleNotFoundError, as a program expects that tries an import."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "memory":
            raise  # a mistake of ours
        raise ModuleNotFoundError(not_installed(backend, error.name, extra)[0], name=error.name) from None
