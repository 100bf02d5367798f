"""The benchmarks run: each at a tiny size, in seconds. What they measure decides nothing here."""

from __future__ import annotations

import asyncio
import json
import math
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import servers

pytest.importorskip("benchmarks", reason="the benchmarks are not part of an installed package")

from servers import server

from benchmarks import measure, plot, targets, workload
from benchmarks.__main__ import BENCHMARKS, main
from benchmarks.figures import Figure, Target, shown
from benchmarks.finding_by_hand import FindsByHand
from benchmarks.nearest_by_hand import Floor, Program, rows_of
from benchmarks.promised_by_hand import Record
from benchmarks.stillness import watching
from memory import MemoryItem, create_store
from memory.testing import services
from memory.testing.services import ServiceMissing

BACKENDS = ("in_memory", "sqlite")


def conversation_file(directory: Path) -> Path:
    """A conversation of the form LoCoMo has, made up here."""
    turns = [
        ("D1:1", "Ada", "I adopted a grey parrot last week"),
        ("D1:2", "Ben", "What is its name?"),
        ("D1:3", "Ada", "Captain. It sings in the morning"),
    ]
    said = [{"dia_id": id, "speaker": who, "text": text} for id, who, text in turns]
    sample = {
        "sample_id": "made-up",
        "conversation": {"session_1": said, "session_1_date_time": "1:56 pm on 8 May, 2023"},
        "qa": [{"question": "Which parrot did Ada adopt?", "answer": "grey", "evidence": ["D1:1"], "category": 1}],
    }
    path = directory / "locomo.json"
    path.write_text(json.dumps([sample]))
    return path


RUNS = [(name, backend) for name in BENCHMARKS for backend in BACKENDS]
# Nothing to open in memory; embedders know no backend, firestore and faiss are one, and migration goes either way. Retrieval and the
# other servers have tests of their own.
ONCE = (
    ("opening", "in_memory"),
    ("embedding", "sqlite"),
    ("firestore", "sqlite"),
    ("faiss", "in_memory"),
    ("migration", "in_memory"),
)
RUNS = [run for run in RUNS if run[0] not in ("retrieval", "redis", "postgres") and run not in ONCE]


@pytest.mark.parametrize(("name", "backend"), RUNS)
def test_each_benchmark_runs_and_leaves_figures(name, backend, tmp_path, capsys, monkeypatch):
    if name in ("firestore", "migration"):  # the emulator of this run: another would take seconds to start
        monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", server("firestore").url)
    out = tmp_path / "figures.json"
    # Where everything goes to many places, or each takes milliseconds: few.
    few = {"firestore": "20", "migration": "20", "stalls": "100", "footprint": "100"}
    sizes = [few[name]] if name in few else ["100", "200"]
    told = [name, "--backend", backend, "--records", *sizes, "--quick", "--rounds", "1", "--directory", str(tmp_path)]
    assert main([*told, "--json", str(out)]) == 0
    figures = json.loads(out.read_text())["figures"]
    assert figures
    assert {figure["benchmark"] for figure in figures} == {name}
    if name not in ("overhead", "composite", "footprint"):  # differences, below nothing where so few calls are timed
        assert all(figure["value"] >= 0 for figure in figures)
    assert "targets met" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == [out], "the stores' files are gone"


def test_retrieval_finds_the_evidence_on_every_backend_alike(tmp_path, capsys):
    out = tmp_path / "figures.json"
    assert main(["retrieval", "--locomo", str(conversation_file(tmp_path)), "--json", str(out), "--strict"]) == 0
    figures = json.loads(out.read_text())["figures"]
    values = {(figure["what"], figure["backend"]): figure["value"] for figure in figures}
    assert values["recall@5, text", "in_memory"] == values["recall@5, text", "sqlite"] == 1.0
    assert values["largest difference of a recall", "all"] == 0


