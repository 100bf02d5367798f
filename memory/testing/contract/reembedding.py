"""Sentences about the change from one embedder to another: old vectors serve until the switch, nothing is missed."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest

from memory.errors import EmbeddingFailed, EmbeddingMismatch, NotFound, UnsupportedOperation
from memory.testing.contract.embedding import same, vector_of
from memory.testing.contract.suite import Make, Suite, Tap, ids, item, needs
from memory.testing.embedder import WordEmbedder
from memory.testing.stepping import Stepped, When


class Reembedding(Suite):
    """From one embedder to another."""

    async def test_old_vectors_serve_until_the_switch(self, make: Make) -> None:
        old = WordEmbedder("old", 4)
        new = WordEmbedder("new", 6)
        store = await make(embedder=old).open()
        needs(store, "reembeds")
        await store.put_many([item(f"{i:02}", f"word {i}") for i in range(30)])
        expected = [(hit.item.id, hit.score) for hit in await store.search("word 7", mode="vector")]
        plain, during = new.embed, []

        async def embed(texts: Any) -> Any:
            during.append([(hit.item.id, hit.score) for hit in await store.search("word 7", mode="vector")])
            await store.update("03", metadata={"n": len(during)})
            return plain(texts)

        new.embed = embed  # type: ignore[method-assign]
        report = await store.reembed(new, batch=8)
        assert (report.switched, report.embedder) == (True, "new")
        assert len(during) >= 4
        assert all(page == expected for page in during)
        for i in range(30):
            assert same(await vector_of(store, f"{i:02}"), new, f"word {i}")
        with pytest.raises(EmbeddingMismatch, match="reembed"):
            await store.search("word 7", mode="vector")
        with pytest.raises(EmbeddingMismatch):
            await store.put(item("x", "word"))
        assert (await store.search("word 7", mode="text")).hits
        await store.update("04", metadata={"n": 1})
        assert same(await vector_of(store, "04"), new, "word 4")
        await store.delete("04")
        assert await ids(store) == [f"{i:02}" for i in range(30) if i != 4]

    async def test_an_interrupted_reembed_goes_on_where_it_stopped(self, make: Make) -> None:
        new = WordEmbedder("new", 6)
        store = await make(embedder=WordEmbedder("old", 4)).open()
        needs(store, "reembeds")
        await store.put_many([item(f"{i:02}", f"word {i}") for i in range(40)])
        plain = new.embed

        def embed(texts: Any) -> Any:
            new.broken = any("word 25" in text for text in texts)
            return plain(texts)

        new.embed = embed  # type: ignore[method-assign]
        with pytest.raises(EmbeddingFailed):
            await store.reembed(new, batch=10)
        assert len((await store.search("word 7", mode="vector", limit=40)).hits) == 40
        made = {text for call in new.calls[:-1] for text in call}
        new.embed = plain  # type: ignore[method-assign]
        new.broken = False
        new.calls.clear()
        report = await store.reembed(new, batch=10)
        assert report.switched
        assert not made & {text for call in new.calls for text in call if text != "dimension"}
        for i in range(40):
            assert same(await vector_of(store, f"{i:02}"), new, f"word {i}")

    async def test_a_reembed_cancelled_at_any_await_can_be_made_again_at_once(self, make: Make) -> None:
        store = await make(embedder=WordEmbedder("old", 4)).open()
        needs(store, "reembeds")
        await store.put_many([item(f"{i}", f"word {i}") for i in range(3)])
        at, reached = 0, True
        while reached:
            for when in When:
                run = Stepped(partial(store.reembed, WordEmbedder(f"new {at} {when}", 6)), at, when)
                await asyncio.wait({run.task})
                reached = run.reached
                assert run.task.cancelled() or not reached, at
                new = WordEmbedder(f"made again {at} {when}", 6)
                async with asyncio.timeout(10):
                    assert (await store.reembed(new)).switched, (at, when)
                for i in range(3):
                    assert same(await vector_of(store, f"{i}"), new, f"word {i}"), (at, when)
            at += 1
        assert (await store.verify()).ok

    async def test_what_is_written_while_reembedding_is_not_missed(self, make: Make) -> None:
        new = WordEmbedder("new", 6)
        store = await make(embedder=WordEmbedder("old", 4)).open()
        needs(store, "reembeds")
        await store.put_many([item(f"{i:02}", f"word {i}") for i in range(20)])
        plain, turn = new.embed, iter(range(1_000))

        async def embed(texts: Any) -> Any:
            i = next(turn)
            if i < 4:
                await store.put(item(f"new{i}", f"fresh {i}"))
                await store.update(f"0{i}", content=f"changed {i}")
                await store.delete(f"1{i}")
                await store.put(item(f"later{i}", f"late {i}"), embed="later")
            return plain(texts)

        new.embed = embed  # type: ignore[method-assign]
        assert (await store.reembed(new, batch=5)).switched
        for one in (await store.list(limit=100)).items:
            assert same(one.embedding, new, one.content), one.id
        assert {"new3", "later3", "00"} <= set(await ids(store))
        assert "10" not in await ids(store)

    async def test_a_vector_without_a_text_is_never_lost_by_a_switch(self, make: Make) -> None:
        store = await make().open()
        needs(store, "reembeds")
        await store.put(item("a", {"n": 1}, embedding=[1.0, 2.0]))
        await store.put(item("b", "words", embedding=[3.0, 4.0]))
        with pytest.raises(UnsupportedOperation, match="'a'"):
            await store.reembed(WordEmbedder())
        assert (await vector_of(store, "a")).tolist() == [1.0, 2.0]
        assert [hit.item.id for hit in await store.search(vector=[1.0, 2.0])] == ["a", "b"]
        await store.update("a", embedding=None)
        report = await store.reembed(WordEmbedder())
        assert (report.switched, report.without_text) == (True, 1)

    async def test_another_embedder_takes_over_where_no_item_is_left_with_a_text(self, make: Make) -> None:
        store = await make(embedder=WordEmbedder("old", 4)).open()
        needs(store, "reembeds")
        await store.put(item("a", "marmot"))
        await store.put(item("b", ""))
        await store.delete("a")
        report = await store.reembed(WordEmbedder("new", 6))
        assert (report.switched, report.embedder) == (True, "new")
        store = await make(embedder=WordEmbedder("new", 6)).open()
        await store.put(item("c", "eagle"))
        assert [hit.item.id for hit in await store.search("eagle", mode="vector")] == ["c"]

    async def test_a_second_embedder_replaces_what_the_first_left_aside(self, make: Make) -> None:
        store = await make(embedder=WordEmbedder("old", 4)).open()
        needs(store, "reembeds")
        await store.put_many([item(f"{i:02}", f"word {i}") for i in range(20)])
        half = WordEmbedder("half", 5)
        plain = half.embed

        def embed(texts: Any) -> Any:
            half.broken = len(half.calls) > 2
            return plain(texts)

        half.embed = embed  # type: ignore[method-assign]
        with pytest.raises(EmbeddingFailed):
            await store.reembed(half, batch=5)
        new = WordEmbedder("new", 6)
        assert (await store.reembed(new, batch=5)).switched
        for i in range(20):
            assert same(await vector_of(store, f"{i:02}"), new, f"word {i}")

    async def test_a_backend_that_cannot_switch_says_so(self, make: Make) -> None:
        store = await make(embedder=WordEmbedder("old", 4)).open()
        if store.capabilities.reembeds:
            pytest.skip("this backend can switch")
        await store.put(item("a", "a marmot"))
        with pytest.raises(UnsupportedOperation):
            await store.reembed(WordEmbedder("new", 6))
        assert [hit.item.id for hit in await store.search("marmot", mode="vector")] == ["a"]

    async def test_another_embedder_is_refused_after_reopening(self, make: Make) -> None:
        store = await make(embedder=WordEmbedder("one", 4)).open()
        needs(store, "persistent")
        await store.put(item("a", "a marmot"))
        await store.close()
        tap = Tap()
        store = await make(embedder=WordEmbedder("two", 4), layers=(tap,)).open()
        for call in (
            lambda: store.put(item("b", "a fox")),
            lambda: store.put(item("b", "a fox"), embed="later"),
            lambda: store.put(item("b", "a fox", embedding=[1.0, 2.0, 3.0, 4.0])),
            lambda: store.put_many([item("b", "a fox")]),
            lambda: store.search("marmot", mode="vector"),
            lambda: store.search("marmot"),
            lambda: store.search(vector=[1.0, 2.0, 3.0, 4.0]),
        ):
            with pytest.raises(EmbeddingMismatch, match="one"):
                await call()
        assert tap.calls == []
        assert [hit.item.id for hit in await store.search("marmot", mode="text")] == ["a"]
        assert (await vector_of(store, "a")) is not None
        await store.update("a", importance=0.9)
        await store.delete("a")
        with pytest.raises(NotFound):
            await store.update("a", importance=0.9)
        await store.close()
        with pytest.raises(EmbeddingMismatch):
            await make(dimension=5).open()

    async def test_a_reembed_goes_on_in_another_process_life(self, make: Make) -> None:
        new = WordEmbedder("new", 6)
        store = await make(embedder=WordEmbedder("old", 4)).open()
        needs(store, "persistent")
        needs(store, "reembeds")
        await store.put_many([item(f"{i:02}", f"word {i}") for i in range(30)])

        def stop(done: int) -> None:
            if done >= 15:
                task.cancel()

        task = asyncio.ensure_future(store.reembed(new, batch=5, progress=stop))
        with pytest.raises(asyncio.CancelledError):
            await task
        await store.close()
        made = {text for call in new.calls[:-1] for text in call} - {"dimension"}
        assert made
        new.calls.clear()
        store = await make(embedder=new).open()
        with pytest.raises(EmbeddingMismatch):
            await store.search("word", mode="vector")
        assert (await store.reembed()).switched
        assert not made & {text for call in new.calls for text in call}
        assert [hit.item.id for hit in await store.search("word 7", mode="vector", limit=1)] == ["07"]
