"""A call that is cancelled where it waits: what the sentence about cancellation does to each."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from memory.testing.stepping import Stepped, When, moments, sample


class Waits:
    """A call that waits for a timer, for a turn of the loop and for a timer; it notes how far it came."""

    def __init__(self) -> None:
        self.reached = 0
        self.futures: list[asyncio.Future[str]] = []

    async def __call__(self) -> str:
        await self._timer()
        await asyncio.sleep(0)
        self.reached += 1
        return await self._timer()

    async def _timer(self) -> str:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()
        self.futures.append(future)
        loop.call_later(0.001, lambda: future.done() or future.set_result("done"))
        answer = await future
        self.reached += 1
        return answer


async def test_a_call_that_is_left_alone_ends_as_ever_and_its_suspensions_are_counted() -> None:
    run = Stepped(Waits())
    assert await run.task == "done"
    assert (run.suspended, run.reached) == (3, False)


@pytest.mark.parametrize("at", range(3))
@pytest.mark.parametrize("when", When)
async def test_a_call_is_cancelled_where_it_waits(at: int, when: When) -> None:
    call = Waits()
    run = Stepped(call, at, when)
    await asyncio.wait([run.task])
    assert run.task.cancelled()
    assert (run.suspended, run.reached, call.reached) == (at + 1, True, at)
    if at != 1:
        assert call.futures[-1].cancelled() is (when is When.AT_ONCE), "else its answer came and nobody took it"


async def test_a_call_that_ends_before_is_not_cancelled() -> None:
    run = Stepped(Waits(), 3)
    assert await run.task == "done"
    assert not run.reached


async def test_errors_pass_and_what_a_call_does_when_it_is_cancelled_is_done() -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await Stepped(fails).task
    done: list[str] = []

    async def tidies() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            done.append("tidied")

    run = Stepped(tidies, 0)
    await asyncio.wait([run.task])
    assert (run.task.cancelled(), done, run.suspended) == (True, ["tidied"], 2)


async def test_a_call_that_goes_on_though_cancelled_is_seen() -> None:
    async def goes_on() -> Any:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            return "never mind"

    run = Stepped(goes_on, 0)
    assert await run.task == "never mind"
    assert run.reached
    assert not run.task.cancelled()


def test_of_many_suspensions_the_first_and_the_last_are_tried_and_some_between() -> None:
    assert sample(0) == []
    assert sample(7) == list(range(7))
    assert sample(20) == list(range(20))
    assert sample(25) == [*range(20), 21, 22, 23, 24]
    for count in range(21, 3_000):
        tried = sample(count)
        assert tried[:20] == list(range(20))
        assert tried[-1] == count - 1
        assert tried == sorted(set(tried))
        assert len(tried) < 50


def test_the_first_are_tried_both_ways_and_the_others_by_turns() -> None:
    assert moments(0) == []
    assert moments(2) == [(0, When.AT_ONCE), (0, When.ANSWERED), (1, When.AT_ONCE), (1, When.ANSWERED)]
    tried = moments(2_000)
    assert [at for at, _ in tried[20:]] == sample(2_000)[10:]
    assert [when for _, when in tried[20:22]] == [When.AT_ONCE, When.ANSWERED]
