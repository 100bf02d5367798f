"""The storm of cancellations on every flavour, and on stores that do what it is there to find."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from flavours import FLAVOURS, flavour
from msgspec.structs import replace

from memory.backends.in_memory import InMemoryStore
from memory.testing.__main__ import main
from memory.testing.faults.table import Outcome
from memory.testing.making import MakeAt
from memory.testing.storm import storm


@pytest.fixture(params=FLAVOURS)
def make(request: pytest.FixtureRequest) -> MakeAt:
    return flavour(request.param)


async def test_cancelled_calls_harm_nobody_else(make: MakeAt, tmp_path: Path) -> None:
    async with make(tmp_path) as store:
        outcome = await storm(store, operations=1_500, callers=24)
    assert outcome.ok, outcome.table()
    assert outcome.counts["operations"] >= 1_500
    assert outcome.counts["cancelled"] >= 0.28 * outcome.counts["operations"]
    assert outcome.counts["acknowledged writes"] > 300
    assert outcome.counts["items checked"] > 1_000


class Slow(InMemoryStore):
    """Gives others a turn in each read, as a server does."""

    async def _read(self, op: Any) -> Any:
        await asyncio.sleep(0.001)
        return await super()._read(op)


class CrossesReplies(Slow):
    """After a cancelled read its reply is given to whoever reads next, as from a connection that was not discarded."""

    late: Any = None

    async def _read(self, op: Any) -> Any:
        late, self.late = self.late, None
        try:
            found = await super()._read(op)
        except asyncio.CancelledError:
            self.late = await InMemoryStore._read(self, op)
            raise
        return found if late is None or len(late) != len(found) else late


class LosesWrites(Slow):
    """Answers every tenth write as done and forgets it."""

    writes = 0

    async def _write(self, ops: Any, atomic: bool) -> Any:
        self.writes += 1
        if self.writes % 10:
            return await super()._write(ops, atomic)
        kept = {name: dict(value) if isinstance(value, dict) else value for name, value in vars(self).items()}
        results = await super()._write(ops, atomic)
        self._records = type(self._records)(kept["_records"])
        return results


class LeavesTasks(Slow):
    async def _read(self, op: Any) -> Any:
        try:
            return await super()._read(op)
        except asyncio.CancelledError:
            self.kept = asyncio.ensure_future(asyncio.sleep(1_000))
            raise

    async def _close(self) -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if "sleep" in repr(task.get_coro()):
                task.cancel()
        await super()._close()


class KeepsConnections(Slow):
    used = 0

    async def _read(self, op: Any) -> Any:
        self.used += 1
        found = await super()._read(op)
        self.used -= 1  # not when it is cancelled
        return found

    async def _health(self) -> dict[str, Any]:
        return {"connections_in_use": self.used}


class LetsErrorsOut(Slow):
    async def _read(self, op: Any) -> Any:
        try:
            return await super()._read(op)
        except asyncio.CancelledError:
            raise
        finally:
            if op.keys[0][1].endswith("3"):
                raise OSError("connection reset")


class ForgetsScope(Slow):
    async def _match(self, op: Any) -> Any:
        return await super()._match(replace(op, terms=("weather",)))


async def raged(kind: type[InMemoryStore]) -> Outcome:
    async with kind() as store:
        return await storm(store, operations=800, callers=16)


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (CrossesReplies, "crossed replies"),
        (LosesWrites, "wrong or lost values"),
        (LeavesTasks, "left behind"),
        (KeepsConnections, "left behind"),
        (LetsErrorsOut, "foreign errors"),
        (ForgetsScope, "crossed replies"),
    ],
)
async def test_what_a_storm_brings_to_light(kind: Any, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory.testing.storm.PATIENCE_SECONDS", 0.5)  # for what is left behind to go away
    outcome = await raged(kind)
    assert not outcome.ok
    assert outcome.counts[what] > 0, outcome.table()


async def test_a_slow_store_that_is_right_is_not_accused() -> None:
    outcome = await raged(Slow)
    assert outcome.ok, outcome.table()


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["storm", "--operations", "300", "--callers", "8"]) == 0
    assert "crossed replies" in capsys.readouterr().out
    assert main(["storm", "--backend", f"{__name__}:LetsErrorsOut", "--operations", "300", "--callers", "8"]) == 1
    assert "foreign errors" in capsys.readouterr().err
