"""Old data of `capabilities.memory`: read whole, moved, compared in full; what is no entry stays behind and is told."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import numpy as np
import pytest
from legacy_capabilities import fill_folder, fill_postgres, fill_redis
from servers import server

from memory import MemoryItem, MemoryStore, create_store
from memory.errors import BackendUnavailable, InvalidItem, InvalidSetting
from memory.migration import rollback
from memory.migration.capabilities import import_capabilities, import_capabilities_sync
from memory.migration.capabilities.entries import item_of
from memory.testing.heartbeat import assert_calm

EXAMPLE = {"content": "Example document", "tokens": 2}
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
NEW_YEAR = datetime(2999, 12, 31, 23, 59, 59, tzinfo=UTC)


def at(*time: int) -> datetime:
    return datetime(2025, *time, tzinfo=UTC)


def entry(key: str, value: Any, kind: str = "short_term", scope: str = "session", **more: Any) -> dict[str, Any]:
    """An item as it has to arrive."""
    created = more.pop("created_at", BEGINNING)
    updated = more.pop("updated_at", created)
    indices = [f"index:{one}" for one in more.pop("indices", ())]
    item = MemoryItem(id=key, content=value, kind=kind, tags=(f"scope:{scope}", *indices), created_at=created, **more)
    return {**item.to_dict(), "updated_at": told(updated), "accessed_at": told(updated)}


def told(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


MORNING = at(2, 10, 9, 30)
DOC = entry(
    "doc-1",
    EXAMPLE,
    metadata={"author": "ana"},
    created_at=at(2, 10, 9, 30, 0, 123456),
    updated_at=at(2, 11, 10),
    indices=["contextual", "semantic"],
)
SAID = {"content": "written by a later version"}
ODD = {"type": "MemoryType.MEDIUM_TERM", "scope": "GLOBAL", "metadata.legacy": {"id": 7}}
IN_REDIS = [
    DOC,
    entry(
        *("agent:42:plan", {"steps": ["look", "leap"], "done": False}, "long_term", "agent"),
        created_at=MORNING,
        expires_at=NEW_YEAR,
        indices=["causal"],
    ),
    entry("cached", {"answer": 42}, created_at=MORNING, expires_at=datetime(2100, 1, 1, tzinfo=UTC)),
    entry("bare", {"content": "an entry with its key and value only"}),
    entry(
        *("scarred", SAID, "medium_term", "global"),
        metadata={"scope": "mine", "legacy": {**ODD, "embedding_model": "all-MiniLM-L6-v2", "priority": 3}},
        created_at=at(2, 28, 22),
    ),
    entry(
        *("renamed", {"content": "under another key than it says"}, "working", "agent"),
        metadata={"legacy": {"key": "first-name"}},
        created_at=MORNING,
    ),
    entry("über/été 🐘", {"content": "naïve\0café"}, "medium_term", "global", created_at=MORNING),
]
BEHIND_REDIS = {
    "cut": "it is not JSON",
    "list": "an entry is an object, not a list",
    "valueless": "it has no value",
    "undated": "created_at must be a time",
    "pickled": "it is not JSON",
    "statistics": "it is a hash of Redis",
}
PLAN = entry(
    *("agent:42:plan", {"steps": ["look", "leap"], "done": False}, "long_term", "agent"),
    created_at=MORNING,
    expires_at=NEW_YEAR,
)
PLAIN_DOC = entry("doc-1", EXAMPLE, metadata={"author": "ana"}, created_at=at(2, 10, 9, 30, 0, 123456))
IN_CONTENT = [
    *(PLAIN_DOC, PLAN),
    entry(
        *("scarred", SAID, "medium_term", "global"),
        metadata={"scope": "mine", "legacy": ODD},
        created_at=at(2, 28, 22),
    ),
    entry("typeless", {"content": "its type was lost"}, scope="agent"),
    entry("über/été 🐘", {"content": "naïve café"}, "medium_term", "global", created_at=MORNING),
    entry("listed", [1, 2, 3], "working", created_at=MORNING),
]
IN_VALUE = [
    {**PLAIN_DOC, "metadata": {"author": "ana", "legacy": {"hits": 3}}},
    {**PLAN, "metadata": {"legacy": {"hits": None}}},
    entry(
        *("sentence", "Ana is allergic to nuts", "long_term", "agent"),
        metadata={"legacy": {"hits": 0}},
        created_at=MORNING,
    ),
]
IN_FOLDER = [
    {**DOC, "embedding": [0.0, 0.0, 1.0, 0.0]},
    {
        **entry(
            *("doc-2", {"content": "Another document"}, "long_term", "agent"),
            created_at=at(2, 10, 9, 31),
            expires_at=NEW_YEAR,
        ),
        "embedding": [0.6, 0.8, 0.0, 0.0],
    },
    entry("doc-3", {"content": "Its vector was never written"}, "long_term", "agent", created_at=at(2, 10, 9, 32)),
]
NO_ENTRY = "keys.json names it, and this folder holds no entry of that name"
BEHIND_FOLDER = {"missing": NO_ENTRY, "../outside": NO_ENTRY, "cut": "it is not JSON"}


async def held(store: MemoryStore) -> list[dict[str, Any]]:
    """Every item of a store but for its version, with its vector as numbers."""
    return [
        {**item.to_dict(), "version": 0, "embedding": None if item.embedding is None else item.embedding.tolist()}
        async for part in store.stream()
        for item in part
    ]


def like(wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What has to be there, in key order, vectors as the float32 that they are."""
    rows = [
        {**one, "embedding": one["embedding"] and np.array(one["embedding"], dtype=np.float32).tolist()}
        for one in wanted
    ]
    return sorted(rows, key=lambda one: one["id"].encode())


