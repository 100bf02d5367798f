"""From Firestore's V1 layout to V2: by the old tool, killed on the way, once more, and back. Run as processes, over documents that
a program wrote which knows only V1."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from firestore_raw import raw_client
from firestore_v1_filling import DIMENSION, V1, documents, fixtures, is_live
from migrations import every_kind, fill, killed, made, plain, records, versions
from servers import server

from memory import MemoryItem, MemoryStore
from memory.backends.firestore.v1 import FirestoreV1Store
from memory.migration import migrate, rollback
from memory.registry import create_store

TOOL = Path(__file__).parent.parent / "scripts" / "migrate_memory_v1_to_v2.py"
V2_ITEMS = "default_memory_items_standard"


@pytest.fixture
def v1() -> V1:
    return V1("v1-" + uuid.uuid4().hex[:12], server("firestore").url)


def opened(v1: V1, name: str) -> MemoryStore:
    return create_store(name, project_id=v1.project, emulator=v1.host, sweep_interval=None)


def environment(v1: V1) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MEMORY_", "GCP_", "GOOGLE_"))}
    return {**kept, "FIRESTORE_EMULATOR_HOST": v1.host}


def tool(v1: V1, place: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the old tool as from a checkout where nothing is installed: by its path, in another directory."""
    line = [sys.executable, str(TOOL), "--project-id", v1.project, *options]
    return subprocess.run(line, cwd=place, env=environment(v1), capture_output=True, text=True, timeout=200)


def in_v2(v1: V1) -> dict[str, Any]:
    """What a V2 program sees: documents by name."""
    with raw_client(v1.project, v1.host) as client:
        return {one.id: one.to_dict() for one in client.collection(V2_ITEMS).stream()}


def test_the_old_tool_moves_items_of_every_type_and_agent_data_under_their_names(v1: V1, tmp_path: Path) -> None:
    v1.fill(60)
    before = v1.everything()
    ended = tool(v1, tmp_path, "--output", "report.json")
    assert ended.returncode == 0, ended.stderr
    live = [one for one in documents(60) if is_live(one)]
    found = in_v2(v1)
    assert set(found) == {one["name"] for one in live}
    for one in live:
        fields, there = one["fields"], found[one["name"]]
        assert there["id"] == one["name"]
        assert there["timestamp"].isoformat() == fields["timestamp"]["$time"]
        assert there["item_type"] == fields.get("item_type", fields.get("data_type"))
        if one["collection"] == "memory_items":
            assert there.get("text_content", "") == (fields["text_content"] or "")
            assert there["user_id"] == (fields["user_id"] or None)
            assert there.get("persona_active") == fields["persona_active"]
        else:
            assert there["memory"]["agent"] == fields["agent_id"]
    assert v1.everything() == before, "V1 is only read"
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["ok"], report["created"], report["compared"], report["validation"]) == (
        True, len(live), len(live), "full",
    )  # fmt: skip
    logged = (tmp_path / "memory_migration.log").read_text()
    assert logged == ended.stderr, "the console and the file tell the same"
    assert "complete" in logged
    again = tool(v1, tmp_path)
    assert again.returncode == 0
    assert f"{len(live)} there already" in again.stderr
    assert "0 created, 0 updated, 0 removed" in again.stderr


def test_a_dry_run_moves_nothing_and_a_sample_is_compared_only_when_asked(v1: V1, tmp_path: Path) -> None:
    v1.fill(30)
    live = v1.live(30)
    dry = tool(v1, tmp_path, "--dry-run")
    assert (dry.returncode, in_v2(v1)) == (0, {})
    assert f"{live} items in V1: {live} new" in dry.stderr
    assert not list(tmp_path.glob("*.jsonl"))
    sampled = tool(v1, tmp_path, "--sample-size", "7", "--batch-size", "10")
    assert sampled.returncode == 0
    assert "7 compared, a sample; 0 differences" in sampled.stderr
    assert "0 compared: --no-validate" in tool(v1, tmp_path, "--no-validate").stderr


