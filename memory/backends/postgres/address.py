"""Where the server is: a URL as SQLAlchemy reads it, or an engine that the user made, and how asyncpg gets there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.util import immutabledict

from memory.errors import InvalidSetting

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_DRIVERS = ("postgresql", "postgres", "postgresql+asyncpg")
_PASSED_ON = (
    *("ssl", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslnegotiation"),
    *("passfile", "service", "servicefile", "target_session_attrs", "host", "port", "krbsrvname", "gsslib"),
)
"""Parts of a URL's query that asyncpg knows."""
OPTIONS: dict[str, tuple[str, ...]] = dict.fromkeys(_DRIVERS, _PASSED_ON)
"""Scheme -> what the query of an address may say."""
_NO_QUERY: immutabledict[str, Any] = immutabledict()


class Address:
    """A server and database. ``shown`` is the address without its password."""

    def __init__(self, url: str | URL | None, engine: AsyncEngine | None) -> None:
        if engine is not None:
            url = engine.url
        if not url:
            raise InvalidSetting(
                "say where the Postgres server is: url='postgresql://user:password@host/database', or MEMORY_POSTGRES_DSN",
                setting="url",
            )
        self.engine = engine
        try:
            made = make_url(url)
        except (ArgumentError, ValueError):
            raise InvalidSetting(
                "the address of the Postgres server cannot be understood; write "
                "postgresql://user:password@host:5432/database, special characters percent-encoded",
                setting="url",
            ) from None
        if made.drivername not in _DRIVERS:
            raise InvalidSetting(
                f"{made.drivername}:// is no address of a Postgres server; write postgresql://user@host/database",
                setting="url",
            )
        for name in made.query:
            if name not in _PASSED_ON:
                raise InvalidSetting(
                    f"the address of the Postgres server has an unknown option {name!r}; of the connection it may "
                    f"say: {', '.join(sorted(_PASSED_ON))}",
                    setting=name,
                )
        self.url = made.set(drivername="postgresql")
        self.shown = made._replace(drivername="postgresql", password=None, query=_NO_QUERY).render_as_string()

    def location(self, schema: str, prefix: str) -> str:
        """The address of a store, ``***`` for the password."""
        named = {"schema": schema, "prefix": prefix} if prefix else {"schema": schema}
        return self.url.update_query_dict(named).render_as_string(hide_password=True)

    def connect_arguments(self) -> dict[str, Any]:
        """What asyncpg.connect takes. ``ssl`` is asyncpg's sslmode: libpq's rules."""
        query = {("sslmode" if name == "ssl" else name): value for name, value in self.url.query.items()}
        return {"dsn": self.url.set(query=query).render_as_string(hide_password=False)}
