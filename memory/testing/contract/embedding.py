"""Sentences about vectors that the store makes: within the write, later, all anew, and never mixed."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory.clock import ManualClock
from memory.errors import (
    BatchError,
    EmbeddingFailed,
    EmbeddingMismatch,
    InvalidItem,
    InvalidSetting,
)
from memory.model import MemoryItem
from memory.store import MemoryStore
from memory.testing.contract.suite import Make, Suite, ids, item
from memory.testing.contract.transfer import write
from memory.testing.embedder import WordEmbedder


async def vector_of(store: Any, id: str) -> Any:
    """The vector of a stored item."""
    found = await store.get(id)
    assert found is not None
    return found.embedding


def same(vector: Any, embedder: WordEmbedder, text: str) -> bool:
    """Whether a stored vector is the embedder's of this text."""
    return vector is not None and np.array_equal(vector, embedder.vector(text))


async def counts(store: MemoryStore) -> tuple[int, int] | None:
    """How many items have a vector and how many owe one; None where the backend does not count them."""
    details = (await store.stats()).details
    return (details["vectors"], details["vectors_owed"]) if "vectors" in details else None


class Embedding(Suite):
    """Writing into a store that has an embedder."""

    async def test_every_write_of_a_text_makes_its_vector(self, make: Make) -> None:
        words = WordEmbedder()
        store = self.seen(await make(embedder=words).open())
        put = await store.put(item("a", "a marmot"))
        assert same(put.embedding, words, "a marmot")
        await store.add(item("b", {"said": "a fox", "n": 1}))
        await store.put_many([item(f"m{i}", f"eagle {i}") for i in range(5)])
        await store.put(item("t", {"n": 1}, text="by its text"))
        expected = {"a": "a marmot", "b": "a fox", "m3": "eagle 3", "t": "by its text"}
        for id, text in expected.items():
            assert same(await vector_of(store, id), words, text), id

    async def test_a_vector_that_the_caller_brings_is_kept(self, make: Make) -> None:
        words = WordEmbedder(dimension=2)
        store = self.seen(await make(embedder=words).open())
        await store.put(item("a", "a marmot", embedding=[1.0, 2.0]))
        assert (await vector_of(store, "a")).tolist() == [1.0, 2.0]
        assert words.calls == []
        with pytest.raises(EmbeddingMismatch):
            await store.put(item("b", "a marmot", embedding=[1.0, 2.0, 3.0]))
        with pytest.raises(EmbeddingMismatch):
            await store.search(vector=[1.0, 2.0, 3.0])

    async def test_an_item_without_text_has_no_vector(self, make: Make) -> None:
        words = WordEmbedder()
        store = self.seen(await make(embedder=words).open())
        await store.put_many([item("a", {"n": 1}), item("b", "  "), item("c", "x", text="")])
        assert words.calls == []
        assert [one.embedding for one in (await store.list()).items] == [None] * 3

    async def test_an_update_of_the_text_makes_another_vector(self, make: Make) -> None:
        words = WordEmbedder()
        store = self.seen(await make(embedder=words).open())
        await store.put(item("a", "old words"))
        calls = len(words.calls)
        updated = await store.update("a", metadata={"n": 1})
        assert (len(words.calls), same(updated.embedding, words, "old words")) == (calls, True)
        updated = await store.update("a", content="new words")
        assert same(updated.embedding, words, "new words")
        assert same(await vector_of(store, "a"), words, "new words")
        await store.update("a", embedding=None)
        assert await vector_of(store, "a") is None
        await store.update("a", importance=0.9)
        assert await vector_of(store, "a") is None

    async def test_pages_follow_each_other_when_the_store_makes_the_querys_vector(self, make: Make) -> None:
        store = self.seen(await make(embedder=WordEmbedder()).open())
        await store.put_many([item(f"{i}", f"marmot number {i}") for i in range(7)])
        for mode in ("auto", "hybrid", "vector"):
            whole = [hit.item.id for hit in await store.search("marmot", mode=mode)]
            found: list[str] = []
            page = await store.search("marmot", mode=mode, limit=3)
            while True:
                found += [hit.item.id for hit in page]
                if page.cursor is None:
                    break
                page = await store.search("marmot", mode=mode, limit=3, cursor=page.cursor)
            assert found == whole, mode

    async def test_a_failing_embedder_fails_the_write_and_nothing_is_lost(self, make: Make) -> None:
        words = WordEmbedder()
        store = self.seen(await make(embedder=words).open())
        await store.put(item("a", "before"))
        words.broken = True
        for call in (
            lambda: store.put(item("a", "after")),
            lambda: store.add(item("b", "new")),
            lambda: store.put_many([item("b", "new"), item("c", "other")]),
            lambda: store.update("a", content="after"),
            lambda: store.search("something", mode="hybrid"),
        ):
            with pytest.raises(EmbeddingFailed):
                await call()
        assert await ids(store) == ["a"]
        assert (await store.search("before", mode="text")).hits[0].item.content == "before"
        await store.update("a", metadata={"n": 1})
        await store.delete("a")
        words.broken = False
        await store.put(item("b", "works again"))
        assert same(await vector_of(store, "b"), words, "works again")

    async def test_when_the_embedder_fails_midway_a_batch_tells_what_was_written(self, make: Make) -> None:
        words = WordEmbedder()
        store = self.seen(await make(embedder=words).open())
        plain = words.embed

        def embed(texts: Any) -> Any:
            words.broken = "word 700" in texts
            return plain(texts)

        words.embed = embed  # type: ignore[method-assign]
        items = [item(f"{i:04}", f"word {i}") for i in range(1_200)]
        with pytest.raises(BatchError) as caught:
            await store.put_many(items)
        results = caught.value.results
        written = [one.id for one in results if isinstance(one, MemoryItem)]
        assert await ids(store) == written == [f"{i:04}" for i in range(len(written))]
        assert 0 < len(written) <= 700
        assert all(isinstance(one, EmbeddingFailed) for one in results[len(written) :])

    async def test_later_stores_without_and_reembed_makes_what_is_owed(self, make: Make) -> None:
        words = WordEmbedder()
        whole = await make(embedder=words).open()
        store = self.seen(whole)
        await store.put(item("a", "a marmot"), embed="later")
        await store.add(item("b", "a fox"), embed="later")
        await store.put_many([item("c", "an eagle"), item("d", {"n": 1})], embed="later")
        await store.put(item("e", "at once"))
        assert await vector_of(store, "a") is None
        await store.update("b", metadata={"n": 1})
        await store.update("e", content="changed", embed="later")
        assert words.calls == [["at once"]]
        assert await counts(whole) in ((0, 4), None)
        with pytest.raises(InvalidItem):
            await store.put(item("x", "x"), embed="never")  # type: ignore[arg-type]
        seen: list[int] = []
        report = await whole.reembed(batch=2, progress=seen.append)
        assert (report.embedded, report.without_text, report.switched, report.embedder) == (4, 1, False, "words")
        assert seen
        for id, text in {"a": "a marmot", "b": "a fox", "c": "an eagle", "e": "changed"}.items():
            assert same(await vector_of(store, id), words, text), id
        assert await counts(whole) in ((4, 0), None)
        assert (await whole.reembed()).embedded == 0
        assert [hit.item.id for hit in await store.search("fox", mode="vector", limit=1)] == ["b"]

    async def test_a_vector_made_later_leaves_the_times_of_its_item(self, make: Make, clock: ManualClock) -> None:
        store = await make(embedder=WordEmbedder()).open()
        first = await store.put(item("a", "a marmot"), embed="later", ttl=500)
        await store.touch("a")
        clock.advance(100)
        await store.reembed()
        found = await store.get("a")
        assert found is not None
        assert found.embedding is not None
        kept = (found.created_at, found.updated_at, found.expires_at, found.access_count)
        assert kept == (first.created_at, first.updated_at, first.expires_at, 1)
        await store.put(found, if_version=found.version)

    async def test_a_time_to_live_begins_when_the_vector_is_made(self, make: Make, clock: ManualClock) -> None:
        words = WordEmbedder()
        plain = words.embed

        def embed(texts: Any) -> Any:
            clock.advance(5)
            return plain(texts)

        words.embed = embed  # type: ignore[method-assign]
        store = self.seen(await make(embedder=words).open())
        await store.put(item("a", "a marmot"), ttl=10)
        await store.put_many([item("b", "a fox"), item("c", "an eagle")], ttl=10)
        clock.advance(4)
        assert await ids(store) == ["a", "b", "c"]
        clock.advance(6)
        assert await ids(store) == []

    async def test_auto_is_hybrid_with_a_semantic_embedder_and_text_with_a_lexical_one(self, make: Make) -> None:
        words = WordEmbedder(alike={"feline": "cat"})
        store = self.seen(await make(embedder=words).open())
        await store.put_many([item("a", "my cat"), item("b", "a stone"), item("c", "the feline sleeps")])
        page = await store.search("feline")
        assert {"text", "vector"} <= set(page.hits[0].components)
        assert {hit.item.id for hit in page.hits[:2]} == {"a", "c"}
        assert [hit.item.id for hit in await store.search("feline", mode="text")] == ["c"]
        both = await store.search("stone", vector=words.vector("cat"))
        assert {"text", "vector"} <= set(both.hits[0].components)
        words.semantic = False
        assert [hit.item.id for hit in await store.search("feline")] == ["c"]

    async def test_reembed_needs_an_embedder(self, make: Make) -> None:
        store = await make().open()
        with pytest.raises(InvalidSetting):
            await store.reembed()
        for batch in (0, -1, 10**9, True):
            with pytest.raises(InvalidItem):
                await store.reembed(WordEmbedder(), batch=batch)
        report = await store.reembed(WordEmbedder())
        assert report.embedded == 0

    async def test_a_store_that_gets_an_embedder_later_embeds_what_it_holds(self, make: Make) -> None:
        words = WordEmbedder()
        store = await make().open()
        await store.put_many([item(f"{i}", f"word {i}") for i in range(9)])
        report = await store.reembed(words)
        assert report.embedded == 9
        for i in range(9):
            assert same(await vector_of(store, f"{i}"), words, f"word {i}")
        assert (await store.stats()).details["embedder"] == "words"

    async def test_an_import_makes_vectors_and_refuses_those_of_another_embedder(self, make: Make, place: Path) -> None:
        words = WordEmbedder(dimension=2)
        store = await make(embedder=words).open()
        foreign = {**item("f", "foreign", embedding=[1.0, 2.0]).to_dict(), "embedder": "another"}
        await write(place / "i.jsonl", {"content": "a marmot", "id": "a"}, foreign)
        with pytest.raises(InvalidItem, match="another"):
            await store.import_jsonl(place / "i.jsonl")
        assert await ids(store) == []
        report = await store.import_jsonl(place / "i.jsonl", vectors="drop")
        assert report.imported == 2
        assert same(await vector_of(store, "a"), words, "a marmot")
        assert same(await vector_of(store, "f"), words, "foreign")
        with pytest.raises(InvalidItem):
            await store.import_jsonl(place / "i.jsonl", vectors="some")  # type: ignore[arg-type]

    async def test_a_backup_keeps_vectors_whoever_made_them(self, make: Make, place: Path) -> None:
        words = WordEmbedder()
        store = await make(embedder=words).open()
        await store.put_many([item("a", "a marmot"), item("b", "a fox")])
        await store.put(item("c", "later"), embed="later")
        await store.backup(place / "kept")
        await store.delete_where(None, under=())
        await store.restore(place / "kept")
        assert same(await vector_of(store, "a"), words, "a marmot")
        assert await counts(store) in ((2, 1), None)
        assert (await store.stats()).details["embedder"] == "words"