def test_what_cannot_be_moved_is_named_and_the_exit_code_says_so(v1: V1, tmp_path: Path) -> None:
    v1.fill(30)
    name = next(one["name"] for one in documents(30) if one["collection"] == "memory_items" and is_live(one))
    twin = next(one for one in documents(30) if one["collection"] == "agent_data" and is_live(one))
    odd = next(one for one in fixtures() if len(one["fields"].get("embedding") or ()) not in (0, DIMENSION))
    v1.ask(
        {"do": "set", "collection": "agent_data", "name": name, "fields": {**twin["fields"], "id": name}},
        {"do": "set", **{part: odd[part] for part in ("collection", "name", "fields")}},
        {"do": "set", "collection": "memory_items", "name": "timeless", "fields": {"id": "timeless", "user_id": "ann"}},
    )
    dry = tool(v1, tmp_path, "--dry-run")
    assert dry.returncode == 1
    assert name in dry.stderr
    ended = tool(v1, tmp_path, "--output", "report.json")
    assert ended.returncode == 1
    assert "NOT complete: 3 left behind, 0 of V1's items not equal in V2" in ended.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    whys = {one["id"]: one["why"] for one in report["listed"]["unlisted"]}
    assert set(whys) == {name, odd["name"], "timeless"}
    assert whys[name] == "agent data hidden by a memory item of the same name"
    assert "its vector has 2 numbers" in whys[odd["name"]]
    assert len(in_v2(v1)) == v1.live(30) + 1, "all others are moved, that with the odd vector too"

    async def change() -> None:
        async with opened(v1, "firestore_v2") as store:
            await store.update(twin["name"], metadata={"mine": True})

    asyncio.run(change())
    again = tool(v1, tmp_path)
    assert again.returncode == 1
    assert "changed in the target since it was moved" in again.stderr


def test_mistakes_and_a_server_that_is_not_there_have_exit_codes_of_their_own(v1: V1, tmp_path: Path) -> None:
    assert tool(v1, tmp_path, "--sample-size", "none").returncode == 2
    assert tool(v1, tmp_path, "--batch-size", "0").returncode == 2
    v1.host = "127.0.0.1:9"
    gone = tool(v1, tmp_path)
    assert gone.returncode == 3
    assert "cannot be reached" in gone.stderr
    assert "Traceback" not in gone.stderr
    helped = subprocess.run([sys.executable, str(TOOL), "--help"], capture_output=True, text=True, timeout=60).stdout
    for option in ("project-id", "credentials-path", "batch-size", "dry-run", "no-validate", "sample-size", "output"):
        assert f"--{option}" in helped
    assert helped.count("  --") == 7, "the options it always had, and no others"


async def proof(v1: V1, count: int, kills: int, growth: int, tmp_path: Path, state: Path) -> None:
    """Documents of V1 move, the process killed on the way; a second run changes nothing; undone, V2 is as it was."""
    await asyncio.to_thread(v1.fill, count)
    live = v1.live(count)
    v1_before = await asyncio.to_thread(v1.everything)
    async with opened(v1, "firestore_v2") as new:
        await new.put_many([MemoryItem(id=f"ours-{n}", content="of V2") for n in range(10)])
        before = await records(new)
    command = ["migrate", "firestore_v1", "firestore_v2", "--state", str(state), "--batch-size", "100"]
    place = {"FIRESTORE_EMULATOR_HOST": v1.host, "GOOGLE_CLOUD_PROJECT": v1.project}
    output = tmp_path / "report.json"
    told = await asyncio.to_thread(
        lambda: killed(kills, 1, state, *command, "--output", str(output), growth=growth, **place)
    )
    assert (told["kills"], told["code"]) == (kills, 0), "the last one ended well"
    report = json.loads(output.read_text())
    assert (report["ok"], report["resumed"], report["created"], report["compared"], report["differences"]) == (
        True, True, live, live, 0,
    )  # fmt: skip
    async with opened(v1, "firestore_v1") as old, opened(v1, "firestore_v2") as new:
        moved = await records(new)
        assert {key: row for key, row in moved.items() if not key[1].startswith("ours-")} == await records(old)
        there = await versions(new)
        again = await migrate(old, new, state=state)
        assert (again.ok, again.written, again.plan.unchanged) == (True, 0, live)
        assert await versions(new) == there, "a second run changes nothing"
        undone = await rollback(state, new)
        assert (undone.ok, undone.deleted) == (True, live)
        assert await records(new) == before
    assert await asyncio.to_thread(v1.everything) == v1_before


