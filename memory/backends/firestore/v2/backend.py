"""``firestore_v2``: one document an item, beside those of V2 programs, in Google's Firestore or its emulator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from memory.backends.firestore.deciding import Change
from memory.backends.firestore.document import Document
from memory.backends.firestore.locks import Twin
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.spaces import prepare
from memory.backends.firestore.store import FirestoreStore
from memory.backends.firestore.v2 import scanning, upkeep
from memory.backends.firestore.v2.adopting import Adopter
from memory.backends.firestore.v2.around import around
from memory.backends.firestore.v2.attaching import attach, unattached
from memory.backends.firestore.v2.deciding import decide
from memory.backends.firestore.v2.documents import Found
from memory.backends.firestore.v2.indexes import DIMENSION, definitions
from memory.backends.firestore.v2.matching import Matching
from memory.backends.firestore.v2.names import collection, collections, document_id
from memory.backends.firestore.v2.nearest import nearest
from memory.backends.firestore.v2.twins import find_twins
from memory.backends.firestore.v2.unlisted import unlisted
from memory.errors import InvalidSetting
from memory.model import Key
from memory.ops import (
    Around,
    Attach,
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
    Write,
)
from memory.store import Capabilities
from memory.store.types import RepairReport

USUAL = {"namespace": "default", "privacy": "standard"}
"""The parts of V2's names of collections where nobody says others."""


class FirestoreV2Store(FirestoreStore[Found]):
    """Memories as documents of a Firestore database, in the collection that V2 programs use.

    ``url`` is ``firestore://PROJECT/DATABASE``. ``namespace``, ``privacy`` and ``environment`` are parts of the names of
    collections, as V2 programs have them (no namespace of an item). ``legacy_check``: seconds between looks for documents
    that V2 programs wrote (see adopting); 0: each list, count and search first reads every document, so that changes of V2
    programs are found at once; None: only when the store opens. Further options as in FirestoreStore.
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
    record = Found

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str = "default",
        privacy: str = "standard",
        environment: str | None = None,
        legacy_check: float | None = 60.0,
        **options: Any,
    ) -> None:
        super().__init__(url, **options)
        parts = {"namespace": namespace, "privacy": privacy, "environment": environment}
        self._named = {name: part for name, part in parts.items() if part not in (None, "", USUAL.get(name))}
        self.names = collections(namespace, privacy, environment)
        self.agents = collection("agent_data", namespace, privacy, environment)
        """Where V2 programs keep agent data, which is told and not read."""
        if legacy_check is not None and (type(legacy_check) not in (int, float) or not 0 <= legacy_check < 1e9):
            raise InvalidSetting(
                f"legacy_check must be seconds from 0, or None, not {legacy_check!r}", setting="legacy_check"
            )
        self.legacy_check = legacy_check

    document_id = staticmethod(document_id)

    def index_definitions(self) -> dict[str, Any]:
        """The indexes of this store's collections, to be deployed once: see docs/firestore.md."""
        known = self.dimension or (None if self._space is None else self._space.dimension)
        return definitions(self.names, known or getattr(self.embedder, "dimension", None) or DIMENSION)

    @property
    def location(self) -> str:
        """The address, with what says which collections and which server where these are not the usual ones."""
        return self.place.location("firestore", self._named)

    async def _prepare_store(self) -> None:
        self._adopter = Adopter(self, self.legacy_check)
        await prepare(self)
        await self._adopter.look()

    # --- hooks ---------------------------------------------------------------------------------

    def _decide(self, op: Write, found: Found | None, tombstone: Document | None) -> Result | Change:
        connection, id = self._connected(), self.document_id(op.key)
        return decide(
            op,
            found,
            tombstone,
            self._space,
            connection.name(self.names.items, id),
            connection.name(self.names.tombstones, id),
            expires_natively=self.expires_natively,
        )

    async def _twins(self, ops: Sequence[Put], meter: Meter) -> dict[bytes, Twin]:
        return await find_twins(self, ops, meter)

    async def _read(self, op: Read) -> list[Row | None]:
        return await scanning.read(self, op, Meter())

    async def _scan(self, op: Scan) -> Page:
        await self._adopter.look()
        return await scanning.scan(self, op, self._meter())

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

    async def _health(self) -> dict[str, Any]:
        return await upkeep.health(self)

    async def _unlisted(self) -> list[Problem]:
        return await unlisted(self)

    async def _repair(self) -> RepairReport:
        adopted = await self._adopter.adopt()
        actions = [f"{adopted} documents of other programs were given our fields"] if adopted else []
        if self._adopter.unreadable:
            actions.append(f"{self._adopter.unreadable} documents are no items and were left as they are; see the log")
        return RepairReport(actions or ["nothing to rebuild"])

    async def _verify(self) -> tuple[int, list[Problem]]:
        return await upkeep.verify(self)
