"""The old storages on servers and on what several stores make together: by their own configuration, nothing put in its place."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from legacy_capabilities import fill_redis
from servers import server

import memory.compat as old
from memory import create_store
from memory.compat.storages import Storage
from memory.migration.capabilities import import_capabilities
from memory.registry import BACKENDS

needs_faiss = pytest.mark.skipif("faiss" not in BACKENDS, reason="this version has no backend faiss")
needs_composite = pytest.mark.skipif("composite" not in BACKENDS, reason="this version has no backend composite")


def redis_config() -> old.RedisConfig:
    place = urlsplit(server("redis").url)
    return old.RedisConfig(place.hostname or "", place.port or 6379, prefix=f"old-{uuid4()}")


async def used(storage: Storage[Any, Any]) -> None:
    """A life of a storage: what it keeps, it finds, also when it is opened again."""
    async with storage:
        await storage.store("nuts", {"content": "Ana is allergic to nuts"}, indices={old.MemoryIndex.SEMANTIC})
        await storage.store("tea", {"content": "Ana drinks tea"}, old.MemoryType.LONG_TERM)
        await storage.store("boat", {"content": "The boat leaves"})
        found = [result.entry.key async for result in storage.search(old.MemoryQuery(query="nuts for Ana"))]
        assert found[:2] == ["nuts", "tea"]
        assert [result.entry.key async for result in storage.similar("nuts", limit=1)] == ["tea"]
        assert await storage.delete("boat")
        assert await storage.reindex() == 2
    async with storage:
        assert (await storage.retrieve("tea")).type == "long_term"
        with pytest.raises(KeyError):
            await storage.retrieve("boat")


async def test_postgres_beside_the_old_table(empty: Path) -> None:
    place = urlsplit(server("postgres").url)
    schema = f"old_{uuid4().hex[:8]}"
    config = old.PostgresConfig(
        *(place.hostname or "", place.port or 5432, place.path.strip("/"), place.username or "postgres"), schema=schema
    )
    await used(old.PostgresStorage(config))
    async with create_store(config.url, schema=schema, prefix="memory_") as store:
        assert await store.count() == 2


async def test_redis_under_the_old_prefix(empty: Path) -> None:
    config = redis_config()
    await used(old.RedisStorage(config))
    async with create_store(config.url, prefix=config.prefix) as store:
        assert await store.delete_where(None, under=()) == 2


async def test_imported_entries_are_seen_by_the_old_program(empty: Path) -> None:
    redis = redis_config()
    fill_redis(redis.url, redis.prefix)
    await import_capabilities(f"{redis.url}?prefix={redis.prefix}", f"{redis.url}?prefix={redis.prefix}")
    async with old.RedisStorage[str, Any](redis) as storage:
        entry = await storage.retrieve("doc-1")
        assert (entry.value, entry.type, entry.scope) == (
            {"content": "Example document", "tokens": 2},
            *("short_term", "session"),
        )
        assert (entry.metadata, entry.indices) == ({"author": "ana"}, {"semantic", "contextual"})
        assert entry.created_at == datetime(2025, 2, 10, 9, 30, 0, 123456, UTC)
        assert entry.updated_at == datetime(2025, 2, 11, 10, tzinfo=UTC)
        assert (await storage.retrieve("agent:42:plan")).expires_at == datetime(2999, 12, 31, 23, 59, 59, tzinfo=UTC)
        found = [result.entry.key async for result in storage.search(old.MemoryQuery(query="example document"))]
        assert found == ["doc-1"]


@needs_faiss
async def test_vectors_in_the_old_folder(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_EMBEDDER", "hashing")
    config = old.VectorStoreConfig(storage_path="data/vectors")
    await used(old.VectorStorage(config))
    assert (empty / "data" / "vectors" / "memory.db").exists()
    storage = await old.create_store(old.MemoryStoreConfig("vector", vector_config=config))
    assert (await storage.retrieve("nuts")).value == {"content": "Ana is allergic to nuts"}
    await storage.stop()


@needs_faiss
@needs_composite
async def test_a_cache_and_vectors_together(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_EMBEDDER", "hashing")
    redis, vectors = redis_config(), old.VectorStoreConfig(storage_path="vectors")
    cache = old.MemoryStoreConfig("redis", redis_config=redis)
    storage: Storage[Any, Any] = old.CompositeStorage(old.CompositeStoreConfig(cache_store=cache, vector_store=vectors))
    await used(storage)
    async with create_store(redis.url, prefix=redis.prefix) as store:  # it acknowledges
        assert await store.count() == 2
        await store.delete_where(None, under=())
    async with create_store("sqlite", path="vectors/memory.db") as store:  # it follows
        assert await store.count(namespace="default") == 2


@needs_composite
async def test_storages_given_by_hand_and_a_composite_of_one(empty: Path) -> None:
    redis, postgres = old.RedisStorage[str, Any](redis_config()), old.InMemoryStorage[str, Any]()
    await used(old.CompositeStorage(None, redis, postgres))
    alone = old.CompositeStorage(old.CompositeStoreConfig(vector_store=old.VectorStoreConfig()))
    assert alone._place.model == "sentence-transformers:all-MiniLM-L6-v2"
