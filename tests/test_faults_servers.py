"""Servers killed, silent and cut off under a store on each, and stores that must be caught at it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from flavours import SERVERS
from msgspec.structs import replace
from servers import missing

from memory.backends.redis import RedisStore
from memory.errors import BackendUnavailable, UnknownOutcome
from memory.ops import Result, Row, Status
from memory.testing.faults.counting import Counting, settled
from memory.testing.faults.servers import Settings, servers
from memory.testing.faults.table import Outcome
from memory.testing.services import ServiceMissing

pytestmark = pytest.mark.crash


def proved(**settings: Any) -> Outcome:
    try:
        return servers(Settings(**settings), show=lambda _: None)
    except ServiceMissing as error:
        missing(str(error))
        raise


@pytest.mark.parametrize("server", SERVERS)
def test_a_store_comes_back_after_its_server_and_nothing_acknowledged_is_lost(server: str) -> None:
    outcome = proved(server=server, proofs=("kills",), rounds=2)
    assert outcome.ok, outcome.table()
    assert outcome.counts["kills: kills"] == 2
    assert outcome.counts["kills: acknowledged"] > 50
    assert outcome.counts["kills: slowest recovery in ms"] < 5_000


@pytest.mark.parametrize("server", SERVERS)
def test_every_call_ends_by_its_deadline_while_the_server_is_silent(server: str) -> None:
    outcome = proved(server=server, proofs=("silence",), silent=2.0, timeout=1.0)
    assert outcome.ok, outcome.table()
    ended = ("DeadlineExceeded", "UnknownOutcome", "BackendUnavailable", "unknown outcomes")
    assert sum(outcome.counts.get(f"silence: {name}", 0) for name in ended) > 15


@pytest.mark.parametrize("server", SERVERS)
def test_writes_whose_replies_are_lost_have_one_effect(server: str) -> None:
    outcome = proved(server=server, proofs=("losses",), steps=40)
    assert outcome.ok, outcome.table()
    assert outcome.counts["losses: replies lost"] > 10
    assert outcome.counts["losses: finished by retry"] > 5


class AnswersBeforeItWrites(RedisStore):
    """Acknowledges touches and overwrites, and sends them a little later."""

    async def _write(self, ops: Any, atomic: bool) -> list[Result]:
        if any(op.expect <= 0 for op in ops):
            return await super()._write(ops, atomic)
        rows = await self._read_all(ops)
        self.later = asyncio.ensure_future(self._send(ops, atomic))
        return [Result(Status.DONE, row) for row in rows]

    async def _read_all(self, ops: Any) -> list[Row]:
        return [Row(body=b"", version=op.expect + 1, created=op.now, updated=op.now, accessed=op.now) for op in ops]

    async def _send(self, ops: Any, atomic: bool) -> None:
        await asyncio.sleep(0.02)
        try:
            await super()._write(ops, atomic)
        except BackendUnavailable:
            pass


class ForgetsTokens(RedisStore):
    """Applies a repeat as if it were a new write."""

    async def _write(self, ops: Any, atomic: bool) -> list[Result]:
        return await super()._write([replace(op, floor=None, expect=-1) for op in ops], atomic)


class NeverMinds(RedisStore):
    """Waits for an answer as long as it takes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{**options, "timeout": 30.0})


@pytest.mark.parametrize(
    ("kind", "settings", "what"),
    [
        (AnswersBeforeItWrites, {"proofs": ("kills",), "rounds": 2}, "lost"),
        (ForgetsTokens, {"proofs": ("losses",), "steps": 60}, "a double effect"),
        (NeverMinds, {"proofs": ("silence",), "silent": 1.0, "timeout": 0.5}, "is still waiting"),
    ],
)
def test_a_store_that_breaks_its_promise_is_caught(kind: type, settings: dict[str, Any], what: str) -> None:
    outcome = proved(server="redis", store=f"{__name__}:{kind.__name__}", **settings)
    assert any(what in failure for failure in outcome.failures), outcome.table()


async def test_an_unknown_write_is_asked_about_until_it_is_known() -> None:
    answers: list[Any] = [BackendUnavailable("down"), UnknownOutcome("again"), OSError("a driver's own"), "done"]

    async def retry() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, UnknownOutcome):
            raise UnknownOutcome("again", retry=retry)
        if isinstance(answer, Exception):
            raise answer
        return answer

    from collections import Counter

    tally: Counter[str] = Counter()
    foreign: list[str] = []
    assert await settled(UnknownOutcome("lost", retry=retry), tally, foreign) == "done"
    assert tally == {"unknown outcomes": 1, "finished by retry": 1}
    assert foreign == [repr(OSError("a driver's own"))]


async def test_counters_say_what_was_lost_and_what_was_done_twice(tmp_path: Any) -> None:
    from memory.backends.in_memory import InMemoryStore
    from memory.model import MemoryItem

    async with InMemoryStore(feed=True) as store:
        counting = Counting(store, callers=2, seed=1)
        await counting.prepare()
        await counting.run(20)
        assert await counting.check() == []
        await store.touch("c-0")
        found = await store.get("c-1")
        assert found is not None
        await store.put(MemoryItem(id="c-1", content=found.content - 1))
        await store.delete("c-2")
        said = "\n".join(await counting.check())
        assert "c-0: access_count is" in said
        assert "a double effect" in said
        assert "c-1: content is" in said
        assert "lost" in said
        assert "the counter c-2 is gone" in said
