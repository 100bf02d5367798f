"""The backend ``redis``: Redis or Valkey, one server or a cluster, with or without the query engine."""

from __future__ import annotations

from memory.store.drivers import driver

with driver("redis", "redis"):
    from memory.backends.redis.backend import RedisStore

__all__ = ["RedisStore"]
