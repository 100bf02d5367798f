"""``postgres``: records in a Postgres database, found by its indexes; many processes may share them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import asyncpg

from memory.backends.postgres import applying, aside, matching, reading, scanning, upkeep, verifying
from memory.backends.postgres.address import Address
from memory.backends.postgres.calling import Caller, Unsure
from memory.backends.postgres.faults import CALL_ERRORS, TRANSIENT, is_for_all, state_of, translate
from memory.backends.postgres.grouping import Group
from memory.backends.postgres.names import Names
from memory.backends.postgres.nearest import EF_SEARCH
from memory.backends.postgres.pool import Pool, ready_for_vectors
from memory.backends.postgres.records import encode_key, sort_key, to_row
from memory.backends.postgres.schema import Opened, lock_of, prepare
from memory.backends.postgres.vectorsearch import VectorSearch
from memory.backends.postgres.writing import MAX_VECTOR, Prepared, arguments, prepared, result_of, twin_key
from memory.errors import Closed, InvalidSetting, MemoryStoreError
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
    Put,
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
from memory.store.types import Durability, RepairReport

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

READS_AT_ONCE, WRITES_AT_ONCE = 4, 4
"""Groups of gets and of writes under way together, where the pool has as many connections."""
GROUP_KEYS = 1_000
GROUP_BYTES = 4_000_000
"""The most that one group of writes sends."""
CLOSE_SECONDS = 2.0
"""How long closing waits for what is under way, and for the server's goodbye."""
TRIES = 8
"""How often a write that met a deadlock is tried."""


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
        for name, value in (("pool", pool), ("waiting", waiting), ("timeout", timeout)):
            if not value > 0:
                raise InvalidSetting(f"{name} must be above 0, not {value!r}", setting=name)
        self.pgbouncer = pgbouncer
        self.timeout = timeout
        self._pool_size, self._waiting = pool, waiting
        self._opened: Opened | None = None
        self._caller: Caller | None = None
        self._salt = lock_of(self.names, "digest")

    @property
    def durability(self) -> Durability:
        """What survives after an acknowledged write, as the server is configured."""
        if self._opened is None:
            return "unknown"
        if not self._opened.durable:
            return "process"
        return "replicated" if self._opened.replicated else "power"

    # --- lifecycle -----------------------------------------------------------------------------

    async def _open(self) -> None:
        identity = self.analyser.identity
        self._opened = None
        pool = Pool(self._connect, self._pool_size, self._waiting, self.address.shown)
        self._caller = Caller(pool, self.names, timeout=self.timeout, pinned=self.pgbouncer, shown=self.address.shown)
        connection = await self._first_connection(pool)
        broken = True
        try:
            async with asyncio.timeout(self.timeout):
                opened = await prepare(
                    connection, self.names, analyser=identity, feed=self.feed, shown=self.address.shown
                )
                if opened.vector is not None:
                    self.names.with_vectors(opened.vector)
                    await ready_for_vectors(connection, opened.vector)
            broken = False
        except CALL_ERRORS as error:
            raise translate(error, self.address.shown) from error
        except TimeoutError as error:
            raise translate(error, self.address.shown) from error
        finally:
            pool.release(connection, broken=broken)
        self._opened, self._seen, self._space = opened, opened.newest, opened.space
        self._vector = opened.vector is not None
        self._reads: Group[Read, list[Row | None]] = Group(
            self._read_together,
            size=lambda op: len(op.keys),
            most=GROUP_KEYS,
            at_once=min(READS_AT_ONCE, self._pool_size),
        )
        self._writes: Group[list[Prepared], list[Result]] = Group(
            self._write_together,
            size=lambda batch: sum([one.size for one in batch]),
            most=GROUP_BYTES,
            at_once=min(WRITES_AT_ONCE, self._pool_size),
        )

    async def _first_connection(self, pool: Pool) -> Any:
        try:
            async with asyncio.timeout(self.timeout):
                return await pool.acquire()
        except TimeoutError as error:
            raise translate(error, self.address.shown) from error

    async def _connect(self) -> Any:
        """A connection of asyncpg's, with what must hold in it."""
        settings = {} if self.pgbouncer else {
            "application_name": "agent-memory",
            "lock_timeout": str(self._patience),
            "hnsw.iterative_scan": "strict_order",
            "hnsw.ef_search": str(EF_SEARCH),
            "jit": "off",
        }  # fmt: skip
        connection = await asyncpg.connect(
            **self.address.connect_arguments(),
            timeout=self.timeout,
            statement_cache_size=0 if self.pgbouncer else 512,
            max_cached_statement_lifetime=0,
            server_settings=settings,
        )
        if self._opened is not None and self._opened.vector is not None:
            try:
                await ready_for_vectors(connection, self._opened.vector)
            except BaseException:
                connection.terminate()
                raise
        return connection

    @property
    def _patience(self) -> int:
        """Milliseconds to wait for another's lock: the server gives up before we do, so the outcome is known."""
        return max(1, round(self.timeout * 800))

    async def _close(self) -> None:
        caller, self._caller = self._caller, None
        if caller is None:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                if self._opened is not None:
                    await self._writes.finish()
                    await self._reads.finish()
                await caller.finish()
        except TimeoutError:
            pass  # what is under way ends with its connection
        finally:
            await caller.pool.close(CLOSE_SECONDS)

    def _calling(self) -> Caller:
        if self._caller is None:
            raise Closed(f"this {self.name} store is closed")
        return self._caller

    # --- writing -------------------------------------------------------------------------------

    async def _write(self, ops: Sequence[Write], atomic: bool) -> list[Result]:
        if not ops:
            return []
        caller = self._calling()
        if self._vector and any(type(op) is Put and op.embedding is not None for op in ops):
            await self._vectors_ready()
        batch: list[Prepared] = []
        async for part in self._slices(ops):
            batch += [prepared(op, self._vector) for op in part]
        if atomic:
            return await self._apply(caller, batch, atomic=True)
        return await self._writes.ask(batch)

    async def _write_together(self, batches: list[list[Prepared]]) -> list[list[Result] | BaseException]:
        caller = self._calling()
        if len(batches) == 1:
            return [await self._apply(caller, batches[0], atomic=False)]
        results = await self._apply(caller, [one for batch in batches for one in batch], atomic=False)
        answers: list[list[Result] | BaseException] = []
        start = 0
        for batch in batches:
            answers.append(results[start : start + len(batch)])
            start += len(batch)
        return answers

    async def _apply(self, caller: Caller, batch: list[Prepared], *, atomic: bool) -> list[Result]:
        """One call of the function; what one write cannot be stored for does not keep the others from it."""
        vectors = _vectors_form(batch) if self._vector else None
        statement = caller.fill(applying.call(vectors))
        patience = str(self._patience) if self.pgbouncer else None
        values = arguments(batch, atomic=atomic, patience=patience, salt=self._salt, vectors=vectors)
        tries = 0
        while True:
            try:
                found = await caller.write(lambda connection: connection.fetch(statement, *values))
                break
            except Unsure:
                return [Result(Status.UNKNOWN) for _ in batch]
            except CALL_ERRORS as error:
                tries += 1
                state = state_of(error)
                if state == applying.NOT_APPLIED:
                    return await self._not_applied(caller, batch, str(getattr(error, "detail", "")))
                if state in TRANSIENT and tries < TRIES:
                    await asyncio.sleep(0.002 * tries)
                    continue
                if is_for_all(error) or (atomic and len(batch) > 1):
                    raise translate(error, caller.shown) from error
                if len(batch) == 1:
                    return [Result(Status.FAILED, error=translate(error, caller.shown))]
                middle = len(batch) // 2
                first = await self._apply(caller, batch[:middle], atomic=False)
                return first + await self._apply(caller, batch[middle:], atomic=False)
        return await self._results(caller, batch, found)

    async def _results(self, caller: Caller, batch: list[Prepared], found: list[Any]) -> list[Result]:
        results: list[Result] = [Result(Status.FAILED)] * len(batch)
        unfit: list[int] = []
        twins: list[tuple[int, Any]] = []
        async for part in self._slices(found):
            for row in part:
                one = batch[row[0]]
                result = result_of(one, row)
                if result is None:
                    unfit.append(row[0])
                else:
                    results[row[0]] = result
                    if result.status is Status.DUPLICATE and self._space is not None:
                        twins.append((row[0], row))
        for number in unfit:
            results[number] = Result(Status.FAILED, error=await self._unfit(caller, batch[number].op))
        for number, row in twins:
            (twin,) = await self._read(Read(keys=(twin_key(row),), now=batch[number].op.now))
            stamp = results[number].row
            if twin is not None and stamp is not None:
                stamp.embedding, stamp.embedder = twin.embedding, twin.embedder
        return results

    async def _unfit(self, caller: Caller, op: Write) -> MemoryStoreError:
        """Why a vector does not belong here. The store learns of the space on the way."""
        assert type(op) is Put and op.embedding is not None
        await self._learn(caller)
        dimension = len(op.embedding) // 4
        if self._space is None:
            return MemoryStoreError("the space of the vectors was changed meanwhile; try again")
        return mismatch(self._space, op.embedder, dimension)

    async def _learn(self, caller: Caller) -> None:
        (row,) = await caller.fetch("SELECT embedder, dimension FROM $state", ())
        self._space = None if row[1] is None else Space(row[0], row[1])

    async def _not_applied(self, caller: Caller, batch: list[Prepared], detail: str) -> list[Result]:
        """The results of an atomic batch that the function has refused."""
        numbers = list(map(int, detail.split()))
        rows = [
            (n, said, version, 0, 0, 0, 0, None, None, None, None)
            for n, said, version in zip(*[iter(numbers)] * 3, strict=True)
        ]
        results = await self._results(caller, batch, [row for row in rows if row[1] not in _FINE])
        reached = {row[0]: row[1] for row in rows}
        return [Result(Status.SKIPPED) if reached.get(i) in _FINE else result for i, result in enumerate(results)]

    # --- reading -------------------------------------------------------------------------------

    async def _read(self, op: Read) -> list[Row | None]:
        if not op.keys:
            return []
        self._calling()
        return await self._reads.ask(op)

    async def _read_together(self, ops: list[Read]) -> list[list[Row | None] | BaseException]:
        caller = self._calling()
        if len(ops) == 1 and len(ops[0].keys) == 1:
            op = ops[0]
            (key,) = op.keys
            if not op.scope.covers_namespace(key[0]):
                return [[None]]
            rows = await caller.fetch(reading.ONE, (encode_key(key),))
            return [[reading.seen(rows[0] if rows else None, op.scope, op.now)]]
        wanted = [[encode_key(key) if op.scope.covers_namespace(key[0]) else None for key in op.keys] for op in ops]
        keys = list({key for keys in wanted for key in keys if key is not None})
        found: dict[bytes, Any] = {}
        if keys:
            rows = await caller.fetch(reading.MANY, (keys,))
            found = {row[1]: row for row in rows}
        answers: list[list[Row | None] | BaseException] = []
        for op, mine in zip(ops, wanted, strict=True):
            answer: list[Row | None] = []
            try:
                async for part in self._slices(mine):
                    answer += [reading.seen(found.get(key), op.scope, op.now) for key in part]  # type: ignore[arg-type]
            except MemoryStoreError as error:
                answers.append(error)
            else:
                answers.append(answer)
        return answers

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
        caller = self._calling()
        for _ in range(3):
            space = self._space
            if space is not None and not space.admits(op.embedder, len(op.vector) // 4):
                await self._learn(caller)
                space = self._space
                if space is not None and not space.admits(op.embedder, len(op.vector) // 4):
                    raise mismatch(space, op.embedder, len(op.vector) // 4)
            if space is not None:
                search = VectorSearch(self, caller, op, space, None)
                typed = self._vector and space.dimension <= MAX_VECTOR
                rows = await (search.typed() if typed else search.untyped())
                if rows:
                    return rows
            # Nothing: is it that the space is another by now?
            await self._learn(caller)
            if space == self._space:
                return []
        return []

    async def _attach(self, space: Space, ops: Sequence[Attach]) -> int:
        await self._vectors_ready()
        done, own = await aside.attach(self._calling(), space, ops, typed=self._vector)
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
        return await verifying.Verifier(self, self._calling(), typed=self._vector).verify()

    async def _repair(self) -> RepairReport:
        return await verifying.Verifier(self, self._calling(), typed=self._vector).repair()


def _vectors_form(batch: list[Prepared]) -> str:
    """How a batch brings its vectors: asyncpg asks the server about an array of them on each connection anew."""
    if all(one.values[-1] is None for one in batch):
        return "none"
    return "one" if len(batch) == 1 else "many"


_FINE = (applying.DONE, applying.DUPLICATE, applying.REPEATED)
