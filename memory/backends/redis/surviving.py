"""Which records of a scope are live and satisfy a filter: asked of keys, a few at a time, and remembered for a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from memory.backends.redis.filtering import leading
from memory.backends.redis.reading import fetch, row_of
from memory.backends.redis.scanning import Cursor, expired
from memory.codec import decode
from memory.filters import Filter, predicate
from memory.ops import Row, Scope

if TYPE_CHECKING:
    from memory.backends.redis.backend import RedisStore

FEW = 5_000
"""Up to so many keys of an index are worth fetching, to look the others up in."""


class Survivors:
    """What passes. Owner and namespace of a scope are held to as well."""

    def __init__(self, store: RedisStore, scope: Scope, where: Filter | None, now: int) -> None:
        self._store, self._scope, self._where, self._now = store, scope, where, now
        self._accept = None if where is None else predicate(where)
        self._lead = None if where is None else leading(Scope(scope.path, scope.below), where, store.leads)
        self._known: dict[bytes, bool] = {}
        self._gone: dict[bytes, set[bytes]] = {}
        self._led: dict[bytes, set[bytes] | None] = {}

    def accepts(self, row: Row) -> bool:
        """Whether a row satisfies the filter."""
        return self._accept is None or self._accept(decode(row, vector=False))

    async def among(self, tag: bytes, keys: Sequence[bytes]) -> set[bytes] | None:
        """Those of these keys whose records pass; None: all of them. The keys are in scope."""
        gone = await self._expired(tag)
        if self._accept is None:
            return set(keys) - gone if gone else None
        led = await self._lead_keys(tag)
        asked = [key for key in keys if key not in gone and (led is None or key in led)]
        await self._ask(tag, [key for key in asked if key not in self._known])
        return {key for key in asked if self._known[key]}

    async def _expired(self, tag: bytes) -> set[bytes]:
        if tag not in self._gone:
            gone: set[bytes] = set()
            async for keys in expired(self._store, tag, self._now):
                gone.update(keys)
            self._gone[tag] = gone
        return self._gone[tag]

    async def _lead_keys(self, tag: bytes) -> set[bytes] | None:
        """All keys under the filter's leading head, when these are few."""
        if tag not in self._led:
            self._led[tag] = None
            if self._lead is not None:
                head, name = self._lead.head, self._store.names.index(tag)
                cursor = Cursor(self._store, tag, name, b"[" + head + b"\0", b"(" + head + b"\1", strip=len(head) + 1)
                while not cursor.done and len(cursor.entries) < FEW:
                    await cursor.more(1_000)
                if cursor.done:
                    self._led[tag] = {cursor.key(entry) for entry in cursor.take()}
        return self._led[tag]

    async def _ask(self, tag: bytes, keys: Sequence[bytes]) -> None:
        found = await fetch(self._store, tag, keys, "hb")
        async for part in self._store.slices(list(zip(keys, found, strict=True))):
            for key, one in part:
                self._known[key] = (
                    one is not None and one.live(self._scope, self._now) and self.accepts(row_of(self._store, one))
                )
