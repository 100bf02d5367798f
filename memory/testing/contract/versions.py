"""Sentences about versions: compare-and-set, and that a version never comes back."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import asyncio

import pytest

from memory.clock import ManualClock, from_micros
from memory.errors import AlreadyExists, MemoryStoreError, NotFound, VersionConflict
from memory.store import MemoryStore
from memory.testing.contract.suite import Make, Suite, agrees, item, needs


class Versions(Suite):
    """Compare-and-set."""

    async def test_put_succeeds_at_the_expected_version(self, store: MemoryStore) -> None:
        first = await store.put(item(content=1))
        second = await store.put(item(content=2), if_version=first.version)
        assert await store.get("a") == second

    async def test_put_is_refused_at_another_version(self, store: MemoryStore) -> None:
        first = await store.put(item(content=1))
        second = await store.put(item(content=2))
        with pytest.raises(VersionConflict) as caught:
            await store.put(item(content=3), if_version=first.version)
        assert (caught.value.key, caught.value.expected) == ((("default",), "a"), first.version)
        assert caught.value.actual == second.version
        assert await store.get("a") == second

    async def test_put_with_a_version_creates_nothing(self, store: MemoryStore) -> None:
        with pytest.raises(VersionConflict) as caught:
            await store.put(item(), if_version=1)
        assert caught.value.actual is None
        assert await store.get("a") is None

    async def test_delete_touch_and_update_check_the_version(self, store: MemoryStore) -> None:
        first = await store.put(item(content=1))
        second = await store.put(item(content=2))
        for change in (store.delete, store.touch):
            with pytest.raises(VersionConflict) as caught:
                await change("a", if_version=first.version)
            assert caught.value.actual == second.version
        with pytest.raises(VersionConflict):
            await store.update("a", content=9, if_version=first.version)
        assert await store.get("a") == second
        third = await store.update("a", content=3, if_version=second.version)
        assert third.content == 3
        assert await store.touch("a", if_version=third.version)
        with pytest.raises(VersionConflict):
            await store.delete("a", if_version=third.version)
        fourth = await store.get("a")
        assert fourth is not None
        assert await store.delete("a", if_version=fourth.version)

    async def test_a_version_never_comes_back_after_delete_and_recreation(self, store: MemoryStore) -> None:
        seen = [(await store.put(item(content="old"))).version]
        for i in range(5):
            await store.delete("a")
            again = await store.put(item(content=i))
            assert again.version > seen[-1]
            with pytest.raises(VersionConflict):
                await store.put(item(content="stale"), if_version=seen[0])
            assert await store.get("a") == again
            seen.append(again.version)

    async def test_a_version_never_comes_back_after_expiry(self, store: MemoryStore, clock: ManualClock) -> None:
        first = await store.put(item(), ttl=1)
        clock.advance(1)
        second = await store.put(item())
        assert second.version > first.version
        with pytest.raises(VersionConflict):
            await store.delete("a", if_version=first.version)

    async def test_versions_rise_though_the_clock_goes_back(self, store: MemoryStore, clock: ManualClock) -> None:
        first = await store.put(item())
        clock.advance(-3600)
        second = await store.put(item())
        await store.delete("a")
        clock.advance(-3600)
        third = await store.put(item())
        assert first.version < second.version < third.version

    async def test_a_touch_is_a_write_with_a_new_version(self, store: MemoryStore, clock: ManualClock) -> None:
        first = await store.put(item())
        clock.advance(1)
        assert await store.touch("a") is True
        second = await store.get("a")
        assert second is not None
        assert second.version > first.version
        assert second.updated_at == first.updated_at, "touch leaves updated_at"
        assert (second.accessed_at, second.access_count) == (from_micros(clock()), 1)

    async def test_reads_never_write(self, store: MemoryStore, clock: ManualClock) -> None:
        first = await store.put(item(content="word"))
        clock.advance(1)
        await store.get_many(["a"])
        await store.list()
        await store.search("word")
        await store.exists("a")
        assert await store.get("a") == first

    async def test_touch_says_whether_it_was_there(self, store: MemoryStore) -> None:
        assert await store.touch("a") is False
        await store.put(item())
        assert await store.touch("a") is True

    async def test_no_increment_is_lost_among_64_writers(self, store: MemoryStore) -> None:
        await store.put(item(content=0))

        async def increment() -> None:
            while True:
                found = await store.get("a")
                assert found is not None
                try:
                    await store.put(item(content=found.content + 1), if_version=found.version)
                except VersionConflict:
                    continue
                return

        async with asyncio.TaskGroup() as group:
            for _ in range(64):
                group.create_task(increment())
        found = await store.get("a")
        assert found is not None
        assert found.content == 64

    async def test_no_update_is_lost_among_64_writers(self, store: MemoryStore) -> None:
        await store.put(item(content={}))
        async with asyncio.TaskGroup() as group:
            for i in range(64):
                group.create_task(store.update("a", content={str(i): i}, metadata={str(i): i}))
        found = await store.get("a")
        assert found is not None
        assert found.content == found.metadata == {str(i): i for i in range(64)}

    async def test_no_touch_is_lost_among_64_callers(self, store: MemoryStore) -> None:
        await store.put(item())
        async with asyncio.TaskGroup() as group:
            for _ in range(64):
                group.create_task(store.touch("a"))
        found = await store.get("a")
        assert found is not None
        assert found.access_count == 64

    async def test_one_of_many_adders_wins(self, store: MemoryStore) -> None:
        async def add(i: int) -> int | None:
            try:
                return int((await store.add(item(content=i))).content)
            except AlreadyExists:
                return None

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(add(i)) for i in range(32)]
        winners = [task.result() for task in tasks if task.result() is not None]
        found = await store.get("a")
        assert found is not None
        assert winners == [found.content]

    async def test_one_of_many_deleters_is_told_it_was_there(self, store: MemoryStore) -> None:
        await store.put(item())
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(store.delete("a")) for _ in range(16)]
        assert sum(task.result() for task in tasks) == 1

    async def test_concurrent_writers_see_rising_versions(self, store: MemoryStore) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(store.put(item(content=i))) for i in range(40)]
        stored = sorted((task.result() for task in tasks), key=lambda one: one.version)
        assert len({one.version for one in stored}) == 40
        assert await store.get("a") == stored[-1]

    async def test_an_update_of_an_item_deleted_meanwhile_is_not_found(self, store: MemoryStore) -> None:
        await store.put(item(content={}))

        async def attempt(i: int) -> bool:
            try:
                await store.update("a", content={str(i): 1})
            except NotFound:
                return False
            return True

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(attempt(i)) for i in range(8)]
            group.create_task(store.delete("a"))
        assert await store.get("a") is None
        assert all(task.done() for task in tasks)

    async def test_versions_rise_across_close_and_open(self, make: Make) -> None:
        store = await make().open()
        needs(store, "persistent")
        first = await store.put(item())
        await store.put(item("b"))
        await store.delete("a")
        await store.delete("b")
        await store.close()
        store = await make().open()
        again = await store.put(item())
        assert again.version > first.version
        with pytest.raises(VersionConflict):
            await store.put(item(), if_version=first.version)

    async def test_two_stores_on_the_same_data_lose_no_increment(self, make: Make) -> None:
        one = await make().open()
        needs(one, "shared")
        other = await make().open()
        first = await one.put(item(content=0))
        assert await other.get("a") == first

        async def increment(store: MemoryStore) -> None:
            done = False
            while not done:
                found = await store.get("a")
                assert found is not None
                try:
                    await store.put(item(content=found.content + 1), if_version=found.version)
                    done = True
                except VersionConflict:
                    pass

        async with asyncio.TaskGroup() as group:
            for i in range(16):
                group.create_task(increment(one if i % 2 else other))

        async def counted() -> bool:
            found = await one.get("a")
            return found is not None and found.content == 16

        await agrees(one, counted)

    async def test_every_error_belongs_to_one_tree(self, store: MemoryStore) -> None:
        await store.put(item())
        with pytest.raises(MemoryStoreError):
            await store.add(item())
        with pytest.raises(MemoryStoreError):
            await store.put(item(), if_version=99)
        with pytest.raises(MemoryStoreError):
            await store.update("none", metadata={})
