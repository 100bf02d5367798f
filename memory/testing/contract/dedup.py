"""Sentences about dedup by content."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from memory.errors import AlreadyExists, InvalidItem
from memory.store import MemoryStore
from memory.testing.contract.suite import Suite, home, ids, item


class Dedup(Suite):
    """``dedup="content"``."""

    async def test_a_live_item_of_equal_content_is_returned_instead(self, store: MemoryStore) -> None:
        first = await store.put(item("a", {"fact": [1, 2]}, metadata={"m": 1}), dedup="content")
        again = await store.put(item("b", {"fact": [1, 2]}, metadata={"m": 2}, tags=("t",)), dedup="content")
        assert again == first
        assert await ids(store) == ["a"]
        assert await store.get("a") == first, "nothing was written"

    async def test_an_item_put_without_dedup_is_found_too(self, store: MemoryStore) -> None:
        first = await store.put(item("a", "same"))
        assert await store.put(item("b", "same"), dedup="content") == first

    async def test_equality_of_content_is_that_of_json(self, store: MemoryStore) -> None:
        for number, (one, other) in enumerate(
            [(1, 1.0), ({"a": 1, "b": 2}, {"b": 2.0, "a": 1}), ([0.0], [-0.0]), (1e18, 10**18), ([[1.0]], [[1]])]
        ):
            session = f"equal{number}"
            await store.put(item(f"{number}a", one, session_id=session))
            found = await store.put(item(f"{number}b", other, session_id=session), dedup="content")
            assert found.id == f"{number}a", (one, other)

    async def test_what_is_not_equal_is_kept_apart(self, store: MemoryStore) -> None:
        pairs: list[tuple[Any, Any]] = [
            (True, 1), (False, 0), (None, "null"), ("1", 1), ([1, 2], [2, 1]), ({"a": 1}, {"a": 1, "b": None}), ("é", "e\u0301"),
            (2**53, 2**53 + 1), ([], {}), ("", None), ("a", "A"), ("a", "a "), ([[1], 2], [1, [2]]), ("a\0", "a"), (float(2**53), 2**53 + 1),
        ]  # fmt: skip
        for number, (one, other) in enumerate(pairs):
            session = f"apart{number}"
            await store.put(item(f"{number}a", one, session_id=session))
            found = await store.put(item(f"{number}b", other, session_id=session), dedup="content")
            assert found.id == f"{number}b", (one, other)

    async def test_dedup_looks_only_at_its_own_owner_kind_and_namespace(self, store: MemoryStore) -> None:
        base: dict[str, Any] = {"namespace": home(store, "x"), "kind": "fact", "user_id": "ann", "session_id": "s"}
        await store.put(item("base", "same", **base))
        others: list[dict[str, Any]] = [
            {"kind": "note"}, {"user_id": "bob"}, {"user_id": None},
            {"session_id": "t"}, {"session_id": None}, {"user_id": "s", "session_id": "ann"},
        ]  # fmt: skip
        if home(store, "y") == ("y",):
            others += [{"namespace": ("x", "y")}, {"namespace": ("y",)}]
        for number, other in enumerate(others):
            found = await store.put(item(str(number), "same", **{**base, **other}), dedup="content")
            assert found.id == str(number), other
        assert (await store.put(item("last", "same", **base), dedup="content")).id == "base"

    async def test_text_metadata_and_importance_do_not_matter(self, store: MemoryStore) -> None:
        await store.put(item("a", "same", text="x", importance=0.1, tags=("t",)))
        again = await store.put(item("b", "same", text="y", importance=0.9, metadata={"m": 1}), dedup="content")
        assert again.id == "a"

    async def test_dedup_works_within_a_batch(self, store: MemoryStore) -> None:
        stored = await store.put_many([item("a", "x"), item("b", "y"), item("c", "x"), item("d", "y")], dedup="content")
        assert [one.id for one in stored] == ["a", "b", "a", "b"]
        assert await ids(store) == ["a", "b"]

    async def test_a_batch_is_deduplicated_in_order(self, store: MemoryStore) -> None:
        async def dealt(*pairs: tuple[str, str]) -> list[tuple[str, Any]]:
            stored = await store.put_many([item(id, content) for id, content in pairs], dedup="content")
            told = [(one.id, one.content) for one in stored]
            vectors = [None if one.embedding is None else one.embedding.tolist() for one in stored]
            assert vectors == [[1.0, 2.0] if one == ("t", "x") else None for one in told]
            return told

        await store.put(item("t", "x", embedding=[1.0, 2.0]))
        # The second finds t, which the third changes; so the first keeps what it wrote.
        assert await dealt(("a", "1"), ("a", "x"), ("t", "2")) == [("a", "1"), ("t", "x"), ("t", "2")]
        assert [one and one.content for one in await store.get_many(["a", "t"])] == ["1", "2"]
        # What was a twin before the batch and is none by its turn; one that comes to be within it; one that comes too late.
        dealing = [("t", "3"), ("b", "2"), ("c", "3"), ("a", "4"), ("a", "1"), ("d", "1"), ("b", "5"), ("e", "2")]
        assert await dealt(*dealing) == [*dealing[:2], ("t", "3"), *dealing[3:5], ("a", "1"), *dealing[6:]]
        held = await store.get_many(["a", "b", "c", "d", "e", "t"])
        assert [one and one.content for one in held] == ["1", "5", None, None, "2", "3"]

    async def test_a_deleted_or_changed_item_is_no_duplicate(self, store: MemoryStore) -> None:
        await store.put(item("a", "x"))
        await store.delete("a")
        assert (await store.put(item("b", "x"), dedup="content")).id == "b"
        await store.update("b", content="y")
        assert (await store.put(item("c", "x"), dedup="content")).id == "c"
        assert (await store.put(item("d", "y"), dedup="content")).id == "b"

    async def test_another_live_twin_is_found_when_one_is_gone(self, store: MemoryStore) -> None:
        for gone in "abc":
            await store.put_many([item(id, "same") for id in "abc"])
            await store.delete(gone)
            kept = await store.put(item("z", "same"), dedup="content")
            assert kept.id == min(set("abc") - {gone}), "of several live twins the one with the smallest key"
            assert not await store.exists("z")

    async def test_dedup_put_on_its_own_key_changes_nothing(self, store: MemoryStore) -> None:
        first = await store.put(item("a", "same"))
        assert await store.put(item("a", "same", metadata={"m": 1}), dedup="content") == first
        second = await store.put(item("a", "other"), dedup="content")
        assert second.content == "other"
        assert await store.get("a") == second

    async def test_add_with_dedup_returns_the_twin_or_refuses_the_key(self, store: MemoryStore) -> None:
        first = await store.add(item("a", "same"), dedup="content")
        assert await store.add(item("b", "same"), dedup="content") == first
        with pytest.raises(AlreadyExists):
            await store.add(item("a", "other"), dedup="content")

    async def test_concurrent_dedup_puts_leave_one_item(self, store: MemoryStore) -> None:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(store.put(item(f"{i:02}", {"same": 1}), dedup="content")) for i in range(32)]
        assert await store.count() == 1
        (kept,) = await ids(store)
        assert {task.result().id for task in tasks} == {kept}

    async def test_an_unknown_kind_of_dedup_is_refused(self, store: Any) -> None:
        for bad in ("Content", "text", True, 1):
            with pytest.raises(InvalidItem):
                await store.put(item(), dedup=bad)
        assert await store.count() == 0