@asynccontextmanager
async def source(name: str, place: Path) -> AsyncIterator[tuple[str, list[dict[str, Any]], dict[str, str]]]:
    """Old data: where they lie, the items they have to become, and what has to stay behind."""
    if name == "redis":
        prefix = f"old-{uuid4()}"
        fill_redis(server("redis").url, prefix)
        yield f"{server('redis').url}?prefix={prefix}", IN_REDIS, BEHIND_REDIS
    elif name == "folder":
        yield str(fill_folder(place)), IN_FOLDER, BEHIND_FOLDER
    else:
        dsn, schema = server("postgres").url, f"old_{place.name[-20:].lower().strip('_').replace('-', '_')}"
        await fill_postgres(dsn, name, schema)
        both = name == "content"
        url = f"{dsn}{'&' if '?' in dsn else '?'}schema={schema}"
        yield url, IN_CONTENT if both else IN_VALUE, {"": "key must not be empty"} if both else {}


SOURCES = ["redis", "content", "value", "folder"]


@pytest.mark.parametrize("name", SOURCES)
async def test_every_entry_arrives_whole_and_a_second_run_changes_nothing(name: str, tmp_path: Path) -> None:
    async with (
        source(name, tmp_path) as (place, wanted, behind),
        create_store("sqlite", path=tmp_path / "new.db", sweep_interval=None) as store,
    ):
        report = await import_capabilities(place, store, state=tmp_path / "journal", output=tmp_path / "report.json")
        assert (report.created, report.compared, report.differences) == (len(wanted), len(wanted), 0)
        assert await held(store) == like(wanted)
        findings = {one.key[1]: one.why for one in report.findings if one.kind == "unlisted"}
        assert findings.keys() == behind.keys()
        assert all(findings[key].startswith(why) for key, why in behind.items())
        assert [one.key[1] for one in report.findings if one.kind == "expired"] == ["expired"]
        assert (report.unlisted, report.expired, report.ok) == (len(behind), 1, not behind)
        listed = json.loads((tmp_path / "report.json").read_text())["listed"]
        assert {one["id"] for one in listed["unlisted"]} == behind.keys()
        assert listed["expired"][0]["why"].startswith("it expired at 2020-01-02")
        versions = [item.version async for part in store.stream() for item in part]
        for again in (tmp_path / "journal", tmp_path / "another"):
            second = await import_capabilities(place, store, state=again)
            assert (second.written, second.plan.unchanged, second.differences) == (0, len(wanted), 0)
        assert [item.version async for part in store.stream() for item in part] == versions
        verified = await import_capabilities(place, store, verify_only=True)
        assert (verified.compared, verified.differences, verified.unlisted) == (len(wanted), 0, len(behind))
        undone = await rollback(tmp_path / "journal", store)
        assert (undone.deleted, await store.count()) == (len(wanted), 0)
    assert not (tmp_path / "unpickled").exists()
    assert not Path("unpickled").exists()