@pytest.mark.parametrize("name", ["redis", "redis_stack", "postgres", "postgres_plain"])
def test_retrieval_runs_on_a_server_and_finds_the_same(name, tmp_path, capsys):
    out = tmp_path / "figures.json"
    told = ["retrieval", "--locomo", str(conversation_file(tmp_path)), "--embedder", "hashing"]
    assert main([*told, "--backend", "in_memory", name, "--json", str(out)]) == 0
    if "left out" in capsys.readouterr().err:
        servers.missing(f"{name} is not here")
    figures = json.loads(out.read_text())["figures"]
    assert {figure["backend"] for figure in figures} == {"in_memory", name, "all"}
    assert figures[-1]["what"] == "largest difference of a recall"
    assert figures[-1]["value"] == 0


@pytest.mark.parametrize("name", ["redis", "postgres"])
def test_a_server_that_is_missing_is_left_out_with_what_to_install(name, monkeypatch, tmp_path, capsys):
    @contextmanager
    def absent(**_):
        raise ServiceMissing("apt install it")
        yield

    for service in ("redis", "redis_stack", "postgres"):
        monkeypatch.setattr(services, service, absent)
    assert main([name, "--quick", "--rounds", "1", "--records", "100", "--directory", str(tmp_path)]) == 0
    assert f"{name}: left out. apt install it" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "backends"), [("redis", ["redis", "redis_stack"]), ("postgres", ["postgres"])])
def test_a_servers_benchmark_runs_and_tells_growth_and_recall(name, backends, tmp_path, capsys):
    for backend in backends:
        servers.server(backend)  # skips where there is none
    out = tmp_path / "figures.json"
    assert main([name, "--quick", "--rounds", "1", "--records", "100", "200", "--json", str(out)]) == 0
    figures = json.loads(out.read_text())["figures"]
    told = {(figure["what"], figure["backend"]): figure["value"] for figure in figures}
    for what in ("get", "put", "bulk", "64 callers, put"):
        assert any(figure["what"].startswith(f"{what}: ÷") for figure in figures)
    for backend in backends:
        for what in ("get", "put", "indexed filter, first 10", "text", "vector"):
            assert told[f"growth of {what}, 100 to 200", backend] > 0
        for narrowed in ("", " of 10 %", " of 1 %", " in one namespace"):
            assert told[f"recall, vector top-10{narrowed}", backend] == 1.0


def test_retrieval_with_an_embedder_also_finds_by_vector_and_by_both(tmp_path, capsys):
    out = tmp_path / "figures.json"
    told = ["retrieval", "--locomo", str(conversation_file(tmp_path)), "--embedder", "hashing", "--weights", "1:2"]
    assert main([*told, "--json", str(out)]) == 0
    figures = json.loads(out.read_text())["figures"]
    values = {(figure["what"], figure["backend"]): figure["value"] for figure in figures}
    for backend in BACKENDS:
        for mode in ("vector", "hybrid", "hybrid 1:2", "hybrid, neighbours=2"):
            assert values[f"recall@5, {mode}", backend] == 1.0
        assert values["least recall of hybrid over text", backend] == 0
    assert values["largest difference of a recall", "all"] == 0


def test_the_plots_of_a_run_are_well_formed_and_show_every_figure(tmp_path, capsys):
    out, plots = tmp_path / "figures.json", tmp_path / "plots"
    told = ["embedding", "retrieval", "--locomo", str(conversation_file(tmp_path)), "--records", "100", "--quick"]
    assert main([*told, "--json", str(out)]) == 0
    assert plot.main([str(out), "-o", str(plots)]) == 0
    assert {path.name for path in plots.iterdir()} == {"embedding.svg", "retrieval.svg"}
    figures = json.loads(out.read_text())["figures"]
    for path in plots.iterdir():
        root = ET.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        written = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
        mine = [figure for figure in figures if figure["benchmark"] == path.stem]
        assert written[0] == path.stem
        for figure in mine:
            assert any(text.startswith(shown(figure["value"])) for text in written)


