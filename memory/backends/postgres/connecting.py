"""Makes connections: to an address, or lent by an engine of the user's, with what must hold in each."""

from __future__ import annotations

from typing import Any

import asyncpg

from memory.backends.postgres.address import Address
from memory.backends.postgres.nearest import EF_SEARCH
from memory.backends.postgres.pool import ready_for_vectors


class Connecting:
    """How this store's connections are made. ``vector``, once known: the schema of pgvector's type."""

    def __init__(self, address: Address, *, timeout: float, pgbouncer: bool) -> None:
        self.address = address
        self.timeout = timeout
        self.pgbouncer = pgbouncer
        self.vector: str | None = None

    @property
    def patience(self) -> int:
        """Milliseconds to wait for another's lock: the server gives up before we do, so the outcome is known."""
        return max(1, round(self.timeout * 800))

    def settings(self) -> dict[str, str]:
        """What connections are set to; behind PgBouncer nothing, as it shares them."""
        if self.pgbouncer:
            return {}
        return {
            "application_name": "agent-memory",
            "lock_timeout": str(self.patience),
            "jit": "off",
            "hnsw.iterative_scan": "strict_order",
            "hnsw.ef_search": str(EF_SEARCH),
        }

    async def connect(self) -> Any:
        """A new connection of asyncpg's."""
        connection = await (self._dial() if self.address.engine is None else self._lend())
        try:
            await self.attune(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def attune(self, connection: Any) -> None:
        """Let a connection speak pgvector's type, where it is known."""
        if self.vector is None:
            return
        if self.pgbouncer:
            async with connection.transaction():
                await ready_for_vectors(connection, self.vector)
        else:
            await ready_for_vectors(connection, self.vector)

    async def _dial(self) -> Any:
        return await asyncpg.connect(
            **self.address.connect_arguments(),
            timeout=self.timeout,  # pyright: ignore[reportArgumentType] - whole seconds only, says the driver; it takes any
            statement_cache_size=0 if self.pgbouncer else 512,
            max_cached_statement_lifetime=0,
            server_settings=self.settings(),
        )

    async def _lend(self) -> Any:
        """One of the engine's connections, which from now on is ours: its pool makes another in its place."""
        from sqlalchemy.exc import DBAPIError

        assert self.address.engine is not None
        try:
            lent = await self.address.engine.raw_connection()
        except DBAPIError as error:
            raise (getattr(error.orig, "__cause__", None) or error.orig or error) from error
        connection: Any = lent.driver_connection
        lent.detach()
        try:
            for name, value in self.settings().items():
                await connection.execute("SELECT set_config($1, $2, false)", name, value)
        except BaseException:
            connection.terminate()
            raise
        return connection