@pytest.mark.crash
async def test_killed_on_the_way_every_document_arrives_once(v1: V1, tmp_path: Path, state: Path) -> None:
    await proof(v1, 300, 3, 20_000, tmp_path, state)


@pytest.mark.full
@pytest.mark.timeout(1_800)
async def test_five_thousand_documents_and_twenty_kills(v1: V1, tmp_path: Path, state: Path) -> None:
    await proof(v1, 5_000, 20, 100_000, tmp_path, state)


OTHERS = ("in_memory", "sqlite", "redis", "postgres", "firestore_v2")
PAIRS = [f"{one}-firestore_v1" for one in OTHERS] + [f"firestore_v1-{one}" for one in OTHERS]


@pytest.mark.full
@pytest.mark.parametrize("pair", [*PAIRS, "firestore_v1-firestore_v1"], indirect=True)
async def test_a_thousand_items_that_v1_can_hold_move_either_way(pair: str, tmp_path: Path, state: Path) -> None:
    source, target = made(pair, tmp_path)
    kept = [one for one in every_kind() if FirestoreV1Store.can_hold(one.id)]
    items = [msgspec.structs.replace(one, namespace=("default",)) for one in kept] + plain(1_000 - len(kept))
    async with source, target:
        await fill(source, items)
        report = await migrate(source, target, state=state, batch_size=200)
        assert (report.ok, report.created, report.compared, report.differences) == (True, 1_000, 1_000, 0)
        assert await records(target) == await records(source)


@pytest.mark.full
@pytest.mark.parametrize("pair", [pair for pair in PAIRS if pair.endswith("v1")], indirect=True)
async def test_of_a_thousand_items_each_that_v1_cannot_hold_is_refused(pair: str, tmp_path: Path, state: Path) -> None:
    source, target = made(pair, tmp_path)
    items = [*every_kind(), *plain(940)]
    held = [one for one in items if one.namespace == ("default",) and FirestoreV1Store.can_hold(one.id)]
    async with source, target:
        await fill(source, items)
        report = await migrate(source, target, state=state)
        assert (report.stopped, report.plan.create, report.plan.refused) == ("refused", len(held), 1_000 - len(held))
        assert {one.key for one in report.findings} == {one.key for one in items} - {one.key for one in held}
        assert await target.count() == 0


async def test_what_v1_cannot_hold_is_refused_item_by_item_before_anything_is_written(
    v1: V1, tmp_path: Path, state: Path
) -> None:
    items = [
        *plain(5),
        MemoryItem(id="elsewhere", namespace=("team",), content="x"),
        MemoryItem(id="a/b", content="x"),
    ]
    async with opened(v1, "firestore_v1") as target, create_store("in_memory") as source:
        await source.put_many(items)
        report = await migrate(source, target, state=state)
        assert (report.stopped, report.plan.refused, report.plan.create, await target.count()) == ("refused", 2, 5, 0)
        assert {one.key[1] for one in report.findings} == {"elsewhere", "a/b"}
        moved = await migrate(source, target, state=state, skip_refused=True)
        assert (moved.created, moved.refused, moved.differences, await target.count()) == (5, 2, 2, 5)
