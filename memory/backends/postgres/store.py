"""``postgres``: records in a Postgres database, found by its indexes; many processes may share them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from memory.backends.postgres import aside, matching, scanning, upkeep, verifying
from memory.backends.postgres.address import OPTIONS, Address
from memory.backends.postgres.calling import Caller, Unsure
from memory.backends.postgres.connecting import Connecting
from memory.backends.postgres.faults import CALL_ERRORS, translate
from memory.backends.postgres.names import Names
from memory.backends.postgres.pool import Pool
from memory.backends.postgres.reading import Reader
from memory.backends.postgres.records import sort_key, to_row
from memory.backends.postgres.schema import Opened, prepare
from memory.backends.postgres.vectorindex import VectorIndex
from memory.backends.postgres.vectorsearch import VectorSearch
from memory.backends.postgres.writer import Writer
from memory.backends.postgres.writing import MAX_VECTOR
from memory.errors import Closed
from memory.model import Key
from memory.ops import (
    Around,
    Attach,
    Count,
    Events,
    FeedRead,
    Match,
    Matched,
    Nearest,
    Page,
    Problem,
    Read,
    Result,
    Row,
    Scan,
    Space,
    Status,
    Write,
)
from memory.search.text import Matcher
from memory.store import Capabilities, MemoryStore
from memory.store.embedding import mismatch
from memory.store.fallbacks import best_candidates
from memory.store.options import check_counts, check_seconds
from memory.store.types import Durability, RepairReport

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

CLOSE_SECONDS = 2.0
"""How long closing waits for what is under way, and for the server's goodbye."""


