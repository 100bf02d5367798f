"""Short runs of the four proofs on the default store, and of those that have a control on what must be caught."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

CARELESS = ("--store", "memory.testing.faults.controls:CarelessStore")


def prove(*arguments: str) -> tuple[int, dict[str, int], str]:
    """Exit status, counts and text of one command."""
    command = [sys.executable, "-m", "memory.testing.faults", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    counts = {
        name.strip(): int(number.replace(",", ""))
        for name, number in re.findall(r"(?m)^(.+?) {2,}([\d,]+)$", done.stdout)
    }
    return done.returncode, counts, done.stdout + done.stderr


@pytest.mark.crash
def test_what_was_acknowledged_survives_sigkill_and_nothing_else_appears():
    status, counts, text = prove("kill", "--rounds", "12", "--seed", "7", "--longest", "0.4")
    assert status == 0, text
    assert counts["rounds"] == 12
    assert counts["kills mid-write"] >= 0.3 * counts["kills"] > 0
    assert counts["acknowledged writes"] > 40
    assert counts["records compared"] > 40


@pytest.mark.crash
def test_a_store_that_acknowledges_before_it_commits_is_caught_by_sigkill():
    status, counts, text = prove("kill", *CARELESS, "--option", "lag=6", "--rounds", "12", "--longest", "0.1")
    assert status == 1, text
    assert counts["lost"] > 0
    assert "VIOLATION round" in text
    assert "again: python -m memory.testing.faults kill" in text


@pytest.mark.crash
def test_power_loss_takes_nothing_acknowledged_with_full_and_is_caught_with_off():
    status, counts, text = prove("powerloss", "--operations", "18", "--every", "23")
    assert status == 0, text
    for mode in ("full", "failing"):
        assert counts[f"{mode}: prefixes"] > 5
        assert counts[f"{mode}: images that lost an acknowledged write"] == 0
        assert counts[f"{mode}: images damaged or unreadable"] == 0
    assert counts["normal: images that lost an acknowledged write"] > 0
    assert counts["normal: images damaged or unreadable"] == 0
    assert counts["off: images that lost an acknowledged write"] > 0


@pytest.mark.crash
def test_a_store_that_does_not_sync_is_caught_by_power_loss():
    status, counts, text = prove("powerloss", *CARELESS, "--option", "lag=4", "--operations", "18", "--mode", "full")
    assert status == 1, text
    assert counts["full: images that lost an acknowledged write"] > 0
    status, _, text = prove("powerloss", *CARELESS, "--operations", "18", "--mode", "full")
    assert status == 0, text


@pytest.mark.crash
def test_a_full_disk_refuses_writes_and_nothing_else():
    status, counts, text = prove("diskfull", "--remainders", "3")
    assert status == 0, text
    kinds = ["RLIMIT_FSIZE"] + (["tmpfs"] if "tmpfs: NOT RUN" not in text else [])
    for kind in kinds:
        assert counts[f"{kind}: scenarios"] == 3
        assert counts[f"{kind}: writes that met the full disk"] > 0
        assert counts[f"{kind}: deletes on the full disk"] >= 3 * 8
        assert counts[f"{kind}: acknowledged writes lost"] == 0


@pytest.mark.crash
def test_damaged_bytes_are_detected_or_harmless():
    status, counts, text = prove("damage", "--sample", "60")
    assert status == 0, text
    assert counts["control: wrong (must be caught)"] > 0
    for file in ("closed memory.db", "live memory.db", "live memory.db-wal"):
        assert sum(number for name, number in counts.items() if name.startswith(f"{file}:")) == 60
        for verdict in ("wrong", "foreign error", "crash", "hang"):
            assert counts[f"{file}: {verdict}"] == 0


def test_an_unknown_store_is_named_in_the_error():
    status, _, text = prove("kill", "--store", "memory.nowhere:Store")
    assert status == 1
    assert "there is no store 'memory.nowhere:Store'" in text


@pytest.mark.full
@pytest.mark.crash
@pytest.mark.parametrize(
    "arguments",
    [
        ("kill", "--rounds", "40"),
        ("powerloss", "--operations", "18", "--every", "11"),
        ("diskfull", "--remainders", "6"),
        ("damage", "--sample", "100", "--no-control"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_faiss_holds_in_every_proof_while_it_merges_all_the_time(arguments: tuple[str, ...]):
    status, _, text = prove(*arguments, "--store", "memory.testing.faults.small:SmallFaissStore")
    assert status == 0, text
