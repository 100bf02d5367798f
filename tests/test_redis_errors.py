"""Redis: every way in which the server refuses or is not there is one typed error, which says where and what to do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis as driver
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio import RedisCluster as AsyncRedisCluster
from servers import server

from memory.backends.redis import RedisStore
from memory.backends.redis.faults import LostError
from memory.errors import (
    BackendUnavailable,
    DeadlineExceeded,
    InvalidSetting,
    MemoryStoreError,
    Overloaded,
    StorageFull,
    UnknownOutcome,
)
from memory.model import MemoryItem
from memory.testing import services
from memory.testing.embedder import WordEmbedder
from memory.testing.services import free_port
from memory.testing.services.redis import USER


def item(id: str = "a", content: Any = "text", **fields: Any) -> MemoryItem:
    return MemoryItem(id=id, content=content, **fields)


def unique() -> str:
    return "e" + os.urandom(8).hex()


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[RedisStore]:
    store = RedisStore(url, prefix=unique(), sweep_interval=None, **options)
    async with store:
        yield store


async def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    store = RedisStore(f"redis://me:hunter2@127.0.0.1:{free_port()}", timeout=2)
    started = time.monotonic()
    with pytest.raises(BackendUnavailable, match="Is it running") as caught:
        await store.open()
    assert time.monotonic() - started < 2.5
    assert "127.0.0.1" in str(caught.value)
    assert "hunter2" not in repr(caught.value.__dict__) + str(caught.value)


async def test_a_wrong_password_and_a_missing_one_say_so() -> None:
    started = server("redis_tls")
    address = f"localhost:{started.port}?ssl_ca_certs={started.certificate}"
    for user in (f"{USER}:wrong@", "", "nobody:x@"):
        with pytest.raises(BackendUnavailable, match="user or password") as caught:
            await RedisStore(f"rediss://{user}{address}").open()
        assert "wrong" not in str(caught.value).replace("WRONGPASS", "")


async def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    started = server("redis_tls")
    with pytest.raises(BackendUnavailable, match="certificate"):
        await RedisStore(started.url, timeout=3).open()


async def test_over_tls_with_a_user_everything_works() -> None:
    started = server("redis_tls")
    async with opened(f"{started.url}?ssl_ca_certs={started.certificate}", feed=True) as store:
        await store.put_many([item(f"{i}", f"marmot {i}", embedding=[float(i), 1.0]) for i in range(20)])
        assert await store.count() == 20
        assert len(await store.search("marmot 7")) == 10
        assert [hit.item.id for hit in await store.search(vector=[0.0, 1.0], limit=1)] == ["0"]
        assert (await store.verify()).ok
        assert store.durability == "process", "its user may ask for CONFIG"


async def test_a_user_without_rights_is_told_what_is_missing() -> None:
    started = server("redis")
    with driver.Redis.from_url(started.url) as admin:
        admin.execute_command("ACL", "SETUSER", "reader", "on", ">pw", "~*", "+@read", "+@connection", "+info")
        try:
            with pytest.raises(BackendUnavailable, match="ACL SETUSER"):
                await RedisStore(started.url.replace("redis://", "redis://reader:pw@")).open()
        finally:
            admin.execute_command("ACL", "DELUSER", "reader")


@pytest.mark.parametrize("flavour", ["redis", "redis_stack"])
async def test_a_user_with_the_rights_that_the_docs_list_can_do_everything(flavour: str) -> None:
    page = (Path(__file__).parent.parent / "docs" / "redis.md").read_text()
    (rights,) = re.findall(r"needs `([^`]+)` on `~memory:\*`", page)
    started, prefix = server(flavour), unique()
    with driver.Redis.from_url(started.url) as admin:
        admin.execute_command("ACL", "SETUSER", prefix, "on", ">pw", f"~{prefix}:*", *rights.split())
        try:
            address = started.url.replace("redis://", f"redis://{prefix}:pw@")
            async with RedisStore(address, prefix=prefix, feed=True, sweep_interval=None) as store:
                assert store.durability == "process"
                await store.put_many([item(f"{i}", f"marmot {i}", embedding=[float(i), 1.0]) for i in range(20)])
                await store.delete("3")
                assert len(await store.search("marmot", limit=50)) == 19
                assert len(await store.search(vector=[1.0, 1.0], limit=50)) == 19
                assert [change async for change in store.watch(timeout=0)] == []
                assert (await store.reembed(WordEmbedder("new", 4))).switched
                await store.repair()
                await store.sweep()
                assert (await store.verify()).ok
            admin.execute_command("ACL", "SETUSER", prefix, "-config|get")
            async with RedisStore(address, prefix=prefix, sweep_interval=None) as store:
                assert store.durability == "unknown", "CONFIG is forbidden, so nothing is claimed"
        finally:
            admin.execute_command("ACL", "DELUSER", prefix)


async def test_a_full_memory_refuses_writes_and_still_lets_delete() -> None:
    with services.redis(settings=["--maxmemory", "0"]) as full:
        async with opened(full.url) as store:
            await store.put_many([item(f"{i:03}", "word " * 50) for i in range(50)])
            with driver.Redis.from_url(full.url) as admin:
                admin.config_set("maxmemory", "1mb")
                for change in (
                    store.put(item("new")),
                    store.put(item("003", "changed")),
                    store.touch("003"),
                ):
                    with pytest.raises(StorageFull, match="maxmemory"):
                        await change
                found = await store.get("003")
                assert found is not None
                assert found.content == "word " * 50
                assert found.access_count == 0
                assert await store.delete("004")
                assert await store.delete_many(["005", "006"]) == [True, True]
                admin.config_set("maxmemory", "0")
            await store.put(item("new"))
            assert (await store.verify()).ok
            assert await store.count() == 48


async def test_eviction_is_warned_about() -> None:
    with services.redis(settings=["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]) as lossy:
        async with opened(lossy.url) as store:
            health = await store.health()
            assert "noeviction" in health.details["warning"]
            assert health.details["maxmemory_policy"] == "allkeys-lru"


async def test_durability_is_what_the_server_says() -> None:
    with services.redis(durable=True) as durable:
        async with opened(durable.url) as store:
            assert store.durability == "power"
        with driver.Redis.from_url(durable.url) as admin:
            admin.config_set("appendfsync", "everysec")
        async with opened(durable.url) as store:
            assert store.durability == "process"


async def test_a_server_without_room_for_connections_says_so() -> None:
    with services.redis(settings=["--maxclients", "2"]) as small:
        # A started server keeps a few connections for itself; the rest are taken here.
        taken = []
        try:
            with pytest.raises(driver.ConnectionError):
                for _ in range(40):
                    client = driver.Redis.from_url(small.url, single_connection_client=True)
                    taken.append(client)
                    client.ping()
            with pytest.raises(BackendUnavailable):
                await RedisStore(small.url, timeout=2).open()
        finally:
            for client in taken:
                client.close()


async def test_a_read_only_replica_is_named_for_what_it_is() -> None:
    with services.redis() as replica:
        async with opened(replica.url) as store:
            await store.put(item())
            with driver.Redis.from_url(replica.url) as admin:
                admin.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
                admin.config_set("replica-serve-stale-data", "yes")
                with pytest.raises(BackendUnavailable, match="replica"):
                    await store.put(item("b"))
                assert await store.exists("a")


async def test_a_paused_server_costs_no_more_than_the_deadline() -> None:
    with services.redis() as paused:
        async with opened(paused.url, timeout=0.5) as store:
            await store.put(item("a", 1))
            paused.pause()  # type: ignore[attr-defined]
            started = time.monotonic()
            with pytest.raises(UnknownOutcome) as caught:
                await store.put(item("a", 2))
            # No new connection comes about, so what follows is never sent, and that is said.
            for ask in (lambda: store.get("a"), lambda: store.put(item("b")), lambda: store.delete("a")):
                with pytest.raises((DeadlineExceeded, BackendUnavailable)):
                    await ask()
            assert time.monotonic() - started < 4
            paused.resume()  # type: ignore[attr-defined]
            stored = await retried(caught.value)
            assert stored.content == 2
            found = await store.get("a")
            assert found is not None
            assert found.content == 2
            assert (await store.verify()).ok


async def retried(error: UnknownOutcome) -> Any:
    """The outcome, once the server answers again."""
    for _ in range(50):
        try:
            return await error.retry()
        except (BackendUnavailable, DeadlineExceeded):
            await asyncio.sleep(0.05)
    raise AssertionError("the server did not come back")


async def test_more_requests_than_may_wait_are_refused_as_overload() -> None:
    async with opened(server("redis").url, waiting=20, pool=1) as store:
        await store.put(item())
        tasks = [asyncio.ensure_future(store.put(item(f"b{n}"))) for n in range(100)]
        await asyncio.wait(tasks)
        errors = [error for task in tasks if (error := task.exception()) is not None]
        assert errors
        assert {type(error) for error in errors} == {Overloaded}
        assert len(errors) <= 80
        assert await store.exists("a")


async def test_a_restarted_server_is_found_again_by_itself() -> None:
    with services.redis(durable=True) as restarted:
        async with opened(restarted.url, timeout=2) as store:
            before = await store.put(item("before", "marmot"))
            for _ in range(3):
                restarted.kill()  # type: ignore[attr-defined]
                with pytest.raises((BackendUnavailable, UnknownOutcome)):
                    await store.put(item("lost"))
                with pytest.raises(BackendUnavailable):
                    await store.get("before")
                restarted.start()
                started = time.monotonic()
                while True:
                    with contextlib.suppress(BackendUnavailable):
                        if await store.get("before") == before:
                            break
                    await asyncio.sleep(0.02)
                assert time.monotonic() - started < 5
                await store.put(item("after"))
            assert [hit.item.id for hit in await store.search("marmot")] == ["before"]
            assert (await store.verify()).ok


async def test_a_server_that_lost_everything_is_written_to_as_if_it_were_new() -> None:
    with services.redis() as forgetful:
        async with opened(forgetful.url, timeout=2) as store:
            await store.put(item("a", "x", embedding=[1.0, 0.0]))
            forgetful.kill()  # type: ignore[attr-defined]
            forgetful.start()
            assert await store.get("a") is None
            await store.put(item("b", "x", embedding=[0.0, 1.0]))
            assert [one.id for one in await store.list()] == ["b"], "the registry of tags was made anew"
            assert [hit.item.id for hit in await store.search(vector=[1.0, 0.0])] == ["b"]
            assert (await store.verify()).ok


async def test_health_asks_the_server_and_not_its_memory_of_it() -> None:
    with services.redis() as dying:
        async with opened(dying.url, timeout=1) as store:
            health = await store.health()
            assert health.status == "healthy"
            assert health.details["used_memory"] > 0
            dying.kill()  # type: ignore[attr-defined]
            assert (await store.health()).status == "unhealthy"


async def test_in_a_storm_of_cancellations_no_answer_reaches_another_caller() -> None:
    chance = random.Random(11)
    async with opened(server("redis").url, pool=3) as store:
        await store.put_many([item(f"{i:03}", f"{i:03}") for i in range(100)])
        crossed: list[Any] = []

        async def call() -> None:
            id = f"{chance.randrange(100):03}"
            what = chance.randrange(4)
            if what == 0:
                stored = await store.put(item(id, id))
                if stored.id != id:
                    crossed.append(stored)
            elif what == 1:
                found = await store.get_many([id, "nobody", id])
                if [one and one.content for one in found] != [id, None, id]:
                    crossed.append(found)
            elif what == 2:
                hits = [hit.item.id for hit in await store.search(id, limit=1)]
                if hits != [id]:
                    crossed.append(hits)
            else:
                one = await store.get(id)
                if one is None or one.content != id:
                    crossed.append(one)

        for _ in range(40):
            tasks = [asyncio.ensure_future(call()) for _ in range(50)]
            for task in tasks:
                if chance.random() < 0.3:
                    asyncio.get_running_loop().call_later(chance.random() / 50, task.cancel)
            await asyncio.wait(tasks)
            assert not [error for task in tasks if not task.cancelled() and (error := task.exception())]
        assert crossed == []
        node = store.servers.first
        await asyncio.sleep(0.1)
        assert not node._busy
        assert not node._queue
        assert len(node._idle) <= 3
        assert (await store.verify()).ok


@pytest.mark.realtime
@pytest.mark.parametrize("flavour", ["redis", "redis_cluster"])
async def test_an_item_expires_by_the_real_clock(flavour: str) -> None:
    async with opened(server(flavour).url) as store:
        await store.put(item("a", "marmot"), ttl=0.3)
        assert await store.exists("a")
        await asyncio.sleep(0.35)
        assert await store.get("a") is None
        assert await store.count() == 0
        assert len(await store.search("marmot")) == 0
        assert await store.sweep() == 1


async def test_scripts_that_a_server_forgot_are_sent_again() -> None:
    url = server("redis").url
    async with opened(url) as store:
        await store.put(item("a"))
        with driver.Redis.from_url(url) as admin:
            admin.script_flush()
        await store.put(item("b"))
        assert await store.count() == 2


async def test_foreign_data_under_the_prefix_is_said_to_be_foreign() -> None:
    url, prefix = server("redis").url, unique()
    async with RedisStore(url, prefix=prefix, sweep_interval=None) as store:
        with driver.Redis.from_url(url) as admin:
            admin.set(f"{prefix}:{{{b'default'.hex()}}}:r:default\0\0a", "not ours")
        for call in (store.get("a"), store.put(item("a"))):
            with pytest.raises(MemoryStoreError, match="prefix"):
                await call


async def test_a_users_own_client_is_used_for_its_address_and_never_closed() -> None:
    client = AsyncRedis.from_url(server("redis").url, decode_responses=True, max_connections=1)
    async with RedisStore(client=client, prefix=unique(), sweep_interval=None) as store:
        async with asyncio.TaskGroup() as group:
            for i in range(50):
                group.create_task(store.put(item(f"{i}", "é", embedding=[1.0])))
        assert await store.count() == 50
    assert await client.ping()
    await client.aclose()


async def test_a_users_own_client_of_a_cluster_will_do_too() -> None:
    client = AsyncRedisCluster.from_url(server("redis_cluster").url.replace("redis+cluster://", "redis://"))
    async with RedisStore(client=client, prefix=unique(), sweep_interval=None) as store:
        await store.put_many([item(f"{i}", namespace=(f"n{i}",)) for i in range(20)])
        assert await store.count() == 20
        assert (await store.health()).details["nodes"] == 3
    await client.aclose()


@pytest.mark.parametrize("client", [object(), driver.Redis()])
def test_a_client_of_another_kind_is_refused(client: Any) -> None:
    with pytest.raises(InvalidSetting, match="client"):
        RedisStore(client=client)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://host", "redis://"),
        ("redis://host/name", "number of its database"),
        ("redis+cluster://host/1", "a cluster has none"),
        ("redis://host?ssl_ca_certs=x", "no option"),
        ("rediss://host?password=x", "no option"),
        ("redis://host:port", "malformed"),
    ],
)
def test_a_wrong_address_is_refused(url: str, said: str) -> None:
    with pytest.raises(InvalidSetting, match=said):
        RedisStore(url)


@pytest.mark.parametrize("prefix", ["", "a{b}", "a b", "é", "x" * 129])
def test_a_prefix_that_would_change_slots_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidSetting, match="prefix"):
        RedisStore(prefix=prefix)


async def test_a_single_server_said_to_be_a_cluster_is_told_apart() -> None:
    with pytest.raises(BackendUnavailable, match="no cluster"):
        await RedisStore(server("redis").url.replace("redis://", "redis+cluster://")).open()


async def test_a_call_that_finds_nothing_under_way_leaves_at_once_and_others_together() -> None:
    async with RedisStore(server("redis").url, prefix=unique(), sweep_interval=None, pool=3) as store:
        node = store.servers.first
        for _ in range(3):
            await store.get("a")
            # In the same turn in which the answer came.
            first, *others = [node.send((b"ECHO", b"%d" % number)) for number in range(4)]
            assert [request.sent for request in (first, *others)] == [True, False, False, False]
            assert [await request.answer for request in (first, *others)] == [b"0", b"1", b"2", b"3"]
            assert node.in_use <= 2
        assert len(node._idle) <= 2


async def test_a_call_whose_task_never_began_leaves_no_connection_with_its_answer() -> None:
    async with RedisStore(server("redis").url, prefix=unique(), sweep_interval=None, timeout=0.3) as store:
        await store.put(item())
        node = store.servers.first
        while node._busy:
            await asyncio.sleep(0)
        request = node.send((b"ECHO", b"not yours"))
        (task,) = node._busy
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0)
        assert (node._busy, node._idle) == (set(), [])
        found = await store.get("a")
        assert found is not None
        assert found.content == "text"
        with pytest.raises(LostError):
            await request.answer


async def test_a_loop_that_says_at_the_write_that_a_connection_is_gone_costs_the_caller_nothing() -> None:
    class Gone:
        """A writer as other loops than asyncio's have it for a connection that broke in this very turn."""

        def write(self, data: bytes) -> None:
            raise RuntimeError("unable to perform operation on <TCPTransport closed=True>")

        def __getattr__(self, name: str) -> Any:
            return getattr(writer, name)

    async with opened(server("redis").url) as store:
        await store.put(item())
        node = store.servers.first
        connection = node._idle[-1]
        writer, connection._writer = connection._writer, Gone()
        found = await store.get("a")
        assert found is not None
        assert found.content == "text"
        assert writer.is_closing()
        assert connection not in node._idle
