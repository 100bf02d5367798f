"""The embedding service at work: batches, cache, threads, and what it never does to the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from embedders import Gated, Plain, turns, vector

from memory.errors import InvalidItem, InvalidSetting
from memory.search.embedders import EmbeddingService, embedder_of
from memory.testing.heartbeat import assert_calm


async def test_each_text_gets_its_own_read_only_float32_vector() -> None:
    service = EmbeddingService(Plain())
    assert (service.name, service.semantic, service.dimension) == ("plain", True, None)
    got = await service.embed(["a", "bb", "a", ""])
    assert [one.tolist() for one in got] == [vector("a"), vector("bb"), vector("a"), vector("")]
    assert all(one.dtype == np.float32 and one.shape == (3,) for one in got)
    with pytest.raises(ValueError, match="read-only"):
        got[0][0] = 5
    assert service.dimension == 3
    assert await service.embed([]) == []
    await service.close()


async def test_concurrent_calls_of_one_turn_become_one_call_and_equal_texts_are_embedded_once() -> None:
    plain = Plain()
    service = EmbeddingService(plain)
    await service.prepare()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(service.embed([f"{i % 40}", "same"])) for i in range(80)]
    assert [sorted(call) for call in plain.calls] == [sorted({"same", *(f"{i}" for i in range(40))})]
    assert [task.result()[0].tolist() for task in tasks] == [vector(f"{i % 40}") for i in range(80)]
    assert service._texts == {}
    assert not service._queue
    await service.close()


async def test_what_waits_while_a_batch_runs_is_the_next_batch_of_at_most_max_batch() -> None:
    gated = Gated()
    service = EmbeddingService(gated, max_batch=10)
    async with asyncio.TaskGroup() as group:
        group.create_task(service.embed(["first"]))
        await turns()
        await service.prepare()
        await turns()
        assert gated.calls == [["first"]]
        for i in range(25):
            group.create_task(service.embed([f"text {i}"]))
        await turns()
        gated.gate.set()
    assert [len(call) for call in gated.calls] == [1, 10, 10, 5]
    await service.close()


async def test_a_long_list_does_not_keep_a_query_waiting() -> None:
    gated = Gated()
    service = EmbeddingService(gated, max_batch=4)
    async with asyncio.TaskGroup() as group:
        group.create_task(service.embed([f"bulk {i}" for i in range(200)]))
        await service.prepare()
        await turns()
        group.create_task(service.embed(["query"]))
        await turns()
        gated.gate.set()
    assert "query" in gated.calls[1]
    assert sum(len(call) for call in gated.calls) == 201
    await service.close()


async def test_a_call_of_thousands_of_texts_keeps_order() -> None:
    plain = Plain()
    service = EmbeddingService(plain, cached_texts=10)
    texts = [f"{i % 700}" * (i % 3 + 1) for i in range(2_000)]
    assert [one.tolist() for one in await service.embed(texts)] == [vector(text) for text in texts]
    assert max(len(call) for call in plain.calls) <= 64
    await service.close()


async def test_recent_texts_are_remembered_and_old_and_long_ones_are_not() -> None:
    plain = Plain()
    service = EmbeddingService(plain, cached_texts=3)
    for text in ("a", "b", "c", "a", "d", "a", "b"):  # b is the oldest when d comes
        await service.embed([text])
    long = "x" * 2_049
    await service.embed([long])
    await service.embed([long])
    assert [call[0] for call in plain.calls] == ["a", "b", "c", "d", "b", long, long]
    assert len(service._cache) == 3
    await service.close()


async def test_plain_embedders_run_in_one_thread_of_their_own() -> None:
    plain = Plain()
    service = EmbeddingService(plain)
    for i in range(5):
        await service.embed([f"{i}"])
    (thread,) = plain.threads
    assert thread is not threading.current_thread()
    assert thread.name == "memory-embedder"
    assert thread.daemon
    await service.close()
    await asyncio.to_thread(thread.join, 10)
    assert not thread.is_alive()


async def test_an_async_embedder_runs_on_the_loop_and_a_plain_one_may_return_an_awaitable() -> None:
    seen: list[threading.Thread] = []

    async def on_loop(texts: Sequence[str]) -> Any:
        seen.append(threading.current_thread())
        return [vector(text) for text in texts]

    for function in (on_loop, lambda texts: on_loop(texts)):  # noqa: PLW0108
        service = EmbeddingService(embedder_of(function, name="x"))  # type: ignore[arg-type]
        assert (await service.embed(["abc"]))[0].tolist() == vector("abc")
        await service.close()
    assert seen == [threading.current_thread()] * 2


@pytest.mark.parametrize("texts", ["a text", [1], [b"bytes"], [None]])
async def test_what_is_no_list_of_texts_is_refused(texts: Any) -> None:
    with pytest.raises(InvalidItem, match="sequence of str"):
        await EmbeddingService(Plain()).embed(texts)


def test_limits_that_make_no_sense_are_refused() -> None:
    for limits in ({"max_batch": 0}, {"cached_texts": -1}):
        with pytest.raises(InvalidSetting):
            EmbeddingService(Plain(), **limits)


async def test_an_embedder_that_waits_for_nothing_makes_one_batch_in_a_turn_of_the_loop() -> None:
    turn, seen = 0, []

    async def at_once(texts: Sequence[str]) -> Any:
        seen.append(turn)
        return [vector(text) for text in texts]

    service = EmbeddingService(embedder_of(at_once, name="at-once"), max_batch=8)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(service.embed([f"text {i}" for i in range(200)]))
        while not waiting.done():
            await asyncio.sleep(0)
            turn += 1
    assert len(seen) == 25
    assert len(set(seen)) == 25
    await service.close()


@pytest.mark.parametrize("kind", ["lists", "array", "hashing"])
async def test_no_size_of_batch_holds_the_loop(kind: str) -> None:
    wide = [[float(i) for i in range(1_536)] for _ in range(64)]
    array = np.ones((64, 1_536))
    texts = [f"text {i} " * 30 for i in range(640)]
    if kind == "hashing":
        texts = [" ".join(f"{i}word{j}" for j in range(30_000)) for i in range(2)] + texts
        embedder = embedder_of("hashing")
    elif kind == "lists":
        embedder = embedder_of(lambda texts: wide[: len(texts)], name="lists")
    else:
        embedder = embedder_of(lambda texts: array[: len(texts)], name="array")
    service = EmbeddingService(embedder, cached_texts=0)  # type: ignore[arg-type]
    await service.embed(["warm"])
    await assert_calm(lambda: service.embed(texts))
    await service.close()
