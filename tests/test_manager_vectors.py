"""The manager and vectors: what is passed on, and what callers of earlier managers search with, on both engines."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from memory import EmbeddingFailed, EmbeddingMismatch, InvalidFilter, InvalidItem, InvalidSetting, MemoryManager
from memory.testing.embedder import WordEmbedder

pytestmark = pytest.mark.usefixtures("empty")


@pytest.fixture
def words() -> WordEmbedder:
    return WordEmbedder(alike={"nuts": "peanuts"})


@pytest.fixture(params=["in_memory", "sqlite"])
async def meaning(request: pytest.FixtureRequest, empty: Any, words: WordEmbedder) -> AsyncIterator[MemoryManager]:
    """A manager whose embedder knows that nuts are like peanuts."""
    async with MemoryManager(request.param, embedder=words) as manager:
        yield manager


async def test_meaning_is_found_where_words_are_not(meaning: MemoryManager) -> None:
    item = await meaning.add("peanuts", user_id="maya")
    await meaning.add("zebras", user_id="maya")
    assert len(await meaning.search("nuts", user_id="maya", mode="text")) == 0
    page = await meaning.search("nuts", user_id="maya", min_vector=0.9)
    assert [hit.item.id for hit in page] == [item.id]
    assert page.hits[0].components["vector"] == pytest.approx(1.0)
    assert (await meaning.context("nuts", user_id="maya", min_vector=0.9)).ids == [item.id]
    assert len(await meaning.search("nuts", user_id="noah", min_vector=0.9)) == 0


async def test_every_argument_of_a_search_is_passed_on(meaning: MemoryManager, words: WordEmbedder) -> None:
    await meaning.add("peanuts", id="old", created_at=datetime(2001, 1, 1, tzinfo=UTC))
    await meaning.add("peanuts", id="new")
    await meaning.add("zebras", id="other")
    vector = words.vector("nuts")
    by_vector = await meaning.search(vector=vector, mode="vector", limit=2, exact=True)
    assert {hit.item.id for hit in by_vector} == {"old", "new"}
    composite = await meaning.search("peanuts", vector=vector, mode="hybrid", order="composite")
    assert composite.hits[0].item.id == "new"
    assert composite.hits[0].components["recency"] > 0.99
    different = await meaning.search("peanuts", mode="hybrid", mmr=0.0, limit=2)
    assert {hit.item.id for hit in different} != {"old", "new"}
    assert (await meaning.context(vector=vector, mode="vector", min_vector=0.9)).ids == ["new"], "equal texts once"
    assert "other" in (await meaning.context("peanuts", mmr=0.0, limit=2)).ids
    assert len(await meaning.context("peanuts", order="composite", exact=True)) == 2
    for wrong in ({"mode": "text", "min_vector": 0.5}, {"order": "age"}, {"mmr": 2}):
        with pytest.raises(InvalidItem):
            await meaning.search("peanuts", **wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidItem, match="a query, a vector or both"):
        await meaning.search()


async def test_a_vector_can_wait(meaning: MemoryManager, words: WordEmbedder) -> None:
    words.broken = True
    with pytest.raises(EmbeddingFailed):
        await meaning.add("peanuts")
    item = await meaning.add("peanuts", embed="later")
    (said,) = await meaning.add_messages([{"role": "user", "content": "peanuts"}], embed="later")
    assert item.embedding is None
    words.broken = False
    assert len(await meaning.search("nuts", min_vector=0.9)) == 0
    if meaning.store.capabilities.reembeds:
        assert (await meaning.store.reembed()).embedded == 2
        assert {hit.item.id for hit in await meaning.search("nuts", min_vector=0.9)} == {item.id, said.id}
    words.broken = True
    changed = await meaning.update(item.id, content="zebras", embed="later")
    assert changed.embedding is None
    with pytest.raises(EmbeddingFailed):
        await meaning.update(item.id, content="lions")
    for call in (meaning.add("x", embed="soon"), meaning.update(item.id, content="y", embed="soon")):  # type: ignore[arg-type]
        with pytest.raises(InvalidItem, match="embed"):
            await call


# --- as callers of earlier managers search -----------------------------------------------------


class Persona:
    """A persona by its shape."""

    def __init__(self, name: Any) -> None:
        self.name = name


def said(id: str, vector: list[float] | None, **fields: Any) -> dict[str, Any]:
    return {"id": id, "user_id": "ana", "item_type": "conversation", "text_content": id, "embedding": vector, **fields}


async def test_semantic_search_finds_the_nearest_of_a_user_and_persona(bare: MemoryManager) -> None:
    for record in (
        said("far", [0.0, 1.0], persona_active="cherry"),
        said("near", [1.0, 0.1], persona_active="user"),
        said("nearer", [1.0, 0.0], persona_active="cherry"),
        said("none", None, persona_active="cherry"),
        said("eve's", [1.0, 0.0], user_id="eve"),
    ):
        await bare.add_memory_item(record)

    async def found(*args: Any, **given: Any) -> list[str]:
        return [item.id for item in await bare.semantic_search("ana", *args, **given)]

    assert await found([1.0, 0.0]) == ["nearer", "near", "far"]
    assert await found([1.0, 0.0], top_k=2) == ["nearer", "near"]
    assert await found([1.0, 0.0], Persona("cherry")) == ["nearer", "far"]
    assert await found([1.0, 0.0], "user") == ["near"]
    assert await found([1.0, 0.0], {"name": "butler"}, 3) == []
    with pytest.raises(EmbeddingMismatch):
        await found([1.0, 0.0, 0.0])
    for wrong in (["a"], [float("nan"), 1.0], [], "vector"):
        with pytest.raises(InvalidItem, match="embedding"):
            await found(wrong)
    with pytest.raises(InvalidItem):
        await found(None)
    with pytest.raises(InvalidItem, match="limit"):
        await found([1.0, 0.0], top_k=0)
    with pytest.raises(InvalidFilter):
        await found([1.0, 0.0], Persona(3))
    with pytest.raises(InvalidItem, match="user_id"):
        await bare.semantic_search("", [1.0, 0.0])


async def test_without_an_embedder_a_search_by_meaning_says_what_it_needs(bare: MemoryManager) -> None:
    await bare.add("peanuts")
    with pytest.raises(InvalidSetting, match="embedder"):
        await bare.search("nuts", mode="vector")


def test_the_twin_of_semantic_search() -> None:
    with MemoryManager("in_memory", embedding_dimension=2) as memory:
        memory.add_memory_item_sync(said("a", [1.0, 0.0]))
        assert [item.id for item in memory.semantic_search_sync("ana", [1.0, 0.0])] == ["a"]
        with pytest.raises(EmbeddingMismatch):
            memory.add_memory_item_sync(said("b", [1.0, 0.0, 0.0]))
