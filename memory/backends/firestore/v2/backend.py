"""``firestore_v2``: one document an item, beside those of V2 programs, in Google's Firestore or its emulator."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any, ClassVar

from memory.backends.firestore.breaker import Breaker
from memory.backends.firestore.connecting import credentials_of, place_of
from memory.backends.firestore.connection import Connection
from memory.backends.firestore.lanes import Lanes
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.v2 import scanning, upkeep
from memory.backends.firestore.v2.adopting import Adopter
from memory.backends.firestore.v2.around import around
from memory.backends.firestore.v2.attaching import attach, unattached
from memory.backends.firestore.v2.documents import Found
from memory.backends.firestore.v2.indexes import DIMENSION, definitions
from memory.backends.firestore.v2.matching import Matching
from memory.backends.firestore.v2.names import collections, document_id
from memory.backends.firestore.v2.nearest import nearest
from memory.backends.firestore.v2.spaces import prepare
from memory.backends.firestore.v2.writing import Batch
from memory.errors import Closed, InvalidSetting
from memory.model import Key, MemoryItem
from memory.ops import (
    Around,
    Attach,
    Count,
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
    Write,
)
from memory.store import Capabilities, MemoryStore
from memory.store.types import Durability, RepairReport

USUAL = {"namespace": "default", "privacy": "standard"}
"""The parts of V2's names of collections where nobody says others."""
_metered: ContextVar[Meter | None] = ContextVar("metered", default=None)


