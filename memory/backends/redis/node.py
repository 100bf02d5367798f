"""One server: its connections, the requests that wait for them, and what becomes of each.

A request that finds nothing under way leaves at once; else those of one turn of the loop leave together in one pipeline.
Each has its own deadline and its own outcome: a caller that gives up leaves its answer to be read and dropped, so no answer
ever reaches another caller, and a connection whose answers stay away is closed, never used again. The driver retries
nothing here.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any

from redis import exceptions

from memory.backends.redis.faults import LostError, translate
from memory.errors import BackendUnavailable, Closed, DeadlineExceeded, Overloaded
from memory.store.transports import abandon
from memory.turns import SLICE_SECONDS

PIPELINE = 256
"""Requests sent together at most."""
PIPELINE_BYTES = 1024 * 1024

ANSWERED = (exceptions.ResponseError, exceptions.BusyLoadingError, exceptions.AuthenticationError)
"""What the driver raises for an answer of the server, after which the connection is as good as before."""

Part = bytes | str | int


class Request:
    """One command and its answer to come."""

    __slots__ = ("answer", "asking", "deadline", "parts", "sent", "size")

    def __init__(self, parts: Sequence[Part], answer: asyncio.Future[Any], asking: bool, deadline: float) -> None:
        self.parts = parts
        self.deadline = deadline
        self.asking = asking
        self.answer = answer
        self.sent = False
        self.size = sum([len(part) for part in parts if isinstance(part, bytes)])


class Node:
    """A server. ``connect`` makes a connection of the driver, not connected yet."""

    def __init__(self, connect: Callable[[], Any], place: str, *, pool: int, waiting: int, timeout: float) -> None:
        self._make = connect
        self.place = place
        self._pool, self._most, self._timeout = pool, waiting, timeout
        self._queue: deque[Request] = deque()
        self._due: deque[Request] = deque()
        self._clock: asyncio.TimerHandle | None = None
        self._tick = min(0.05, timeout / 10)
        self._idle: list[Any] = []
        self._leftover = weakref.finalize(self, _release, self._idle)
        self._busy: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self._closed = False
        self.connects = 0

    @property
    def in_use(self) -> int:
        """Connections on which answers are awaited just now."""
        return len(self._busy)

    # --- callers -------------------------------------------------------------------------------

    async def call(self, *parts: Part, asking: bool = False) -> Any:
        """The answer of one command; an error that the server answered with is returned, not raised. ``asking``: the
        slot is on its way to this node of a cluster.

        Raises BackendUnavailable (never sent: no connection), Overloaded, DeadlineExceeded (never sent, in time), and
        LostError once it was sent.
        """
        return await self.send(parts, asking).answer

    def send(self, parts: Sequence[Part], asking: bool = False) -> Request:
        """Send or queue one command. Raises Overloaded, Closed."""
        if self._closed:
            raise Closed("this redis store is closed")
        if len(self._queue) >= self._most:
            raise Overloaded(
                f"{self._most} requests wait for Redis at {self.place} already; try again later, or raise pool="
            )
        loop = asyncio.get_running_loop()
        now = loop.time()
        request = Request(parts, loop.create_future(), asking, now + self._timeout)
        self._due.append(request)
        if self._clock is None:
            self._clock = loop.call_at(now + self._tick, self._look)
        connection = None if self._busy or self._queue or asking else self._reuse()
        if connection is None or not self._goes_out(connection, request):
            self._queue.append(request)
            self._dispatch()
        return request

    def _goes_out(self, connection: Any, request: Request) -> bool:
        """Whether it is sent at once: the server then works while the task is made that takes its answer."""
        try:
            connection._writer.write(pack(request.parts, request.asking))
        except (OSError, RuntimeError):  # some loops say only now that the connection is gone; nothing was sent
            connection._close()
            return False
        request.sent = True
        self._start(connection, request)
        return True

    def _look(self) -> None:
        """End the requests whose time is up. One timer for all: a timer for each costs as much as sending it."""
        loop = asyncio.get_running_loop()
        now, due = loop.time(), self._due
        while due and (due[0].answer.done() or due[0].deadline <= now):
            request = due.popleft()
            _fail(request, LostError(self.place, self._timeout) if request.sent else self._too_late())
        self._clock = loop.call_at(now + self._tick, self._look) if due else None

    def _too_late(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"Redis at {self.place} was not ready for a request within {self._timeout:g} s; nothing was sent",
            seconds=self._timeout,
        )

    def shut(self) -> None:
        """Take no more requests; connections that are in use close themselves once what was sent is answered."""
        self._closed = True
        for request in self._queue:
            _fail(request, Closed("this redis store is closed"))
        self._queue.clear()
        while self._idle:
            self._idle.pop()._close()

    async def close(self) -> None:
        """Let what was sent be answered, and close every connection."""
        self.shut()
        while self._busy:
            await asyncio.wait(self._busy)
        self._due.clear()
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def abandon(self) -> None:
        """The loop that owned the connections has ended: they went with it."""
        self._closed = True
        _release(self._idle)
        self._busy.clear()
        self._queue.clear()
        self._due.clear()
        self._clock = None

    # --- connections ---------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Let a free connection take what waits, at the end of this turn of the loop."""
        if not self._scheduled and len(self._busy) < self._pool:
            self._scheduled = True
            self._start()

    def _start(self, connection: Any = None, sent: Request | None = None) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(connection, sent))
        self._busy.add(task)
        task.add_done_callback(partial(self._served, connection))

    def _take(self) -> list[Request]:
        batch: list[Request] = []
        size = 0
        while self._queue and len(batch) < PIPELINE and size < PIPELINE_BYTES:
            request = self._queue.popleft()
            if not request.answer.done():
                batch.append(request)
                size += request.size
        return batch

    def _served(self, connection: Any, task: asyncio.Task[None]) -> None:
        self._busy.discard(task)
        if task.cancelled():
            self._scheduled = False  # it may have ended before it took anything
            if connection is not None:
                connection._close()
        else:
            task.exception()  # each request has been told
        if self._queue:
            self._dispatch()

    async def _serve(self, connection: Any, sent: Request | None) -> None:
        """Send what waits in a pipeline and read its answers; whatever happens, every request of it ends.

        ``sent``: what was sent already, on ``connection``.
        """
        task = asyncio.current_task()
        assert task is not None
        if sent is None:
            self._scheduled = False
            batch = self._take()
            if self._queue:
                self._dispatch()
        else:
            batch = [sent]
        try:
            connection = connection or self._reuse()
            while batch:
                if connection is None:
                    connection = await self._connect()
                await self._exchange(connection, batch)
                batch = [] if self._closed else self._take()
            if connection is None:
                return
            if self._closed:
                await _discard(connection)
            else:
                self._idle.append(connection)
                # Not only in `_served`: the caller that has its answer now goes on before that, and may ask again.
                self._busy.discard(task)
        except BaseException as error:
            if connection is not None:
                await _discard(connection)
            for request in batch:
                _fail(request, self._reason(request, error))
            if not isinstance(error, Exception):
                raise

    def _reason(self, request: Request, error: BaseException) -> Exception:
        if request.sent:
            return LostError(self.place, self._timeout if isinstance(error, TimeoutError) else None)
        if isinstance(error, BackendUnavailable):
            return error
        return translate(error, self.place)

    def _reuse(self) -> Any:
        """An idle connection that the server has not closed meanwhile."""
        while self._idle:
            connection = self._idle.pop()
            reader = connection._reader
            if connection.is_connected and reader is not None and not reader.at_eof() and reader.exception() is None:
                return connection
            connection._close()
        return None

    async def _connect(self) -> Any:
        connection = self._make()
        try:
            async with asyncio.timeout(self._timeout):
                await connection.connect()
        except BaseException as error:
            await _discard(connection)
            if isinstance(error, Exception):
                raise translate(error, self.place) from error
            raise
        self.connects += 1
        return connection

    async def _exchange(self, connection: Any, batch: list[Request]) -> None:
        async with asyncio.timeout(self._timeout):
            if not batch[0].sent:
                packed = [pack(request.parts, request.asking) for request in batch]
                for request in batch:
                    request.sent = True
                await connection.send_packed_command(packed, check_health=False)
            started = perf_counter()
            for request in batch:
                if perf_counter() - started > SLICE_SECONDS:
                    # Answers that have all arrived are read without a pause: let those who have theirs go on.
                    await asyncio.sleep(0)
                    started = perf_counter()
                if request.asking:
                    await connection.read_response(disable_decoding=True, disconnect_on_error=False)
                try:
                    answer = await connection.read_response(disable_decoding=True, disconnect_on_error=False)
                except ANSWERED as error:
                    answer = error
                if not request.answer.done():
                    request.answer.set_result(answer)


