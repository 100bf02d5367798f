"""A loopback proxy before any server that does to its connections what networks do: late, lost, cut short, reset.

::

    with Proxy(server.port) as proxy:
        store = RedisStore(proxy.url(server.url))
        proxy.inject("delay", "replies", seconds=0.05)      # every reply comes 50 ms late, until heal()
        proxy.inject("reset", "requests", times=1)          # the next request ends its connection with an RST
        proxy.inject("lose_reply", times=1, holding=b"EVALSHA")  # that request is carried out, its answer never arrives
        proxy.heal()                                        # a network without faults again

It runs in a thread of its own, so it works beside a store's loop and under one that is held. A fault is asked about each
chunk: what one read of the socket gave, which between small messages is one request, one reply, or one pipeline of them.
``holding`` looks for bytes in a chunk and so sees nothing through TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections import Counter
from collections.abc import Coroutine
from typing import Any, Literal, Self
from urllib.parse import urlsplit, urlunsplit

import msgspec

What = Literal["delay", "drop", "truncate", "reset", "lose_reply"]
Direction = Literal["requests", "replies"]
CHUNK = 1 << 16
QUIET_SECONDS = 0.02
"""A reply that is lost has ended when the server has said nothing for so long."""
PATIENCE_SECONDS = 10.0
"""How long a call of this class waits for the proxy's thread."""


class Fault(msgspec.Struct):
    """What happens to chunks that go in one direction; see ``Proxy.inject``."""

    what: What
    direction: Direction
    times: int | None
    after: int
    share: float
    seconds: float
    keep: int
    holding: bytes


class Proxy:
    """Listens on a free loopback port and passes everything on to the server's, faults apart.

    ``counts``: how often each fault struck, and how many ``connections`` were made. ``seed`` decides which chunks a
    fault with a ``share`` strikes.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", *, seed: int = 1) -> None:
        self.target = (host, port)
        self.port = 0
        self.counts: Counter[str] = Counter()
        self._faults: list[Fault] = []
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="memory-proxy", daemon=True)
        self._server: asyncio.Server | None = None
        self._wires: set[_Wire] = set()

    def start(self) -> Self:
        """Begin to listen."""
        self._thread.start()
        self._call(self._listen())
        return self

    def stop(self) -> None:
        """End every connection and the thread."""
        if self._thread.is_alive():
            self._call(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PATIENCE_SECONDS)
        if not self._loop.is_running():
            self._loop.close()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def url(self, url: str) -> str:
        """A server's address with this proxy in its place."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}"))

    def inject(
        self,
        what: What,
        direction: Direction = "requests",
        *,
        times: int | None = None,
        after: int = 0,
        share: float = 1.0,
        seconds: float = 0.0,
        keep: int = 0,
        holding: bytes = b"",
    ) -> None:
        """A fault from now on, on every connection. Of several the first that applies strikes; delays add up.

        - ``delay``: passed on after ``seconds``, in order.
        - ``drop``: swallowed, the connection stays open and nobody is told.
        - ``truncate``: the first ``keep`` bytes are passed on, then the connection ends in an orderly way.
        - ``reset``: not passed on; both ends get an RST.
        - ``lose_reply``: a request is passed on and carried out; when its whole answer is here, the client gets an RST
          in place of it.

        ``times``: how often it strikes (None: until ``heal``), once ``after`` chunks that it could have struck were let
        through. ``share``: of the chunks, how many. ``holding``: only chunks in which these bytes stand.
        """
        way: Direction = "requests" if what == "lose_reply" else direction
        self._faults.append(Fault(what, way, times, after, share, seconds, keep, holding))

    def heal(self) -> None:
        """Take every fault away, and listen again after ``refuse``. What a fault has ended stays ended."""
        self._faults.clear()
        self._call(self._listen())

    def refuse(self) -> None:
        """Refuse new connections until ``heal``; those that are open stay."""
        self._call(self._close())

    def cut(self) -> int:
        """End all open connections with an RST, now; how many there were."""
        return int(self._call(self._cut()))

    # --- in the thread ---------------------------------------------------------------------------

    def _call(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_SECONDS)

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()  # not waited for: since 3.12 that is until the last connection has ended
            self._server = None
            await asyncio.sleep(0)

    async def _cut(self) -> int:
        wires = list(self._wires)
        for wire in wires:
            wire.reset()
        for wire in wires:
            await wire.ended.wait()
        return len(wires)

    async def _end(self) -> None:
        await self._close()
        await self._cut()
        left = asyncio.all_tasks() - {asyncio.current_task()}  # connections that are still being made
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
        await asyncio.sleep(0)  # so that what was aborted is closed before the loop is

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.counts["connections"] += 1
        client = _End(reader, writer)
        try:
            server = _End(*await asyncio.open_connection(*self.target))
        except OSError:
            client.reset()  # as the server itself, which is not there, would have done it
            return
        wire = _Wire(self, client, server)
        self._wires.add(wire)
        try:
            await wire.run()
        finally:
            self._wires.discard(wire)
            wire.ended.set()

    def strikes(self, direction: Direction, chunk: bytes) -> tuple[float, Fault | None]:
        """(seconds of delay, the fault besides) that meet a chunk."""
        seconds = 0.0
        for fault in list(self._faults):
            if fault.direction != direction or fault.holding not in chunk or self._random.random() >= fault.share:
                continue
            if fault.after > 0:
                fault.after -= 1
                continue
            if fault.times is not None:
                if fault.times <= 0:
                    continue
                fault.times -= 1
            self.counts[fault.what] += 1
            if fault.what != "delay":
                return seconds, fault
            seconds += fault.seconds
        return seconds, None


