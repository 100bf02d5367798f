"""Several calls at once: all their answers, the first error, and no cancellation lost."""

from __future__ import annotations

import asyncio

import pytest

from memory.errors import BackendUnavailable
from memory.store.together import all_of

TURNS = 12
"""Of the loop: more than the call that is cancelled takes."""


async def after(turns: int, answer: str = "", error: Exception | None = None) -> str:
    for _ in range(turns):
        await asyncio.sleep(0)
    if error is not None:
        raise error
    return answer


async def lasting(ended: list[str]) -> str:
    """Goes on until it is cancelled, and then takes some turns to end."""
    try:
        await asyncio.sleep(60)
    finally:
        await after(3)
        ended.append("lasting")
    return ""


async def test_answers_come_in_order():
    assert await all_of([after(3, "a"), after(1, "b"), after(2, "c")]) == ["a", "b", "c"]
    assert await all_of([after(1, "a")]) == ["a"]
    assert await all_of([]) == []


async def test_the_first_error_is_raised_once_all_have_ended():
    ended: list[str] = []
    with pytest.raises(BackendUnavailable, match="down"):
        await all_of([lasting(ended), after(2, error=BackendUnavailable("down"))])
    assert ended == ["lasting"]
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


@pytest.mark.parametrize("turns", range(1, TURNS))
async def test_a_cancellation_is_not_lost_to_an_error(turns: int):
    ended: list[str] = []
    task = asyncio.ensure_future(all_of([lasting(ended), after(2, error=BackendUnavailable("down"))]))
    await after(turns)
    cancelled = task.cancel()
    await asyncio.wait([task])
    if cancelled:
        assert task.cancelled()
    else:
        assert isinstance(task.exception(), BackendUnavailable)
    assert ended == ["lasting"]
