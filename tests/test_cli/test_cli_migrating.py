"""The command: migrate and rollback."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory import MemoryItem, create_store

Memory = Callable[..., Any]
SOURCE, TARGET = "sqlite:///memory.db", "sqlite:///new.db"


def stored(path: str, **options: Any) -> dict[str, Any]:
    """Every item of a file by id, without versions."""
    with create_store("sqlite", path=path, **options) as store:
        return {
            item.id: {**item.to_dict(), "version": 0} for part in store.stream_sync(batch_size=1_000) for item in part
        }


def test_everything_moves_to_another_memory(nuts: Memory, empty: Path) -> None:
    done = nuts("migrate", SOURCE, TARGET)
    assert (done.code, done.out.splitlines()[1:]) == (
        0,
        ["3 items, 0.0 MB: 3 new", "3 created, 0 updated, 0 replaced", "3 compared, no differences"],
    )
    assert f"sqlite:///{empty}/memory.db -> sqlite:///{empty}/new.db" in done.out
    assert "`memory rollback " in done.err
    assert stored("new.db") == stored("memory.db")
    again = nuts("migrate", SOURCE, TARGET)
    assert (again.code, again.err, "3 there already" in again.out) == (0, "", True)
    assert len(list(empty.glob("memory-migration-*.jsonl"))) == 1


def test_a_dry_run_tells_what_would_be_done(nuts: Memory, empty: Path) -> None:
    done = nuts("migrate", SOURCE, TARGET, "--dry-run")
    assert (done.code, "3 new" in done.out, "about 1 s" in done.out, done.err) == (0, True, True, "")
    assert stored("new.db") == {}
    told = nuts("migrate", SOURCE, TARGET, "--dry-run", "--json").json
    assert (told["ok"], told["dry_run"], told["plan"]["create"], told["created"]) == (True, True, 3, 0)
    assert not list(empty.glob("*.jsonl"))


def test_a_part_moves_by_scope_and_filter(nuts: Memory) -> None:
    assert nuts("migrate", SOURCE, TARGET, "--under", "team").code == 0
    assert set(stored("new.db")) == {"b1"}
    assert nuts("migrate", SOURCE, "sqlite:///two.db", "-n", "default", "--where", '{"session_id": "s1"}').code == 0
    assert set(stored("two.db")) == {"a2"}


def test_what_is_in_the_way_stops_it_and_can_be_decided(nuts: Memory, empty: Path) -> None:
    with create_store("sqlite", path="new.db") as store:
        store.put_sync(MemoryItem(id="a1", content="another"))
    refused = nuts("migrate", SOURCE, TARGET, "-o", "report.json")
    assert (refused.code, "nothing is written" in refused.out, "default / a1: the target holds" in refused.out) == (
        4,
        True,
        True,
    )
    assert [one["id"] for one in json.loads((empty / "report.json").read_text())["listed"]["conflicts"]] == ["a1"]
    assert len(stored("new.db")) == 1
    skipped = nuts("migrate", SOURCE, TARGET, "--on-conflict", "skip")
    assert (skipped.code, "updated_at, accessed_at, content, tags, user_id, embedding" in skipped.out) == (1, True)
    assert nuts("migrate", SOURCE, TARGET, "--on-conflict", "replace").code == 0
    assert stored("new.db") == stored("memory.db")


def test_vectors_move_with_whatever_embedder_made_them(nuts: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_EMBEDDER", "none")
    assert nuts("migrate", SOURCE, TARGET).code == 0
    assert stored("new.db") == stored("memory.db")
    assert all(item["embedding"] for item in stored("new.db").values())


def test_vectors_of_another_kind_are_refused_made_anew_or_left_behind(
    nuts: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    with create_store("sqlite", path="new.db") as store:
        store.put_sync(MemoryItem(id="other", content="x", embedding=[1.0, 2.0]))
    refused = nuts("migrate", SOURCE, TARGET)
    assert (refused.code, "3 refused" in refused.out, "--skip-refused" in refused.out) == (2, True, True)
    assert "(--reembed)" in refused.out
    assert "(--drop-vectors)" in refused.out
    assert nuts("migrate", SOURCE, TARGET, "--drop-vectors").code == 0
    assert [bool(item["embedding"]) for item in stored("new.db").values()].count(True) == 1
    monkeypatch.setenv("MEMORY_EMBEDDER", "hashing")
    monkeypatch.setenv("MEMORY_EMBEDDER_DIMENSIONS", "8")
    assert nuts("migrate", SOURCE, "sqlite:///anew.db", "--reembed").code == 0
    assert {len(one["embedding"]) for one in stored("anew.db").values()} == {44}  # 8 numbers as base64
    monkeypatch.setenv("MEMORY_EMBEDDER", "none")
    without = nuts("migrate", SOURCE, "sqlite:///no.db", "--reembed")
    assert (without.code, "set MEMORY_EMBEDDER" in without.err) == (2, True)
    both = nuts("migrate", SOURCE, TARGET, "--reembed", "--drop-vectors")
    assert (both.code, "not both" in both.err) == (2, True)


def test_differences_are_the_exit_code(nuts: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    assert nuts("migrate", SOURCE, TARGET, "--sample-size", "2").out.endswith(
        "a sample of 2 compared, no differences\n"
    )
    assert nuts("migrate", SOURCE, "sqlite:///2.db", "--no-validate").out.endswith("not compared\n")
    assert nuts("migrate", SOURCE, "sqlite:///3.db", "--throttle", "1000", "--batch-size", "2").code == 0
    monkeypatch.setattr("memory.migration.deciding.fingerprint", lambda row, vectors: str(row.version))
    assert nuts("migrate", SOURCE, "sqlite:///4.db", "--state", "4.jsonl").code == 0  # versions of both happen to agree
    with create_store("sqlite", path="memory.db") as store:
        store.touch_sync("a1")
    assert nuts("migrate", SOURCE, "sqlite:///5.db", "--state", "5.jsonl").code == 1


def test_wrong_usage_says_what_to_type(nuts: Memory, empty: Path) -> None:
    (empty / "notes").write_text("mine\n")
    for arguments, said in (
        (("sqlite:///none.db", TARGET), "no memory at"),
        ((SOURCE, SOURCE), "same store"),
        ((SOURCE, TARGET, "--batch-size", "0"), "--batch-size must be"),
        ((SOURCE, TARGET, "--throttle", "0"), "--throttle must be"),
        ((SOURCE, TARGET, "--sample-size", "0"), "--sample-size must be"),
        ((SOURCE, TARGET, "--sample-size", "1", "--no-validate"), "--sample-size or --no-validate"),
        ((SOURCE, TARGET, "--where", "x"), "--where is not JSON"),
        ((SOURCE, "sqlight:///x.db"), "sqlite"),
        ((SOURCE, TARGET, "--state", "memory.db"), "a file of the source"),
        ((SOURCE, TARGET, "--state", "notes"), "not the journal"),
    ):
        done = nuts("migrate", *arguments)
        assert (done.code, said in done.err) == (2, True), (arguments, done)
    assert not (empty / "none.db").exists()
    assert (empty / "notes").read_text() == "mine\n"
    assert len(stored("memory.db")) == 3, "a file named as journal by mistake is not touched"


def test_a_migration_is_undone_by_its_journal_or_its_report(nuts: Memory, empty: Path) -> None:
    with create_store("sqlite", path="new.db") as store:
        store.put_sync(MemoryItem(id="a1", content="another"))
    before = stored("new.db")
    assert nuts("migrate", SOURCE, TARGET, "--state", "j.jsonl", "-o", "r.json", "--on-conflict", "replace").code == 0
    assert nuts("rollback", "j.jsonl").code == 2, "nobody can be asked"
    with create_store("sqlite", path="new.db") as store:
        store.touch_sync("a2")
    undone = nuts("rollback", "r.json", "--yes")
    assert (undone.code, undone.out.splitlines()) == (
        1,
        [
            f"1 deleted, 1 restored, 1 left as they are (in sqlite:///{empty}/new.db)",
            "  default / a2: changed since; left as it is",
        ],
    )
    assert stored("new.db")["a1"] == before["a1"]
    again = nuts("rollback", "j.jsonl", "--yes", "--json")
    assert (again.code, again.json["deleted"], again.json["left"]) == (0, 0, [])
    assert nuts("rollback", "memory.db", "--yes").code == 2
    assert nuts("rollback", "j.jsonl", "--yes", "--target", SOURCE).code == 2


def test_json_tells_the_report_and_its_findings(nuts: Memory) -> None:
    with create_store("sqlite", path="new.db") as store:
        store.put_sync(MemoryItem(id="a1", content="another"))
    told = nuts("migrate", SOURCE, TARGET, "--json", "--on-conflict", "skip").json
    assert (told["ok"], told["created"], told["conflicts"]) == (False, 2, 1)
    assert {one["kind"] for one in told["findings"]} == {"conflict", "difference"}
    assert nuts("migrate", SOURCE, "sqlite:///x.db", "--json", "--state", "nowhere/\0").code == 2


@pytest.mark.crash
def test_an_interrupted_migration_says_so_and_goes_on(nuts: Memory, empty: Path) -> None:
    with create_store("sqlite", path="memory.db", synchronous="off") as store:
        store.put_many_sync([MemoryItem(id=f"n{n}", content=f"thing {n}", embedding=[0.0] * 256) for n in range(300)])
        store.delete_many_sync(["a1", "a2"])
        store.delete_sync("b1", namespace=("team", "red"))
    line = [sys.executable, "-m", "memory", "migrate", SOURCE, TARGET, "--state", "j", "--throttle", "60"]
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True) as child:
        until = time.monotonic() + 30
        while time.monotonic() < until and not ((empty / "j").exists() and b'"intent"' in (empty / "j").read_bytes()):
            time.sleep(0.02)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=30)
    assert (child.returncode, "the same command goes on" in said) == (130, True)
    done = nuts("migrate", SOURCE, TARGET, "--state", "j", "--json").json
    assert (done["ok"], done["resumed"], done["created"]) == (True, True, 300)