class FirestoreV2Store(MemoryStore):
    """Memories as documents of a Firestore database, in the collection that V2 programs use.

    ``url`` (``firestore://PROJECT/DATABASE``) or ``project_id`` and ``database`` name the database, else
    GOOGLE_CLOUD_PROJECT or GCP_PROJECT_ID. ``namespace``, ``privacy`` and ``environment`` are parts of the names of
    collections, as V2 programs have them (no namespace of an item). ``credentials_path`` or ``credentials_json`` say who
    asks, else the environment's default credentials. ``emulator``: host and port, else FIRESTORE_EMULATOR_HOST.
    ``timeout``: seconds that one call to Firestore may take. ``max_reads``: most documents that one page, count or search
    may read; beyond it UnsupportedOperation is raised. ``breaker_failures`` failures in a row stop all calls for
    ``breaker_recovery`` seconds. ``legacy_check``: seconds between looks for documents that V2 programs wrote (see
    adopting); 0: each list, count and search first reads every document, so that changes of V2 programs are found at once;
    None: only when the store opens. Further options as in MemoryStore.
    """

    name = "firestore_v2"
    capabilities: ClassVar[Capabilities] = Capabilities(
        persistent=True,
        shared=True,
        atomic_batches=False,
        feed=False,  # no order of events can be had without one counter that all writes would wait for
        indexes_terms=True,
        max_dimension=2_048,
    )
    searches_at_once: ClassVar[int] = 8

    def __init__(
        self,
        url: str | None = None,
        *,
        project_id: str | None = None,
        database: str = "(default)",
        namespace: str = "default",
        privacy: str = "standard",
        environment: str | None = None,
        credentials_path: str | None = None,
        credentials_json: str | None = None,
        emulator: str | None = None,
        timeout: float = 30.0,
        max_reads: int | None = None,
        legacy_check: float | None = 60.0,
        breaker_failures: int = 5,
        breaker_recovery: float = 30.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.place = place_of(url, project_id, database, emulator)
        parts = {"namespace": namespace, "privacy": privacy, "environment": environment}
        self._named = {name: part for name, part in parts.items() if part not in (None, "", USUAL.get(name))}
        self.names = collections(namespace, privacy, environment)
        for setting, value in (("timeout", timeout), ("breaker_recovery", breaker_recovery)):
            if type(value) not in (int, float) or not 0 < value < 1e6:
                raise InvalidSetting(f"{setting} must be a positive number of seconds, not {value!r}", setting=setting)
        for setting, count in (("max_reads", max_reads), ("breaker_failures", breaker_failures)):
            if count is not None and (type(count) is not int or count < 1):
                raise InvalidSetting(f"{setting} must be a whole number from 1, not {count!r}", setting=setting)
        if legacy_check is not None and (type(legacy_check) not in (int, float) or not 0 <= legacy_check < 1e9):
            raise InvalidSetting(
                f"legacy_check must be seconds from 0, or None, not {legacy_check!r}", setting="legacy_check"
            )
        self.legacy_check = legacy_check
        self.timeout, self.max_reads = float(timeout), max_reads
        self._credentials = (credentials_path, credentials_json)
        self._breaker = (breaker_failures, float(breaker_recovery))
        self._connection: Connection[Found] | None = None
        self._lanes = Lanes()

    document_id = staticmethod(document_id)

    def index_definitions(self) -> dict[str, Any]:
        """The indexes of this store's collections, to be deployed once: see docs/firestore.md."""
        known = self.dimension or (None if self._space is None else self._space.dimension)
        return definitions(self.names, known or getattr(self.embedder, "dimension", None) or DIMENSION)

    @property
    def durability(self) -> Durability:
        """Google's service replicates before it acknowledges; an emulator keeps everything in its memory."""
        return "replicated" if self.place.emulator is None else "process"

    @property
    def location(self) -> str:
        """The address, with what says which collections and which server where these are not the usual ones."""
        return self.place.location("firestore", self._named)

    @property
    def expires_natively(self) -> bool:
        """Whether documents carry the field that Firestore's own deletion goes by. Not with an injected clock."""
        return not self.injected_clock

    async def _open(self) -> None:
        credentials = None
        if self.place.emulator is None:
            credentials = await asyncio.to_thread(credentials_of, *self._credentials)
        self._lanes = Lanes()
        self._connection = Connection(Found, self.name, self.place, credentials, self.timeout, Breaker(*self._breaker))
        self._adopter = Adopter(self, self.legacy_check)
        await prepare(self)
        await self._adopter.look()
        self._seen = max(self._seen, self._connection.read_time)

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _connected(self) -> Connection[Found]:
        if self._connection is None:
            raise Closed(f"this {self.name} store is closed")
        return self._connection

    def _meter(self) -> Meter:
        """The meter of the operation that is under way, or a new one."""
        return _metered.get() or Meter(self.max_reads)

    # --- hooks ---------------------------------------------------------------------------------

    async def _write(self, ops: Sequence[Write], atomic: bool) -> list[Result]:
        return await Batch(self, ops).run()

    async def _read(self, op: Read) -> list[Row | None]:
        return await scanning.read(self, op, Meter())

    async def _scan(self, op: Scan) -> Page:
        await self._adopter.look()
        return await scanning.scan(self, op, self._meter())

    async def _filled(self, op: Scan) -> list[tuple[Row, MemoryItem]]:
        # One page of a filter that Firestore cannot say takes several scans: their reads count together.
        if _metered.get() is not None:
            return await super()._filled(op)
        token = _metered.set(Meter(self.max_reads))
        try:
            return await super()._filled(op)
        finally:
            _metered.reset(token)

    async def _count(self, op: Count) -> int:
        await self._adopter.look()
        return await scanning.count(self, op, self._meter())

    async def _namespaces(self, op: Count) -> list[tuple[str, ...]]:
        await self._adopter.look()
        return await scanning.namespaces(self, op, self._meter())

    async def _around(self, op: Around) -> list[tuple[list[Row], list[Row]]]:
        await self._adopter.look()
        return await around(self, op, self._meter())

    async def _match(self, op: Match) -> Matched:
        await self._adopter.look()
        return await Matching(self, op, self._meter()).run()

    async def _nearest(self, op: Nearest) -> list[Row]:
        await self._adopter.look()
        return await nearest(self, op, self._meter())

    async def _attach(self, space: Space, ops: Sequence[Attach]) -> int:
        return await attach(self, space, ops)

    async def _unattached(self, space: Space, after: Key | None, limit: int) -> list[Row]:
        return await unattached(self, after, limit)

    async def _sweep(self, now: int) -> int:
        return await upkeep.sweep(self, now)

    async def _health(self) -> dict[str, Any]:
        return await upkeep.health(self)

    async def _repair(self) -> RepairReport:
        adopted = await self._adopter.adopt()
        actions = [f"{adopted} documents of other programs were given our fields"] if adopted else []
        if self._adopter.unreadable:
            actions.append(f"{self._adopter.unreadable} documents are no items and were left as they are; see the log")
        return RepairReport(actions or ["nothing to rebuild"])

    async def _verify(self) -> tuple[int, list[Problem]]:
        return await upkeep.verify(self)
