"""Sentences about order, paging and cursors."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from memory.clock import ManualClock
from memory.errors import InvalidCursor
from memory.model import key_order
from memory.store import MemoryStore
from memory.testing.contract.suite import Make, Suite, home, ids, item, needs, walk

START = datetime(2026, 1, 1, tzinfo=UTC)
IDS = ["a", "B", "b", "é", "e\u0301", "z", "\uffee", "\U0001f600", "10", "9", "a b", "a\x01", "aa", "_", "~"]


async def plant(store: MemoryStore, clock: ManualClock) -> None:
    """Nine items whose times and importance disagree with their ids, with ties."""
    for i, id in enumerate("gacbfdehi"):
        await store.put(item(id, importance=(i % 3) / 2, created_at=START + timedelta(days=i // 2)))
        clock.advance(1)
    for id in "hab":
        await store.touch(id)
        clock.advance(1)
    await store.put(item("c", "again", importance=1.0))


class Ordering(Suite):
    """Order, paging, cursors."""

    async def test_the_default_order_is_by_the_bytes_of_the_key(self, store: MemoryStore) -> None:
        await store.put_many([item(id) for id in IDS])
        assert await ids(store) == sorted(IDS, key=str.encode)

    async def test_namespaces_order_segment_by_segment(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        paths = [
            ("a",),
            ("a", "b"),
            ("a", "b", "c"),
            ("a\x01",),
            ("a!",),
            ("ab",),
            ("B",),
            ("é",),
            ("a", "\x01"),
            ("a", "é"),
        ]
        await store.put_many([item(id, namespace=path) for path in paths for id in ("y", "\x01", "z")])
        found = [one.key for one in await walk(store, limit=4)]
        assert found == sorted(found, key=key_order)
        assert len(found) == 30
        assert [path for path, id in found if id == "y"] == sorted(paths, key=lambda p: tuple(s.encode() for s in p))

    async def test_key_order_descends_too(self, store: MemoryStore) -> None:
        await store.put_many([item(id) for id in IDS])
        await store.put_many([item(id, namespace=home(store, "a", "b")) for id in IDS[:5]])
        up = [one.key for one in await walk(store, limit=4)]
        assert [one.key for one in await walk(store, limit=4, order="-key")] == up[::-1]

    async def test_every_order_sorts_by_its_field_with_ties_by_key(
        self, store: MemoryStore, clock: ManualClock
    ) -> None:
        await plant(store, clock)
        items = await walk(store)
        for field in ("created_at", "updated_at", "accessed_at", "importance"):
            up = sorted(items, key=lambda one: (getattr(one, field), key_order(one.key)))
            down = sorted(up, key=lambda one: getattr(one, field), reverse=True)
            for limit in (1, 2, 4, 100):
                assert await walk(store, order=field, limit=limit) == up, (field, limit)
                assert await walk(store, order=f"-{field}", limit=limit) == down, (field, limit)

    async def test_ties_go_by_key_also_when_descending(self, store: MemoryStore) -> None:
        await store.put_many([item(id) for id in ("c", "a", "B", "é", "b")])
        for order in ("importance", "-importance", "created_at", "-created_at", "updated_at", "-accessed_at"):
            assert await ids(store, order=order) == ["B", "a", "b", "c", "é"], order
            assert await ids(store, order=order, limit=2) == ["B", "a", "b", "c", "é"], order

    async def test_an_order_with_a_filter_and_a_namespace_pages_fully(self, store: MemoryStore) -> None:
        x, y = home(store, "x"), home(store, "x", "y")
        await store.put_many(
            [
                item(f"{i:02}", namespace=x if i % 2 else y, importance=(i % 4) / 4, metadata={"n": i % 3})
                for i in range(40)
            ]
        )
        found = await walk(store, {"metadata.n": {"$ne": 1}}, order="-importance", under=x, limit=3)
        assert len(found) == 27
        assert found == sorted(found, key=lambda one: (-one.importance, key_order(one.key)))
        exact = await walk(store, {"metadata.n": {"$ne": 1}}, order="-importance", namespace=x, limit=3)
        assert exact == [one for one in found if one.namespace == x]

    async def test_times_before_the_epoch_sort_too(self, store: MemoryStore) -> None:
        years = [1970, 1969, 1900, 2, 9999]
        await store.put_many([item(str(y), created_at=datetime(y, 6, 1, tzinfo=UTC)) for y in years])
        assert await ids(store, order="created_at", limit=2) == ["2", "1900", "1969", "1970", "9999"]

    async def test_items_of_any_year_are_written_one_after_another_and_found_newest_first(
        self, store: MemoryStore
    ) -> None:
        """Years far from now may share one place in an index of times: each write after the first meets the others there."""
        years = [2090, 1, 9999, 1900, 2082, 1601, 2081, 2026, 2262, 1969, 2009]
        for y in years:
            await store.put(item(f"{y:04}a", "marmot", created_at=datetime(y, 6, 1, tzinfo=UTC)))
        for _ in range(2):  # now new ones, of many years at once; then in place of themselves
            await store.put_many(
                [item(f"{y:04}b", "marmot", created_at=datetime(y, 6, 1, 1, tzinfo=UTC)) for y in years]
            )
        expected = [f"{y:04}{name}" for y in sorted(years) for name in "ab"]
        assert await ids(store, order="created_at", limit=3) == expected
        assert await ids(store, order="-created_at", limit=3) == expected[::-1]
        assert {hit.item.id for hit in await store.search("marmot", limit=100)} == set(expected)

    async def test_paging_by_key_gives_each_item_once_whatever_is_written(
        self, store: MemoryStore, clock: ManualClock
    ) -> None:
        await store.put_many([item(f"{i:03}") for i in range(60)])
        seen: list[str] = []
        cursor, round = None, 0
        while True:
            page = await store.list(limit=7, cursor=cursor)
            seen += [one.id for one in page]
            if page.cursor is None:
                break
            cursor, round = page.cursor, round + 1
            clock.advance(1)
            await store.put(item(f"{round:03}", "changed"))
            await store.touch("059")
            await store.delete(seen[-1])
            await store.put(item("000a"))
        assert seen == sorted(set(seen))
        assert set(seen) >= {f"{i:03}" for i in range(60)}

    async def test_paging_by_creation_gives_each_item_once_whatever_is_written(
        self, store: MemoryStore, clock: ManualClock
    ) -> None:
        for i in range(30):
            await store.put(item(f"{(i * 7) % 30:02}"))
            clock.advance(1 if i % 3 else 0)
        for order in ("created_at", "-created_at"):
            seen: list[str] = []
            cursor = None
            while True:
                page = await store.list(limit=4, cursor=cursor, order=order)
                seen += [one.id for one in page]
                if page.cursor is None:
                    break
                cursor = page.cursor
                clock.advance(1)
                await store.put(item(seen[0], "changed"))
                await store.update("29", metadata={"touched": order})
            assert sorted(seen) == [f"{i:02}" for i in range(30)], order

    async def test_paging_by_a_mutable_field_gives_unchanged_items_once(
        self, store: MemoryStore, clock: ManualClock
    ) -> None:
        for i in range(20):
            await store.put(item(f"{i:02}"))
            clock.advance(1)
        seen: list[str] = []
        cursor = None
        while True:
            page = await store.list(limit=3, cursor=cursor, order="-updated_at")
            seen += [one.id for one in page]
            if page.cursor is None:
                break
            cursor = page.cursor
            clock.advance(1)
            await store.put(item("10", "changed"))
        assert sorted(id for id in seen if id != "10") == [f"{i:02}" for i in range(20) if i != 10]

    async def test_a_cursor_survives_the_deletion_of_the_item_it_points_at(self, store: MemoryStore) -> None:
        await store.put_many([item(id) for id in "abcdef"])
        for order in ("key", "created_at", "-importance"):
            page = await store.list(limit=2, order=order)
            last = page.items[-1]
            await store.delete(last.id)
            rest = await store.list(limit=10, cursor=page.cursor, order=order)
            assert [one.id for one in rest] == [id for id in "abcdef" if id > last.id and await store.exists(id)]
            await store.put(item(last.id))

    async def test_the_last_page_has_no_cursor(self, store: MemoryStore) -> None:
        await store.put_many([item(id) for id in "abcd"])
        assert (await store.list(limit=4)).cursor is None
        page = await store.list(limit=3)
        assert page.cursor is not None
        assert (await store.list(limit=3, cursor=page.cursor)).cursor is None

    async def test_a_cursor_is_bound_to_its_question(self, store: Any) -> None:
        x = home(store, "x")
        await store.put_many([item(id, namespace=x, user_id="ann", metadata={"n": 1}) for id in "abcd"])
        page = await store.list({"metadata.n": 1}, under=x, limit=2)
        assert page.cursor is not None
        for options in (
            {"where": {"metadata.n": 2}, "under": x},
            {"where": None, "under": x},
            {"where": {"metadata.n": 1}},
            {"where": {"metadata.n": 1}, "under": ("y",)},
            {"where": {"metadata.n": 1}, "namespace": x},
            {"where": {"metadata.n": 1}, "under": x, "order": "created_at"},
            {"where": {"metadata.n": 1}, "under": x, "order": "-key"},
        ):
            with pytest.raises(InvalidCursor):
                await store.list(cursor=page.cursor, **options)
        with pytest.raises(InvalidCursor):
            await store.scoped(user_id="ann").list({"metadata.n": 1}, under=x, cursor=page.cursor)
        with pytest.raises(InvalidCursor):
            await store.search("text", cursor=page.cursor)
        assert [one.id for one in await store.list({"metadata.n": 1.0}, under=list(x), cursor=page.cursor)] == [
            "c",
            "d",
        ]

    async def test_a_damaged_cursor_is_refused(self, store: Any) -> None:
        await store.put_many([item(id) for id in "abcd"])
        cursor = (await store.list(limit=2)).cursor
        assert cursor is not None
        for bad in ("", "x", "é", cursor[:-3], cursor[4:], cursor + "AAAA", "....", "null", "W10", 5, b"x"):
            with pytest.raises(InvalidCursor):
                await store.list(cursor=bad)
            with pytest.raises(InvalidCursor):
                await store.search("text", cursor=bad)

    async def test_cursors_survive_a_reopened_store(self, make: Make) -> None:
        store = await make().open()
        needs(store, "persistent")
        await store.put_many([item(id, importance=0.1) for id in "abcdef"])
        pages = {order: await store.list(limit=2, order=order) for order in ("key", "-created_at", "importance")}
        await store.close()
        store = await make().open()
        for order, page in pages.items():
            assert [one.id for one in await store.list(cursor=page.cursor, order=order)] == ["c", "d", "e", "f"]
