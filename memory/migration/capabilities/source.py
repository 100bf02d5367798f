"""Old entries as the source of a migration, wherever they lie. What cannot be read as an entry is told, never moved."""

from __future__ import annotations

import hashlib
import heapq
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from memory.clock import from_micros, system_clock, to_micros
from memory.codec import encode
from memory.errors import InvalidItem
from memory.migration.capabilities.entries import item_of
from memory.migration.records import Pair
from memory.migration.report import Finding
from memory.migration.sources import Changed, StoreSource
from memory.model import DEFAULT_NAMESPACE, Key, MemoryItem, check_id
from memory.ops import Position, Row
from memory.turns import is_due, pause
from memory.vectors import vector_bytes

if TYPE_CHECKING:
    from typing import Any

    from memory.store import MemoryStore


SORTED = 2_000
"""Keys that are sorted at once."""
MAX_BYTES = 4 * 1024 * 1024
"""More holds no entry that an item could be made of, and is not read."""


class Record(NamedTuple):
    """What lies under a key: ``fields``, an object as it was stored; or ``wrong``, why it is no entry.

    ``expires``: when the engine itself will drop it, in microseconds since the epoch. ``embedding``: its vector, 1-d.
    ``aside``: what is wrong with a part of it, which stays behind.
    """

    fields: Any = None
    wrong: str | None = None
    expires: int | None = None
    embedding: Any = None
    aside: str | None = None


class Reader(Protocol):
    """Where entries lie. Opened and closed by whoever made it."""

    address: str
    """Without a password."""
    embedder: str | None
    """Who made the vectors."""

    async def keys(self) -> tuple[list[str], list[tuple[str, str]]]:
        """All keys, in any order; and names that are no keys, each with the reason."""
        ...

    async def fetch(self, keys: Sequence[str]) -> list[Record | None]:
        """What lies under these keys, in order; None where there is nothing any more."""
        ...


class EntrySource:
    """Entries in key order, under one namespace.

    The keys are those of the beginning; each entry is read when it is its turn. What is no entry, and what has
    expired, is noted when it is read, and told by ``unlisted``, which is asked after all pages.
    """

    def __init__(self, reader: Reader, namespace: tuple[str, ...] = DEFAULT_NAMESPACE) -> None:
        self._reader = reader
        self._namespace = namespace
        self._keys: list[bytes] | None = None
        self._noted: dict[tuple[str, str], Finding] = {}

    def counterpart(self, target: MemoryStore) -> StoreSource:
        """The same namespace of a store."""
        return StoreSource(target, namespace=self._namespace)

    def now(self) -> int:
        """The clock of this machine."""
        return system_clock()

    async def count(self) -> int:
        """How many keys there are; of some it will turn out that they hold no entry."""
        return len(await self._listed())

    async def page(self, after: Position | None, limit: int) -> list[Pair]:
        """The next live entries in key order."""
        keys = await self._listed()
        start = 0 if after is None else bisect_right(keys, after.id.encode())
        found: list[Pair] = []
        while start < len(keys) and len(found) < limit:
            part = [key.decode() for key in keys[start : start + limit - len(found)]]
            start += len(part)
            found += [pair for pair in await self._pairs(part) if pair is not None]
        return found

    async def read(self, keys: Sequence[Key]) -> list[Pair | None]:
        """The live entries under these keys."""
        ours = [key[1] for key in keys if key[0] == self._namespace]
        pairs = dict(zip(ours, await self._pairs(ours), strict=True))
        return [pairs.get(key[1]) if key[0] == self._namespace else None for key in keys]

    async def unlisted(self) -> list[Finding]:
        """What was met and is no live entry: a finding for each, with the reason."""
        return list(self._noted.values())

    async def feed_head(self) -> int | None:
        """None: there is no feed."""
        return None

    async def changed(self, after: int) -> Changed | None:
        """None: there is no feed."""
        return None

    async def _listed(self) -> list[bytes]:
        if self._keys is None:
            keys, strange = await self._reader.keys()
            for name, why in strange:
                self._note("unlisted", name, why)
            parts: list[list[bytes]] = [[]]
            for key in keys:
                try:
                    parts[-1].append(check_id(key, "key").encode())
                except InvalidItem as error:
                    self._note("unlisted", key, error.message)
                if len(parts[-1]) == SORTED:
                    parts.append([])
                if is_due():
                    await pause()
            self._keys = await _merged(parts)
        return self._keys

    async def _pairs(self, keys: Sequence[str]) -> list[Pair | None]:
        if not keys:
            return []
        pairs: list[Pair | None] = []
        for key, record in zip(keys, await self._reader.fetch(keys), strict=True):
            pairs.append(None if record is None else self._pair(key, record))
            if is_due():
                await pause()
        return pairs

    def _pair(self, key: str, record: Record) -> Pair | None:
        """The row and item of an entry; None for what is none, or has expired."""
        if record.wrong is not None:
            self._note("unlisted", key, record.wrong)
            return None
        try:
            item = self._item(key, record)
            body = encode(item)
        except InvalidItem as error:
            self._note("unlisted", key, error.message)
            return None
        if item.expires_at is not None and to_micros(item.expires_at) <= self.now():
            self._note("expired", key, f"it expired at {item.expires_at.isoformat()}")
            return None
        if record.aside is not None:
            self._note("unlisted", key, record.aside)
        row = Row(
            body=body,
            version=0,
            created=to_micros(item.created_at),
            updated=to_micros(item.updated_at),
            accessed=to_micros(item.accessed_at),
            expires=None if item.expires_at is None else to_micros(item.expires_at),
            embedding=vector_bytes(item.embedding),
            embedder=None if item.embedding is None else self._reader.embedder,
        )
        row.version = _version(row)
        return row, item

    def _item(self, key: str, record: Record) -> MemoryItem:
        item = item_of(key, record.fields)
        changes: dict[str, Any] = {"namespace": self._namespace}
        if record.expires is not None and (item.expires_at is None or record.expires < to_micros(item.expires_at)):
            changes |= _sooner(item, record.expires)
        if record.embedding is not None:
            changes["embedding"] = record.embedding
        return msgspec.structs.replace(item, **changes)

    def _note(self, kind: Any, key: str, why: str) -> None:
        shown = key.encode(errors="backslashreplace").decode()
        self._noted.setdefault((kind, key), Finding(kind=kind, key=(self._namespace, shown), why=why))


async def _merged(parts: list[list[bytes]]) -> list[bytes]:
    """All keys in order. Sorting them in one go would hold the loop."""
    for part in parts:
        part.sort()
        await pause()
    keys: list[bytes] = []
    for key in heapq.merge(*parts):
        keys.append(key)
        if is_due():
            await pause()
    return keys


def _sooner(item: MemoryItem, expires: int) -> dict[str, Any]:
    """The engine drops an entry before its own time is over: from then on it is gone. What it said itself is kept."""
    changes: dict[str, Any] = {"expires_at": from_micros(expires)}
    if item.expires_at is not None:
        legacy = {**item.metadata.get("legacy", {}), "expires_at": item.expires_at.isoformat()}
        changes["metadata"] = {**item.metadata, "legacy": legacy}
    return changes


def _version(row: Row) -> int:
    """A number that is another one when the entry has changed, since the old system counts no versions."""
    told = hashlib.blake2b(row.body, digest_size=8)
    told.update(repr((row.created, row.updated, row.expires, row.embedder)).encode())
    told.update(row.embedding or b"")
    return int.from_bytes(told.digest(), "big") >> 1
