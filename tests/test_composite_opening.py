"""Composites that are opened while a member is down: a real server that starts later."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import missing

from memory import BackendUnavailable, MemoryItem
from memory.backends.composite import MirroredStore, TieredStore
from memory.backends.redis import RedisStore
from memory.backends.sqlite import SqliteStore
from memory.testing import services
from memory.testing.contract.suite import settle


@pytest.fixture
def stopped() -> Iterator[Any]:
    """A Redis of this test's own that does not run."""
    try:
        with services.redis(durable=True) as server:
            if not hasattr(server, "kill"):
                pytest.skip("the Redis of the environment is not ours to stop")
            server.kill()
            yield server
    except services.ServiceMissing as error:
        missing(str(error))


def truth(place: Path) -> SqliteStore:
    return SqliteStore(place / "truth.db", synchronous="off", feed=True)


async def test_a_fast_tier_that_is_down_at_first_is_used_once_it_is_there(stopped: Any, tmp_path: Path) -> None:
    fast = RedisStore(stopped.url, prefix="fast", timeout=2.0)
    async with TieredStore(fast, truth(tmp_path), failures=1, recovery=0.05) as store:
        stored = await store.put(MemoryItem(id="a", content="x"))
        assert await store.get("a") == stored
        health = await store.health()
        assert health.status == "degraded"
        assert "'fast'" in health.details["warnings"][0]
        await asyncio.to_thread(stopped.start)

        async def well() -> bool:
            assert await store.get("a") == stored
            return fast._loop is not None and await fast.exists("a")

        await settle(10, well)
        assert (await store.verify()).ok
    async with truth(tmp_path) as alone:
        assert await alone.get("a") == stored


async def test_a_mirror_that_is_down_at_first_catches_up(stopped: Any, tmp_path: Path) -> None:
    mirror = RedisStore(stopped.url, prefix="mirror", timeout=2.0)
    async with MirroredStore(truth(tmp_path), {"copy": mirror}, failures=1, recovery=0.05, text="copy") as store:
        await store.put_many([MemoryItem(id=f"{i}", content=f"note {i}") for i in range(20)])
        assert [hit.item.id for hit in await store.search("7")] == ["7"], "the primary is searched"
        assert (await store.health()).status == "degraded"
        await asyncio.to_thread(stopped.start)

        async def well() -> bool:
            return mirror._loop is not None and await mirror.exists("19")

        await settle(10, well)
        await store.drain()
        assert (await store.verify()).ok


async def test_a_member_whose_word_counts_has_to_answer(stopped: Any, tmp_path: Path) -> None:
    server = RedisStore(stopped.url, prefix="truth", timeout=2.0)
    with pytest.raises(BackendUnavailable):
        await TieredStore(truth(tmp_path), server).open()
