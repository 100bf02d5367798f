"""The shipped contract over Redis: the core plain, through the twins and through a view; the query engine; a cluster."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from servers import server

from memory.backends.redis import RedisStore
from memory.store import MemoryStore
from memory.testing.contract import StoreContract, TwinsContract, ViewContract


def prefix_of(place: Path) -> str:
    """A prefix of its own for each place."""
    return "t" + hashlib.blake2b(str(place).encode(), digest_size=8).hexdigest()


class Core:
    flavour = "redis"

    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return RedisStore(server(self.flavour).url, prefix=prefix_of(place), **options)


class TestRedis(Core, StoreContract):
    calm = True


@pytest.mark.full  # twins and views are the base's: every run has them over the embedded stores
class TestRedisThroughTwins(Core, TwinsContract):
    pass


@pytest.mark.full
class TestRedisThroughAView(Core, ViewContract):
    pass


class TestRedisStack(Core, StoreContract):
    flavour = "redis_stack"


class TestRedisCluster(Core, StoreContract):
    flavour = "redis_cluster"
