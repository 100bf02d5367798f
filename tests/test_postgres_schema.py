"""What a store makes in a database: any names, two processes at once, upgrades refused or done, indexes built and used."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest
import servers
from sqlalchemy.ext.asyncio import create_async_engine

from memory import F, ManualClock, MemoryItem, create_store
from memory.backends.postgres import PostgresStore, nearest, reading, upkeep
from memory.backends.postgres.layout import LAYOUT
from memory.errors import BackendUnavailable, CorruptData, InvalidSetting
from memory.testing.making import name_of

ROOT = Path(__file__).parent.parent


@pytest.fixture
def url() -> str:
    return str(servers.server("postgres").url)


@pytest.fixture
async def admin(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


@pytest.fixture
async def schema(tmp_path: Path, admin: Any) -> AsyncIterator[str]:
    yield name_of(tmp_path)
    await admin.execute(f'DROP SCHEMA IF EXISTS "{name_of(tmp_path)}" CASCADE')


def items(count: int, dimension: int = 8) -> list[MemoryItem]:
    rng = np.random.default_rng(5)
    return [
        MemoryItem(
            id=f"{i:05}",
            namespace=("n", str(i % 10)),
            content=f"marmot {i}",
            metadata={"score": i % 100},
            embedding=rng.standard_normal(dimension).astype(np.float32),
        )
        for i in range(count)
    ]


async def test_many_stores_may_open_a_new_schema_at_once(url: str, schema: str) -> None:
    stores = [PostgresStore(url, schema=schema, pool=1) for _ in range(6)]
    async with asyncio.TaskGroup() as group:
        for store in stores:
            group.create_task(store.open())
    await stores[0].put(MemoryItem(id="a", content="x"))
    for store in stores:
        assert await store.exists("a")
        await store.close()


async def test_a_read_is_planned_for_the_one_row_of_state(url: str, schema: str, admin: Any) -> None:
    async with PostgresStore(url, schema=schema) as store:
        read = store.names.fill(reading.ONE).replace("$1", "'a'::bytea")
        plan = "\n".join(row[0] for row in await admin.fetch("EXPLAIN " + read))
    assert "Hash" not in plan, plan


async def test_a_page_of_the_feed_looks_at_its_own_events_only(url: str, schema: str, admin: Any) -> None:
    async with PostgresStore(url, schema=schema, feed=True) as store:
        await store.put_many([MemoryItem(content=n) for n in range(2_000)])
        page = store.names.fill(upkeep.FEED).replace("$1", "0").replace("$2", "100")
        ((explained,),) = await admin.fetch("EXPLAIN (ANALYZE, FORMAT JSON) " + page)
    (top,) = json.loads(explained)
    assert looked_at(top["Plan"]) < 1_000, explained


async def test_a_search_among_few_reads_the_vectors_of_these_alone(
    url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("memory.backends.postgres.vectorindex.INDEXED_FROM", 1_000)
    async with PostgresStore(url, schema=schema) as store:
        await store.put_many(items(2_000))
        assert await store._in_session().index.build()
        caller, plans = store._in_session().caller, []
        fetch = caller.fetch

        async def explained(template: str, values: Any, *rest: Any) -> Any:
            ((plan,),) = await fetch("EXPLAIN (ANALYZE, FORMAT JSON) " + template, values, *rest)
            plans.append(json.loads(plan)[0]["Plan"])
            return await fetch(template, values, *rest)

        monkeypatch.setattr(caller, "fetch", explained)
        found = await store.search(vector=[1.0] * 8, mode="vector", limit=10, where=F.metadata.score < 1)
    assert len(found) == 10
    assert sum(looked_at(plan, "vectors") for plan in plans) <= 20, plans


def looked_at(node: dict[str, Any], table: str = "") -> float:
    """Rows that a step of a plan and those below it have met, of one table or all, whether they passed or not."""
    rows = (
        node["Actual Rows"] + node.get("Rows Removed by Filter", 0) if table in ("", node.get("Relation Name")) else 0
    )
    return float(rows * node["Actual Loops"] + sum(looked_at(below, table) for below in node.get("Plans", ())))


async def test_stores_with_different_prefixes_share_a_schema_and_nothing_else(url: str, schema: str) -> None:
    async with (
        PostgresStore(url, schema=schema, prefix="one_") as one,
        PostgresStore(url, schema=schema, prefix="_2") as other,
        PostgresStore(url, schema=schema) as plain,
    ):
        await one.put(MemoryItem(id="a", content="x"))
        assert not await other.exists("a")
        assert not await plain.exists("a")
        assert (await one.verify()).checked == 1


@pytest.mark.parametrize("name", ["select", "user", "_", "a" * 63])
async def test_any_identifier_is_a_schema(url: str, admin: Any, name: str) -> None:
    try:
        async with PostgresStore(url, schema=name) as store:
            await store.put(MemoryItem(id="a", content="x", embedding=[1.0, 2.0]))
            assert (await store.search(vector=[1.0, 2.0], mode="vector")).hits[0].item.id == "a"
    finally:
        await admin.execute(f'DROP SCHEMA "{name}" CASCADE')


async def test_a_newer_layout_is_refused_and_left_alone(url: str, schema: str, admin: Any) -> None:
    async with PostgresStore(url, schema=schema):
        pass
    await admin.execute(f'UPDATE "{schema}".state SET layout = 99')
    with pytest.raises(BackendUnavailable, match="layout 99"):
        await PostgresStore(url, schema=schema).open()


async def test_another_analyser_is_refused(url: str, schema: str) -> None:
    async with PostgresStore(url, schema=schema):
        pass
    with pytest.raises(InvalidSetting, match="analyser"):
        await PostgresStore(url, schema=schema, language="german").open()


async def test_a_users_engine_lends_connections_and_stays_alive(url: str, schema: str) -> None:
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"))
    try:
        async with PostgresStore(engine=engine, schema=schema) as store:
            await store.put(MemoryItem(id="a", content={"deep": [1, None]}, embedding=[1.0, 2.0]))
            found = await store.get("a")
            assert found is not None
            assert found.content == {"deep": [1, None]}
        async with engine.connect() as connection:
            assert (await connection.exec_driver_sql("SELECT 1")).scalar() == 1
    finally:
        await engine.dispose()


async def test_an_address_names_its_options(url: str, schema: str) -> None:
    store = create_store(f"{url}?schema={schema}&pool=2&timeout=7.5&feed=true")
    assert isinstance(store, PostgresStore)
    assert (store.names.schema, store._pool_size, store._connecting.timeout, store.feed) == (schema, 2, 7.5, True)
    async with store:
        await store.put(MemoryItem(id="a", content="x"))
        assert (await store.health()).status == "healthy"


async def test_the_vector_index_is_built_in_the_background_and_finds_what_a_scan_finds(
    url: str, schema: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nearest, "FEW", 300)
    monkeypatch.setattr("memory.backends.postgres.vectorindex.INDEXED_FROM", 1_000)
    async with PostgresStore(url, schema=schema) as store:
        written = items(2_000)
        await store.put_many(written)
        index = store._in_session().index
        assert index.space is None
        assert await index.build()
        assert index.space == 1
        rng = np.random.default_rng(9)
        found = wanted = filtered = passing = 0
        for _ in range(20):
            vector = rng.standard_normal(8).astype(np.float32)
            fast = await store.search(vector=vector, mode="vector", limit=10)
            exact = await store.search(vector=vector, mode="vector", limit=10, exact=True)
            found += len({hit.item.id for hit in fast} & {hit.item.id for hit in exact})
            wanted += len(exact)
            where = F.metadata.score < 30
            some = await store.search(vector=vector, mode="vector", limit=10, where=where)
            truth = await store.search(vector=vector, mode="vector", limit=10, where=where, exact=True)
            assert len(some) == 10
            filtered += len({hit.item.id for hit in some} & {hit.item.id for hit in truth})
            passing += len(truth)
        assert found >= 0.98 * wanted
        assert filtered >= 0.99 * passing
    async with PostgresStore(url, schema=schema) as again:
        assert again._in_session().index.space == 1


@pytest.mark.parametrize("server", ["postgres", "postgres_plain"])
async def test_damage_is_found_and_repaired(server: str, tmp_path: Path) -> None:
    address, schema = servers.server(server).url, name_of(tmp_path)
    admin = await asyncpg.connect(address)
    try:
        async with PostgresStore(address, schema=schema) as store:
            await store.put_many(items(20))
            await admin.execute(
                f"""UPDATE "{schema}".records SET body = body || 'x'::bytea WHERE encode(key, 'escape') LIKE '%00003';
                UPDATE "{schema}".records SET kind = 'other' WHERE encode(key, 'escape') LIKE '%00004';
                UPDATE "{schema}".records SET terms = ARRAY['wrong'] WHERE encode(key, 'escape') LIKE '%00005';
                UPDATE "{schema}".records SET doc = '{{}}' WHERE encode(key, 'escape') LIKE '%00006'"""
            )
            with pytest.raises(CorruptData):
                await store.get("00003", namespace=("n", "3"))
            report = await store.verify()
            assert {problem.what for problem in report.problems} == {
                "damaged record",
                "columns",
                "text index",
                "filter document",
            }
            assert len((await store.repair()).quarantined) == 1
            assert (await store.verify()).ok
            assert await store.count() == 19
            assert await admin.fetchval(f'SELECT count(*) FROM "{schema}".quarantine') == 1
    finally:
        await admin.execute(f'DROP SCHEMA "{schema}" CASCADE')
        await admin.close()


async def test_a_feed_never_misses_what_commits_out_of_order(url: str, schema: str, admin: Any) -> None:
    async with PostgresStore(url, schema=schema, feed=True) as store, PostgresStore(url, schema=schema) as other:
        seen: list[str] = []

        async def watch() -> None:
            async for change in store.watch(timeout=2.0):
                seen.append(change.key[1])
                if len(seen) == 400:
                    return

        watching = asyncio.create_task(watch())
        await asyncio.sleep(0.2)
        async with asyncio.TaskGroup() as group:
            for i in range(200):
                group.create_task(store.put(MemoryItem(id=f"a{i}", content=i)))
                group.create_task(other.put(MemoryItem(id=f"b{i}", content=i)))
        await watching
        assert sorted(seen) == sorted([f"a{i}" for i in range(200)] + [f"b{i}" for i in range(200)])


async def test_versions_of_a_key_never_go_backwards_among_racing_writers(url: str, schema: str) -> None:
    async with PostgresStore(url, schema=schema) as one, PostgresStore(url, schema=schema) as other:
        versions: list[int] = []

        async def race(store: PostgresStore, number: int) -> None:
            for i in range(40):
                if (i + number) % 5 == 0:
                    await store.delete("k")
                else:
                    await store.put(MemoryItem(id="k", content=i))

        async def read() -> None:
            for _ in range(150):
                found = await one.get("k")
                if found is not None:
                    versions.append(found.version)

        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(race((one, other)[number % 2], number))
            group.create_task(read())
        assert versions == sorted(versions)


async def test_the_example_runs(url: str, admin: Any) -> None:
    environment = {**os.environ, "MEMORY_POSTGRES_DSN": url, "PYTHONPATH": str(ROOT)}
    try:
        ended = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-W", "error", "examples/postgres.py"],
            cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    finally:
        await admin.execute("DROP SCHEMA IF EXISTS example_memory CASCADE")
    assert ended.returncode == 0, ended.stderr
    assert "found: marmots" in ended.stdout
    environment["MEMORY_POSTGRES_DSN"] = "postgresql://me:hunter2@127.0.0.1:1/db"
    refused = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "examples/postgres.py"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert refused.returncode == 1
    assert "start the server" in refused.stderr
    assert "hunter2" not in refused.stdout + refused.stderr


async def test_a_schema_of_the_first_layout_opens_and_says_what_was_written(url: str, admin: Any) -> None:
    await admin.execute("DROP SCHEMA IF EXISTS format_v1 CASCADE")
    await admin.execute((ROOT / "tests" / "fixtures" / "postgres-v1.sql").read_text())
    clock = ManualClock()
    clock.advance(2)
    try:
        async with PostgresStore(url, schema="format_v1", clock=clock, feed=True) as store:
            assert (await store.verify()).ok
            assert await store.count() == 7
            third = await store.get("item-3", namespace=("team", "agent1"))
            assert third is not None
            assert third.content == "The marmot number 3 whistles in the mountains"
            assert third.tags == ("alps",)
            assert third.metadata == {"score": 3, "deep": {"a.b": [1, None, True, -0.0]}}
            assert third.embedding.tolist() == [3, 1, 2, 3]
            odd = await store.get("é\u0301😀")
            assert odd is not None
            assert odd.content == {"text": "naïve café", "n": 2**53 + 1, "nul": "a\0b"}
            assert [one.id for one in await store.list({"content.nul": "a\0b"})] == ["é\u0301😀"]
            assert [one.id for one in await store.list(F.tags.contains("alps"))] == ["item-0", "item-3"]
            assert [hit.item.id for hit in await store.search("number 2 whistles", limit=1)] == ["item-2"]
            clock.advance(60)
            assert await store.get("short-lived") is None
            assert await store.sweep() == 1
            stored = await store.put(third)
            assert stored.version > third.version
            assert (await store.verify()).ok
    finally:
        await admin.execute("DROP SCHEMA format_v1 CASCADE")


async def test_a_schema_of_the_first_layout_is_brought_up_while_others_use_it(url: str, admin: Any) -> None:
    await admin.execute("DROP SCHEMA IF EXISTS format_v1 CASCADE")
    await admin.execute((ROOT / "tests" / "fixtures" / "postgres-v1.sql").read_text())
    source = "SELECT prosrc FROM pg_proc WHERE oid = to_regproc($1)"
    old = await admin.fetchval(source, "format_v1.apply")
    assert await admin.fetchval(source, "format_v1.write") is None
    try:
        async with AsyncExitStack() as stack:
            stores = [PostgresStore(url, schema="format_v1") for _ in range(3)]
            async with asyncio.TaskGroup() as group:
                for store in stores:
                    stack.push_async_callback(store.close)
                    group.create_task(store.open())
            assert await admin.fetchval("SELECT layout FROM format_v1.state") == LAYOUT
            # A program of an older layout that is running already goes on calling its own function.
            assert await admin.fetchval(source, "format_v1.apply") == old
            first = await stores[0].put(MemoryItem(id="a", content="x", embedding=[1.0, 2.0, 3.0, 4.0]))
            ours = PostgresStore(url, schema="format_v1")
            async with ours:
                ours._in_session().caller.names._known["write"] = ours.names.fill("$schema.apply")
                second = await ours.put(MemoryItem(id="a", content="y"), if_version=first.version)
            third = await stores[2].put(MemoryItem(id="a", content="z"))
            assert first.version < second.version < third.version
            assert first.created_at == second.created_at == third.created_at
            assert (await stores[0].verify()).ok
    finally:
        await admin.execute("DROP SCHEMA format_v1 CASCADE")