@pytest.mark.parametrize(("name", "target"), [("redis", "redis"), ("content", "postgres")])
async def test_old_and_new_data_share_a_server(name: str, target: str, tmp_path: Path) -> None:
    """The new keys and tables stand beside the old ones, and are not taken for entries."""
    async with source(name, tmp_path) as (place, wanted, _):
        named = place.rpartition("=")[2]
        options = {"prefix": named} if target == "redis" else {"schema": named, "prefix": "memory_"}
        async with create_store(server(target).url, **options) as store:
            for _ in range(2):
                report = await import_capabilities(place, store, state=tmp_path / "journal")
                assert (report.compared, report.differences) == (len(wanted), 0)
            assert await held(store) == like(wanted)
            assert await store.delete_where(None, under=()) == len(wanted)


async def test_what_differs_or_is_missing_is_named(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path)
    async with create_store("in_memory") as store:
        plan = (await import_capabilities(folder, store, dry_run=True)).plan
        assert (plan.items, plan.create, plan.unlisted, await store.count()) == (3, 3, 3, 0)
        await import_capabilities(folder, store, state=tmp_path / "journal")
        await store.delete("doc-1")
        await store.update("doc-2", metadata={"seen": True})
        report = await import_capabilities(folder, store, verify_only=True)
        found = {one.key[1]: (one.why, one.fields) for one in report.findings if one.kind == "difference"}
        assert found["doc-1"] == ("it is not in the target", ())
        assert found["doc-2"][1] == ("updated_at", "metadata")
        assert (report.differences, report.ok, await store.count()) == (2, False, 2)


async def test_what_changes_at_the_source_is_followed(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path)
    async with create_store("in_memory") as store:
        await import_capabilities(folder, store, state=tmp_path / "journal")
        old = json.loads((folder / "doc-3.json").read_text())
        (folder / "doc-3.json").write_text(json.dumps({**old, "value": {"content": "changed"}}))
        report = await import_capabilities(folder, store, state=tmp_path / "journal")
        assert (report.updated, report.differences) == (1, 0)
        item = await store.get("doc-3")
        assert item is not None
        assert item.content == {"content": "changed"}


async def test_vectors_are_kept_with_their_model_left_or_made_anew(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path)
    async with create_store("sqlite", path=tmp_path / "kept.db") as store:
        await import_capabilities(folder, store, state=tmp_path / "1")
        assert (await store.health()).details["embedder"] == "sentence-transformers:all-MiniLM-L6-v2"
        hits = [hit.item.id async for hit in _hits(store, [0.0, 0.0, 1.0, 0.0])]
        assert hits == ["doc-1", "doc-2"]
    async with create_store("in_memory") as store:
        await import_capabilities(folder, store, vectors="drop", state=tmp_path / "2")
        assert all(one["embedding"] is None for one in await held(store))
    async with create_store("in_memory", embedder="hashing:8") as store:
        await import_capabilities(folder, store, vectors="reembed", state=tmp_path / "3")
        assert all(len(one["embedding"]) == 8 for one in await held(store))
    (folder / "embeddings.npy").unlink()
    np.save(folder / "embeddings.npy", np.array([[0.6, 0.8], [np.nan, 0.0]], dtype=np.float32))
    async with create_store("in_memory") as store:
        report = await import_capabilities(folder, store, namespace="old", state=tmp_path / "4")
        why = {one.key: one.why for one in report.findings}
        assert why[("old",), "doc-1"] == "its vector holds what is no number; the entry is moved without one"
        assert [item.namespace for item in await store.list()] == [("old",)] * 3


async def _hits(store: MemoryStore, vector: list[float]) -> AsyncIterator[Any]:
    for hit in await store.search(vector=vector):
        yield hit


