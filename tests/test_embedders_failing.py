"""The embedding service when something goes wrong: failures, cancellation, closing, another loop, the end."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from embedders import Gated, Plain, turns, vector

from memory.errors import Closed, EmbeddingFailed, EmbeddingMismatch, WrongLoop
from memory.search.embedders import EmbeddingService, embedder_of


class Burst(Exception):
    pass


async def test_an_exception_of_the_embedder_fails_its_batch_for_every_waiter_and_the_next_batch_works() -> None:
    broken = True

    def embed(texts: Sequence[str]) -> Any:
        if broken:
            raise Burst("secret words")
        return [vector(text) for text in texts]

    service = EmbeddingService(embedder_of(embed, name="fragile"))  # type: ignore[arg-type]
    outcomes: list[Any] = [None] * 10

    async def one(i: int) -> None:
        try:
            await service.embed([f"{i}"])
        except EmbeddingFailed as error:
            outcomes[i] = error

    async with asyncio.TaskGroup() as group:
        for i in range(10):
            group.create_task(one(i))
    assert len({id(error) for error in outcomes}) == 10
    for error in outcomes:
        assert isinstance(error.__cause__, Burst)
        assert error.embedder == "fragile"
        assert "'fragile' failed with Burst" in str(error)
        assert "secret words" not in str(error)
    broken = False
    assert (await service.embed(["3"]))[0].tolist() == vector("3")
    await service.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda texts: [[1.0, 2.0]] * (len(texts) + 1), "answered 2 texts with 3 vectors"),
        (lambda texts: [], "answered 2 texts with 0 vectors"),
        (lambda texts: None, "answered with NoneType"),
        (lambda texts: 1.5, "answered with float"),
        (lambda texts: ["ab", "cd"], "answered with str"),
        (lambda texts: [[1.0, "x"], [1.0, 2.0]], "answered with list"),
        (lambda texts: [1.0, 2.0], r"shape \(\)"),
        (lambda texts: [[], []], r"shape \(0,\)"),
        (lambda texts: np.ones((2, 2, 2)), r"shape \(2, 2\)"),
        (lambda texts: [[1.0, float("nan")]] * 2, "NaN or Infinity"),
        (lambda texts: np.full((2, 4), 1e300), "NaN or Infinity"),
        (lambda texts: [[1.0, None], [1.0, 2.0]], "NaN|list"),
    ],
)
async def test_an_answer_that_is_no_vectors_fails(answer: Any, words: str) -> None:
    service = EmbeddingService(embedder_of(answer, name="odd"))  # type: ignore[arg-type]
    with pytest.raises(EmbeddingFailed, match=words):
        await service.embed(["one", "two"])
    await service.close()


async def test_a_bad_row_fails_its_text_alone() -> None:
    def embed(texts: Sequence[str]) -> Any:
        return [[float("inf")] * 3 if text == "bad" else vector(text) for text in texts]

    service = EmbeddingService(embedder_of(embed, name="x"))  # type: ignore[arg-type]
    await service.prepare()
    bad, good = (asyncio.ensure_future(service.embed([text])) for text in ("bad", "good"))
    await asyncio.wait({bad, good})
    assert isinstance(bad.exception(), EmbeddingFailed)
    assert good.result()[0].tolist() == vector("good")
    await service.close()


async def test_another_dimension_than_before_or_than_promised_is_a_mismatch() -> None:
    dimension = 3
    service = EmbeddingService(embedder_of(lambda texts: np.ones((len(texts), dimension)), name="x"))  # type: ignore[arg-type]
    await service.embed(["a"])
    dimension = 4
    with pytest.raises(EmbeddingMismatch) as caught:
        await service.embed(["b"])
    assert (caught.value.expected, caught.value.actual) == (3, 4)  # type: ignore[attr-defined]
    dimension = 3
    assert len((await service.embed(["b"]))[0]) == 3
    await service.close()

    promised = embedder_of(lambda texts: np.ones((len(texts), 4)), name="x", dimensions=5)
    service = EmbeddingService(promised)  # type: ignore[arg-type]
    assert service.dimension == 5
    with pytest.raises(EmbeddingMismatch, match="4 numbers, and gives 5"):
        await service.embed(["a"])
    await service.close()


async def test_a_cancelled_caller_leaves_the_batch_to_the_others() -> None:
    gated = Gated()
    service = EmbeddingService(gated)
    await service.prepare()
    leaver, stayer = (asyncio.ensure_future(service.embed(["shared", text])) for text in ("mine", "yours"))
    await turns()
    leaver.cancel()
    await turns()
    gated.gate.set()
    assert (await stayer)[0].tolist() == vector("shared")
    assert leaver.cancelled()
    assert service._texts == {}
    assert (await service.embed(["mine"]))[0].tolist() == vector("mine")
    assert len(gated.calls) == 1  # the work that was begun is not thrown away
    await service.close()


async def test_what_nobody_waits_for_any_more_is_dropped_before_it_begins() -> None:
    gated = Gated()
    service = EmbeddingService(gated)
    await service.prepare()
    first = asyncio.ensure_future(service.embed(["first"]))
    await turns()
    leavers = [asyncio.ensure_future(service.embed([f"{i}", "shared"])) for i in range(5)]
    stayer = asyncio.ensure_future(service.embed(["shared"]))
    await turns()
    for leaver in leavers:
        leaver.cancel()
    await turns()
    assert set(service._texts) == {"first", "shared"}
    gated.gate.set()
    await asyncio.wait({first, stayer})
    assert gated.calls == [["first"], ["shared"]]
    assert service._texts == {}
    assert not service._queue
    assert service._runner is None
    await service.close()


async def test_a_cancellation_inside_the_embedder_is_its_failure_and_not_ours() -> None:
    async def embed(texts: Sequence[str]) -> Any:
        raise asyncio.CancelledError

    service = EmbeddingService(embedder_of(embed, name="x"))  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(EmbeddingFailed, match="CancelledError"):
            await service.embed(["a"])
    await service.close()


async def test_closing_tells_those_who_wait_and_refuses_what_comes_later() -> None:
    gated = Gated()
    service = EmbeddingService(gated, max_batch=1)
    await service.prepare()
    waiting = [asyncio.ensure_future(service.embed([text])) for text in ("running", "queued")]
    await turns()
    await service.close()
    await service.close()
    await asyncio.wait(waiting)
    assert all(isinstance(one.exception(), Closed) for one in waiting)
    with pytest.raises(Closed):
        await service.embed(["a"])


async def test_closing_does_not_wait_for_a_call_in_the_thread() -> None:
    release = threading.Event()
    service = EmbeddingService(embedder_of(lambda texts: release.wait(60), name="x"))  # type: ignore[arg-type]
    waiting = asyncio.ensure_future(service.embed(["a"]))
    await asyncio.sleep(0.05)
    try:
        async with asyncio.timeout(10):
            await service.close()
            with pytest.raises(Closed):
                await waiting
    finally:
        release.set()


async def test_closing_lets_go_of_what_the_embedder_says_may_be_let_go() -> None:
    class Connected(Plain):
        released = 0

        async def release(self) -> None:
            self.released += 1

        def close(self) -> None:
            raise AssertionError("an embedder of the user is not ours to close")

    embedder = Connected()
    service = EmbeddingService(embedder)
    await service.embed(["a"])
    await service.close()
    assert embedder.released == 1


def test_another_loop_is_refused_until_the_first_has_ended_and_then_closing_is_all() -> None:
    service = EmbeddingService(Plain())
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    first.run_until_complete(service.embed(["a"]))
    with pytest.raises(WrongLoop):
        second.run_until_complete(service.embed(["a"]))
    with pytest.raises(WrongLoop):
        second.run_until_complete(service.close())
    first.close()
    with pytest.raises(WrongLoop):
        second.run_until_complete(service.embed(["a"]))
    second.run_until_complete(service.close())
    second.close()


def test_a_service_that_is_only_forgotten_takes_its_thread_along() -> None:
    plain = Plain()

    async def use() -> None:
        await EmbeddingService(plain).embed(["a"])

    asyncio.run(use())
    gc.collect()
    (thread,) = plain.threads
    thread.join(10)
    assert not thread.is_alive()


async def test_a_failed_preparation_is_told_to_every_caller_and_tried_again() -> None:
    class Unready(Plain):
        ready = False

        def prepare(self) -> None:
            if not self.ready:
                raise Burst

    embedder = Unready()
    service = EmbeddingService(embedder)
    callers = [asyncio.ensure_future(service.embed([text])) for text in "abc"]
    await asyncio.wait(callers)
    assert {type(caller.exception()) for caller in callers} == {EmbeddingFailed}
    assert embedder.calls == []
    embedder.ready = True
    assert len(await service.embed(["a"])) == 1
    await service.close()


def test_the_interpreter_exits_although_a_call_still_runs() -> None:
    code = """
import asyncio, time
from memory.search.embedders import EmbeddingService, embedder_of

async def main():
    service = EmbeddingService(embedder_of(lambda texts: time.sleep(300), name="asleep"))
    await service.prepare()
    try:
        async with asyncio.timeout(0.2):
            await service.embed(["a"])
    except TimeoutError:
        print("gone")

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("gone\n", "")