def test_a_scale_spans_its_values_and_is_logarithmic_over_decades():
    scale = plot.Scale.of([0.02, 3.0, 40.0], "ms")
    assert (scale.low, scale.high, scale.log) == (0.01, 100.0, True)
    places = [scale.x(value) for value in scale.ticks()]
    assert places == sorted(places)
    assert (places[0], places[-1]) == (scale.x(0.001), scale.x(1_000)), "what lies outside is drawn at the edge"
    assert plot.Scale.of([2.0, 30.0], "ms").ticks() == [0, 10, 20, 30, 40]
    assert plot.Scale.of([0.1, 0.64], "").high == 1.0, "shares end at one"
    assert plot.Scale.of([-3.0, 70.0], "MB").low == -3.0


def test_strict_exits_with_one_when_a_target_is_missed(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(targets, "_LIMITS", {"recall@10, text": {"in_memory": (Target(2, least=True),) * 2}})
    told = ["retrieval", "--locomo", str(conversation_file(tmp_path)), "--backend", "in_memory"]
    assert main(told) == 0
    assert main([*told, "--strict"]) == 1
    assert "missed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "told",
    [
        ["retreival"],
        ["retrieval"],
        ["points", "--rounds", "0"],
        ["points", "--records", "0"],
        ["overhead", "--weights", "1"],
        ["bulk", "--backend", "redis"],
    ],
)
def test_a_wrong_command_line_is_refused(told, capsys):
    with pytest.raises(SystemExit) as error:
        main(told)
    assert error.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_record_of_the_workload_is_the_same_whatever_else_is_asked_for():
    assert workload.records(1_100, 1_103) == workload.records(950, 2_050)[150:153]
    lengths = [len(item.content) for item in workload.records(0, 500)]
    assert 195 < sum(lengths) / len(lengths) < 210
    assert len({item.namespace for item in workload.records(0, 500)}) == workload.NAMESPACES
    assert all(3 <= len(question.split()) <= 6 for question in workload.questions(50, 1_000))


def test_a_figure_is_judged_by_its_median_or_its_worst_round():
    figure = Figure("a", "b", "c", "ms", (1.0, 9.0, 2.0), target=Target(5))
    assert (figure.value, figure.met) == (2.0, True)
    worst = Figure("a", "b", "c", "ms", (1.0, 9.0, 2.0), target=Target(5), worst=True)
    assert (worst.value, worst.met) == (9.0, False)
    assert Target(5, least=True).met(6)
    assert targets.target("bulk", "sqlite", 100_000, "full") == Target(18_000, least=True)
    assert targets.target("put p50, new key", "sqlite", 10, "normal") == Target(150)
    sizes = (10_000, 100_000, 1_000_000)
    assert [targets.target("vector top-10, p50", "faiss", size) for size in sizes] == [None, Target(1), Target(5)]
    assert targets.target("vector top-10, p50", "sqlite", 1_000_000) is None


async def test_what_a_core_stood_still_is_known_and_taken_off() -> None:
    def stopped(seconds: float) -> None:
        for watcher in still.watchers:
            watcher.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        for watcher in still.watchers:
            watcher.send_signal(signal.SIGCONT)

    with watching() as still:
        await asyncio.sleep(0.5)  # they have begun
        if sys.platform != "linux" or any(watcher.poll() is not None for watcher in still.watchers):
            pytest.skip("only Linux tells, and only to who may run in real time")
        start = time.perf_counter()
        async with measure.heartbeat(still) as heart:
            await asyncio.to_thread(stopped, 0.02)  # as a core that stops: the loop goes on
            await asyncio.sleep(0.01)
            stopped(0.05)
            await asyncio.sleep(0.05)
        gap = still.within(start, time.perf_counter())
    assert gap > 0.04
    assert heart.worst < 40


