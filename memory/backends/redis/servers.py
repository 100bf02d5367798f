"""All servers of a store: one, or those of a cluster, each key going to the one that holds its slot."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis import exceptions
from redis.crc import key_slot

from memory.backends.redis.address import Address
from memory.backends.redis.faults import is_driver_error, translate
from memory.backends.redis.node import Node, Part
from memory.backends.redis.scripts import Script
from memory.errors import BackendUnavailable

TURNS = 16
"""How often a request follows a slot that moves, before it gives up."""


class Servers:
    """Where requests go. An answer that is an error of the server is raised, translated."""

    def __init__(self, address: Address, *, pool: int, waiting: int, timeout: float) -> None:
        self._address = address
        self.cluster = address.cluster
        self._limits = {"pool": pool, "waiting": waiting, "timeout": timeout}
        self.first = self._node(address.host, address.port)
        self._nodes = {address.at(address.host, address.port): self.first}
        self._slots: list[Node | None] = [None] * 16_384 if self.cluster else []
        self._learning: asyncio.Task[None] | None = None

    def _node(self, host: str, port: int) -> Node:
        address = self._address
        first = (host, port) == (address.host, address.port)
        place = address.place if first else address.at(host, port)
        return Node(address.maker() if first else address.maker(host, port), place, **self._limits)  # type: ignore[arg-type]

    @property
    def nodes(self) -> list[Node]:
        """The servers known, each once."""
        return list(dict.fromkeys(node for node in self._slots if node is not None)) if self.cluster else [self.first]

    @property
    def in_use(self) -> int:
        """Connections on which answers are awaited just now."""
        return sum(node.in_use for node in self.nodes)

    @property
    def place(self) -> str:
        """For messages."""
        return self._address.place

    async def open(self) -> None:
        """Learn which server holds which slot. Raises BackendUnavailable."""
        if self.cluster:
            await self._learn()
        else:
            await self.call(b"", "PING")

    async def close(self) -> None:
        """Close every connection once what was sent is answered."""
        for node in self._nodes.values():
            node.shut()
        for node in list(self._nodes.values()):
            await node.close()

    def abandon(self) -> None:
        """Forget connections whose loop has ended."""
        for node in self._nodes.values():
            node.abandon()

    # --- requests ------------------------------------------------------------------------------

    async def call(self, key: bytes, *parts: Part) -> Any:
        """The answer of a command about one key (all its keys in one slot). Raises what `Node.call` raises, and the
        server's own errors, translated."""
        node = self.first if not self.cluster else self._slots[key_slot(key)] or self.first
        answer = await node.call(*parts)
        if is_driver_error(answer):
            return await self._again(answer, key, node, parts)
        return answer

    async def run(self, script: Script, keys: Sequence[bytes], *arguments: Part) -> Any:
        """The answer of a script; the server that does not have it yet gets it."""
        call = ("EVALSHA", script.digest, len(keys), *keys, *arguments)
        node = self.first if not self.cluster else self._slots[key_slot(keys[0])] or self.first
        answer = await node.call(*call)
        if is_driver_error(answer):
            if isinstance(answer, exceptions.NoScriptError):
                # It was not carried out. Another failover in between only costs another turn.
                return await self.call(keys[0], "EVAL", script.text, *call[2:])
            return await self._again(answer, keys[0], node, call, script)
        return answer

    async def ask(self, node: Node, *parts: Part) -> Any:
        """The answer of one server, whatever slots it holds."""
        answer = await node.call(*parts)
        if is_driver_error(answer):
            raise translate(answer, node.place)
        return answer

    async def _again(
        self, error: Any, key: bytes, node: Node, parts: Sequence[Part], script: Script | None = None
    ) -> Any:
        """Follow a slot to where it has moved. Only for answers that say that nothing was done."""
        for turn in range(TURNS):
            if isinstance(error, exceptions.AskError):
                node = self._at(error.host or self._address.host, int(error.port))
                answer = await node.call(*parts, asking=True)
            elif isinstance(error, exceptions.MovedError):
                node = self._at(error.host or self._address.host, int(error.port))
                self._slots[key_slot(key)] = node
                answer = await node.call(*parts)
            elif isinstance(error, exceptions.TryAgainError | exceptions.ClusterDownError) and turn < TURNS - 1:
                await asyncio.sleep(0.02 * (turn + 1))
                answer = await node.call(*parts)
            elif isinstance(error, exceptions.NoScriptError) and script is not None:
                parts = ("EVAL", script.text, *parts[2:])
                answer = await node.call(*parts)
            else:
                raise translate(error, node.place)
            if not is_driver_error(answer):
                return answer
            error = answer
        raise translate(error, node.place)

    # --- the cluster ---------------------------------------------------------------------------

    def _at(self, host: str, port: int) -> Node:
        name = self._address.at(host, port)
        if name not in self._nodes:
            self._nodes[name] = self._node(host, port)
        return self._nodes[name]

    async def relearn(self) -> None:
        """Ask anew which server holds which slot, after one of them has failed. Raises nothing."""
        if not self.cluster:
            return
        if self._learning is None or self._learning.done():
            self._learning = asyncio.ensure_future(self._learn())
        await asyncio.wait([self._learning])
        self._learning.exception()

    async def _learn(self) -> None:
        failed: Exception | None = None
        for node in list(self._nodes.values()):
            try:
                answer = await node.call("CLUSTER", "SLOTS")
            except Exception as error:  # noqa: BLE001 - another node may know; the last error is raised
                failed = error
                continue
            if isinstance(answer, exceptions.ResponseError):
                raise BackendUnavailable(
                    f"Redis at {node.place} is no cluster ({answer}); write redis:// instead of redis+cluster://",
                    place=node.place,
                )
            if is_driver_error(answer):
                failed = translate(answer, node.place)
                continue
            for first, last, owner, *_ in answer:
                host = owner[0].decode() if owner[0] else self._address.host
                held = self._at(host, int(owner[1]))
                self._slots[first : last + 1] = [held] * (last - first + 1)
            return
        raise failed or BackendUnavailable(f"no server of the cluster at {self.place} answers", place=self.place)
