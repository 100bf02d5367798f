"""Where the servers are: an address, or a client of the driver's that somebody else owns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from memory.errors import InvalidSetting

try:
    from redis.driver_info import DriverInfo

    _WHO: dict[str, Any] = {"driver_info": DriverInfo()}
except ImportError:  # before redis-py 8
    _WHO = {"lib_version": redis.__version__}
"""Who the server is told connects. Made once: left to each connection, the driver looks for its version on the disk."""

SCHEMES = ("redis", "rediss", "redis+cluster", "rediss+cluster")
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
OPTIONS = {scheme: _TLS if scheme.startswith("rediss") else () for scheme in SCHEMES}
"""Scheme -> what the query of an address may say."""
# Of a foreign client only what says where and as whom; how to wait and to retry is ours.
_FOREIGN = (
    *("host", "port", "path", "db", "username", "password", "credential_provider", "client_name"),
    *("socket_keepalive", "socket_keepalive_options", "socket_type"),
)


class Address:
    """The first server, as whom, and how. ``place`` names it without its password."""

    def __init__(self, kind: type[Any], options: dict[str, Any], *, cluster: bool) -> None:
        self._kind, self._options, self.cluster = kind, options, cluster
        self.host: str = options.get("host", "localhost")
        self.port: int = options.get("port", 6379)

    @property
    def place(self) -> str:
        """For messages: host and port, or the path of a socket."""
        return str(self._options.get("path") or self.at(self.host, self.port))

    @property
    def url(self) -> str | None:
        """The address with ``***`` for the password; None for a socket of this machine."""
        options = self._options
        if "path" in options:
            return None
        scheme = ("rediss" if issubclass(self._kind, SSLConnection) else "redis") + ("+cluster" if self.cluster else "")
        secret = ":***" if options.get("password") else ""
        user = f"{quote(options.get('username') or '', safe='')}{secret}"
        database = f"/{options['db']}" if options.get("db") else ""
        tls = urlencode({name: options[name] for name in _TLS if name in options})
        return f"{scheme}://{user}{'@' if user else ''}{self.place}{database}{'?' if tls else ''}{tls}"

    @staticmethod
    def at(host: str, port: int) -> str:
        """One server's name."""
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def maker(self, host: str | None = None, port: int | None = None) -> Callable[[], Any]:
        """What makes connections to this server, or to another one of its cluster."""
        options = dict(self._options)
        if host is not None:
            options |= {"host": host, "port": port}

        def make() -> Any:
            return self._kind(
                **options, **_WHO, retry=Retry(NoBackoff(), 0), protocol=2, decode_responses=False, socket_timeout=None
            )

        return make


def from_url(url: str) -> Address:
    """``redis://user:password@host:port/db``, ``rediss://`` (TLS), ``redis+cluster://``, ``rediss+cluster://``; a query
    gives TLS options. Raises InvalidSetting."""
    try:
        parts = urlsplit(url)
        port = parts.port
        pairs = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError:
        raise InvalidSetting(
            "the address of Redis is malformed: redis://user:password@host:port/db", setting="url"
        ) from None
    if parts.scheme not in SCHEMES:
        raise InvalidSetting(
            f"the address of Redis begins with {', '.join(f'{one}://' for one in SCHEMES)}, not {parts.scheme}://",
            setting="url",
        )
    tls, cluster = parts.scheme.startswith("rediss"), parts.scheme.endswith("+cluster")
    options: dict[str, Any] = {"host": parts.hostname or "localhost", "port": port or 6379}
    if parts.username:
        options["username"] = unquote(parts.username)
    if parts.password is not None:
        options["password"] = unquote(parts.password)
    database = parts.path.strip("/")
    if database:
        if not database.isdecimal() or cluster:
            raise InvalidSetting(
                "the path of a Redis address is the number of its database, and a cluster has none", setting="url"
            )
        options["db"] = int(database)
    for name, value in pairs.items():
        if name not in _TLS or not tls:
            known = ", ".join(_TLS)
            raise InvalidSetting(f"a Redis address has no option {name!r}; rediss:// has {known}", setting=name)
        options[name] = value.lower() in ("true", "1", "yes", "on") if name == "ssl_check_hostname" else value
    return Address(SSLConnection if tls else Connection, options, cluster=cluster)


def from_client(client: Any) -> Address:
    """Servers as a client of redis-py (``redis.asyncio.Redis`` or ``RedisCluster``) reaches them. It is not used itself,
    so neither its pool nor its settings for answers matter, and it is never closed. Raises InvalidSetting."""
    nodes = getattr(client, "nodes_manager", None)
    if nodes is not None:
        given = dict(nodes.connection_kwargs)
        first = next(iter(nodes.startup_nodes.values()))
        given |= {"host": first.host, "port": first.port}
        kind: type[Any] = SSLConnection if given.pop("ssl", False) else Connection
        kind = given.pop("connection_class", kind)
        return Address(kind, _own(given), cluster=True)
    pool = getattr(client, "connection_pool", None)
    if pool is None:
        raise InvalidSetting("client must be a redis.asyncio.Redis or RedisCluster", setting="client")
    kind = pool.connection_class
    if not issubclass(kind, Connection | UnixDomainSocketConnection):
        raise InvalidSetting("client must be an asynchronous one: redis.asyncio.Redis", setting="client")
    return Address(kind, _own(dict(pool.connection_kwargs)), cluster=False)


def _own(given: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in given.items()
        if (name in _FOREIGN or name.startswith("ssl_")) and value is not None
    }
