"""Sentences about update: merge patches, replacement, and what becomes of the vector."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from memory.clock import ManualClock, from_micros
from memory.errors import InvalidItem, NotFound
from memory.store import MemoryStore
from memory.testing.contract.suite import Suite, ids, item

# The examples of RFC 7396, appendix A: (original, patch, result).
EXAMPLES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


class Updating(Suite):
    """Update."""

    async def test_content_is_merged_as_rfc_7396_says(self, store: MemoryStore) -> None:
        for number, (original, patch, result) in enumerate(EXAMPLES):
            await store.put(item(str(number), original))
            updated = await store.update(str(number), content=patch)
            assert updated.content == result, (original, patch)
            assert await store.get(str(number)) == updated

    async def test_metadata_is_merged_and_null_removes(self, store: MemoryStore) -> None:
        await store.put(item(metadata={"keep": 1, "drop": 2, "deep": {"x": 1, "y": 2}}))
        updated = await store.update("a", metadata={"drop": None, "deep": {"y": None, "z": 3}, "new": []})
        assert updated.metadata == {"keep": 1, "deep": {"x": 1, "z": 3}, "new": []}
        assert await ids(store, {"metadata.drop": {"$exists": True}}) == []

    async def test_other_fields_are_replaced(self, store: MemoryStore, clock: ManualClock) -> None:
        first = await store.put(item(tags=("x", "y"), user_id="ann", text="old", kind="note", importance=0.1))
        await store.touch("a")
        clock.advance(1)
        updated = await store.update(
            "a", tags=("z",), user_id=None, text=None, kind="fact", importance=1, session_id="s"
        )
        assert (updated.tags, updated.user_id, updated.text, updated.kind) == (("z",), None, None, "fact")
        assert (updated.importance, updated.session_id, updated.content) == (1.0, "s", first.content)
        assert (updated.created_at, updated.access_count) == (first.created_at, 1)
        assert updated.updated_at == from_micros(clock())
        assert await store.get("a") == updated

    async def test_what_is_not_named_stays(self, store: MemoryStore) -> None:
        first = await store.put(
            item(content={"a": 1}, tags=("x",), text="t", metadata={"m": 1}, embedding=[1.0, 2.0], user_id="ann")
        )
        updated = await store.update("a", importance=0.9)
        for field in ("content", "tags", "text", "metadata", "user_id", "kind", "created_at"):
            assert getattr(updated, field) == getattr(first, field)
        assert np.array_equal(updated.embedding, first.embedding)

    async def test_an_update_that_changes_nothing_is_a_write(self, store: MemoryStore) -> None:
        first = await store.put(item())
        second = await store.update("a")
        assert second.version > first.version

    async def test_update_of_a_missing_item_is_not_found(self, store: MemoryStore) -> None:
        with pytest.raises(NotFound) as caught:
            await store.update("nobody", metadata={"x": 1})
        assert caught.value.key == (("default",), "nobody")
        assert await store.count() == 0

    async def test_an_updated_text_is_found_by_its_new_words_only(self, store: MemoryStore) -> None:
        await store.put(item(content="walrus"))
        await store.search("walrus")
        await store.update("a", content="penguin")
        assert (await store.search("walrus")).hits == []
        assert [hit.item.id for hit in await store.search("penguin")] == ["a"]

    async def test_a_vector_goes_when_the_text_changes_and_no_new_one_comes(self, store: MemoryStore) -> None:
        await store.put(item(content="old", embedding=[1.0, 2.0]))
        assert (await store.update("a", metadata={"m": 1})).embedding is not None
        assert (await store.update("a", content="new")).embedding is None
        updated = await store.update("a", content="newer", embedding=[3.0, 4.0])
        assert updated.embedding.tolist() == [3.0, 4.0]
        assert (await store.update("a", embedding=None)).embedding is None
        assert await store.get("a") == await store.get("a")

    async def test_a_patch_that_breaks_a_limit_changes_nothing(self, store: MemoryStore) -> None:
        first = await store.put(item(content={"a": 1}))
        refused: tuple[dict[str, Any], ...] = (
            {"importance": 2.0}, {"kind": ""}, {"metadata": [1]}, {"tags": ("",)}, {"content": {"x": float("inf")}},
            {"metadata": {"big": "x" * 300_000}}, {"user_id": "\0"}, {"text": 5}, {"ttl": -1},
        )  # fmt: skip
        for bad in refused:
            with pytest.raises(InvalidItem):
                await store.update("a", **bad)
        assert await store.get("a") == first

    async def test_the_patch_itself_is_not_changed(self, store: MemoryStore) -> None:
        await store.put(item(content={"a": {"b": 1}}))
        patch: Any = {"a": {"b": None, "c": [1]}, "d": None}
        updated = await store.update("a", content=patch)
        assert patch == {"a": {"b": None, "c": [1]}, "d": None}
        patch["a"]["c"].append(2)
        assert (await store.get("a") or updated).content == {"a": {"c": [1]}}
