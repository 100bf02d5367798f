"""The query engine (RediSearch), where the server has it: candidates by vector for more vectors than are looked through
one by one.

It is asked for record names only, with words of hexadecimal digits for the scope and never a word of the caller's. What
it finds is read, held to scope, time and filter, and scored here, so its numbers decide nothing. It is used only where a
query that runs out of time fails (ON_TIMEOUT), because the default is a silent part of the answer; and not in a cluster.
"""

from __future__ import annotations

import asyncio
from hashlib import sha1
from typing import TYPE_CHECKING, Any

from redis import exceptions

from memory.backends.redis.faults import is_driver_error
from memory.backends.redis.node import Node
from memory.model import path_bytes
from memory.ops import Scope
from memory.telemetry import get_logger

if TYPE_CHECKING:
    from memory.backends.redis.backend import RedisStore

_log = get_logger("redis")
LINKS, WIDTH_WHEN_BUILT, WIDTH_AT_LEAST = 16, 200, 200
"""Of the graph (HNSW): links of a vector, and how many candidates are followed when it is built and when it is asked."""


async def usable(node: Node) -> tuple[bool, str]:
    """Whether the server's query engine may be used, and if not, why."""
    told = await node.call("FT.CONFIG", "GET", "ON_TIMEOUT")
    if is_driver_error(told):
        return False, "the server has none"
    if _policy(told) != b"fail":
        changed = await node.call("FT.CONFIG", "SET", "ON_TIMEOUT", "fail")
        if is_driver_error(changed) or _policy(await node.call("FT.CONFIG", "GET", "ON_TIMEOUT")) != b"fail":
            return False, "its ON_TIMEOUT is not fail, and this user may not set it: answers could be silently partial"
    return True, ""


def _policy(told: Any) -> bytes:
    try:
        return bytes(told[0][1]).lower()
    except (TypeError, IndexError):
        return b""


def _word(letter: str, raw: bytes) -> str:
    return letter + sha1(raw, usedforsecurity=False).hexdigest()[:20]


def scope_query(scope: Scope) -> str:
    """The scope in the engine's language."""
    words = []
    if scope.path:
        words.append(_word("b" if scope.below else "n", path_bytes(scope.path)))
    for letter, name in (("u", scope.user_id), ("r", scope.agent_id), ("s", scope.session_id)):
        if name is not None:
            words.append(_word(letter, name.encode()))
    return "(" + " ".join(f"@p:{{{word}}}" for word in words) + ")" if words else "*"


class Engine:
    """The index of the vectors of one space at a time."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._ready: set[bytes] = set()
        self._making = asyncio.Lock()

    def _name(self, number: bytes) -> bytes:
        return self._store.names.prefix + b":vectors:" + number

    async def ready(self, number: bytes, dimension: int) -> bool:
        """Whether the engine has all vectors of a space; the first who asks lets it begin."""
        if number in self._ready:
            return True
        if self._making.locked():
            return False
        async with self._making:
            name = self._name(number)
            told = await self._store.servers.first.call("FT.INFO", name)
            if isinstance(told, exceptions.ResponseError):
                await self._make(name, number, dimension)
                return False
            if is_driver_error(told):
                return False
            facts = {bytes(told[i]): told[i + 1] for i in range(0, len(told) - 1, 2) if isinstance(told[i], bytes)}
            if int(facts.get(b"indexing", 1) or 0) == 0:
                self._ready.add(number)
        return number in self._ready

    async def _make(self, name: bytes, number: bytes, dimension: int) -> None:
        made = await self._store.servers.first.call(
            "FT.CREATE", name, "ON", "HASH", "PREFIX", 1, self._store.names.prefix + b":{", "SCHEMA",
            "p", "TAG", "SEPARATOR", ",", b"v" + number, "VECTOR", "HNSW", 10, "TYPE", "FLOAT32", "DIM", dimension,
            "DISTANCE_METRIC", "COSINE", "M", LINKS, "EF_CONSTRUCTION", WIDTH_WHEN_BUILT,
        )  # fmt: skip
        if is_driver_error(made) and "exists" not in str(made):
            _log.warning("no index of vectors", backend="redis", error=str(made))

    async def nearest(self, number: bytes, scope: Scope, vector: bytes, count: int) -> list[bytes] | None:
        """The names of about the ``count`` nearest records in scope, the nearest first; None when the engine fails."""
        query = f"{scope_query(scope)}=>[KNN $k @v{number.decode()} $v EF_RUNTIME $w AS d]"
        told = await self._store.servers.first.call(
            "FT.SEARCH", self._name(number), query, "PARAMS", 6, "k", count, "v", vector, "w",
            max(WIDTH_AT_LEAST, 2 * count), "SORTBY", "d", "NOCONTENT", "LIMIT", 0, count, "DIALECT", 2,
        )  # fmt: skip
        if is_driver_error(told) or not isinstance(told, list):
            self._ready.discard(number)
            return None
        return [bytes(name) for name in told[1:]]

    async def forget(self, number: bytes) -> None:
        """Drop the index of a space that is no longer used; records stay."""
        self._ready.discard(number)
        await self._store.servers.first.call("FT.DROPINDEX", self._name(number))