class PostgresStore(MemoryStore):
    """Memories in a schema of a Postgres database.

    ``url`` is where the server is: ``postgresql://user:password@host:5432/database``; or ``engine`` is an AsyncEngine of
    the user's, which this store takes connections from and never disposes. ``schema`` and ``prefix`` name its tables.
    ``pool`` is the greatest number of connections, ``waiting`` of operations in line for one, ``timeout`` how many
    seconds an operation may take. ``pgbouncer`` says that a pooler in transaction mode is in between.
    Further options as in MemoryStore.
    """

    name = "postgres"
    capabilities: ClassVar[Capabilities] = Capabilities(
        persistent=True,
        shared=True,
        atomic_batches=True,
        feed=True,
        indexes_terms=True,
        reembeds=True,
        recall=0.98,
    )

    address_options: ClassVar[Mapping[str, Sequence[str]]] = OPTIONS
    searches_at_once: ClassVar[int] = 4
    """Their answers are taken in on the loop."""

    def __init__(
        self,
        url: str | None = None,
        *,
        engine: AsyncEngine | None = None,
        schema: str = "memory",
        prefix: str = "",
        pool: int = 10,
        waiting: int = 10_000,
        timeout: float = 30.0,
        pgbouncer: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.address = Address(url, engine)
        self.names = Names(schema, prefix)
        check_counts(pool=pool, waiting=waiting)
        check_seconds(timeout=timeout)
        self._pool_size, self._waiting = pool, waiting
        self._connecting = Connecting(self.address, timeout=timeout, pgbouncer=pgbouncer)
        self._opened: Opened | None = None
        self._session: Session | None = None

    @property
    def durability(self) -> Durability:
        """What survives after an acknowledged write, as the server is configured."""
        if self._opened is None:
            return "unknown"
        if not self._opened.durable:
            return "process"
        return "replicated" if self._opened.replicated else "power"

    @property
    def location(self) -> str:
        """The address, schema and prefix among its options."""
        return self.address.location(self.names.schema, self.names.prefix)

    # --- lifecycle -----------------------------------------------------------------------------

    async def _open(self) -> None:
        identity = self.analyser.identity
        connecting, shown = self._connecting, self.address.shown
        self._opened = connecting.vector = None
        pool = Pool(connecting.connect, self._pool_size, self._waiting, shown)
        caller = Caller(pool, self.names, timeout=connecting.timeout, pinned=connecting.pgbouncer, shown=shown)
        self._session = Session(self, caller, connecting, typed=False, at_once=self._pool_size)

        async def ready(connection: Any) -> Opened:
            return await prepare(connection, self.names, analyser=identity, feed=self.feed, shown=shown)

        try:
            opened = await caller.write(ready)
            if opened.vector is not None:
                connecting.vector = opened.vector
                self.names.with_vectors(opened.vector)
                await caller.write(connecting.attune)
        except CALL_ERRORS as error:
            raise translate(error, shown) from error
        except Unsure as error:
            raise translate(error.__cause__ or error, shown) from error
        self._opened, self._seen, self._space = opened, opened.newest, opened.space
        self._session = Session(self, caller, connecting, typed=opened.vector is not None, at_once=self._pool_size)
        if opened.vector is not None and opened.space is not None:
            await self._session.index.look()

    async def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close(CLOSE_SECONDS)

    def _in_session(self) -> Session:
        if self._session is None:
            raise Closed(f"this {self.name} store is closed")
        if self._loop is not None and self._loop is not asyncio.get_running_loop():
            self._refuse()  # a driver's connection that two loops use crashes the interpreter
        return self._session

    def _calling(self) -> Caller:
        return self._in_session().caller

    # --- reading and writing -------------------------------------------------------------------

    async def _write(self, ops: Sequence[Write], atomic: bool) -> list[Result]:
        session = self._in_session()
        if not ops:
            return []
        results = await session.writer.write(ops, atomic=atomic)
        session.index.notice()
        return results

    async def _read(self, op: Read) -> list[Row | None]:
        return await self._in_session().reader.read(op)

    async def _scan(self, op: Scan) -> Page:
        (template, values), exact = scanning.page(op)
        found = await self._calling().fetch_apart(template, values)
        rows: list[Row] = []
        async for part in self._slices(found):
            rows += [to_row(row, vector=op.vectors) for row in part]
        return Page(rows, exact, more=len(rows) == op.limit)

    async def _count(self, op: Count) -> int | None:
        said = scanning.count(op)
        if said is None:
            return None
        ((number,),) = await self._calling().fetch_apart(*said)
        return int(number)

    async def _namespaces(self, op: Count) -> list[tuple[str, ...]]:
        said = scanning.namespaces(op)
        if said is None:
            return await super()._namespaces(op)
        return [tuple(path.decode().split("\0")) for (path,) in await self._calling().fetch_apart(*said)]

    async def _around(self, op: Around) -> list[tuple[list[Row], list[Row]]]:
        if not op.anchors or op.n < 1:
            return [([], []) for _ in op.anchors]
        found = await self._calling().fetch_apart(*scanning.around(op))
        sides: list[tuple[list[Row], list[Row]]] = [([], []) for _ in op.anchors]
        found.sort(key=lambda row: (row[0], row[2]))
        async for part in self._slices(found):
            for row in part:
                sides[row[0] - 1][0 if row[1] else 1].append(to_row(row[3:], vector=op.vectors))
        return sides

    # --- searching -----------------------------------------------------------------------------

    async def _match(self, op: Match) -> Matched:
        statement, exact = matching.newest(op)
        if not exact:
            return await super()._match(op)
        matcher: Matcher[tuple[bytes, bytes]] = Matcher(op.terms)
        async for part in self._slices(await self._calling().fetch_apart(*statement)):
            matcher.feed(
                [
                    (sort_key(key), created, matching.counted(op.terms, held), length)
                    for key, created, held, length in part
                ]
            )
        return await best_candidates(self, op, matcher.df, matcher.candidates())

    async def _nearest(self, op: Nearest) -> list[Row]:
        await self._vectors_ready()
        session = self._in_session()
        for _ in range(3):
            space = self._space
            if space is not None and not space.admits(op.embedder, len(op.vector) // 4):
                _, self._space = await session.index.look()
                space = self._space
                if space is not None and not space.admits(op.embedder, len(op.vector) // 4):
                    raise mismatch(space, op.embedder, len(op.vector) // 4)
            if space is not None:
                search = VectorSearch(self, session.caller, op, space, session.index.space)
                typed = session.typed and space.dimension <= MAX_VECTOR
                rows = await (search.typed() if typed else search.untyped())
                if rows:
                    return rows
            # Nothing: is it that the space is another by now?
            _, self._space = await session.index.look()
            if space == self._space:
                return []
        return []

    async def _attach(self, space: Space, ops: Sequence[Attach]) -> int:
        await self._vectors_ready()
        done, own = await aside.attach(self._calling(), space, ops, typed=self._in_session().typed)
        if own:
            self._space = space
        return done

    async def _unattached(self, space: Space, after: Key | None, limit: int) -> list[Row]:
        return await aside.unattached(self._calling(), space, after, limit)

    async def _switch(self, space: Space, without: int) -> bool:
        return await aside.switch(self._calling(), space, without)

    # --- upkeep --------------------------------------------------------------------------------

    async def _feed(self, op: FeedRead) -> Events:
        return await upkeep.read_feed(self._calling(), op)

    async def _sweep(self, now: int) -> int:
        removed = 0
        while removes := await upkeep.expired(self._calling(), now):
            results = await self._write(removes, False)
            done = sum(result.status is Status.DONE for result in results)
            removed += done
            if not done:
                break
        await upkeep.forget(self._calling(), now, self.feed_retention)
        return removed

    async def _health(self) -> dict[str, Any]:
        return await upkeep.facts(self._calling(), None if self._opened is None else self._opened.vector)

    async def _verify(self) -> tuple[int, list[Problem]]:
        return await verifying.Verifier(self, self._calling(), typed=self._in_session().typed).verify()

    async def _repair(self) -> RepairReport:
        return await verifying.Verifier(self, self._calling(), typed=self._in_session().typed).repair()


class Session:
    """What an open store works with."""

    def __init__(
        self, store: MemoryStore, caller: Caller, connecting: Connecting, *, typed: bool, at_once: int
    ) -> None:
        self.caller = caller
        self.typed = typed
        patience = connecting.patience if connecting.pgbouncer else None
        self.writer = Writer(store, caller, typed=typed, patience=patience, at_once=at_once)
        self.reader = Reader(store, caller, at_once=at_once)
        self.index = VectorIndex(caller, connecting, self.writer)

    async def close(self, patience: float) -> None:
        """Finish what was accepted, for so many seconds; then let go of every connection."""
        try:
            async with asyncio.timeout(patience):
                await self.index.close()
                await self.writer.finish()
                await self.reader.finish()
                await self.caller.finish()
        except TimeoutError:
            pass  # what is under way ends with its connection
        finally:
            await self.caller.pool.close(patience)
