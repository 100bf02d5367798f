"""Each layout in Redis, kept for ever: whatever changes, this store opens and says the same."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
import redis as driver
from servers import server

from memory import F, ManualClock
from memory.backends.redis import RedisStore
from memory.testing.embedder import WordEmbedder

FIRST = Path(__file__).parent / "fixtures" / "redis-v1.json"


def restore(url: str, prefix: str) -> None:
    """Write what the file holds, key by key, under another prefix."""
    raw = base64.b64decode
    kind = driver.RedisCluster if "cluster" in url else driver.Redis
    with kind.from_url(url.replace("redis+cluster://", "redis://")) as client:
        for name, value in json.loads(FIRST.read_text()).items():
            key = raw(name).replace(b"fixture:", prefix.encode() + b":", 1)
            if "hash" in value:
                client.hset(key, mapping={raw(field): raw(part) for field, part in value["hash"]})
            elif "sorted" in value:
                client.zadd(key, {raw(entry): 0 for entry in value["sorted"]})
            elif "set" in value:
                client.sadd(key, *map(raw, value["set"]))
            elif "string" in value:
                client.set(key, raw(value["string"]))
            else:
                for id, fields in value["stream"]:
                    parts = list(map(raw, fields))
                    client.xadd(key, dict(zip(parts[::2], parts[1::2], strict=True)), id=id)


@pytest.mark.parametrize("flavour", ["redis", "redis_stack", "redis_cluster"])
async def test_a_store_of_the_first_layout_opens_and_says_what_was_written(flavour: str) -> None:
    url, prefix = server(flavour).url, "f" + os.urandom(8).hex()
    restore(url, prefix)
    clock = ManualClock()
    clock.advance(2)
    words = WordEmbedder("words", 8)
    async with RedisStore(
        url, prefix=prefix, clock=clock, feed=True, embedder=words, index=["metadata.score"], sweep_interval=None
    ) as store:
        assert (await store.verify()).ok
        assert await store.count() == 12
        assert await store.namespaces() == [("default",), ("team", "agent0"), ("team", "agent1")]
        third = await store.get("item-3", namespace=("team", "agent1"))
        assert third is not None
        assert third.content == "The marmot number 3 whistles in the mountains"
        assert third.tags == ("alps",)
        assert third.metadata == {"score": 3, "deep": {"a.b": [1, None, True, -0.0]}}
        assert third.embedding.tolist() == words.vector(third.content).tolist()
        odd = await store.get("é\u0301😀")
        assert odd is not None
        assert odd.content == {"text": "naïve café", "n": 2**53 + 1, "nul": "a\0b"}
        assert [item.id for item in await store.list(F.metadata.score == 7)] == ["item-7"]
        assert [item.id for item in await store.list(F.tags.contains("alps"))] == ["item-0", "item-6", "item-3"]
        assert [hit.item.id for hit in await store.search("marmot 4", mode="text", limit=1)] == ["item-4"]
        hits = await store.search("The marmot number 7 whistles in the mountains", mode="vector", limit=1)
        assert [(hit.item.id, hit.score) for hit in hits] == [("item-7", 1.0)]
        touched = await store.get("item-2", namespace=("team", "agent0"))
        assert touched is not None
        assert touched.access_count == 1
        clock.advance(60)
        assert await store.get("short-lived") is None
        assert await store.sweep() == 1
        assert (await store.reembed()).embedded == 1
        stored = await store.put(third)
        assert stored.version > third.version
        changes = [change.key[1] async for change in store.watch(timeout=0)]
        assert changes == []
        assert (await store.verify()).ok
