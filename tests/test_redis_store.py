"""Redis: what lies in the server, that its indexes say what its records say, and what is mended."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis as driver
from redis.crc import key_slot
from servers import server

from memory import MemoryManager
from memory.backends.redis import RedisStore, spaces
from memory.clock import ManualClock
from memory.errors import (
    BackendUnavailable,
    EmbeddingMismatch,
    InvalidSetting,
    UnknownOutcome,
)
from memory.keys import encode_key
from memory.model import MemoryItem
from memory.ops import Attach, Space
from memory.testing.contract import Tap
from memory.testing.embedder import WordEmbedder


def item(id: str = "a", content: Any = "text", **fields: Any) -> MemoryItem:
    return MemoryItem(id=id, content=content, **fields)


def unique() -> str:
    return "s" + os.urandom(8).hex()


@pytest.fixture
def admin() -> Any:
    with driver.Redis.from_url(server("redis").url) as client:
        yield client


@pytest.fixture
async def store() -> AsyncIterator[RedisStore]:
    one = RedisStore(server("redis").url, prefix=unique(), feed=True, sweep_interval=None)
    async with one:
        yield one


async def fill(store: RedisStore) -> None:
    await store.put_many(
        [
            item(
                f"{i:02}",
                f"marmot number {i} é",
                namespace=("team", f"x{i % 3}"),
                tags=("alps", f"t{i % 4}"),
                user_id=f"u{i % 2}",
                session_id="s" if i % 5 else None,
                metadata={"score": i},
                embedding=[float(i), 1.0],
            )
            for i in range(30)
        ],
        ttl=1_000,
    )
    await store.put(item("other", "fox", namespace=("other",)))
    await store.touch("00", namespace=("team", "x0"), expires_at=None)
    await store.delete("01", namespace=("team", "x1"))


def names(admin: Any, store: RedisStore) -> list[bytes]:
    return sorted(admin.scan_iter(store.names.prefix + b"*", count=1_000))


async def test_all_keys_of_a_first_segment_share_a_slot_and_nothing_lies_outside_the_prefix(
    store: RedisStore, admin: Any
) -> None:
    before = set(admin.scan_iter("*", count=1_000))
    await fill(store)
    assert {
        name.startswith(store.names.prefix + b":{") for name in set(admin.scan_iter("*", count=1_000)) - before
    } == {True}
    slots: dict[bytes, set[int]] = {}
    for name in names(admin, store):
        slots.setdefault(name.partition(b"{")[2].partition(b"}")[0], set()).add(key_slot(name))
    assert set(slots) == {b"store", b"team".hex().encode(), b"other".hex().encode()}
    assert all(len(found) == 1 for found in slots.values())


async def test_no_key_expires_by_itself(admin: Any) -> None:
    async with RedisStore(server("redis").url, prefix=unique(), sweep_interval=None) as store:
        await store.put(item("a"), ttl=1_000)
        await store.put(item("b"))
        await store.delete("b")
        assert {admin.ttl(name) for name in names(admin, store)} == {-1}


async def test_nothing_is_left_of_what_was_deleted_but_its_tombstone(admin: Any) -> None:
    clock = ManualClock()
    async with RedisStore(server("redis").url, prefix=unique(), sweep_interval=None, clock=clock) as store:
        await fill(store)
        await store.delete_where(None, under=())
        tag = b"team".hex().encode()
        assert admin.zcard(store.names.terms(tag)) == admin.zcard(store.names.keys(tag)) == 0
        assert {entry[:1] for entry in admin.zrange(store.names.index(tag), 0, -1)} == {b"z"}
        clock.advance(86_401)
        await store.sweep()
        assert not [name for name in names(admin, store) if b"}:r:" in name]
        assert admin.zcard(store.names.index(tag)) == 0
        assert (await store.verify()).ok


async def problems(store: RedisStore) -> list[str]:
    return sorted(problem.what for problem in (await store.verify()).problems)


async def test_verify_finds_every_kind_of_damage_and_repair_mends_it(store: RedisStore, admin: Any) -> None:
    await fill(store)
    expected = await store.get("05", namespace=("team", "x2"))
    assert await problems(store) == []
    tag = b"team".hex().encode()
    key = encode_key((("team", "x2"), "05"))
    index, terms, record = store.names.index(tag), store.names.terms(tag), store.names.record(tag, key)
    entry = next(entry for entry in admin.zrange(index, 0, -1) if entry.endswith(key) and entry[:1] == b"l")
    posting = next(entry for entry in admin.zrange(terms, 0, -1) if key in entry and entry.startswith(b"marmot"))
    damages: list[tuple[Any, str]] = [
        (lambda: admin.zrem(index, entry), "an index lacks a record"),
        (lambda: admin.zrem(terms, posting), "an index lacks a record"),
        (lambda: admin.zadd(index, {b"kfoo\0" + key: 0}), "index entries without a record"),
        (lambda: admin.zadd(terms, {posting.replace(b"marmot", b"weasel"): 0}), "index entries without a record"),
        (lambda: admin.zadd(terms, {b"nonsense": 0}), "index entries without a record"),
        (lambda: admin.hset(record, "e", b"knote"), "what is to be indexed differs from the record"),
    ]
    for damage, said in damages:
        damage()
        assert said in await problems(store), said
        report = await store.repair()
        assert report.quarantined == []
        assert await problems(store) == []
        assert await store.get("05", namespace=("team", "x2")) == expected
    assert admin.zrem(store.names.keys(tag), key) == 1
    await store.repair()
    assert await problems(store) == []
    assert await store.count() == 30


async def test_a_damaged_record_is_never_returned_and_set_aside_by_repair(store: RedisStore, admin: Any) -> None:
    await fill(store)
    tag = b"team".hex().encode()
    for number, (id, field) in enumerate((("02", "b"), ("03", "h"), ("04", "v0001"))):
        namespace = ("team", f"x{int(id) % 3}")
        record = store.names.record(tag, encode_key((namespace, id)))
        raw = admin.hget(record, field)
        admin.hset(record, field, raw[:5] + bytes([raw[5] ^ 1]) + raw[6:])
        with pytest.raises(Exception, match="verify"):
            await store.get(id, namespace=namespace)
        assert "damaged record" in await problems(store)
        report = await store.repair()
        assert len(report.quarantined) == 1
        assert id in report.quarantined[0]
        assert await problems(store) == []
        assert await store.get(id, namespace=namespace) is None
        assert len([name for name in names(admin, store) if b":damaged:" in name]) == number + 1
    assert await store.count() == 27


async def test_a_lost_registry_is_made_anew_by_repair(store: RedisStore, admin: Any) -> None:
    await fill(store)
    admin.delete(store.names.tags)
    await store.repair()
    assert await store.namespaces() == [("other",), ("team", "x0"), ("team", "x1"), ("team", "x2")]


async def test_a_field_declared_later_is_indexed_for_all_records_and_all_writers(admin: Any) -> None:
    url, prefix = server("redis").url, unique()
    async with RedisStore(url, prefix=prefix, sweep_interval=None) as old:
        await fill(old)
        async with RedisStore(url, prefix=prefix, sweep_interval=None, index=["metadata.score"]) as new:
            path = ("metadata", "score")
            assert new.leads == {path: 1}
            await old.put(item("late", metadata={"score": 7}))
            assert old.fields == {path: 1}, "the script refused who did not know the field"
            assert [one.id for one in await new.list({"metadata.score": 7})] == ["late", "07"]
            assert [one.id for one in await new.list({"metadata.score": 7.0})] == ["late", "07"]
            assert await new.list({"metadata.score": True}) is not None
            assert (await new.verify()).ok
        async with RedisStore(url, prefix=prefix, sweep_interval=None) as again:
            assert again.leads == {path: 1}


async def test_a_newer_layout_and_another_analyser_are_refused(store: RedisStore, admin: Any) -> None:
    url, prefix = server("redis").url, store.names.prefix.decode()
    with pytest.raises(InvalidSetting, match="analyser"):
        await RedisStore(url, prefix=prefix, language="german").open()
    admin.hset(store.names.format, "layout", 2)
    with pytest.raises(BackendUnavailable, match="Upgrade"):
        await RedisStore(url, prefix=prefix).open()


async def test_two_prefixes_are_two_stores(store: RedisStore) -> None:
    async with RedisStore(server("redis").url, prefix=unique(), sweep_interval=None) as other:
        await store.put(item("a", "marmot"))
        assert await other.get("a") is None
        assert await other.count() == 0
        assert len(await other.search("marmot")) == 0


async def test_an_unknown_outcome_is_decided_by_the_versions_of_its_own_tag(store: RedisStore, admin: Any) -> None:
    """A tag whose versions run ahead must not make a later write in another look older than it is."""
    ahead, behind = ("ahead",), ("behind",)
    await store.put(item("a", namespace=ahead))
    admin.hset(store.names.state(b"ahead".hex().encode()), "mark", 2**52)
    assert (await store.put(item("a", namespace=ahead))).version > 2**52
    tap = Tap()
    async with RedisStore(
        server("redis").url, prefix=store.names.prefix.decode(), sweep_interval=None, layers=(tap,)
    ) as lossy:
        await lossy.put(item("a", namespace=ahead))
        tap.requests = 1
        with pytest.raises(UnknownOutcome) as caught:
            await lossy.put(item("b", "unknown", namespace=behind))
        later = await store.put(item("b", "later", namespace=behind))
        with pytest.raises(UnknownOutcome):
            await caught.value.retry()
        assert await store.get("b", namespace=behind) == later


@pytest.mark.parametrize("flavour", ["redis", "redis_cluster"])
@pytest.mark.parametrize("committed", [False, True])
async def test_a_change_of_embedder_whose_process_died_is_ended_by_who_waits(
    flavour: str, committed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spaces, "PATIENCE", 0.2)
    url, prefix = server(flavour).url, unique()
    old, new = Space(None, 2), Space("new", 3)
    async with RedisStore(url, prefix=prefix, sweep_interval=None) as dying:
        stored = [await dying.put(item("a", namespace=(f"n{i}",), embedding=[1.0, float(i)])) for i in range(6)]
        await dying._attach(new, [Attach(key=one.key, version=one.version, embedding=b"\0" * 12) for one in stored])
        finish = dying.spaces._run
        calls: list[Any] = []

        async def die(script: Any, *arguments: Any) -> Any:
            if script is spaces.FINISH:
                calls.append(arguments)
                if committed and len(calls) == 1:
                    await finish(script, *arguments)
                raise asyncio.CancelledError
            return await finish(script, *arguments)

        monkeypatch.setattr(dying.spaces, "_run", die)
        with pytest.raises(asyncio.CancelledError):
            await dying._switch(new, 0)
        async with RedisStore(url, prefix=prefix, sweep_interval=None) as other:
            async with asyncio.timeout(20):
                if committed:
                    with pytest.raises(EmbeddingMismatch):
                        await other.put(item("b", namespace=("n0",), embedding=[1.0, 0.0]))
                    await other.put(item("b", namespace=("n1",), embedding=[1.0, 0.0, 0.0]))
                    assert other._space == new
                    found = await other.get("a", namespace=("n5",))
                    assert found is not None
                    assert found.embedding.tolist() == [0.0, 0.0, 0.0]
                else:
                    await other.put(item("b", namespace=("n1",), embedding=[1.0, 0.0]))
                    assert other._space == old
                    found = await other.get("a", namespace=("n5",))
                    assert found is not None
                    assert found.embedding.tolist() == [1.0, 5.0]
                    assert len(await other.search(vector=[1.0, 5.0])) == 7
                assert (await other.verify()).ok


async def test_writers_beside_a_change_of_embedder_lose_nothing_on_a_cluster() -> None:
    url, prefix = server("redis_cluster").url, unique()
    old, new = WordEmbedder("old", 4), WordEmbedder("new", 6)
    async with RedisStore(url, prefix=prefix, sweep_interval=None, embedder=old) as store:
        await store.put_many([item(f"{i}", f"word {i}", namespace=(f"n{i % 7}",)) for i in range(60)])
        kept: dict[str, str] = {}
        over = asyncio.Event()

        async def write(number: int) -> None:
            turn = 0
            while not over.is_set() and turn < 200:
                turn += 1
                id = f"w{number}-{turn}"
                try:
                    await store.put(item(id, f"fresh {id}", namespace=(f"n{turn % 9}",)))
                except EmbeddingMismatch:
                    return
                kept[id] = f"fresh {id}"
                await asyncio.sleep(0.002)

        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(write(number))
            report = await store.reembed(new, batch=16)
            over.set()
        assert report.switched
        everything = [one async for batch in store.stream() for one in batch]
        assert {one.id: one.content for one in everything if one.id.startswith("w")} == kept
        assert all(one.embedding is not None and len(one.embedding) == 6 for one in everything)
        assert (await store.verify()).ok


async def test_pages_go_from_tag_to_tag_in_every_order() -> None:
    clock = ManualClock()
    for flavour in ("redis", "redis_cluster"):
        async with RedisStore(server(flavour).url, prefix=unique(), sweep_interval=None, clock=clock) as store:
            for i in range(40):
                clock.advance(i % 3)
                await store.put(item(f"{i:02}", namespace=(f"n{i * 7 % 11}", "x"), importance=(i % 5) / 4))
            everything = [one async for batch in store.stream(batch_size=7) for one in batch]
            assert [one.key for one in everything] == sorted(one.key for one in everything)
            for order, value in (("created_at", "created_at"), ("importance", "importance")):
                for sign in ("", "-"):
                    found: list[Any] = []
                    cursor = None
                    while True:
                        page = await store.list(order=sign + order, limit=6, cursor=cursor)
                        found += page.items
                        cursor = page.cursor
                        if cursor is None:
                            break
                    ranked = sorted(everything, key=lambda one: one.key)
                    ranked.sort(key=lambda one: getattr(one, value), reverse=sign == "-")
                    assert [one.key for one in found] == [one.key for one in ranked]


async def test_a_feed_of_a_cluster_is_one_sequence_that_loses_nothing() -> None:
    url, prefix = server("redis_cluster").url, unique()
    async with (
        RedisStore(url, prefix=prefix, sweep_interval=None, feed=True) as one,
        RedisStore(url, prefix=prefix, sweep_interval=None, feed=True) as other,
    ):
        await one.put(item("first", namespace=("n0",)))
        seen: list[str] = []
        token: str | None = None

        async def follow() -> None:
            nonlocal token
            async for change in other.watch(timeout=1):
                seen.append(change.key[1])
                token = change.token

        async with asyncio.TaskGroup() as group:
            group.create_task(follow())
            await asyncio.sleep(0.2)
            for i in range(120):
                await (one if i % 2 else other).put(item(f"{i}", namespace=(f"n{i % 13}",)))
        assert sorted(seen) == sorted(str(i) for i in range(120)), "each once"
        for number in range(13):
            mine = [int(id) for id in seen if int(id) % 13 == number]
            assert mine == sorted(mine), "those of a tag in their order"
        assert token is not None
        assert [change async for change in one.watch(resume=token, timeout=0)] == []


@pytest.mark.parametrize("told", ["address", "settings"])
async def test_the_manager_opens_it_by_address_or_by_settings(
    told: str, empty: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, prefix = server("redis").url, unique()
    if told == "address":
        monkeypatch.setenv("MEMORY_BACKEND_TYPE", f"{url}?prefix={prefix}&pool=2&timeout=3")
    else:
        monkeypatch.setenv("MEMORY_BACKEND_TYPE", "redis")
        monkeypatch.setenv("MEMORY_REDIS_URL", url)
        monkeypatch.setenv("MEMORY_REDIS_PREFIX", prefix)
    async with MemoryManager() as manager:
        assert isinstance(manager.store, RedisStore)
        assert manager.store.names.prefix == prefix.encode()
        await manager.add("the marmot whistles")
        assert [hit.item.content for hit in await manager.search("marmot")] == ["the marmot whistles"]
