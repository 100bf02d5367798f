"""Random programs against the model, over every backend. More of them: MEMORY_MACHINE_EXAMPLES=1000."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from memory.backends.in_memory import InMemoryStore
from memory.model import MemoryItem
from memory.ops import WHOLE, Order, Put, Result, Status, Touch
from memory.testing import machine
from memory.testing.__main__ import main, maker
from memory.testing.machine import check
from memory.testing.machine.model import Model, Pins, matches, merged, ordered


@pytest.mark.parametrize("backend", ["in_memory", "sqlite"])
def test_random_programs_agree_with_the_model(backend: str, tmp_path: Path) -> None:
    check(maker(backend), tmp_path)


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("small_index")
def test_random_programs_over_faiss_agree_with_the_model(tmp_path: Path) -> None:
    check(maker("faiss", exact=0, embedder=None, ivf=True), tmp_path, examples=6)


@pytest.mark.full
@pytest.mark.timeout(3_600)
@pytest.mark.usefixtures("small_index")
@pytest.mark.parametrize("ivf", [False, True])
def test_five_hundred_random_programs_over_faiss_agree_with_the_model(ivf: bool, tmp_path: Path) -> None:
    check(maker("faiss", exact=0, embedder=None, ivf=ivf), tmp_path, examples=500)


@pytest.mark.full
@pytest.mark.parametrize("backend", ["in_memory", "sqlite"])
def test_a_thousand_random_programs_agree_with_the_model(backend: str, tmp_path: Path) -> None:
    check(maker(backend), tmp_path, examples=1_000)


class ExpiredInCount(InMemoryStore):
    async def _count(self, op: Any) -> int:
        return sum([len(records) async for records in self._matching(op.scope, op.where, 0)])


class AlwaysAscending(InMemoryStore):
    async def _scan(self, op: Any) -> Any:
        return await super()._scan(replace(op, order=Order(op.order.field)))


class DedupForgetsKind(InMemoryStore):
    def _put(self, op: Any, key: Any, old: Any) -> Any:
        for record in self._records.values() if op.dedup else ():
            if record.decoded().content == op.item.content and (record.row.expires or op.now + 1) > op.now:
                return Result(Status.DUPLICATE, record.row)
        return super()._put(op, key, old)


class CountsOnce(InMemoryStore):
    async def _match(self, op: Any) -> Any:
        matched = await super()._match(op)
        for candidate in matched.candidates:
            candidate.counts = tuple(min(1, count) for count in candidate.counts)
        return matched


class PutIgnoresScope(InMemoryStore):
    def _apply(self, op: Any) -> Any:
        return super()._apply(replace(op, scope=WHOLE) if type(op) is Put and op.expect == -1 else op)


class NearestOfAll(InMemoryStore):
    async def _nearest(self, op: Any) -> Any:
        return await super()._nearest(replace(op, scope=WHOLE))


class StaleVectors(InMemoryStore):
    def _note(self, key: Any, row: Any) -> None:
        if row is None or key not in self._vectors.places:
            super()._note(key, row)


class TouchDropsVectors(InMemoryStore):
    def _apply(self, op: Any) -> Any:
        result = super()._apply(op)
        if type(op) is Touch and result.row is not None:
            result.row.embedding = None
        return result


BROKEN = [ExpiredInCount, AlwaysAscending, DedupForgetsKind, CountsOnce, PutIgnoresScope]
BROKEN_VECTORS = [NearestOfAll, StaleVectors, TouchDropsVectors]


@pytest.mark.parametrize("broken", [*BROKEN, *BROKEN_VECTORS])
def test_the_machine_finds_what_is_broken(broken: type[InMemoryStore], tmp_path: Path) -> None:
    with pytest.raises((AssertionError, ExceptionGroup, ValueError, IndexError)):
        check(lambda place, **options: broken(**options), tmp_path, shrink=False)


def test_the_command_reports_agreement_and_disagreement(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["machine", "--examples", "3", "--steps", "5"]) == 0
    assert "in_memory: 3 programs of 5 steps agree" in capsys.readouterr().out
    assert main(["machine", "--backend", f"{__name__}:ExpiredInCount", "--examples", "60", "--no-shrink"]) == 1
    said = capsys.readouterr().err
    assert "machine failed" in said
    assert "state = " in said, "the program is shown"


def test_the_environment_asks_for_more_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_MACHINE_EXAMPLES", "2")
    monkeypatch.setenv("MEMORY_MACHINE_STEPS", "4")
    made: list[Path] = []

    def make(place: Path, **options: Any) -> InMemoryStore:
        made.append(place)
        return InMemoryStore(**options)

    check(make, tmp_path)
    assert 1 <= len(made) <= 10
    assert not any(place.exists() for place in made), "a program leaves nothing behind"
    assert os.environ["MEMORY_MACHINE_EXAMPLES"] == "2"
    assert (machine.EXAMPLES, machine.STEPS) == (50, 50)


def test_the_model_says_the_rulings_by_itself() -> None:
    model = Model()
    record, twins = model.put(Pins(), MemoryItem(id="a", namespace=("n",), content=1))
    assert twins == []
    model.store(record, 5)
    with pytest.raises(AssertionError, match="rise"):
        model.store(record, 5)
    assert model.put(Pins(), MemoryItem(id="b", namespace=("n",), content=1.0), dedup=True)[1] == [
        model.records[("n",), "a"]
    ]
    assert matches({"metadata.x": {"$ne": 1}}, model.records[("n",), "a"])
    assert merged({"a": {"b": 1}}, {"a": {"b": None}, "c": 2}) == {"a": {}, "c": 2}
    assert ordered(model.seen(Pins()), "-key") == model.seen(Pins())
    assert Order() == Order("key", False)