def pack(parts: Sequence[Part], asking: bool) -> bytes:
    """A command as it is sent (RESP). The driver's own way of it takes several times as long for many small parts."""
    pieces = [b"*1\r\n$6\r\nASKING\r\n*%d\r\n" % len(parts) if asking else b"*%d\r\n" % len(parts)]
    for part in parts:
        raw = part if isinstance(part, bytes) else str(part).encode()
        pieces.append(b"$%d\r\n%b\r\n" % (len(raw), raw))
    return b"".join(pieces)


def _fail(request: Request, error: Exception) -> None:
    if not request.answer.done():
        request.answer.set_exception(error)
        request.answer.exception()  # a caller that has gone must not be reported as one that never looked


async def _discard(connection: Any) -> None:
    """Close a connection, whatever state it is in."""
    try:
        await connection.disconnect(nowait=True)
    except Exception:  # noqa: BLE001, S110 - it is thrown away; how closing it fails tells nothing
        pass


def _release(connections: list[Any]) -> None:
    """Close the sockets of connections whose loop has ended: their transports would ask it to."""
    while connections:
        connection = connections.pop()
        writer: Any = connection._writer  # kept until its transport is closed, else it complains
        transport: Any = getattr(writer, "transport", None)
        connection._reader = connection._writer = None
        if transport is not None:
            abandon(transport)
