"""What goes wrong with a server becomes a typed error that names the address without its password and says what to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import servers

from memory import MemoryItem
from memory.backends.postgres import PostgresStore
from memory.errors import (
    BackendUnavailable,
    BatchError,
    DeadlineExceeded,
    InvalidItem,
    InvalidSetting,
    MemoryStoreError,
    Overloaded,
    UnknownOutcome,
)
from memory.ops import FeedRead, Status, Touch
from memory.store.settle import new_token
from memory.testing import services
from memory.testing.making import name_of
from memory.testing.proxy import Proxy


@pytest.fixture
def url() -> str:
    return str(servers.server("postgres").url)


@pytest.fixture
async def admin(url: str) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(url)
    yield connection
    await connection.close()


@pytest.fixture
def own() -> Iterator[Any]:
    """A server of this test alone, to kill."""
    with services.postgres_plain(durable=True) as server:
        yield server


@contextmanager
def replica_of(server: Any) -> Iterator[Any]:
    try:
        with services.postgres_replica(server) as started:
            yield started
    except services.ServiceMissing as missing:
        servers.missing(str(missing))


def with_password(url: str, user: str = "postgres", database: str = "postgres") -> str:
    place = url.rpartition("@")[2].partition("/")[0]
    return f"postgresql://{user}:hunter2@{place}/{database}"


async def refused(url: str, *words: str, **options: Any) -> MemoryStoreError:
    started = time.monotonic()
    with pytest.raises(BackendUnavailable) as caught:
        await PostgresStore(url, **options).open()
    assert time.monotonic() - started < 10
    said = str(caught.value)
    assert "hunter2" not in said
    assert "hunter2" not in repr(caught.value.__cause__)
    for word in words:
        assert word in said
    return caught.value


async def test_a_pooler_that_nobody_spoke_of_is_told_with_its_setting() -> None:
    pooled = str(servers.server("pgbouncer").url)
    await refused(pooled, "PgBouncer", "pgbouncer=true")
    async with PostgresStore(pooled, pgbouncer=True):
        pass


async def test_a_server_that_is_down_is_named() -> None:
    port = services.free_port()
    error = await refused(f"postgresql://me:hunter2@127.0.0.1:{port}/db", f"me@127.0.0.1:{port}/db", "start the server")
    assert error.address.startswith("postgresql://me@")  # type: ignore[attr-defined]


async def test_a_database_that_is_not_there_is_named(url: str) -> None:
    await refused(with_password(url, database="nowhere"), "no such database", "/nowhere")


async def test_a_user_without_privileges_is_told_which(url: str, admin: Any, tmp_path: Path) -> None:
    user = name_of(tmp_path)
    await admin.execute(f'CREATE ROLE "{user}" LOGIN')
    try:
        await refused(with_password(url, user=user), "lacks a privilege", "CREATE", schema=user)
    finally:
        await admin.execute(f'DROP ROLE "{user}"')


async def test_a_wrong_password_is_refused_and_not_shown(own: Any) -> None:
    (own.data / "pg_hba.conf").write_text("host all all all scram-sha-256\n")
    own.stop()
    own.start()
    await refused(with_password(own.url), "password")


async def test_too_many_connections_are_told_apart(url: str, admin: Any, tmp_path: Path) -> None:
    user = name_of(tmp_path)
    await admin.execute(f'CREATE ROLE "{user}" LOGIN CONNECTION LIMIT 0')
    try:
        await refused(with_password(url, user=user), "no connection left", "PgBouncer", schema=user)
    finally:
        await admin.execute(f'DROP ROLE "{user}"')


async def test_a_replica_serves_reads_and_refuses_writes(url: str, admin: Any, tmp_path: Path) -> None:
    schema = name_of(tmp_path)
    async with PostgresStore(url, schema=schema, feed=True, dimension=2) as primary:
        stored = await primary.put(MemoryItem(id="a", content="an old parrot", embedding=[1, 0]))
        with replica_of(servers.server("postgres")) as server:
            async with PostgresStore(server.url, schema=schema, feed=True) as replica:
                assert await replica.get("a") == stored
                assert [hit.item.id for hit in await replica.search("parrots")] == ["a"]
                assert [hit.item.id for hit in await replica.search(vector=[1, 0])] == ["a"]
                assert (await replica.verify()).ok
                writes: list[Awaitable[Any]] = [
                    replica.put(MemoryItem(id="b", content="y")),
                    replica.put_many([MemoryItem(content="y")] * 2, atomic=True),
                    replica.touch("a"),
                    replica.delete("a"),
                    replica.sweep(),
                ]
                for write in writes:
                    with pytest.raises(BackendUnavailable, match=r"read-only replica.*name the primary"):
                        await write
                newer = await primary.put(MemoryItem(id="b", content="a new parrot"))
                async with asyncio.timeout(5):
                    while await replica.get("b") is None:  # it follows, a moment later
                        await asyncio.sleep(0.01)
                assert await replica.get("b") == newer
                feed = FeedRead(after=0, limit=10, now=0)
                assert (await replica._feed(feed)).events == (await primary._feed(feed)).events
    await admin.execute(f'DROP SCHEMA "{schema}" CASCADE')


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("mysql://me:hunter2@host/db", "no address of a Postgres server"),
        ("not an address", "cannot be understood"),
        ("postgresql://me:hunter2@host/db?pol=3", "unknown option 'pol'"),
        ("", "MEMORY_POSTGRES_DSN"),
    ],
)
def test_a_senseless_address_is_refused_before_any_io(address: str, words: str) -> None:
    with pytest.raises(InvalidSetting, match=words) as caught:
        PostgresStore(address)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "options",
    [
        {"schema": "Robert'; DROP TABLE x"},
        {"schema": ""},
        {"schema": "9lives"},
        {"schema": "a" * 64},
        {"prefix": "a-b"},
        {"prefix": "p" * 60},
        {"pool": 0},
        {"timeout": 0.0},
    ],
)
def test_a_name_that_is_no_identifier_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidSetting):
        PostgresStore("postgresql://me@host/db", **options)


async def test_a_store_recovers_by_itself_when_its_server_comes_back(own: Any) -> None:
    async with PostgresStore(own.url, sweep_interval=None) as store:
        stored = await store.put(MemoryItem(id="a", content="x"))
        own.kill()
        with pytest.raises(BackendUnavailable) as caught:
            await store.get("a")
        assert "127.0.0.1" in str(caught.value)
        with pytest.raises((BackendUnavailable, UnknownOutcome)):
            await store.put(MemoryItem(id="b", content="y"))
        own.start()
        started = time.monotonic()
        while True:
            try:
                assert await store.get("a") == stored
                break
            except BackendUnavailable:
                assert time.monotonic() - started < 5
                await asyncio.sleep(0.05)
        await store.put(MemoryItem(id="b", content="y"))


async def test_deadlines_hold_while_a_server_does_not_answer(own: Any) -> None:
    async with PostgresStore(own.url, timeout=0.5, sweep_interval=None) as store:
        await store.put(MemoryItem(id="a", content="x"))
        own.pause()
        try:
            started = time.monotonic()
            with pytest.raises(UnknownOutcome) as caught:
                await store.put(MemoryItem(id="b", content="y"))
            with pytest.raises((DeadlineExceeded, BackendUnavailable)):
                await store.get("a")
            assert time.monotonic() - started < 4
        finally:
            own.resume()
        assert (await caught.value.retry()).content == "y"
        found = await store.get("b")
        assert found is not None


async def test_a_call_that_waits_for_its_turn_has_no_longer_than_one_that_goes_at_once(own: Any) -> None:
    async with PostgresStore(own.url, pool=1, timeout=1.0, sweep_interval=None) as store:
        await store.put(MemoryItem(id="a", content="x"))
        own.pause()
        try:
            first = asyncio.ensure_future(store.put(MemoryItem(id="a", content="y")))
            await asyncio.sleep(0.2)  # so that the second waits until the first one's deadline
            started = time.perf_counter()
            with pytest.raises((DeadlineExceeded, UnknownOutcome)):
                await store.put(MemoryItem(id="b", content="z"))
            assert time.perf_counter() - started < 1.5
            with pytest.raises(UnknownOutcome):
                await first
        finally:
            own.resume()


async def test_one_write_that_the_server_refuses_does_not_keep_the_others_from_it(
    url: str, admin: Any, tmp_path: Path
) -> None:
    schema = name_of(tmp_path)
    async with PostgresStore(url, schema=schema) as store:
        await admin.execute(f"ALTER TABLE \"{schema}\".records ADD CHECK (kind IS DISTINCT FROM 'refused')")
        items = [MemoryItem(id=f"{i}", content=i, kind="refused" if i in (4, 7) else "fine") for i in range(9)]
        with pytest.raises(BatchError) as caught:
            await store.put_many(items)
        refused = [i for i, one in enumerate(caught.value.results) if isinstance(one, MemoryStoreError)]
        assert refused == [4, 7]
        assert "violates check constraint" in str(caught.value.results[4])
        assert [item.id for item in (await store.list()).items] == ["0", "1", "2", "3", "5", "6", "8"]
        with pytest.raises(MemoryStoreError, match="violates check constraint"):
            await store.put(items[4])
        with pytest.raises(MemoryStoreError, match="violates check constraint"):
            await store.put_many(items, atomic=True)
    await admin.execute(f'DROP SCHEMA "{schema}" CASCADE')


async def test_a_batch_in_parts_has_one_deadline_and_tells_what_was_done(url: str, admin: Any, tmp_path: Path) -> None:
    schema = name_of(tmp_path)
    port = servers.server("postgres").port
    with Proxy(port) as proxy:
        async with PostgresStore(url.replace(f":{port}/", f":{proxy.port}/"), schema=schema, timeout=1.5) as store:
            await store.put_many([MemoryItem(id=f"{i:02}", content="before") for i in range(32)])
            await admin.execute(f"ALTER TABLE \"{schema}\".records ADD CHECK (kind IS DISTINCT FROM 'refused')")
            items = [MemoryItem(id=f"{i:02}", content=i, kind="refused" if i == 31 else "fine") for i in range(32)]
            proxy.inject("drop", "requests", after=3)  # all, the first half, the second half: then nothing arrives
            started = time.perf_counter()
            with pytest.raises(BatchError) as caught:
                await store.put_many(items)
            assert time.perf_counter() - started < 2.5
            proxy.heal()
            results = caught.value.results
            assert {type(one) for one in results[:16]} == {MemoryItem}
            assert {type(one) for one in results[16:24]} == {UnknownOutcome}
            assert {type(one) for one in results[24:]} == {DeadlineExceeded}
            stored = (await store.list(limit=100)).items
            assert [item.content for item in stored[:16]] == list(range(16))
            assert {item.content for item in stored[24:]} == {"before"}
    await admin.execute(f'DROP SCHEMA "{schema}" CASCADE')


async def test_a_deadline_that_passes_while_the_loop_is_held_is_one(url: str, admin: Any, tmp_path: Path) -> None:
    schema = name_of(tmp_path)
    port = servers.server("postgres").port
    with Proxy(port) as proxy:
        async with PostgresStore(url.replace(f":{port}/", f":{proxy.port}/"), schema=schema, timeout=0.5) as store:
            await store.put(MemoryItem(id="a", content="x"))
            # The statement is new to the connection, so it takes two steps; the first one's answer comes while the loop is held.
            proxy.inject("delay", "replies", seconds=0.3)
            asyncio.get_running_loop().call_later(0.1, time.sleep, 0.7)
            with pytest.raises(DeadlineExceeded):
                await store.get("a")
            proxy.heal()
            assert await store.get("a") is not None
    await admin.execute(f'DROP SCHEMA "{schema}" CASCADE')


async def test_the_statements_of_one_call_share_its_deadline(url: str, admin: Any, tmp_path: Path) -> None:
    schema = name_of(tmp_path)
    async with PostgresStore(url, schema=schema) as first:
        await first.put(MemoryItem(id="a", content="x", embedding=[1.0, 0.0]))
    port = servers.server("postgres").port
    with Proxy(port) as proxy:
        async with PostgresStore(url.replace(f":{port}/", f":{proxy.port}/"), schema=schema, timeout=0.8) as store:
            proxy.inject("delay", "replies", seconds=0.3)
            started = time.perf_counter()
            with pytest.raises(DeadlineExceeded):  # a record with a vector, the state, the record once more
                await store.get("a")
            assert time.perf_counter() - started < 1.4
            proxy.heal()
            assert await store.get("a") is not None
    await admin.execute(f'DROP SCHEMA "{schema}" CASCADE')


async def test_a_lock_held_by_another_program_is_a_deadline_and_nothing_is_written(
    url: str, admin: Any, tmp_path: Path
) -> None:
    schema = name_of(tmp_path)
    async with PostgresStore(url, schema=schema, timeout=1.0) as store:
        await store.put(MemoryItem(id="a", content="x"))
        transaction = admin.transaction()
        await transaction.start()
        await admin.execute(f'SELECT FROM "{schema}".records FOR UPDATE')
        with pytest.raises(DeadlineExceeded):
            await store.put(MemoryItem(id="a", content="y"))
        await transaction.rollback()
        found = await store.get("a")
        assert found is not None
        assert found.content == "x"
    await admin.execute(f'DROP SCHEMA "{schema}" CASCADE')


async def test_a_thousand_callers_on_a_pool_of_ten_are_all_served(url: str, admin: Any, tmp_path: Path) -> None:
    schema = name_of(tmp_path)
    async with PostgresStore(url, schema=schema, pool=10) as store:
        await store.put_many([MemoryItem(id=f"{i}", content=i) for i in range(100)])

        async def call(i: int) -> None:
            if i % 3 == 0:
                await store.put(MemoryItem(id=f"{i % 100}", content=i % 100))
            elif i % 3 == 1:
                assert (await store.list({"id": f"{i % 100}"})).items[0].content == i % 100
            else:
                found = await store.get(f"{i % 100}")
                assert found is not None
                assert found.content == i % 100

        async with asyncio.TaskGroup() as group:
            for i in range(1_000):
                group.create_task(call(i))
        pool = store._calling().pool
        assert pool.used == 0
        assert 0 < pool.idle <= 10
    await admin.execute(f'DROP SCHEMA "{schema}" CASCADE')


async def test_more_callers_than_may_wait_are_told_so(url: str, admin: Any, tmp_path: Path) -> None:
    schema = name_of(tmp_path)
    async with PostgresStore(url, schema=schema, pool=1, waiting=5) as store:
        await store.put(MemoryItem(id="a", content="x"))
        done = await asyncio.gather(*[store.list() for _ in range(50)], return_exceptions=True)  # noqa: TID251
        served = [one for one in done if not isinstance(one, BaseException)]
        assert len(served) >= 6
        assert all(isinstance(one, Overloaded) for one in done if isinstance(one, BaseException))
        assert len(served) < 50
        assert (await store.get("a")) is not None
    await admin.execute(f'DROP SCHEMA "{schema}" CASCADE')


async def test_a_full_disk_is_told_as_such(admin: Any) -> None:
    from memory.backends.postgres.faults import translate
    from memory.errors import StorageFull

    # A disk cannot be filled from here; the server raises the very error.
    with pytest.raises(asyncpg.PostgresError) as caught:
        await admin.execute("DO $$ BEGIN RAISE EXCEPTION 'no space left' USING ERRCODE = '53100'; END $$")
    assert isinstance(translate(caught.value, "postgresql://me@host/db"), StorageFull)


async def test_a_value_that_the_server_cannot_hold_is_not_the_servers_failure(
    url: str, admin: Any, tmp_path: Path
) -> None:
    schema = name_of(tmp_path)
    async with PostgresStore(url, schema=schema) as store:
        stored = await store.put(MemoryItem(id="a", content="x"))
        for expires in (2**63, 2**70):
            (result,) = await store._write(
                [Touch(key=stored.key, token=new_token(), now=1, set_expiry=True, expires=expires)], False
            )
            assert result.status is Status.FAILED
            assert type(result.error) is InvalidItem
            assert "hold" in str(result.error)
        assert await store.get("a") == stored
    await admin.execute(f'DROP SCHEMA "{schema}" CASCADE')