async def test_hostile_folders_are_read_without_harm(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path)
    (folder / "linked.json").symlink_to(tmp_path / "outside.json")
    (folder / "huge.json").write_bytes(b'{"value": "' + b"x" * 4_200_000 + b'"}')
    (folder / "notes.txt").write_text("a note")
    (folder / ".json").write_text('{"value": {}}')
    async with create_store("in_memory") as store:
        report = await import_capabilities(folder, store, state=tmp_path / "journal")
        behind = {one.key[1]: one.why for one in report.findings if one.kind == "unlisted"}
        assert behind.keys() == {*BEHIND_FOLDER, "linked.json", "huge", "notes.txt", ""}
        assert behind["huge"] == "it is larger than 4,194,304 bytes"
        assert report.created == 3
    np.save(folder / "embeddings.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InvalidSetting, match="holds no vectors"):
        await import_capabilities(folder, "memory://")
    (folder / "keys.json").write_text('{"not": "a list"}')
    with pytest.raises(InvalidSetting, match="is no list of keys"):
        await import_capabilities(folder, "memory://")


async def test_a_folder_may_lack_vectors_or_their_keys(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path)
    np.save(folder / "embeddings.npy", np.ones((1, 4), dtype=np.float32))
    async with create_store("in_memory") as store:
        report = await import_capabilities(folder, store, state=tmp_path / "1")
        why = {one.key[1]: one.why for one in report.findings}
        assert why["doc-1"] == "embeddings.npy ends before its vector; the entry is moved without one"
        assert [item.embedding is None for item in await store.list()] == [True, False, True]
    for lost in ("embeddings.npy", "keys.json"):
        (folder / lost).unlink()
        async with create_store("in_memory") as store:
            report = await import_capabilities(folder, store, state=tmp_path / lost)
            assert (report.created, [item.embedding for item in await store.list()]) == (3, [None] * 3)
    (folder / "keys.json").write_text("[]")
    np.save(folder / "embeddings.npy", np.ones(4, dtype=np.float32))
    with pytest.raises(InvalidSetting, match="is no table of numbers"):
        await import_capabilities(folder, "memory://")


def test_what_a_record_may_hold() -> None:
    item = item_of("k", {"value": 1, "type": None, "scope": "", "metadata": "words", "indices": ["SEMANTIC"]})
    assert (item.content, item.kind, item.tags) == (1, "short_term", ("scope:session", "index:semantic"))
    assert item.metadata == {"legacy": {"scope": "", "metadata": "words"}}
    assert item_of("k", {"value": {}, "updated_at": 1_700_000_000}).created_at == datetime(
        2023, 11, 14, 22, 13, 20, tzinfo=UTC
    )
    for wrong in (
        {"value": {}, "type": 1},
        {"value": {}, "indices": "all"},
        {"value": {}, "expires_at": "soon"},
        [],
        {},
    ):
        with pytest.raises(InvalidItem):
            item_of("k", wrong)


async def test_sources_that_are_none_are_refused(tmp_path: Path) -> None:
    dsn = server("postgres").url
    for place, error, why in (
        (tmp_path / "nowhere", InvalidSetting, "there is no folder"),
        ("mysql://host/db", InvalidSetting, "old entries lie in Redis"),
        ("redis://127.0.0.1:1", BackendUnavailable, "cannot be reached"),
        ("postgresql://nobody@127.0.0.1:1/none", BackendUnavailable, "refuses connections"),
        (f"{dsn}{'&' if '?' in dsn else '?'}table=nothing", InvalidSetting, 'has no table "public"."nothing"'),
        (f"{dsn}{'&' if '?' in dsn else '?'}table=x%22;drop", InvalidSetting, "table must be a name"),
    ):
        with pytest.raises(error, match=why):
            await import_capabilities(place, "memory://")
    with pytest.raises(InvalidSetting, match="not both"):
        await import_capabilities(tmp_path, "memory://", dry_run=True, verify_only=True)
    with pytest.raises(InvalidSetting, match="model= is for a folder"):
        await import_capabilities(dsn, "memory://", model="other")


async def test_an_entry_that_redis_drops_sooner_expires_then(tmp_path: Path) -> None:
    import redis

    prefix = f"old-{uuid4()}"
    with redis.Redis.from_url(server("redis").url) as client:
        record = {"key": "both", "value": {}, "expires_at": "2999-12-31T23:59:59"}
        client.set(f"{prefix}:both", json.dumps(record), pxat=4102444800000)
        client.set(prefix.encode() + b":\xff", b"{}")
        client.set(f"{prefix}:huge", b"x" * 4_200_000)
    async with create_store("in_memory") as store:
        url = f"{server('redis').url}?prefix={prefix}"
        report = await import_capabilities(url, store, state=tmp_path / "journal")
        item = await store.get("both")
        assert item is not None
        assert item.expires_at == datetime(2100, 1, 1, tzinfo=UTC)
        assert item.metadata == {"legacy": {"expires_at": "2999-12-31T23:59:59+00:00"}}
        behind = {one.key[1]: one.why for one in report.findings}
        assert behind == {"\\xff": "its name is not text", "huge": "it is larger than 4,194,304 bytes"}


def test_from_synchronous_code(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path)
    report = import_capabilities_sync(folder, f"sqlite:///{tmp_path}/new.db", state=tmp_path / "journal")
    assert (report.created, report.differences) == (3, 0)


async def test_a_table_of_many_rows_moves_in_order(tmp_path: Path) -> None:
    """More than a page, keys that sort otherwise in the server's collation, and numbers that a float would lose."""
    dsn, schema = server("postgres").url, "old_many"
    await fill_postgres(dsn, "value", schema)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            f"""INSERT INTO {schema}.memory SELECT chr(65 + n % 50) || n, '{{"n": 9007199254740993}}', 'agent', 'working',
            '2025-01-01', NULL, NULL, n FROM generate_series(1, 1200) AS n"""
        )
        await connection.execute(f"UPDATE {schema}.memory SET value = repeat('x', 5000000) WHERE key = 'sentence'")
    finally:
        await connection.close()
    url = f"{dsn}{'&' if '?' in dsn else '?'}schema={schema}"
    async with create_store("sqlite", path=tmp_path / "new.db", synchronous="off") as store:
        report = await import_capabilities(url, store, state=tmp_path / "journal", batch_size=200)
        assert (report.created, report.compared, report.differences, report.unlisted) == (1202, 1202, 0, 1)
        assert {one.key[1]: one.why for one in report.findings}["sentence"] == "its row is larger than 4,194,304 bytes"
        item = await store.get("B1")
        assert item is not None
        assert (item.content, item.metadata) == ({"n": 9007199254740993}, {"legacy": {"hits": 1}})


