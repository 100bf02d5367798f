"""Single flight: who misses a key joins the read that is already under way for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from memory.model import Key
from memory.ops import Row

Rows = dict[Key, Row | None]
Fetch = Callable[[tuple[Key, ...]], Awaitable[list[Row | None]]]
Fill = Callable[[Rows, "dict[Key, Flight]"], Awaitable[None]]


class Flight:
    """One read of one key. ``spoiled``: the key was written meanwhile, so what was read is not to be kept."""

    __slots__ = ("found", "spoiled")

    found: asyncio.Future[Rows]

    def __init__(self) -> None:
        self.spoiled = False


class Flights:
    """The reads under way. A caller that is cancelled leaves the read to the others."""

    def __init__(self) -> None:
        self._flights: dict[Key, Flight] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.loop: asyncio.AbstractEventLoop | None = None
        """Where they run."""

    def spoil(self, keys: Iterable[Key]) -> None:
        """These were written: whoever asks from now on reads anew, and nobody keeps what was read before."""
        for key in keys:
            flight = self._flights.pop(key, None)
            if flight is not None:
                flight.spoiled = True

    async def rows(self, keys: Sequence[Key], fetch: Fetch, fill: Fill) -> Rows:
        """The rows of the keys, each read once however many ask. ``fill`` gets what was read, with its flights."""
        joined: dict[Key, Flight] = {}
        fresh: dict[Key, Flight] = {}
        for key in dict.fromkeys(keys):
            flight = self._flights.get(key)
            if flight is not None and not flight.found.done():
                joined[key] = flight
            else:
                fresh[key] = joined[key] = Flight()
        if fresh:
            self.loop = asyncio.get_running_loop()
            found: asyncio.Future[Rows] = self.loop.create_future()
            for flight in fresh.values():
                flight.found = found
            self._flights.update(fresh)
            task = self.loop.create_task(self._fly(fresh, found, fetch, fill))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        rows: Rows = {}
        for key, flight in joined.items():
            rows[key] = (await asyncio.shield(flight.found))[key]
        return rows

    async def _fly(
        self,
        fresh: dict[Key, Flight],
        found: asyncio.Future[Rows],
        fetch: Fetch,
        fill: Fill,
    ) -> None:
        keys = tuple(fresh)
        try:
            rows = dict(zip(keys, await fetch(keys), strict=True))
            found.set_result(rows)
            await fill(rows, fresh)
        except BaseException as error:
            if not found.done():
                found.set_exception(error if isinstance(error, Exception) else asyncio.CancelledError())
                found.exception()  # who asked may be gone
            if not isinstance(error, Exception):
                raise
        finally:
            for key, flight in fresh.items():
                if self._flights.get(key) is flight:
                    del self._flights[key]

    async def end(self) -> None:
        """Wait for the reads under way."""
        if self._tasks:
            await asyncio.wait(self._tasks)
