"""Connections: a few, handed out in order of asking, and never again after something broke off in one.

asyncpg's own pool resets a connection at each release, which costs a round trip and forgets what it was set to.
"""

from __future__ import annotations

import asyncio
import weakref
from array import array
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from memory.backends.postgres.faults import CONNECTION_ERRORS, translate
from memory.errors import Closed, Overloaded
from memory.store.transports import abandon

Connect = Callable[[], Awaitable[Any]]


class Pool:
    """At most ``size`` connections, made when they are needed; at most ``waiting`` callers in line for one."""

    def __init__(self, connect: Connect, size: int, waiting: int, shown: str) -> None:
        self._connect = connect
        self._size = size
        self._waiting_most = waiting
        self._shown = shown
        self._idle: list[Any] = []
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._closing: set[asyncio.Task[None]] = set()
        self.used = 0
        """Connections that are out or being made."""
        self.closed = False
        self._alive: set[Any] = set()
        weakref.finalize(self, _abandon, self._alive).atexit = False

    @property
    def idle(self) -> int:
        """Connections that wait for work."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Callers in line."""
        return len(self._waiting)

    def at_once(self) -> Any:
        """A connection if one is idle, else None."""
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():  # the server may have ended it meanwhile
                self.used += 1
                return connection
        return None

    async def acquire(self) -> Any:
        """A connection, for `release`. Raises Overloaded, Closed, and the typed error when none can be made."""
        if self.closed:
            raise Closed("the store is closed")
        connection = self.at_once()
        if connection is not None:
            return connection
        if self.used < self._size:
            return await self._made()
        if len(self._waiting) >= self._waiting_most:
            raise Overloaded(
                f"{self._waiting_most:,} operations wait for one of {self._size} connections to {self._shown}; nothing "
                "was done. Try again later, or raise 'pool'",
                address=self._shown,
            )
        turn: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            connection = await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._hand_on(turn.result())
            raise
        return connection if connection is not None else await self._made(counted=True)

    async def _made(self, *, counted: bool = False) -> Any:
        """A new connection in a free place; ``counted``: the place is ours already."""
        self.used += not counted
        try:
            connection = await self._connect()
        except CONNECTION_ERRORS as error:
            self._hand_on(None)
            raise translate(error, self._shown) from error
        except BaseException:
            self._hand_on(None)
            raise
        self._alive.add(connection)
        return connection

    def release(self, connection: Any, *, broken: bool = False) -> None:
        """Give a connection back. ``broken``: what was under way in it did not come to its end, so it is thrown away."""
        if broken or self.closed or connection.is_closed():
            connection.terminate()
            self._alive.discard(connection)
            self._hand_on(None)
        else:
            self._hand_on(connection)

    def _hand_on(self, connection: Any) -> None:
        """A place, with a connection in it or without, for the next in line or for later."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        self.used -= 1
        if connection is not None:
            self._idle.append(connection)

    async def close(self, patience: float) -> None:
        """Let go of every connection; those that are out end when they come back."""
        self.closed = True
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(Closed("the store is closed"))
        idle, self._idle = self._idle, []
        try:
            async with asyncio.timeout(patience):
                for connection in idle:
                    try:
                        await connection.close()
                    except CONNECTION_ERRORS:
                        pass  # gone already
        except TimeoutError:
            pass  # the server does not answer; terminated below
        finally:
            for connection in idle:
                connection.terminate()
                self._alive.discard(connection)


def _abandon(alive: set[Any]) -> None:
    """Close the sockets of connections whose loop ended before its store was closed: nobody else can any more."""
    for connection in alive:
        if abandon(connection._transport):
            connection._aborted = True  # else the driver complains


async def ready_for_vectors(connection: Any, schema: str) -> None:
    """Let a connection read and write pgvector's type as the bytes of float32, little-endian."""
    await connection.set_type_codec("vector", schema=schema, encoder=_to_wire, decoder=_from_wire, format="binary")


def _to_wire(vector: bytes) -> bytes:
    numbers = array("f", vector)
    numbers.byteswap()
    return len(numbers).to_bytes(2, "big") + b"\0\0" + numbers.tobytes()


def _from_wire(sent: bytes) -> bytes:
    numbers = array("f", sent[4:])
    numbers.byteswap()
    return numbers.tobytes()