async def test_what_the_loop_computed_while_another_core_stood_still_stays() -> None:
    with watching() as still:
        await asyncio.sleep(0.5)  # they have begun
        if sys.platform != "linux" or any(watcher.poll() is not None for watcher in still.watchers):
            pytest.skip("only Linux tells, and only to who may run in real time")
        async with measure.heartbeat(still) as heart:
            await asyncio.sleep(0.01)
            for watcher in still.watchers:
                watcher.send_signal(signal.SIGSTOP)
            end = time.thread_time() + 0.05
            while time.thread_time() < end:
                pass
            for watcher in still.watchers:
                watcher.send_signal(signal.SIGCONT)
            await asyncio.sleep(0.05)
    assert heart.still > 40
    assert heart.worst > 40


async def test_the_heartbeat_notices_a_held_loop():
    async with measure.heartbeat() as heart:
        await asyncio.sleep(0.01)
        end = time.thread_time() + 0.05  # what a thread waits for a core is no hold
        while time.thread_time() < end:
            pass
    assert heart.worst > 40
    assert heart.worst_busy > 40


def _said(record: Record | MemoryItem) -> dict[str, Any]:
    """All that either holds of a record."""
    said = {name: getattr(record, name) for name in Record.__struct_fields__ if name != "v"}
    return said | {"embedding": None if record.embedding is None else record.embedding.tolist()}


async def test_by_hand_as_promised_answers_as_the_store_does(tmp_path):
    path, records = tmp_path / "memory.db", 400
    async with create_store("sqlite", path=path, index=workload.INDEXED, sweep_interval=None) as store:
        await store.put_many(workload.records(0, records))
        program, finds = Program(path, Floor(rows_of(records))), FindsByHand(path)
        narrowed = {"where": {"metadata.score": {"$gte": 200}}}
        for vector, within in (
            (v, n) for v in workload.wanted(5) for n in (narrowed, {"namespace": workload.namespace(7)})
        ):
            told, (hits, cursor) = await store.search(vector=vector, limit=10, **within), program.answer(within, vector)
            assert len(told) > 3
            assert [(_said(record), score) for record, score in hits] == [(_said(hit.item), hit.score) for hit in told]
            assert (cursor is None) == (told.cursor is None)
        for topic in {item.metadata["topic"] for item in workload.records(0, 20)}:
            page = await store.list({"metadata.topic": topic}, limit=1)
            found, cursor = finds.page_of(topic, 1)
            assert [_said(record) for record in found] == [_said(item) for item in page.items]
            assert page.items
            assert (cursor is None) == (page.cursor is None)
        program.close()
        finds.close()


async def test_by_hand_as_promised_notices_what_a_store_would(tmp_path):
    path, records = tmp_path / "memory.db", 400
    within, vector = {"where": {"metadata.score": {"$gte": 200}}}, workload.wanted(1)[0]
    async with create_store("sqlite", path=path, index=workload.INDEXED, sweep_interval=None) as store:
        await store.put_many(workload.records(0, records))
    program = Program(path, Floor(rows_of(records)))
    for wrong in ({"where": {"metadata.score": {"$gt": 1}}}, {"where": {"metadata.score": {"$gte": math.nan}}}):
        with pytest.raises(ValueError, match="operator"):
            program.answer(wrong, vector)
    with pytest.raises(ValueError, match="finite"):
        program.answer(within, vector * np.float32("nan"))
    assert program.answer(within, vector)[0]
    for broken, mended in (
        ("version = version + 1", "version = version - 1"),
        ("vcrc = vcrc + 1", "vcrc = vcrc - 1"),
        ("fseal = fseal + 1", "fseal = fseal - 1"),
        ("body = CAST(body || ' ' AS BLOB)", None),
    ):
        program.db.execute(f"UPDATE items SET {broken}")
        with pytest.raises(ValueError, match="damaged"):
            program.answer(within, vector)
        if mended is not None:
            program.db.execute(f"UPDATE items SET {mended}")
            assert program.answer(within, vector)[0]
    program.close()