class _End:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def reset(self) -> None:
        """Close it with an RST: whoever is there gets "connection reset by peer"."""
        with contextlib.suppress(OSError):
            self.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )
        self.writer.transport.abort()


class _Wire:
    """One connection: both ends, and who carries what between them."""

    def __init__(self, proxy: Proxy, client: _End, server: _End) -> None:
        self.proxy, self.client, self.server = proxy, client, server
        self.ended = asyncio.Event()
        self._losing = False
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Carry both ways until one of the ends, or a fault, ends it."""
        self._tasks = [
            asyncio.ensure_future(self._carry("requests", self.client, self.server)),
            asyncio.ensure_future(self._carry("replies", self.server, self.client)),
        ]
        try:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
            for end in (self.client, self.server):
                end.writer.close()

    def reset(self) -> None:
        """End it for both with an RST."""
        self.client.reset()
        self.server.reset()
        for task in self._tasks:
            task.cancel()

    async def _carry(self, direction: Direction, source: _End, target: _End) -> None:
        try:
            while chunk := await source.reader.read(CHUNK):
                if direction == "replies" and self._losing:
                    await self._swallow()
                    return
                seconds, fault = self.proxy.strikes(direction, chunk)
                if seconds:
                    await asyncio.sleep(seconds)
                if fault is not None and fault.what == "drop":
                    continue
                if fault is not None and fault.what == "reset":
                    self.client.reset()
                    self.server.reset()
                    return
                if fault is not None and fault.what == "truncate":
                    target.writer.write(chunk[: fault.keep])
                    await target.writer.drain()
                    return
                if fault is not None:
                    self._losing = True
                target.writer.write(chunk)
                await target.writer.drain()
        except OSError:
            return  # one end is gone: the other learns of it by the close

    async def _swallow(self) -> None:
        """Take the rest of a reply that will never arrive, then end the connection for the client."""
        while True:
            try:
                async with asyncio.timeout(QUIET_SECONDS):
                    if not await self.server.reader.read(CHUNK):
                        break
            except TimeoutError:
                break
        self.client.reset()


__all__ = ["Direction", "Fault", "Proxy", "What"]
