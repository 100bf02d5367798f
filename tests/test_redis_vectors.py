"""Redis: vectors by the query engine and by the cache give what every vector looked at one by one gives."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
import redis as driver
from servers import server

from memory.backends.redis import RedisStore
from memory.model import MemoryItem
from memory.testing.embedder import WordEmbedder


class EngineFromTheFirst(RedisStore):
    engine_above = 0


class NothingHeld(RedisStore):
    """Every tag is too large for its cache."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, vector_cache=0, **options)


def unique() -> str:
    return "v" + os.urandom(8).hex()


async def fill(store: RedisStore, count: int = 400) -> None:
    chance = np.random.default_rng(5)
    await store.put_many(
        [
            MemoryItem(
                id=f"{i:03}",
                content=f"word {i}",
                namespace=(f"t{i % 3}", f"x{i % 2}"),
                user_id=f"u{i % 4}",
                kind="fact" if i % 10 == 0 else "note",
                metadata={"n": i},
                embedding=chance.normal(size=8),
            )
            for i in range(count)
        ]
    )


@pytest.fixture
async def engine() -> AsyncIterator[EngineFromTheFirst]:
    store = EngineFromTheFirst(server("redis_stack").url, prefix=unique(), sweep_interval=None)
    async with store:
        await fill(store)
        await store.search(vector=[1.0] * 8)  # lets the engine make its index
        for _ in range(200):
            if await store.engine.ready(store.spaces.number, 8):
                break
            await asyncio.sleep(0.02)
        assert await store.engine.ready(store.spaces.number, 8)
        yield store


def found(page: Any) -> list[tuple[str, float]]:
    return [(hit.item.id, hit.score) for hit in page]


QUESTIONS: list[dict[str, Any]] = [
    {},
    {"namespace": ("t1", "x0")},
    {"under": ("t2",)},
    {"where": {"kind": "fact"}},
    {"where": {"metadata.n": {"$lt": 40}}},
    {"where": {"metadata.n": -1}},
]


async def test_the_engine_finds_what_looking_at_every_vector_finds(engine: EngineFromTheFirst) -> None:
    chance = np.random.default_rng(6)
    hits = total = 0
    asked: list[int] = []
    plain = engine.engine.nearest

    async def counted(*args: Any) -> Any:
        names = await plain(*args)
        asked.append(len(names or ()))
        return names

    engine.engine.nearest = counted  # type: ignore[method-assign]
    for question in QUESTIONS:
        for store in (engine, engine.scoped(user_id="u1")):
            for _ in range(5):
                query = chance.normal(size=8)
                best = found(await store.search(vector=query, limit=10, exact=True, **question))
                near = dict(found(await store.search(vector=query, limit=10, **question)))
                assert len(near) == len(best), question
                hits += sum(near.get(id) == score for id, score in best)
                total += len(best)
    assert asked, "the engine was asked"
    assert hits >= 0.98 * total


async def test_the_engine_sees_every_write_at_once(engine: EngineFromTheFirst) -> None:
    await engine.put(MemoryItem(id="new", content="x", embedding=[9.0] * 8))
    assert [hit.item.id for hit in await engine.search(vector=[1.0] * 8, limit=1)] == ["new"]
    await engine.update("new", embedding=[-9.0] * 8)
    assert "new" not in [hit.item.id for hit in await engine.search(vector=[1.0] * 8, limit=10)]
    await engine.put(MemoryItem(id="new", content="x", embedding=[9.0] * 8))
    await engine.delete("new")
    assert "new" not in [hit.item.id for hit in await engine.search(vector=[1.0] * 8, limit=10)]


async def test_the_engine_changes_with_the_embedder(engine: EngineFromTheFirst) -> None:
    new = WordEmbedder("new", 6)
    assert (await engine.reembed(new)).switched
    hits = await engine.search(vector=new.vector("word 7"), limit=1)
    assert [hit.item.id for hit in hits] == ["007"]
    with driver.Redis.from_url(server("redis_stack").url) as admin:
        names = [name for name in admin.execute_command("FT._LIST") if name.startswith(engine.names.prefix)]
        assert [name for name in names if name.endswith(b"0001")] == []


async def test_health_tells_who_looks_for_vectors() -> None:
    for flavour, said in (("redis_stack", "the query engine"), ("redis", "has none"), ("redis_cluster", "cluster")):
        async with RedisStore(server(flavour).url, prefix=unique(), sweep_interval=None) as store:
            assert said in (await store.health()).details["vectors_by"]
    with driver.Redis.from_url(server("redis_stack").url) as admin:
        assert "fail" in str(admin.execute_command("FT.CONFIG", "GET", "ON_TIMEOUT"))


@pytest.mark.parametrize("kind", [RedisStore, NothingHeld])
async def test_a_cache_changes_no_answer(kind: type[RedisStore]) -> None:
    url, prefix = server("redis").url, unique()
    chance = np.random.default_rng(7)
    async with (
        kind(url, prefix=prefix, sweep_interval=None) as store,
        RedisStore(url, prefix=prefix, sweep_interval=None) as other,
    ):
        await fill(store, 200)
        for turn in range(30):
            id = f"{turn * 3:03}"
            namespace = (f"t{turn * 3 % 3}", f"x{turn * 3 % 2}")
            if turn % 3 == 0:
                await other.delete(id, namespace=namespace)
            elif turn % 3 == 1:
                await other.update(id, namespace=namespace, embedding=chance.normal(size=8))
            else:
                await other.put(MemoryItem(id=f"n{turn}", content="x", embedding=chance.normal(size=8)))
            question = QUESTIONS[turn % len(QUESTIONS)]
            query = chance.normal(size=8)
            everything = [item async for batch in other.stream() for item in batch]
            kept = {(item.namespace, item.id): item for item in everything}
            page = await store.search(vector=query, limit=10, **question)
            assert {(hit.item.namespace, hit.item.id) for hit in page} <= kept.keys()
            wanted = [item for item in everything if _asked(item, question)]
            scores = sorted(-_cosine(query, item.embedding) for item in wanted)[:10]
            assert [hit.score for hit in page] == pytest.approx([-score for score in scores], abs=1e-6)


def _asked(item: MemoryItem, question: dict[str, Any]) -> bool:
    where = question.get("where", {})
    limit = where.get("metadata.n")
    return (
        ("namespace" not in question or item.namespace == question["namespace"])
        and ("under" not in question or item.namespace[:1] == question["under"])
        and ("kind" not in where or item.kind == where["kind"])
        and (limit is None or (limit != -1 and "n" in item.metadata and item.metadata["n"] < limit["$lt"]))
    )


def _cosine(query: Any, embedding: Any) -> float:
    a, b = np.asarray(query, dtype=np.float32).astype(float), np.asarray(embedding).astype(float)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))
