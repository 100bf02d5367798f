"""Entries in Redis: ``<prefix>:<key>`` holds an entry as JSON. Nothing is written, and nothing unpickled."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Self

import msgspec

from memory.backends.redis.address import from_url
from memory.backends.redis.faults import LostError
from memory.backends.redis.node import Part
from memory.backends.redis.servers import Servers
from memory.migration.capabilities.source import MAX_BYTES, Record
from memory.store.together import all_of

PAGE = 500
AT_ONCE = 64
"""Keys that are asked for together."""
_NEVER, _GONE = -1, -2
_OURS = re.compile(rb"\{(store|[0-9a-f]+)\}:")
"""What the names of keys of our own backend go on with, which may share the prefix."""


class RedisReader:
    """The entries under a prefix. ``url`` is that of the backend ``redis``. The server must be Redis 7 or Valkey."""

    embedder = None

    def __init__(self, url: str, prefix: str = "memory", *, timeout: float = 30.0) -> None:
        place = from_url(url)
        self._servers = Servers(place, pool=2, waiting=10_000, timeout=timeout)
        self._prefix = prefix.encode() + b":"
        self.address = f"{place.url}{'&' if '?' in (place.url or '') else '?'}prefix={prefix}"

    async def __aenter__(self) -> Self:
        try:
            await self._servers.open()
        except BaseException:
            await self._servers.close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._servers.close()

    async def keys(self) -> tuple[list[str], list[tuple[str, str]]]:
        """All keys under the prefix but those of our own backend; names that are no text are no keys."""
        pattern = re.sub(rb"([\\*?\[\]^])", rb"\\\1", self._prefix) + b"*"
        found: set[bytes] = set()
        for node in self._servers.nodes:
            cursor = b"0"
            while True:
                cursor, names = await self._servers.ask(node, "SCAN", cursor, "MATCH", pattern, "COUNT", PAGE)
                found.update(name.removeprefix(self._prefix) for name in names)
                if cursor == b"0":
                    break
        keys: list[str] = []
        strange: list[tuple[str, str]] = []
        for name in found:
            if _OURS.match(name):
                continue
            try:
                keys.append(name.decode())
            except UnicodeDecodeError:
                strange.append((name.decode(errors="backslashreplace"), "its name is not text"))
        return keys, strange

    async def fetch(self, keys: Sequence[str]) -> list[Record | None]:
        """What lies under these keys."""
        records: list[Record | None] = []
        for start in range(0, len(keys), AT_ONCE):
            records += await all_of([self._record(key) for key in keys[start : start + AT_ONCE]])
        return records

    async def _record(self, key: str) -> Record | None:
        name = self._prefix + key.encode()
        kind = await self._ask(name, "TYPE", name)
        if kind == b"none":
            return None
        if kind != b"string":
            return Record(wrong=f"it is a {kind.decode()} of Redis, and an entry is a string")
        if await self._ask(name, "STRLEN", name) > MAX_BYTES:
            return Record(wrong=f"it is larger than {MAX_BYTES:,} bytes")
        # In this order: one that expires in between is gone, and not taken for one that lives for ever.
        expires, raw = await self._ask(name, "PEXPIRETIME", name), await self._ask(name, "GET", name)
        if raw is None or expires == _GONE:
            return None
        try:
            fields: Any = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return Record(wrong=f"it is not JSON: {error}")
        return Record(fields, expires=None if expires == _NEVER else int(expires) * 1_000)

    async def _ask(self, name: bytes, *parts: Part) -> Any:
        try:
            return await self._servers.call(name, *parts)
        except LostError as error:
            raise error.for_read() from None
