"""The tools of memory.testing themselves: they have to be able to fail."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from memory.backends.in_memory import InMemoryStore
from memory.clock import ManualClock
from memory.model import MemoryItem
from memory.store import MemoryStore
from memory.testing.contract import Bench, StoreContract, Suite, TwinsContract, ViewContract, sentences
from memory.testing.contract.suite import beside_a_heartbeat, exact, settle
from memory.testing.heartbeat import Heartbeat, assert_calm
from memory.testing.twins import Twins


async def test_a_heartbeat_sees_a_held_loop() -> None:
    async with Heartbeat() as heart:
        await asyncio.sleep(0.005)
        time.sleep(0.05)
    assert heart.worst > 0.045


async def test_a_heartbeat_sees_a_loop_held_to_the_very_end() -> None:
    async with Heartbeat() as heart:
        time.sleep(0.03)
    assert heart.worst > 0.02


async def test_calm_work_passes_and_work_that_holds_the_loop_does_not() -> None:
    async def calm() -> None:
        for _ in range(5):
            await asyncio.sleep(0.001)

    async def holding() -> None:
        await asyncio.sleep(0.001)
        time.sleep(0.1)

    assert await assert_calm(calm) < 0.04
    with pytest.raises(AssertionError, match=r"held for .* ms"):
        await assert_calm(holding, tries=2)


async def test_a_disturbance_of_the_machine_is_forgiven() -> None:
    disturbed = [True, True, False, False, False, False]

    async def work() -> None:
        if disturbed.pop(0):
            time.sleep(0.1)

    assert await assert_calm(work) < 0.04


async def test_a_sentence_that_holds_the_loop_fails_beside_a_heartbeat() -> None:
    class Held(Suite):
        def make_store(self, place: Path, **options: Any) -> MemoryStore:
            return InMemoryStore(**options)

        async def test_holding(self, store: MemoryStore) -> None:
            await store.put(MemoryItem(content=1))
            time.sleep(0.1)

        async def test_quiet(self, store: MemoryStore) -> None:
            await store.put(MemoryItem(content=1))

    bench = Bench(Held(), Path(), ManualClock())
    for name, held in (("test_holding", True), ("test_quiet", False)):
        run = beside_a_heartbeat(name, getattr(Held, name), tries=5)
        if held:
            with pytest.raises(AssertionError, match="held"):
                await run(Held(), await bench.store())
        else:
            await run(Held(), await bench.store())
    await bench.close()


def test_a_suite_without_a_store_says_what_is_missing() -> None:
    with pytest.raises(NotImplementedError, match="make_store"):
        Suite().make_store(Path())


def test_the_variants_run_most_of_the_sentences() -> None:
    whole = set(sentences(StoreContract))
    assert len(whole) > 300
    assert set(sentences(TwinsContract)) < whole
    assert set(sentences(ViewContract)) < whole
    assert len(sentences(TwinsContract)) > 280
    assert len(sentences(ViewContract)) > 150


def test_sentences_of_different_parts_do_not_hide_each_other() -> None:
    counted = sum(len([name for name in vars(part) if name.startswith("test_")]) for part in StoreContract.__mro__)
    assert counted == len(sentences(StoreContract))


def test_exact_tells_apart_what_equality_does_not() -> None:
    for one, other in ((1, 1.0), (0.0, -0.0), (True, 1), ("é", "e\u0301"), ([1], (1,)), ({"a": 1}, {"a": True})):
        assert exact(one) != exact(other) or isinstance(other, tuple)
    assert exact({"a": 1, "b": [None]}) == exact({"b": [None], "a": 1})


async def test_settle_waits_and_gives_up() -> None:
    answers = [False, False, True]

    async def ready() -> bool:
        return answers.pop(0)

    await settle(5, ready)

    async def never() -> bool:
        return False

    with pytest.raises(AssertionError, match="did not come true"):
        await settle(0.02, never)


async def test_twins_look_like_the_store_they_stand_for() -> None:
    twins: Any = Twins(InMemoryStore())
    assert "InMemoryStore" in repr(twins) or "object" in repr(twins)
    async with twins as opened:
        assert opened is twins
        assert twins.name == "in_memory"
        assert await twins.open() is twins
        await twins.put(MemoryItem(id="a", content="x"))
        assert [one.id async for batch in twins.stream() for one in batch] == ["a"]
        assert await twins.scoped(user_id="u").count() == 0
    with pytest.raises(AttributeError):
        twins.__nothing__  # noqa: B018
