"""Statements on pooled connections: the deadline, a connection that is thrown away when something broke off, errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from memory.backends.postgres.faults import CALL_ERRORS, is_lost, translate
from memory.backends.postgres.names import Names
from memory.backends.postgres.pool import Pool
from memory.errors import DeadlineExceeded, MemoryStoreError

T = TypeVar("T")
GRACE_SECONDS = 0.2
"""How long a read may go on after its caller was cancelled."""


class Unsure(Exception):
    """A statement was sent and its outcome is unknown, because of the cause."""


class Caller:
    """Runs statements for a store. ``pinned``: behind PgBouncer, where only a transaction stays on one connection."""

    def __init__(self, pool: Pool, names: Names, *, timeout: float, pinned: bool, shown: str) -> None:
        self.pool = pool
        self.names = names
        self.timeout = timeout
        self.pinned = pinned
        self.shown = shown
        self._filled: dict[str, str] = {}
        self._tasks: set[asyncio.Task[list[Any]]] = set()

    def fill(self, template: str) -> str:
        """The statement of a template; remembered, as there are few."""
        filled = self._filled.get(template)
        if filled is None:
            if len(self._filled) >= 2_000:
                self._filled.clear()
            filled = self._filled[template] = self.names.fill(template)
        return filled

    async def fetch(
        self, template: str, values: Sequence[Any], before: str | None = None, since: float | None = None
    ) -> list[Any]:
        """The rows of a statement that reads. Once more on another connection where the first was lost.

        ``before``: settings for it, where connections cannot be opened with them. ``since``: see ``read``.
        """
        statement = self.fill(template)
        if before is None or not self.pinned:
            found: list[Any] = await self.read(lambda connection: connection.fetch(statement, *values), since)
            return found

        async def prepared(connection: Any) -> list[Any]:
            await connection.execute(before)
            return list(await connection.fetch(statement, *values))

        return await self.read(prepared, since)

    async def fetch_apart(self, template: str, values: Sequence[Any], before: str | None = None) -> list[Any]:
        """As fetch, in a task of its own: a caller who is cancelled leaves it a moment to end, and the connection lives."""
        task = asyncio.get_running_loop().create_task(self.fetch(template, values, before))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                asyncio.get_running_loop().call_later(GRACE_SECONDS, task.cancel)
            raise

    async def finish(self) -> None:
        """Wait for reads whose callers have left."""
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def read(self, call: Callable[[Any], Awaitable[T]], since: float | None = None) -> T:
        """The answer of a call that only reads. ``since``: the loop's time from when the deadline counts, if not from now.

        Raises DeadlineExceeded, BackendUnavailable...
        """
        if since is None:
            since = asyncio.get_running_loop().time()
        for again in (True, False):
            try:
                return await self._run(call, since)
            except Unsure as unsure:
                cause = unsure.__cause__
                if cause is None or isinstance(cause, TimeoutError):
                    raise self._late() from None
                if not again:
                    raise translate(cause, self.shown) from cause
            except CALL_ERRORS as error:
                raise translate(error, self.shown) from error
        raise AssertionError("unreachable")

    async def write(self, call: Callable[[Any], Awaitable[T]], since: float | None = None) -> T:
        """The answer of a call that writes. Raises Unsure once it was sent, asyncpg's errors where nothing was done."""
        return await self._run(call, asyncio.get_running_loop().time() if since is None else since)

    async def _run(self, call: Callable[[Any], Awaitable[T]], since: float) -> T:
        loop = asyncio.get_running_loop()
        when = since + self.timeout
        if when <= loop.time():
            raise self._late()  # nothing is sent that nobody could wait for
        connection = self.pool.at_once() or await self._waited_for(when)
        # It ends the connection, so that the call fails: asyncio.timeout takes longer, of every call.
        deadline = loop.call_at(when, connection.terminate)
        try:
            answer = await (self._in_transaction(connection, call) if self.pinned else call(connection))
        except Exception as error:  # on a connection that was ended between two steps the driver may raise anything
            lost = is_lost(error) or connection.is_closed()
            self.pool.release(connection, broken=lost or not isinstance(error, CALL_ERRORS))
            if lost:
                raise Unsure from (TimeoutError() if loop.time() >= when else error)
            raise
        except BaseException:
            self.pool.release(connection, broken=True)
            raise
        finally:
            deadline.cancel()
        self.pool.release(connection)
        return answer

    async def _waited_for(self, when: float) -> Any:
        """A connection, once one is free. Raises DeadlineExceeded, Overloaded, BackendUnavailable..."""
        try:
            async with asyncio.timeout_at(when):
                return await self.pool.acquire()
        except TimeoutError:
            raise DeadlineExceeded(
                f"no connection to {self.shown} became free within {self.timeout:g} s; nothing was done. Try again "
                "later, or raise 'pool' or 'timeout'",
                address=self.shown,
            ) from None

    async def _in_transaction(self, connection: Any, call: Callable[[Any], Awaitable[T]]) -> T:
        transaction = connection.transaction()
        await transaction.start()
        try:
            answer = await call(connection)
        except CALL_ERRORS as error:
            if not is_lost(error):
                await transaction.rollback()
            raise
        await transaction.commit()
        return answer

    @asynccontextmanager
    async def transaction(self, *, isolation: str | None = None, readonly: bool = False) -> AsyncIterator[Any]:
        """A connection within one transaction, for what takes several statements. They have no deadline, as some take
        minutes, but those that the caller gives one (asyncpg's ``timeout``)."""
        connection: Any = None
        clean = False
        try:
            async with asyncio.timeout(self.timeout):
                connection = await self.pool.acquire()
                transaction = connection.transaction(isolation=isolation, readonly=readonly)
                await transaction.start()
            try:
                yield connection
            except BaseException as error:
                # Never where the server may be silent, and a ROLLBACK would wait for it: closing undoes as well.
                if isinstance(error, (MemoryStoreError, *CALL_ERRORS)) and not is_lost(error):
                    async with asyncio.timeout(self.timeout):
                        await transaction.rollback()
                    clean = True
                raise
            await transaction.commit()
            clean = True
        except TimeoutError:
            raise self._late() from None
        except CALL_ERRORS as error:
            raise translate(error, self.shown) from error
        finally:
            if connection is not None:
                self.pool.release(connection, broken=not clean)

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"{self.shown} did not answer within {self.timeout:g} s; nothing was written", address=self.shown
        )
