"""What is Firestore's own in the store: reads counted and bounded, names of documents, batches, expiry, options."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from servers import server

from memory import BackendUnavailable, InvalidSetting, ManualClock, MemoryItem, UnsupportedOperation
from memory.backends.firestore.meter import Meter
from memory.backends.firestore.queries import Query
from memory.backends.firestore.v2 import FirestoreV2Store
from memory.backends.firestore.v2.indexes import DIMENSION, FILE, definitions, text
from memory.backends.firestore.v2.names import collections, document_id
from memory.ops import Nearest
from memory.registry import create_store

DIM = 8


def made(**options: Any) -> FirestoreV2Store:
    options = {"clock": ManualClock(), "sweep_interval": None, "project_id": "own-" + uuid.uuid4().hex[:12], **options}
    return FirestoreV2Store(emulator=server("firestore").url, **options)


@pytest.fixture
async def store() -> AsyncIterator[FirestoreV2Store]:
    async with made() as store:
        yield store


async def fill(store: FirestoreV2Store, count: int) -> None:
    chance = random.Random(3)
    for start in range(0, count, 500):
        await store.put_many(
            [
                MemoryItem(
                    id=f"{i:05}", content="rare marmot" if i % 100 == 7 else f"plain words {i % 50}",
                    metadata={"n": i % 10}, embedding=[chance.gauss(0, 1) for _ in range(DIM)],
                )
                for i in range(start, min(count, start + 500))
            ]
        )  # fmt: skip


async def reads_stay_in_bounds(count: int) -> None:
    async with made() as store:
        await fill(store, count)
        connection = store._connected()

        async def reads(call: Any) -> tuple[Any, int]:
            before = connection.reads
            return await call, connection.reads - before

        assert (await reads(store.get("00042")))[1] == 1
        assert (await reads(store.get_many(["00001", "00002", "none"])))[1] == 3
        for order in ("key", "-created_at", "importance", "-key"):
            page, read = await reads(store.list(limit=20, order=order))
            assert (len(page), read) == (20, 21), order
            page, read = await reads(store.list(limit=20, order=order, cursor=page.cursor))
            assert (len(page), read) == (20, 21), order
        assert await reads(store.count()) == (count, -(-count // 1_000) + 1)
        found, read = await reads(store.search("marmot", limit=5))
        assert len(found) == 5
        assert read == count // 100, "as many as match"
        for k in (10, 50, 150):
            vector = [1.0, *[0.5] * (DIM - 1)]
            found, read = await reads(store.search(vector=vector, limit=k))
            assert len(found) == k
            assert read <= 2 * k
        import numpy as np

        raw = np.ones(DIM, dtype="<f4").tobytes()
        rows, read = await reads(store._do_nearest(Nearest(vector=raw, embedder=None, limit=30, now=store._clock())))
        assert len(rows) == 30
        assert read <= 60


async def test_reads_stay_in_bounds_at_1200_items() -> None:
    await reads_stay_in_bounds(1_200)


@pytest.mark.full
async def test_reads_stay_in_bounds_at_10000_items() -> None:
    await reads_stay_in_bounds(10_000)


async def test_what_would_read_too_much_raises_and_is_never_cut_short() -> None:
    options: dict[str, Any] = {"project_id": "own-" + uuid.uuid4().hex[:12]}
    async with made(**options) as store:
        await fill(store, 400)
    async with made(**options, max_reads=100) as store:
        before = store._connected().reads
        for call in (
            lambda: store.list({"metadata.n": 11}),
            lambda: store.list(limit=150),
            lambda: store.count({"metadata.n": 1}),
            lambda: store.search("plain words"),
            lambda: store.search(vector=[1.0] * DIM, where={"metadata.n": 3}, limit=60),
        ):
            with pytest.raises(UnsupportedOperation, match="max_reads=100"):
                await call()
        assert store._connected().reads - before <= 5 * 101 + 5, "no more is read than tells that it is too much"
        assert len(await store.list(limit=99)) == 99
        assert await store.count() == 400
        assert len(await store.search("marmot")) == 4
        assert len(await store.list({"metadata.n": 3}, limit=5)) == 5


async def test_an_id_names_its_document_where_firestore_allows_it(store: FirestoreV2Store) -> None:
    for id in ("mem_1", "é", "a b", "%2F", "*", "`", "a.b", "...", "__a", "x" * 512):
        assert document_id((("default",), id)) == id
    hashed = [
        (("default",), id) for id in ("a/b", ".", "..", "__x__", "~a", "____", "/")
    ] + [(("other",), "mem_1"), (("default", "x"), "mem_1")]  # fmt: skip
    names = [document_id(key) for key in hashed]
    assert len(set(names)) == len(hashed)
    assert all(name[0] == "~" and len(name) == 44 for name in names)
    for namespace, id in hashed:
        await store.put(MemoryItem(id=id, namespace=namespace, content=id))
    for namespace, id in hashed:
        assert (await store.get(id, namespace=namespace) or MemoryItem(content=0)).content == id


def test_collections_are_named_as_v2_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert collections("default", "standard", None).items == "default_memory_items_standard"
    assert collections("acme", "sensitive", "prod").items == "acme_memory_items_sensitive_prod"
    monkeypatch.setenv("ORCHESTRA_STORAGE_MEMORY_ITEMS", "things")
    assert collections("default", "standard", None).items == "default_things_standard"
    for bad in ({"namespace": "a/b"}, {"privacy": ""}, {"environment": ".."}, {"namespace": "__x__"}):
        with pytest.raises(InvalidSetting):
            made(**bad)


async def test_namespaces_environments_and_databases_are_apart() -> None:
    project = "own-" + uuid.uuid4().hex[:12]
    places: list[dict[str, Any]] = [
        {}, {"namespace": "acme"}, {"privacy": "sensitive"}, {"environment": "prod"}, {"database": "second"},
    ]  # fmt: skip
    for number, place in enumerate(places):
        async with made(project_id=project, **place) as store:
            assert await store.count() == 0
            await store.put(MemoryItem(id="a", content=number))
    for number, place in enumerate(places):
        async with made(project_id=project, **place) as store:
            assert [item.content for item in await store.list()] == [number]


async def test_a_url_names_the_database_and_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", server("firestore").url)
    project = "own-" + uuid.uuid4().hex[:12]
    store = create_store(f"firestore://{project}/second?environment=prod&timeout=5&max_reads=9")
    assert isinstance(store, FirestoreV2Store)
    assert (store.place.project, store.place.database, store.timeout, store.max_reads) == (project, "second", 5.0, 9)
    assert store.durability == "process", "an emulator keeps nothing on disk"
    async with store:
        await store.put(MemoryItem(content="x"))
        assert (await store.health()).details["emulator"] is True
    for bad in ("firestore://a/b/c", "firestore://me@a", "firestore://p?databse=x"):
        with pytest.raises(InvalidSetting):
            create_store(bad)


async def test_credentials_that_cannot_be_used_are_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("FIRESTORE_EMULATOR_HOST", raising=False)
    path = tmp_path / "key.json"
    path.write_text(json.dumps({"type": "service_account", "private_key": "hunter2", "client_email": "me"}))
    for options in (
        {"credentials_path": str(path)},
        {"credentials_path": str(tmp_path / "none.json")},
        {"credentials_json": '{"type": "service_account", "private_key": "hunter2"}'},
        {"credentials_json": "hunter2"},
    ):
        store = FirestoreV2Store(project_id="p", **options)
        assert store.durability == "replicated"
        with pytest.raises(BackendUnavailable) as caught:
            await store.open()
        assert "hunter2" not in str(caught.value)
        assert "credentials" in str(caught.value)


async def test_a_hot_document_does_not_hold_up_a_batch(store: FirestoreV2Store) -> None:
    other = made(project_id=store.place.project)
    async with other:
        await store.put_many([MemoryItem(id=f"{i:03}", content=0) for i in range(120)])

        async def disturb() -> None:
            for i in range(30):
                await other.put(MemoryItem(id="060", content=i))

        async with asyncio.TaskGroup() as group:
            group.create_task(disturb())
            tasks = [
                group.create_task(store.put_many([MemoryItem(id=f"{i:03}", content=turn) for i in range(120)]))
                for turn in range(4)
            ]
        for stored in zip(*(task.result() for task in tasks), strict=True):
            assert len({one.version for one in stored}) == 4, "each write of a document has a version of its own"
            last = max(stored, key=lambda one: one.version)
            if last.id != "060":
                assert await store.get(last.id) == last


async def test_large_documents_go_in_commits_of_their_own(store: FirestoreV2Store) -> None:
    big = "x" * 250_000
    stored = await store.put_many([MemoryItem(id=f"{i}", content=f"{i}{big}") for i in range(30)])
    assert await store.get_many([one.id for one in stored]) == stored


async def test_native_expiry_comes_a_day_later_and_not_with_an_injected_clock(store: FirestoreV2Store) -> None:
    await store.put(MemoryItem(id="a", content="x"), ttl=60)
    (found,) = await store._connected().query(Query(collection=store.names.items, limit=5), Meter())
    assert "ttl" not in found.ours
    real = FirestoreV2Store(project_id=store.place.project, emulator=store.place.emulator, sweep_interval=None)
    async with real:
        stored = await real.put(MemoryItem(id="b", content="x"), ttl=60)
        found = (await real._connected().get(real.names.items, ["b"], Meter()))["b"]
        assert stored.expires_at is not None
        expires = found.stamp().expires
        assert expires is not None
        assert found.ours["ttl"].timestamp_value.seconds == expires // 1_000_000 + 86_400
        await real.touch("b", expires_at=None)
        found = (await real._connected().get(real.names.items, ["b"], Meter()))["b"]
        assert "ttl" not in found.ours
        assert "expiration" not in found.fields


@pytest.mark.realtime
async def test_time_passes_by_itself() -> None:
    store = FirestoreV2Store(
        project_id="own-" + uuid.uuid4().hex[:12], emulator=server("firestore").url, sweep_interval=None
    )
    async with store:
        await store.put(MemoryItem(id="a", content="x"), ttl=0.5)
        assert await store.exists("a")
        await asyncio.sleep(0.6)
        assert not await store.exists("a")
        assert await store.sweep() == 1


def test_the_file_of_index_definitions_is_that_of_the_code() -> None:
    assert FILE.read_text("utf-8") == text(collections("default", "standard", None), DIMENSION)
    named = json.loads(json.dumps(definitions(collections("acme", "standard", None), 768)))
    assert {one["collectionGroup"] for one in named["indexes"]} == {"acme_memory_items_standard"}
    assert len(named["indexes"]) < 200, "Firestore's limit"
    dimensions = {
        field["vectorConfig"]["dimension"]
        for one in named["indexes"]
        for field in one["fields"]
        if "vectorConfig" in field
    }
    assert dimensions == {768}


def test_a_wrong_option_is_refused() -> None:
    for bad in (
        {"timeout": 0}, {"timeout": "x"}, {"max_reads": 0}, {"max_reads": True}, {"breaker_failures": 0},
        {"breaker_recovery": -1.0}, {"legacy_check": -1}, {"project_id": "a/b"}, {"database": ""},
    ):  # fmt: skip
        with pytest.raises(InvalidSetting):
            made(**bad)


def test_the_command_prints_the_index_definitions_of_a_store(tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("MEMORY_", "FIRESTORE_"))},
        "MEMORY_BACKEND_TYPE": "firestore://p?namespace=acme",
        "MEMORY_DIMENSION": "768",
    }
    command = [sys.executable, "-m", "memory", "config", "--indexes"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert json.loads(done.stdout) == definitions(collections("acme", "standard", None), 768), done.stderr
    environment["MEMORY_BACKEND_TYPE"] = "sqlite"
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert "makes its indexes itself" in done.stderr


def test_the_example_runs(tmp_path: Path) -> None:
    example = Path(__file__).parent.parent / "examples" / "firestore.py"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("MEMORY_")},
        "FIRESTORE_EMULATOR_HOST": server("firestore").url,
        "GOOGLE_CLOUD_PROJECT": "own-" + uuid.uuid4().hex[:12],
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Ann keeps two marmots" in done.stdout, done.stderr
    assert "1 memories, kept process" in done.stdout