def test_the_command_tells_and_repeats(tmp_path: Path) -> None:
    folder = fill_folder(tmp_path)

    def memory(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "memory", "import-legacy", "capabilities", str(folder), *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)

    early = memory("sqlite:///new.db", "--verify-only")
    assert (early.returncode, "there is no memory at" in early.stderr) == (2, True)
    done = memory("sqlite:///new.db", "--output", "report.json")
    assert (done.returncode, "3 created" in done.stdout, "3 compared, no differences" in done.stdout) == (1, True, True)
    assert "default / cut: it is not JSON" in done.stdout
    assert "`memory rollback " in done.stderr
    again = memory("sqlite:///new.db", "--json")
    told = json.loads(again.stdout)
    assert (told["created"], told["plan"]["unchanged"], told["expired"]) == (0, 3, 1)


async def test_the_loop_never_stalls_while_many_entries_are_read(tmp_path: Path) -> None:
    import redis

    prefix = f"old-{uuid4()}"
    with redis.Redis.from_url(server("redis").url) as client, client.pipeline() as pipe:
        for number in range(1_500):
            record = {"key": f"k{number}", "value": {"content": f"a note about {number}", "n": [number] * 200}}
            pipe.set(f"{prefix}:k{number}", json.dumps(record))
        pipe.execute()
    url = f"{server('redis').url}?prefix={prefix}"
    async with create_store("in_memory") as store:
        await import_capabilities(url, store, state=tmp_path / "journal")
        assert await store.count() == 1_500

        async def verify() -> None:
            assert (await import_capabilities(url, store, verify_only=True)).differences == 0

        await assert_calm(verify, rounds=1)
