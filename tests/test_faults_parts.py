"""The parts of the proofs, each in this process: writers, the checker, replay, verdicts on damage."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from blockbuster import BlockBuster

from memory.backends.in_memory import InMemoryStore
from memory.errors import BackendUnavailable, CorruptData, InvalidSetting
from memory.model import MemoryItem
from memory.testing.faults import damage, diskfull, kill, powerloss, questions
from memory.testing.faults.controls import CarelessStore
from memory.testing.faults.examine import Findings, compare, examine, state_of
from memory.testing.faults.history import History
from memory.testing.faults.processes import Child, finish, spoken, workers
from memory.testing.faults.table import SHOWN, Outcome
from memory.testing.faults.target import load
from memory.testing.faults.workload import Writer, item_for, key_of


@pytest.fixture(autouse=True, scope="module")
def the_careless_store_may_block(nothing_blocks_a_loop: BlockBuster) -> Iterator[None]:
    nothing_blocks_a_loop.deactivate()
    yield
    nothing_blocks_a_loop.activate()


CARELESS = "memory.testing.faults.controls:CarelessStore"


def writer_on(store, history: History, seed: int = 1) -> Writer:
    return Writer(store, history.add, writer=1, slot=0, seed=seed, now=time.monotonic_ns)


@pytest.mark.parametrize("feed", [False, True])
async def test_a_correct_store_passes_every_comparison(feed: bool):
    history = History()
    async with InMemoryStore(feed=feed) as store:
        await writer_on(store, history).run(3, 150)
        findings = await compare(store, history)
    assert findings.violations == []
    assert findings.records > 10
    assert {intent.kind for intent in history.intents.values()} >= {"put", "cas", "update", "atomic", "delete_batch"}
    assert history.outstanding(1) == 0


async def test_an_item_that_was_changed_behind_the_store_is_recognised():
    history = History()
    async with InMemoryStore() as store:
        writer = writer_on(store, history)
        await writer.do("put", ["shared/01"])
        await writer.do("put", ["shared/02"])
        right = item_for("shared/01", (1, 1))
        await store.put(msgspec.structs.replace(right, content={**right.content, "fill": "other words"}))
        await store.put(MemoryItem(id="shared/02", namespace=key_of("shared/02")[0], content="of another shape"))
        findings = await examine(store, thorough=False)
    assert sorted(violation.name for violation in findings.violations) == ["shared/01", "shared/02"]
    assert "content is not what (1, 1) wrote" in findings.violations[0].detail


def test_an_item_knows_its_writer_its_foundation_and_its_updates():
    item = item_for("own-1-2/3", (4, 9), born=(4, 7), trail=[(4, 8), (4, 9)])
    state, why = state_of(item)
    assert why == ""
    assert (state.by, state.born, state.trail) == ((4, 9), (4, 7), frozenset({(4, 8), (4, 9)}))
    assert state_of(item_for("own-1-2/3", (4, 9), born=(4, 7), trail=[(4, 8)]))[0] is None


async def test_an_error_while_comparing_is_a_violation():
    store = InMemoryStore()
    findings = await compare(store, History())
    assert [violation.what for violation in findings.violations] == ["unexpected"]


def test_a_writer_tells_intents_before_and_acknowledgements_after_until_it_is_told_to_end(tmp_path: Path):
    said: list[bytes] = []
    timer = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    kill.writer_main(CarelessStore, tmp_path / "memory.db", {}, 1, 0, 1, said.append)
    timer.join()
    history = History()
    for line in said:
        history.add(kill._line.decode(line))
    assert history.acknowledged() > 5
    told: list[bytes] = []
    kill.checker_main(CarelessStore, tmp_path / "memory.db", {}, history, told.append)
    findings = msgspec.json.decode(told[0], type=Findings)
    assert findings.violations == []
    assert findings.records > 0


def test_a_checker_that_cannot_open_the_file_says_so(tmp_path: Path):
    (tmp_path / "memory.db").write_bytes(b"no database" * 1_000)
    told: list[bytes] = []
    kill.checker_main(CarelessStore, tmp_path / "memory.db", {}, History(), told.append)
    assert msgspec.json.decode(told[0], type=Findings).violations[0].what == "unexpected"


@pytest.mark.parametrize(("mode", "options"), [("full", {}), ("off", {}), ("normal", {}), ("full", {"lag": 5})])
def test_a_recording_is_replayed_at_every_prefix(tmp_path: Path, mode: str, options: dict[str, int]):
    (tmp_path / "live").mkdir()
    settings = powerloss.Settings(operations=9, sessions=1, store=CARELESS, options=options)
    target = tmp_path / "recording"
    powerloss.record_main(CarelessStore, settings, mode, tmp_path / "live" / "memory.db", target)
    recording = msgspec.msgpack.decode(target.read_bytes(), type=powerloss.Recording)
    said: list[bytes] = []
    asyncio.run(powerloss.Replay(CarelessStore, settings, mode, recording, tmp_path).run(0, 1, said.append))
    *verdicts, part = said
    counts = msgspec.json.decode(part, type=powerloss.Part).counts
    assert counts["prefixes"] == len(recording.log) + 1
    run = powerloss.Run(settings, lambda line: None)
    run.weigh(mode, [msgspec.json.decode(line, type=powerloss.Verdict) for line in verdicts])
    assert bool(verdicts) == (mode != "full" or bool(options))
    assert run.outcome.ok == (not options)


def test_power_loss_without_a_caught_control_is_a_failure():
    run = powerloss.Run(powerloss.Settings(store=CARELESS), lambda line: None)
    run.weigh("off", [])
    assert run.outcome.failures == ["off: the control was not caught losing an acknowledged write"]


def test_the_scenes_of_damage_are_whole_until_they_are_damaged(tmp_path: Path):
    settings = damage.Settings(store=CARELESS, operations=25, sample=12)
    asyncio.run(damage.build(CarelessStore, settings, tmp_path))
    cases = list(enumerate(damage.all_cases(tmp_path, settings)))
    assert {(case.scene, case.file) for _, case in cases} == {
        ("closed", "memory.db"),
        ("live", "memory.db"),
        ("live", "memory.db-wal"),
    }
    said: list[bytes] = []
    asyncio.run(damage.Worker(CarelessStore, settings, tmp_path).run(cases, said.append))
    verdicts = [msgspec.json.decode(line, type=damage.Verdict) for line in said]
    assert [v.case for v in verdicts if v.verdict] == [number for number, _ in cases]
    assert {v.verdict for v in verdicts} & {questions.OLDER, questions.AT_OPEN, damage.UNCHANGED}


def test_each_damage_changes_what_it_says_and_nothing_else():
    content = bytes(range(256))
    flipped = damage.Case("s", "f", "flip", 64).spoil(content, 1)
    assert sum((a ^ b).bit_count() for a, b in zip(content, flipped, strict=True)) == 1
    assert content[:64] + content[128:] == flipped[:64] + flipped[128:]
    assert damage.Case("s", "f", "zero", 64).spoil(content, 1) == content[:64] + bytes(64) + content[128:]
    assert damage.Case("s", "f", "truncate", 64).spoil(content, 1) == content[:64]


async def test_every_answer_of_a_damaged_store_has_one_verdict():
    past = questions.Past()
    past.saw([])
    async with InMemoryStore() as store:
        old = [await store.put(item_for(name, (1, number))) for number, name in enumerate(questions.NAMES[:6])]
        past.saw(old)
        early = await questions.ask(store)
        past.saw([*old[1:], await store.put(item_for(questions.NAMES[0], (1, 9)))])
        whole = await questions.ask(store)
    past = questions.Past.load(past.dump())

    def verdict(**changes: object) -> str:
        return questions.judge(whole, {**whole, **changes}, past)[0]

    assert verdict() == questions.HARMLESS
    assert questions.judge(whole, early, past)[0] == questions.OLDER
    assert verdict(count=5) == questions.WRONG
    assert verdict(count=5, verify=["damaged record"]) == questions.BY_VERIFY
    assert verdict(verify=CorruptData("seen")) == questions.BY_VERIFY
    assert verdict(count=BackendUnavailable("seen")) == questions.AT_READ
    assert verdict(count=KeyError("odd")) == questions.FOREIGN
    forged = msgspec.structs.replace(old[1], importance=0.99)
    assert verdict(**{f"get {questions.NAMES[1]}": forged, "verify": ["seen"]}) == questions.WRONG
    missing = {f"get {questions.NAMES[1]}": None}
    assert verdict(**missing) == questions.WRONG
    assert questions.judge(whole, {**early, **missing}, past)[0] == questions.WRONG


def test_a_scenario_of_a_full_disk_ends_with_everything_in_place(tmp_path: Path):
    program = (
        "import sys; from pathlib import Path; from memory.testing.faults.diskfull import *; "
        "from memory.backends.sqlite import SqliteStore; "
        "scenario_main(SqliteStore, Settings(), Path(sys.argv[1]), Limit(), 8192, lambda line: print(line.decode()))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "memory.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    result = msgspec.json.decode(done.stdout, type=diskfull.Result)
    assert result.violations == []
    assert result.counts["writes that met the full disk"] >= 3


def test_the_last_words_of_a_dying_child_are_read():
    def speak(say):
        say(b"first")
        raise RuntimeError("on purpose")

    child = Child(speak)
    assert finish(child, 10.0)
    assert child.lines == [b"first"]
    assert child.status == 70
    assert "on purpose" in child.error
    assert not child.alive


def test_a_child_that_hangs_is_killed_and_known_for_it():
    child = Child(lambda say: time.sleep(60))
    assert child.alive
    assert not finish(child, 0.2)
    assert child.status == -signal.SIGKILL
    assert list(spoken(workers(1, lambda number, say: time.sleep(60)), 0.2)) == []


def test_a_table_shows_counts_failures_and_how_to_run_it_again():
    outcome = Outcome("title", repeat="again and again")
    outcome.counts["things"] = 1_234
    assert outcome.ok
    assert "things         1,234" in outcome.table()
    outcome.failures = [f"number {number}" for number in range(SHOWN + 3)]
    text = outcome.table()
    assert "VIOLATION number 0" in text
    assert "... and 3 more" in text
    assert text.endswith("again: again and again")


@pytest.mark.parametrize("target", ["memory.nowhere:Store", "memory.store:Hit", "memory.store", "memory.store:Nothing"])
def test_a_target_that_is_no_store_is_refused(target: str):
    with pytest.raises(InvalidSetting):
        load(target)
