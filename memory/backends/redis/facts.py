"""What the server is and how it is set up, asked once at open: durability, eviction, the query engine."""

from __future__ import annotations

from typing import Any

import msgspec
from redis import exceptions

from memory.backends.redis.engine import usable
from memory.backends.redis.faults import is_driver_error, translate
from memory.backends.redis.servers import Servers
from memory.store.types import Durability
from memory.telemetry import get_logger

_log = get_logger("redis")


class Facts(msgspec.Struct):
    """What is known of the servers. ``policy``: what they do when memory is full (None: they do not tell)."""

    version: str = ""
    durability: Durability = "unknown"
    policy: str | None = None
    engine: bool = False
    without_engine: str = "a cluster has none"
    cluster: bool = False
    nodes: int = 1

    def told(self) -> dict[str, Any]:
        """For health."""
        told: dict[str, Any] = {
            "server": self.version,
            "nodes": self.nodes,
            "cluster": self.cluster,
            "vectors_by": "the query engine" if self.engine else f"this process ({self.without_engine})",
            "maxmemory_policy": self.policy,
        }
        if self.policy not in (None, "noeviction"):
            told["warning"] = _advice(self.policy)
        return told


def _advice(policy: str | None) -> str:
    return (
        f"maxmemory-policy is {policy}: when memory is full the server throws memories away. Set it to noeviction, "
        "and writes are refused instead"
    )


async def read_facts(servers: Servers) -> Facts:
    """Ask every server; of several the weakest durability counts."""
    facts = Facts(cluster=servers.cluster, nodes=len(servers.nodes))
    found: list[Durability] = []
    for node in servers.nodes:
        info = await node.call("INFO", "server")
        if is_driver_error(info):
            if not isinstance(info, exceptions.NoPermissionError):
                raise translate(info, node.place)
            info = b""
        facts.version = _version(info)
        told: dict[bytes, bytes] = {}
        for name in ("appendonly", "appendfsync", "maxmemory-policy"):
            answer = await node.call("CONFIG", "GET", name)
            if is_driver_error(answer):
                break  # the user may not ask: unknown is what is true
            told.update(zip(answer[::2], answer[1::2], strict=True))
        found.append(_durability(told))
        policy = told.get(b"maxmemory-policy")
        if policy is not None and facts.policy in (None, "noeviction"):
            facts.policy = policy.decode()
    if not servers.cluster:
        facts.engine, facts.without_engine = await usable(servers.first)
    weakest: tuple[Durability, ...] = ("unknown", "none", "process", "power")
    facts.durability = min(found, key=weakest.index)
    if facts.policy not in (None, "noeviction"):
        _log.warning("eviction", backend="redis", place=servers.place, advice=_advice(facts.policy))
    return facts


async def used_memory(servers: Servers) -> dict[str, Any]:
    """Bytes that the servers use, of how many they may; asking is also how one learns whether they are there."""
    used = most = 0
    for node in servers.nodes:
        info = await node.call("INFO", "memory")
        if is_driver_error(info):
            if isinstance(info, exceptions.NoPermissionError):
                await servers.ask(node, "PING")
                return {}
            raise translate(info, node.place)
        fields = _fields(info)
        used, most = used + int(fields.get(b"used_memory", 0)), most + int(fields.get(b"maxmemory", 0))
    return {"used_memory": used, "maxmemory": most or None}


def _durability(told: dict[bytes, bytes]) -> Durability:
    """Nothing of ours is lost when this process dies: the server has it. ``power`` needs each write on its disk before
    it is acknowledged; anything less may lose the last writes with the server itself."""
    if b"appendonly" not in told:
        return "unknown"
    if told[b"appendonly"] == b"yes" and told.get(b"appendfsync") == b"always":
        return "power"
    return "process"


def _version(info: bytes) -> str:
    fields = _fields(info)
    for name, product in ((b"valkey_version", "Valkey"), (b"redis_version", "Redis")):
        if name in fields:
            return f"{product} {fields[name].decode()}"
    return "unknown"


def _fields(info: bytes) -> dict[bytes, bytes]:
    """The lines of an answer to INFO."""
    return {name: value for name, _, value in (line.partition(b":") for line in info.split(b"\r\n"))}
