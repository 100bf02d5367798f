"""What the stores of every layout share: where they are, their options, their connection, how they write."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Generic, TypeVar

import msgspec

from memory.backends.firestore.connecting import DATABASE, credentials_of, place_of
from memory.backends.firestore.connection import Connection
from memory.backends.firestore.deciding import Change
from memory.backends.firestore.document import Document
from memory.backends.firestore.lanes import Known, Lanes
from memory.backends.firestore.locks import Twin
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.records import Record
from memory.backends.firestore.sweeping import sweep
from memory.backends.firestore.writing import Batch
from memory.errors import Closed
from memory.model import Key, MemoryItem
from memory.ops import Put, Result, Row, Scan, Write
from memory.store import MemoryStore
from memory.store.breaker import Breaker
from memory.store.options import check_counts, check_seconds
from memory.store.types import Durability

R = TypeVar("R", bound=Record)
_metered: ContextVar[Meter | None] = ContextVar("metered", default=None)


class Collections(msgspec.Struct, frozen=True):
    """The collections of one store: ``items`` is shared with older programs, the others are ours alone."""

    items: str
    tombstones: str
    locks: str
    store: str


class FirestoreStore(MemoryStore, Generic[R]):
    """A store in a Firestore database.

    ``url`` or ``project_id`` and ``database`` name the database, else GOOGLE_CLOUD_PROJECT or GCP_PROJECT_ID.
    ``credentials_path`` or ``credentials_json`` say who asks, else the environment's default credentials. ``emulator``: host
    and port, else FIRESTORE_EMULATOR_HOST. ``timeout``: seconds that one call to Firestore may take. ``max_reads``: most
    documents that one page, count or search may read; beyond it UnsupportedOperation is raised. ``breaker_failures``
    failures in a row stop all calls for ``breaker_recovery`` seconds. Further options as in MemoryStore.
    """

    record: ClassVar[type[Any]]
    """What documents are read as."""
    names: Collections
    address_options: ClassVar[Mapping[str, Sequence[str]]] = {}
    searches_at_once: ClassVar[int] = 8

    def __init__(
        self,
        url: str | None = None,
        *,
        project_id: str | None = None,
        database: str = DATABASE,
        credentials_path: str | None = None,
        credentials_json: str | None = None,
        emulator: str | None = None,
        timeout: float = 30.0,
        max_reads: int | None = None,
        breaker_failures: int = 5,
        breaker_recovery: float = 30.0,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.place = place_of(url, project_id, database, emulator)
        check_seconds(timeout=timeout, breaker_recovery=breaker_recovery)
        check_counts(breaker_failures=breaker_failures, **({} if max_reads is None else {"max_reads": max_reads}))
        self.timeout, self.max_reads = float(timeout), max_reads
        self._credentials = (credentials_path, credentials_json)
        self._breaker = (breaker_failures, float(breaker_recovery))
        self._connection: Connection[R] | None = None
        self._lanes = Lanes()

    @property
    def collections(self) -> tuple[str, ...]:
        """Those that hold items."""
        return (self.names.items,)

    @property
    def durability(self) -> Durability:
        """Google's service replicates before it acknowledges; an emulator keeps everything in its memory."""
        return "replicated" if self.place.emulator is None else "process"

    @property
    def expires_natively(self) -> bool:
        """Whether documents carry the field that Firestore's own deletion goes by. Not with an injected clock."""
        return not self.injected_clock

    async def _open(self) -> None:
        credentials = None
        if self.place.emulator is None:
            credentials = await asyncio.to_thread(credentials_of, *self._credentials)
        self._lanes = Lanes()
        breaker = Breaker(*self._breaker)
        self._connection = Connection(self.record, self.name, self.place, credentials, self.timeout, breaker)
        await self._prepare_store()
        self._seen = max(self._seen, self._connection.read_time)

    async def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _connected(self) -> Connection[R]:
        if self._connection is None:
            raise Closed(f"this {self.name} store is closed")
        return self._connection

    # --- reads are counted for each operation ----------------------------------------------------

    def _meter(self) -> Meter:
        """The meter of the operation that is under way, or a new one."""
        return _metered.get() or Meter(self.max_reads)

    @contextmanager
    def _one_meter(self) -> Iterator[Meter]:
        """Reads of all that is asked inside count together."""
        meter = self._meter()
        token = _metered.set(meter)
        try:
            yield meter
        finally:
            _metered.reset(token)

    async def _filled(self, op: Scan) -> list[tuple[Row, MemoryItem]]:
        with self._one_meter():  # a page of a filter that Firestore cannot say takes several scans
            return await super()._filled(op)

    # --- writing -------------------------------------------------------------------------------

    async def _write(self, ops: Sequence[Write], atomic: bool) -> list[Result]:
        return await Batch(self, ops).run()

    async def _sweep(self, now: int) -> int:
        return await sweep(self, now)

    # --- what each layout says -------------------------------------------------------------------

    @abstractmethod
    async def _prepare_store(self) -> None:
        """What is read, and written once, when the store opens."""

    @staticmethod
    @abstractmethod
    def document_id(key: Key) -> str:
        """The name of a key's document."""

    async def _fetch(self, names: Sequence[str], meter: Meter) -> Known:
        """What is there under each of these names of documents."""
        found = await self._connected().get(self.names.items, names, meter)
        return {name: found.get(name) for name in names}

    def _known(self, found: Sequence[R]) -> Known:
        """What documents that a query found tell of what is there under their names."""
        return {one.id: one for one in found}

    @abstractmethod
    def _decide(self, op: Write, found: Any, tombstone: Document | None) -> Result | Change:
        """What becomes of a write, dedup apart. Raises CorruptData, InvalidItem."""

    @abstractmethod
    async def _twins(self, ops: Sequence[Put], meter: Meter) -> dict[bytes, Twin]:
        """Digest -> the live item of this content with the lowest key. Digests without one are left out."""
