"""Slices of computing do not add up in one turn of the loop, everybody gets one, and none is lost."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from weakref import WeakSet

from memory.turns import SLICE_SECONDS, is_due, own_turn, pause


def compute() -> None:
    until = time.perf_counter() + 1.2 * SLICE_SECONDS
    while time.perf_counter() < until:
        pass


class Turns:
    """Counts turns of the loop, while it is asked to."""

    def __init__(self) -> None:
        self.number = 0
        self.computed: Counter[int] = Counter()
        self._task = asyncio.create_task(self._count())

    async def _count(self) -> None:
        while True:
            self.number += 1
            await asyncio.sleep(0)

    def compute(self) -> None:
        self.computed[self.number] += 1
        compute()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])


async def test_what_becomes_ready_together_computes_one_slice_to_a_turn() -> None:
    turns = Turns()

    async def come() -> None:
        await own_turn()
        turns.compute()

    async with asyncio.TaskGroup() as group:
        for _ in range(40):
            group.create_task(come())
    await turns.stop()
    assert sum(turns.computed.values()) == 40
    assert max(turns.computed.values()) == 1


async def test_those_who_pause_take_turns() -> None:
    turns, done = Turns(), Counter[int]()

    async def work(number: int) -> None:
        while True:
            if is_due():
                await pause()
            turns.compute()
            done[number] += 1

    tasks = [asyncio.create_task(work(number)) for number in range(6)]
    while sum(done.values()) < 120:
        await asyncio.sleep(0.001)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await turns.stop()
    assert max(turns.computed.values()) == 1
    assert set(done) == set(range(6))
    assert max(done.values()) - min(done.values()) <= 2, done  # the first who comes back need not wait in line


async def test_short_work_shares_a_turn() -> None:
    turns, seen = Turns(), Counter[int]()

    async def come() -> None:
        await own_turn()
        seen[turns.number] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(come())
    await turns.stop()
    assert max(seen.values()) > 5


async def test_a_turn_whose_owner_is_cancelled_goes_to_the_next() -> None:
    came: list[int] = []

    async def come(number: int) -> None:
        await own_turn()
        came.append(number)
        compute()
        if number % 3 == 1:
            tasks[number + 1].cancel()  # whose turn has just been called
            tasks[number + 3].cancel()  # who still waits

    tasks = [asyncio.create_task(come(number)) for number in range(12)]
    async with asyncio.timeout(5):
        await asyncio.wait(tasks)
        await come(99)
    assert came == [0, 1, 3, 5, 6, 7, 9, 11, 99]


def test_a_loop_that_ended_while_tasks_waited_is_let_go() -> None:
    async def come() -> None:
        await own_turn()
        compute()

    async def crowd() -> None:
        loops.add(asyncio.get_running_loop())
        await asyncio.wait([asyncio.create_task(come()) for _ in range(5)], return_when=asyncio.FIRST_COMPLETED)

    loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
    asyncio.run(crowd())
    gc.collect()
    assert not loops


def test_loops_that_take_turns_in_one_thread_do_not_wait_for_each_other() -> None:
    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()

    came: list[asyncio.AbstractEventLoop] = []

    async def come() -> None:
        await own_turn()
        compute()
        came.append(asyncio.get_running_loop())

    async def crowd() -> None:
        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            for _ in range(5):
                group.create_task(come())

    try:
        halfway = first.create_task(crowd())
        first.run_until_complete(asyncio.sleep(0))
        second.run_until_complete(crowd())
        first.run_until_complete(halfway)
    finally:
        first.close()
        second.close()
    assert came.count(first) == came.count(second) == 5


async def test_what_another_computed_in_this_turn_counts() -> None:
    seen: list[bool] = []

    async def first() -> None:
        assert not is_due()
        compute()

    async def second() -> None:
        seen.append(is_due())
        await pause()
        seen.append(is_due())

    async with asyncio.TaskGroup() as group:
        group.create_task(first())
        group.create_task(second())
    assert seen == [True, False]


async def test_who_is_alone_comes_back_in_the_next_turn() -> None:
    turns = Turns()
    await asyncio.sleep(0)
    for _ in range(20):
        before = turns.number
        compute()
        await pause()
        assert turns.number == before + 1
    await turns.stop()


async def test_who_is_cancelled_on_the_way_back_leaves_the_turn_to_others() -> None:
    tasks = [asyncio.create_task(pause()) for _ in range(4)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    tasks[2].cancel()
    async with asyncio.timeout(5):
        await asyncio.wait(tasks)
        await pause()
    assert [task.cancelled() for task in tasks] == [True, False, True, False]


async def test_who_comes_back_behind_one_who_computed_waits_on() -> None:
    turns, called = Turns(), asyncio.Event()

    async def other() -> None:
        await called.wait()
        await own_turn()
        turns.compute()

    task = asyncio.create_task(other())
    await asyncio.sleep(0)
    await own_turn()
    turns.compute()
    called.set()
    await pause()
    turns.compute()
    await task
    await turns.stop()
    assert sum(turns.computed.values()) == 3
    assert max(turns.computed.values()) == 1
