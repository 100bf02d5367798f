"""``firestore_v1``: the documents of V1 programs as items, and items as documents that V1 programs read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from memory.backends.firestore.deciding import Change
from memory.backends.firestore.document import UNNAMED, Document
from memory.backends.firestore.lanes import Known
from memory.backends.firestore.locks import Twin
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.queries import Query
from memory.backends.firestore.records import TIMESTAMP
from memory.backends.firestore.spaces import read_space
from memory.backends.firestore.store import Collections, FirestoreStore
from memory.backends.firestore.v1 import scanning, upkeep
from memory.backends.firestore.v1.deciding import decide
from memory.backends.firestore.v1.documents import Found
from memory.backends.firestore.v1.natives import AGENTS, ITEMS
from memory.backends.firestore.v1.twins import find_twins
from memory.errors import MemoryStoreError
from memory.model import DEFAULT_NAMESPACE, Key
from memory.ops import (
    Around,
    Count,
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
from memory.store import Capabilities
from memory.telemetry import get_logger

LOOKED_AT = 100
"""Of the newest documents: they tell of how many numbers vectors are, where nothing else does."""
NOTED = 10_000
"""Names of unreadable and of hidden documents that are remembered."""
_log = get_logger("firestore_v1")


class FirestoreV1Store(FirestoreStore[Found]):
    """Memories in ``memory_items`` and ``agent_data``, the two collections of V1 programs, which may go on using them.

    An item that belongs to an agent alone is agent data, any other a memory item. There is one namespace, the default one;
    an id has to be a document's name. Nothing is written into a document that nobody changes. ``url`` is
    ``firestore+v1://PROJECT/DATABASE``; further options as in FirestoreStore.
    """

    name = "firestore_v1"
    capabilities: ClassVar[Capabilities] = Capabilities(
        persistent=True,
        shared=True,
        atomic_batches=False,
        feed=False,
        indexes_terms=False,
        namespaces=False,
        forbidden_ids=UNNAMED.pattern,
        max_dimension=2_048,
    )
    searches_at_once: ClassVar[int] = 1  # they compute here: each goes through all documents in scope
    record = Found

    def __init__(self, url: str | None = None, **options: Any) -> None:
        super().__init__(url, **options)
        self.names = Collections(ITEMS, "memory_tombstones", "memory_locks", "memory_store")
        self.unreadable: set[tuple[str, str]] = set()
        """(collection, name) of documents that are no items, as far as they were met."""
        self.hidden: set[str] = set()
        """Names of agent data that memory items of the same name hide, as far as they were met."""

    @property
    def collections(self) -> tuple[str, ...]:
        """Those that hold items."""
        return (ITEMS, AGENTS)

    @property
    def location(self) -> str:
        """The address that opens the same data."""
        return self.place.location("firestore+v1", {})

    @property
    def expires_natively(self) -> bool:
        """False: V1's documents have no field for it, and deletes by the sweep as V1 does."""
        return False

    @staticmethod
    def document_id(key: Key) -> str:
        """The name of a key's document."""
        return key[1]

    @staticmethod
    def can_hold(id: str) -> bool:
        """Whether an id can be a document's name."""
        return UNNAMED.fullmatch(id) is None

    async def _prepare_store(self) -> None:
        await read_space(self, Meter())
        if self._space is None and self.embedder is None:
            newest = Query(collection=ITEMS, orders=((TIMESTAMP, True),), limit=LOOKED_AT)
            self._derive_space(await self._connected().query(newest, Meter()))

    def _derive_space(self, found: Iterable[Found]) -> None:
        """Take vectors for those of callers, of the dimension that most of these documents have."""
        if self.embedder is not None:
            return  # nobody knows who made them
        sizes = Counter(len(raw) // 4 for one in found if (raw := one.vector()) is not None)
        most = self.capabilities.max_dimension
        fitting = [(n, size) for size, n in sizes.items() if size <= most and self.dimension in (None, size)]
        if fitting:
            self._space = Space(None, max(fitting)[1])

    def _unreadable(self, found: Found, error: MemoryStoreError) -> None:
        place = (found.collection, found.id)
        if place not in self.unreadable and len(self.unreadable) < NOTED:
            self.unreadable.add(place)
            _log.warning("unreadable document", backend=self.name, collection=place[0], document=place[1], error=error)

    def _clashes(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.hidden and len(self.hidden) < NOTED:
                self.hidden.add(name)
                _log.warning("agent data hidden by a memory item of the same name", backend=self.name, document=name)

    # --- hooks ---------------------------------------------------------------------------------

    async def _write(self, ops: Sequence[Write], atomic: bool) -> list[Result]:
        """What cannot be here is missing; a put of it was refused before."""
        possible = [op for op in ops if op.key[0] == DEFAULT_NAMESPACE and self.can_hold(op.key[1])]
        if len(possible) == len(ops):
            return await super()._write(ops, atomic)
        done = iter(await super()._write(possible, atomic) if possible else [])
        kept = {id(op) for op in possible}
        return [next(done) if id(op) in kept else Result(Status.MISSING) for op in ops]

    async def _fetch(self, names: Sequence[str], meter: Meter) -> Known:
        return dict(await scanning.fetch(self, list(names), meter))

    def _known(self, found: Sequence[Found]) -> Known:
        return {}  # the other collection may have the name, too

    def _decide(self, op: Write, found: Found | None, tombstone: Document | None) -> Result | Change:
        return decide(op, found, tombstone, self._space, self._connected().name, self.names.tombstones)

    async def _twins(self, ops: Sequence[Put], meter: Meter) -> dict[bytes, Twin]:
        return await find_twins(self, ops, meter)

    async def _read(self, op: Read) -> list[Row | None]:
        return await scanning.read(self, op, Meter())

    async def _scan(self, op: Scan) -> Page:
        return await scanning.scan(self, op, self._meter())

    async def _count(self, op: Count) -> int:
        return await scanning.count(self, op, self._meter())

    async def _namespaces(self, op: Count) -> list[tuple[str, ...]]:
        some = await self._filled(Scan(now=op.now, scope=op.scope, where=op.where, limit=1, vectors=False))
        return [DEFAULT_NAMESPACE] if some else []

    async def _around(self, op: Around) -> list[tuple[list[Row], list[Row]]]:
        with self._one_meter():
            return await super()._around(op)

    async def _match(self, op: Match) -> Matched:
        with self._one_meter():
            return await super()._match(op)

    async def _nearest(self, op: Nearest) -> list[Row]:
        with self._one_meter() as meter:
            if self._space is None and await read_space(self, meter) is None:
                await scanning.find_space(self, meter)
            return await super()._nearest(op)

    async def _health(self) -> dict[str, Any]:
        return await upkeep.health(self)

    async def _unlisted(self) -> list[Problem]:
        return await upkeep.unlisted(self)

    async def _verify(self) -> tuple[int, list[Problem]]:
        return await upkeep.verify(self)
