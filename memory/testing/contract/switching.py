"""Sentences about the one space of a store's vectors: who decides it, who may change it, what is written meanwhile."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from memory.errors import EmbeddingMismatch
from memory.layers import Hook
from memory.testing.contract.embedding import same, vector_of
from memory.testing.contract.nearness import found, ranked
from memory.testing.contract.suite import Make, Suite, Tap, ids, item, needs, walk
from memory.testing.embedder import WordEmbedder


def late(name: str, hook: Hook) -> Hook:
    """A layer in which writes wait a little, so that several are checked before the first one is written."""

    async def wait(*args: Any) -> Any:
        for _ in range(20 if name == "write" else 0):
            await asyncio.sleep(0)
        return await hook(*args)

    return wait


class Spaces(Suite):
    """What a vector may lie beside."""

    async def test_two_first_vectors_at_once_do_not_mix(self, make: Make) -> None:
        store = self.seen(await make(layers=(late,)).open())
        refused: list[str] = []

        async def put(id: str, vector: list[float]) -> None:
            try:
                await store.put(item(id, "x", embedding=vector))
            except EmbeddingMismatch:
                refused.append(id)

        async with asyncio.TaskGroup() as group:
            for i in range(8):
                group.create_task(put(f"{i}", [1.0] * (2 + i % 2)))
        kept = await walk(store)
        assert {len(one.embedding) for one in kept} in ({2}, {3})
        assert sorted([*refused, *(one.id for one in kept)]) == [f"{i}" for i in range(8)]
        assert len(kept) == 4

    async def test_the_space_of_vectors_survives_close_and_open(self, make: Make) -> None:
        store = await make().open()
        needs(store, "persistent")
        await store.put(item("a", "x", embedding=[1.0, 2.0]))
        await store.close()
        tap = Tap()
        store = await make(layers=(tap,)).open()
        with pytest.raises(EmbeddingMismatch):
            await store.put(item("b", "x", embedding=[1.0, 2.0, 3.0]))
        with pytest.raises(EmbeddingMismatch):
            await store.search(vector=[1.0, 2.0, 3.0])
        assert tap.calls == []
        await store.put(item("b", "x", embedding=[3.0, 4.0]))
        assert [hit.item.id for hit in await store.search(vector=[1.0, 2.0])] == ["a", "b"]

    async def test_another_store_on_the_same_data_shares_its_vectors_and_their_space(self, make: Make) -> None:
        one, other = await make().open(), await make().open()
        needs(one, "shared")
        assert found(await other.search(vector=[1.0, 0.0])) == []
        await one.put(item("a", "x", embedding=[1.0, 0.0]))
        with pytest.raises(EmbeddingMismatch):
            await other.put(item("b", "x", embedding=[1.0, 2.0, 3.0]))
        with pytest.raises(EmbeddingMismatch):
            await other.search(vector=[1.0, 2.0, 3.0])
        await other.put(item("b", "x", embedding=[0.0, 1.0]))
        for store in (one, other):
            assert found(await store.search(vector=[1.0, 0.0])) == [("a", 1.0), ("b", 0.0)]
        await one.put(item("c", "x", embedding=[-1.0, 0.0]))
        await one.update("b", embedding=[1.0, 0.0])
        await one.delete("a")
        assert found(await other.search(vector=[1.0, 0.0])) == [("b", 1.0), ("c", -1.0)]

    async def test_a_vector_made_later_is_not_given_to_another_text(self, make: Make) -> None:
        words = WordEmbedder()
        plain, turns = words.embed, iter(range(100))

        async def embed(texts: Any) -> Any:
            if next(turns) == 0:
                await store.update("a", content="another text", embed="later")
                await store.delete("b")
                await store.update("c", metadata={"n": 1})
            return plain(texts)

        words.embed = embed  # type: ignore[method-assign]
        store = await make(embedder=words).open()
        await store.put_many([item(id, f"text {id}") for id in "abcd"], embed="later")
        await store.reembed()
        assert await ids(store) == ["a", "c", "d"]
        late_one = await vector_of(store, "a")
        assert late_one is None or same(late_one, words, "another text")
        await store.reembed()
        for id, text in {"a": "another text", "c": "text c", "d": "text d"}.items():
            assert same(await vector_of(store, id), words, text), id


class Switching(Suite):
    """The change to another embedder while others go on."""

    async def test_nothing_written_during_a_switch_is_lost(self, make: Make) -> None:
        new = WordEmbedder("new", 6)
        store = await make(embedder=WordEmbedder("old", 4)).open()
        needs(store, "reembeds")
        texts = {f"{i:03}": f"word {i}" for i in range(200)}
        await store.put_many([item(id, text) for id, text in texts.items()])
        go, over, fresh, gone = asyncio.Event(), asyncio.Event(), iter(range(6)), iter(range(20, 180))
        idle, embed = asyncio.Event(), new.embed

        async def in_turn(texts: Sequence[str]) -> Any:
            """The next batch waits for the writer, however slow the server; the switch does not."""
            while go.is_set() or not (idle.is_set() or task.done()):  # noqa: ASYNC110 - it waits for either
                await asyncio.sleep(0.001)
            return embed(texts)

        async def others() -> None:
            """Writes after each batch of vectors; the deletes after the last one meet the switch."""
            while not over.is_set():
                idle.set()
                await go.wait()
                idle.clear()
                go.clear()
                if not over.is_set() and (i := next(fresh, None)) is not None:
                    await store.put(item(f"new{i}", f"fresh {i}"), embed="later")
                    texts[f"new{i}"] = f"fresh {i}"
                    for id in (f"{i:03}", f"{199 - i:03}"):  # one that the walk has passed, one ahead of it
                        await store.update(id, content=f"changed {i}", embed="later")
                        texts[id] = f"changed {i}"
                for _ in range(12):
                    if (i := next(gone, None)) is not None:
                        await store.delete(f"{i:03}")
                        del texts[f"{i:03}"]
                        await asyncio.sleep(0)

        new.embed = in_turn  # type: ignore[method-assign]
        task = asyncio.ensure_future(others())
        try:
            report = await store.reembed(new, batch=50, progress=lambda _: go.set())
        finally:
            over.set()
            go.set()
            with contextlib.suppress(EmbeddingMismatch):
                await task
        assert report.switched
        assert {"new0", "000", "199"} < texts.keys()
        assert "020" not in texts
        kept = await walk(store)
        assert {one.id: one.content for one in kept} == texts
        late = [one.id for one in kept if one.embedding is None]
        assert len(late) <= 1, "only what was under way while the store switched may still owe its vector"
        assert [one.id for one in kept if one.id not in late and not same(one.embedding, new, texts[one.id])] == []

    async def test_after_a_switch_only_the_new_vectors_are_found(self, make: Make) -> None:
        new = WordEmbedder("new", 6)
        store = await make().open()
        needs(store, "reembeds")
        chance = np.random.default_rng(3)
        for i in range(40):
            await store.put(item(f"{i}", f"word {i} of {i % 7}", embedding=chance.normal(size=6)))
        await store.put(item("bare", {"n": 1}))
        await store.search(vector=chance.normal(size=6))
        assert (await store.reembed(new)).switched
        kept = await walk(store)
        assert [one.id for one in kept if one.embedding is None] == ["bare"]
        assert all(one.embedding is None or same(one.embedding, new, one.content) for one in kept)
        for query in (new.vector("word 7"), new.vector("of 3"), chance.normal(size=6)):
            for limit in (1, 5, 100):
                assert found(await store.search(vector=query, limit=limit)) == ranked(kept, query)[:limit]

    async def test_the_old_embedder_is_refused_though_its_dimension_fits(self, make: Make) -> None:
        old = WordEmbedder("old", 6)
        store = await make(embedder=old).open()
        needs(store, "reembeds")
        await store.put_many([item(f"{i}", f"word {i}") for i in range(5)])
        assert (await store.reembed(WordEmbedder("new", 6))).switched
        for call in (
            lambda: store.search("word 3", mode="vector"),
            lambda: store.search("word 3"),
            lambda: store.search(vector=old.vector("word 3")),
            lambda: store.put(item("x", "word")),
            lambda: store.put(item("x", "word"), embed="later"),
            lambda: store.put(item("x", "word", embedding=old.vector("word"))),
            lambda: store.put_many([item("x", "word")]),
            lambda: store.update("3", content="other words"),
        ):
            with pytest.raises(EmbeddingMismatch, match="new"):
                await call()
        assert await ids(store) == [f"{i}" for i in range(5)]

    async def test_another_store_on_the_same_data_follows_a_switch(self, make: Make) -> None:
        new = WordEmbedder("new", 6)
        one = await make(embedder=WordEmbedder("old", 4)).open()
        needs(one, "reembeds")
        needs(one, "shared")
        other, plain = await make(embedder=WordEmbedder("old", 4)).open(), await make().open()
        await one.put_many([item(f"{i}", f"word {i}") for i in range(9)])
        assert len(await other.search("word 7", mode="vector")) == 9
        assert (await one.reembed(new)).switched
        for call in (
            lambda: other.search("word 7", mode="vector"),
            lambda: other.put(item("x", "word")),
            lambda: other.update("3", content="word"),
            lambda: plain.search(vector=[1.0, 2.0, 3.0, 4.0]),
        ):
            with pytest.raises(EmbeddingMismatch):
                await call()
        assert found(await plain.search(vector=new.vector("word 7"), limit=1)) == [("7", 1.0)]
        assert await ids(other) == [f"{i}" for i in range(9)]

    async def test_a_get_shows_the_old_vectors_until_the_switch_and_then_the_new(self, make: Make) -> None:
        old, new = WordEmbedder("old", 4), WordEmbedder("new", 6)
        one = await make(embedder=old).open()
        needs(one, "reembeds")
        stores = [one, await make().open()] if one.capabilities.shared else [one]
        await one.put_many([item(f"{i}", f"word {i}") for i in range(6)])
        plain, seen = new.embed, []

        async def shown() -> list[list[Any]]:
            each = [[await store.get(f"{i}") for i in range(6)] for store in stores]
            many = [await store.get_many(f"{i}" for i in range(6)) for store in stores]
            return [[one and list(one.embedding) for one in found] for found in each + many]

        async def embed(texts: Any) -> Any:
            seen.append(await shown())
            return plain(texts)

        new.embed = embed  # type: ignore[method-assign]
        assert (await one.reembed(new, batch=3)).switched
        before, after = [[list(who.vector(f"word {i}")) for i in range(6)] for who in (old, new)]
        assert len(seen) > 1
        assert all(told == before for each in seen for told in each)
        assert all(told == after for told in await shown())
