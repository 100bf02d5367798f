"""The same random sequence on every flavour: same ids, order, fields and errors. And that a difference is seen and shown."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from flavours import FLAVOURS, flavour
from msgspec.structs import replace
from test_machine import BROKEN, BROKEN_VECTORS, AlwaysAscending

from memory.backends.in_memory import InMemoryStore
from memory.model import MemoryItem
from memory.testing.__main__ import main
from memory.testing.differential import Mismatch, Step, check, difference, run, sequence
from memory.testing.differential.running import DAMAGED_CALLS, Score, Store
from memory.testing.differential.steps import DAMAGED
from memory.testing.making import maker, name_of


@pytest.fixture(scope="module")
def program() -> list[Step]:
    return sequence(500, 1)


GROUPS = [["sqlite", "redis"], ["postgres"]]
"""Each with the reference: so that two processes can share the work."""
VARIANTS = [["faiss"], ["redis_stack", "redis_cluster"], ["postgres_plain", "pgbouncer"]]
"""Flavours of these: a shorter sequence in every run, the whole one by hand, and so firestore_v2, whose emulator takes
minutes (every run has 400 steps of it: test_firestore_machine)."""
WHOLE = [*VARIANTS, ["firestore_v2"]]


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "names", [*GROUPS, *(pytest.param(group, marks=pytest.mark.full) for group in WHOLE)], ids=" ".join
)
def test_two_thousand_operations_agree_on_every_flavour(
    names: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if "faiss" in names:
        request.getfixturevalue("small_index")
    tally = check({name: flavour(name) for name in ("in_memory", *names)}, tmp_path)
    for name in (
        "put",
        "add",
        "put_many",
        "update",
        "touch",
        "delete",
        "list",
        "search",
        "watch",
        "damaged",
        "page_on",
    ):
        assert tally[name] >= 40, name
    for name in ("delete_where", "delete_many", "reembed", "reopen", "sweep", "verify", "stream", "namespaces"):
        assert tally[name] >= 8, name
    for name in ("AlreadyExists", "VersionConflict", "NotFound", "InvalidItem", "InvalidFilter", "InvalidCursor"):
        assert tally[name] >= 8, name


@pytest.mark.timeout(600)
@pytest.mark.parametrize("names", VARIANTS, ids=" ".join)
def test_five_hundred_operations_agree_on_every_variant(
    names: list[str], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if "faiss" in names:
        request.getfixturevalue("small_index")
    assert check({name: flavour(name) for name in ("in_memory", *names)}, tmp_path, steps=500)


def test_every_flavour_is_in_a_group() -> None:
    assert {name for group in (*GROUPS, *WHOLE) for name in group} | {"in_memory"} == set(FLAVOURS)


class FeedForgetsDeletes(InMemoryStore):
    async def _feed(self, op: Any) -> Any:
        found = await super()._feed(op)
        found.events = [event for event in found.events if not event.removed]
        return found


class RoundsScores(InMemoryStore):
    async def _nearest(self, op: Any) -> Any:
        return [replace(row, embedding=b"\0\0\x80\x3f" * 4) for row in await super()._nearest(op)]


class OtherError(InMemoryStore):
    async def _read(self, op: Any) -> Any:
        if len(op.keys) > 3:
            raise KeyError("a driver's own")
        return await super()._read(op)


@pytest.mark.parametrize("broken", [*BROKEN, *BROKEN_VECTORS, FeedForgetsDeletes, RoundsScores, OtherError])
def test_what_differs_is_found(broken: type[InMemoryStore], program: list[Step], tmp_path: Path) -> None:
    found = asyncio.run(run({"in_memory": maker("in_memory"), "broken": maker(broken)}, program, tmp_path))
    assert found is not None
    assert found.other == "broken"


def test_a_mismatch_shows_the_shortest_program(tmp_path: Path) -> None:
    with pytest.raises(Mismatch) as caught:
        check({"in_memory": maker("in_memory"), "broken": maker(AlwaysAscending)}, tmp_path, steps=150)
    said = str(caught.value)
    assert "broken and in_memory disagree at step" in said
    length = re.search(r"the shortest program found \((\d+) of \d+ steps\)", said)
    assert length is not None
    assert int(length[1]) <= 4
    assert "MemoryItem(id=" in said
    assert "order='-" in said


def test_the_same_seed_draws_the_same_sequence() -> None:
    one, again, other = ([str(step) for step in sequence(40, number)] for number in (1, 1, 2))
    assert one == again != other


def test_every_damaged_call_is_known() -> None:
    assert set(DAMAGED) == set(DAMAGED_CALLS)


def test_outcomes_are_compared_with_their_types_and_scores_with_tolerance() -> None:
    assert difference([Score(0.5)], [Score(0.500001)]) is None
    assert difference([Score(0.5)], [Score(0.5001)]) == ("[0]", 0.5, 0.5001)
    assert difference({"a": 1}, {"a": 1.0}) == (".a", 1, 1.0)
    assert difference({"a": 0.0}, {"a": -0.0}) is not None
    assert difference({"a": 1}, {"a": 1, "b": 2}) == (".b", "nothing", 2)
    assert difference([1, 2], [1]) is not None
    assert difference((0.1,), (0.1,)) is None


def test_versions_are_compared_as_ranks(tmp_path: Path) -> None:
    from memory.clock import ManualClock

    store = Store("one", maker("in_memory"), tmp_path, ManualClock(), feed=False)
    key = (("n",), "a")
    assert [store.rank(key, version) for version in (70, 90, 90, 70, 200)] == [0, 1, 1, 0, 2]
    assert store.rank(key, 80) == -1, "a version below one that was seen never comes late"


def test_a_step_is_shown_with_what_matters() -> None:
    item = MemoryItem(id="a", content="marmot", namespace=("n",))
    assert str(Step("put", arguments={"item": item, "ttl": None})) == (
        "put(item=MemoryItem(id='a', namespace=('n',), content='marmot'), ttl=None)"
    )


def test_a_place_has_a_name_of_its_own_on_a_server(tmp_path: Path) -> None:
    assert name_of(tmp_path) == name_of(tmp_path) != name_of(tmp_path / "a")
    assert name_of(tmp_path).isidentifier()


def test_the_command_compares_the_backends_it_is_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["differential", "--backend", "in_memory", "--backend", "sqlite", "--steps", "60"]) == 0
    assert "in_memory, sqlite: 60 steps agree" in capsys.readouterr().out
    broken = f"{__name__}:OtherError"
    assert (
        main(["differential", "--backend", "in_memory", "--backend", broken, "--steps", "100", "--seconds", "0"]) == 1
    )
    assert "a driver\\'s own" in capsys.readouterr().err
