"""The Firestore emulator of the Google Cloud SDK, which needs Java."""

from __future__ import annotations

import os
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

from memory.testing.services.process import Existing, Process, Service, ServiceMissing, free_port

_JAR = Path("platform/cloud-firestore-emulator/cloud-firestore-emulator.jar")
_MAIN = "com.google.cloud.datastore.emulator.firestore.CloudFirestore"


class Firestore(Process):
    """One emulator. Nothing is on disk: killed and started again it is empty. ``url`` is its host and port."""

    def __init__(self, java: str, jar: Path, directory: Path) -> None:
        port = free_port()
        command = [java, "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Duser.language=en"]
        command += ["-cp", str(jar), _MAIN, "--host=127.0.0.1", f"--port={port}"]
        super().__init__(command, directory, port, ready=lambda: _answers(f"127.0.0.1:{port}"))
        self.url = f"127.0.0.1:{port}"


@contextmanager
def firestore() -> Iterator[Service]:
    """The emulator, or the one in FIRESTORE_EMULATOR_HOST. Raises ServiceMissing.

    A random project for each test keeps tests apart. A client finds the emulator by FIRESTORE_EMULATOR_HOST.
    """
    named = os.environ.get("FIRESTORE_EMULATOR_HOST")
    if named:
        with Existing(named, lambda: _answers(named)) as server:
            yield server
        return
    java, jar = shutil.which("java"), _emulator()
    if java is None or jar is None:
        raise ServiceMissing(
            "the Firestore emulator is missing: install the Google Cloud SDK, its component "
            "cloud-firestore-emulator, and Java 17 or newer"
        )
    with (
        tempfile.TemporaryDirectory(prefix="memory-firestore-", ignore_cleanup_errors=True) as directory,
        Firestore(java, jar, Path(directory)) as server,
    ):
        yield server


def _emulator() -> Path | None:
    """The emulator under the root of the Cloud SDK, which is where its program lies."""
    program = shutil.which("gcloud")
    if program is None:
        return None
    jar = Path(program).resolve().parent.parent / _JAR
    return jar if jar.exists() else None


def _answers(place: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{place}/", timeout=1) as reply:
            return bool(reply.read(16).startswith(b"Ok"))
    except (URLError, OSError):
        return False
