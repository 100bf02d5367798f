"""Sentences about filters, one for each ruling."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from memory.clock import ManualClock, from_micros
from memory.errors import InvalidFilter
from memory.filters import F
from memory.model import MemoryItem
from memory.store import MemoryStore
from memory.testing.contract.suite import Make, Suite, ids, item, needs

BIG = 2**53


async def plant(store: MemoryStore, *values: Any) -> None:
    """One item for each value, in metadata.x; its id is the value's position. An item without x comes last."""
    await store.put_many([item(str(i), metadata={"x": value}) for i, value in enumerate(values)])
    await store.put(item("none"))


class Filtering(Suite):
    """What a filter means."""

    async def test_a_missing_field_satisfies_ne(self, store: MemoryStore) -> None:
        await plant(store, 1, 2, None)
        assert await ids(store, {"metadata.x": {"$ne": 1}}) == ["1", "2", "none"]

    async def test_a_missing_field_satisfies_nin(self, store: MemoryStore) -> None:
        await plant(store, 1, 2, "a")
        assert await ids(store, {"metadata.x": {"$nin": [1, "a"]}}) == ["1", "none"]
        assert await ids(store, {"metadata.x": {"$nin": [1, None]}}) == ["1", "2"]

    async def test_equal_to_none_matches_missing_and_null(self, store: MemoryStore) -> None:
        await plant(store, 1, None, "", [], False, 0)
        assert await ids(store, {"metadata.x": None}) == ["1", "none"]
        assert await ids(store, {"metadata.x": {"$ne": None}}) == ["0", "2", "3", "4", "5"]
        assert await ids(store, {"metadata.x": {"$in": [None, 0]}}) == ["1", "5", "none"]

    async def test_exists_counts_null_as_present(self, store: MemoryStore) -> None:
        await plant(store, 1, None)
        assert await ids(store, {"metadata.x": {"$exists": True}}) == ["0", "1"]
        assert await ids(store, {"metadata.x": {"$exists": False}}) == ["none"]

    async def test_an_unset_optional_field_does_not_exist(self, store: MemoryStore) -> None:
        await store.put_many([item("a", user_id="ann", session_id="s"), item("b", text="t"), item("c")])
        await store.put(item("d"), ttl=1000)
        assert await ids(store, {"user_id": {"$exists": True}}) == ["a"]
        assert await ids(store, {"text": {"$exists": True}}) == ["b"]
        assert await ids(store, {"expires_at": {"$exists": True}}) == ["d"]
        assert await ids(store, {"session_id": None}) == ["b", "c", "d"]
        assert await ids(store, {"user_id": {"$ne": "ann"}}) == ["b", "c", "d"]

    async def test_an_order_comparison_with_another_type_is_false(self, store: MemoryStore) -> None:
        await plant(store, 5, "5", None, True, [5], {"n": 5})
        for op in ("$gt", "$gte", "$lt", "$lte"):
            low = 0 if op.startswith("$g") else 10
            assert await ids(store, {"metadata.x": {op: low}}) == ["0"]
            assert await ids(store, {"metadata.x": {op: "" if op.startswith("$g") else "z"}}) == ["1"]

    async def test_not_of_an_order_comparison_is_true_of_what_has_no_order(self, store: MemoryStore) -> None:
        await plant(store, 5, "5", None, 20)
        assert await ids(store, {"$not": {"metadata.x": {"$lt": 10}}}) == ["1", "2", "3", "none"]
        assert await ids(store, {"metadata.x": {"$not": {"$gte": 10}}}) == ["0", "1", "2", "none"]

    async def test_a_bool_is_not_a_number(self, store: MemoryStore) -> None:
        await plant(store, True, 1, False, 0, 1.0)
        assert await ids(store, {"metadata.x": True}) == ["0"]
        assert await ids(store, {"metadata.x": 1}) == ["1", "4"]
        assert await ids(store, {"metadata.x": False}) == ["2"]
        assert await ids(store, {"metadata.x": 0}) == ["3"]
        assert await ids(store, {"metadata.x": {"$in": [True, 0]}}) == ["0", "3"]
        assert await ids(store, {"metadata.x": {"$gte": 0}}) == ["1", "3", "4"]
        assert await ids(store, {"metadata.x": {"$gte": False}}) == []

    async def test_one_equals_one_point_zero(self, store: MemoryStore) -> None:
        await plant(store, 1, 1.0, "1", 1.5, [1], [1.0], {"n": 1.0})
        assert await ids(store, {"metadata.x": 1.0}) == ["0", "1"]
        assert await ids(store, {"metadata.x": {"$in": [1]}}) == ["0", "1"]
        assert await ids(store, {"metadata.x": {"$eq": [1]}}) == ["4", "5"]
        assert await ids(store, {"metadata.x": {"$eq": {"n": 1}}}) == ["6"]
        assert await ids(store, {"metadata.x": {"$contains": 1.0}}) == ["4", "5"]

    async def test_zero_equals_minus_zero(self, store: MemoryStore) -> None:
        await plant(store, 0, 0.0, -0.0)
        assert await ids(store, {"metadata.x": -0.0}) == ["0", "1", "2"]
        assert await ids(store, {"metadata.x": {"$lt": 0}}) == []

    async def test_large_integers_compare_exactly(self, store: MemoryStore) -> None:
        await plant(store, BIG, BIG + 1, BIG + 2, float(BIG), 2**63 - 1, -(2**63))
        assert await ids(store, {"metadata.x": BIG + 1}) == ["1"]
        assert await ids(store, {"metadata.x": BIG}) == ["0", "3"]
        assert await ids(store, {"metadata.x": {"$gt": BIG}}) == ["1", "2", "4"]
        assert await ids(store, {"metadata.x": {"$gt": float(BIG)}}) == ["1", "2", "4"]
        assert await ids(store, {"metadata.x": {"$gte": 2**63 - 1}}) == ["4"]
        assert await ids(store, {"metadata.x": float(2**63)}) == []
        assert await ids(store, {"metadata.x": {"$lte": -(2**63)}}) == ["5"]

    async def test_numbers_are_not_compared_as_text(self, store: MemoryStore) -> None:
        await plant(store, 9, 10, 100, -1, 2.5)
        assert await ids(store, {"metadata.x": {"$gt": 9}}) == ["1", "2"]
        assert await ids(store, {"metadata.x": {"$lt": 2.6}}) == ["3", "4"]

    async def test_strings_order_by_code_point(self, store: MemoryStore) -> None:
        await plant(store, "Z", "a", "é", "\uffee", "\U0001f600", "")
        assert await ids(store, {"metadata.x": {"$lt": "a"}}) == ["0", "5"]
        assert await ids(store, {"metadata.x": {"$gt": "z"}}) == ["2", "3", "4"]
        assert await ids(store, {"metadata.x": {"$gt": "\uffee"}}) == ["4"]
        assert await ids(store, {"metadata.x": {"$gte": ""}}) == ["0", "1", "2", "3", "4", "5"]

    async def test_strings_equal_only_code_point_by_code_point(self, store: MemoryStore) -> None:
        await plant(store, "é", "e\u0301", "É", "é ", "é\0", "K", "\u212a")
        assert await ids(store, {"metadata.x": "é"}) == ["0"]
        assert await ids(store, {"metadata.x": "e\u0301"}) == ["1"]
        assert await ids(store, {"metadata.x": "é\0"}) == ["4"]
        assert await ids(store, {"metadata.x": {"$in": ["K"]}}) == ["5"]

    async def test_startswith_takes_its_prefix_literally(self, store: MemoryStore) -> None:
        await plant(store, "50%", "50 euro", "5_", "5x", "*y", "ab\0c", "AB", 50, ["50%"], "😀x")
        assert await ids(store, {"metadata.x": {"$startswith": "50%"}}) == ["0"]
        assert await ids(store, {"metadata.x": {"$startswith": "5_"}}) == ["2"]
        assert await ids(store, {"metadata.x": {"$startswith": "*"}}) == ["4"]
        assert await ids(store, {"metadata.x": {"$startswith": "ab\0"}}) == ["5"]
        assert await ids(store, {"metadata.x": {"$startswith": "a"}}) == ["5"]
        assert await ids(store, {"metadata.x": {"$startswith": "😀"}}) == ["9"]
        assert await ids(store, {"metadata.x": {"$startswith": ""}}) == ["0", "1", "2", "3", "4", "5", "6", "9"]

    async def test_a_list_equals_only_an_equal_list(self, store: MemoryStore) -> None:
        await plant(store, [1, 2], [2, 1], [1], 1, [], [[1, 2]], "[1, 2]")
        assert await ids(store, {"metadata.x": [1, 2]}) == ["0"]
        assert await ids(store, {"metadata.x": 1}) == ["3"]
        assert await ids(store, {"metadata.x": []}) == ["4"]
        assert await ids(store, {"metadata.x": {"$in": [[1], 1]}}) == ["2", "3"]
        assert await ids(store, {"metadata.x": {"$ne": [1, 2]}}) == ["1", "2", "3", "4", "5", "6", "none"]

    async def test_contains_is_membership_of_a_list(self, store: MemoryStore) -> None:
        await plant(store, [1, "a"], "a1", ["ab"], {"a": 1}, [["a"]], [None], [True])
        assert await ids(store, {"metadata.x": {"$contains": "a"}}) == ["0"]
        assert await ids(store, {"metadata.x": {"$contains": 1}}) == ["0"]
        assert await ids(store, {"metadata.x": {"$contains": ["a"]}}) == ["4"]
        assert await ids(store, {"metadata.x": {"$contains": None}}) == ["5"]
        assert await ids(store, {"metadata.x": {"$contains": True}}) == ["6"]

    async def test_an_object_equals_only_an_equal_object(self, store: MemoryStore) -> None:
        await plant(store, {"a": 1, "b": {"c": 2}}, {"b": {"c": 2}, "a": 1}, {"a": 1}, {})
        assert await ids(store, {"metadata.x": {"$eq": {"b": {"c": 2}, "a": 1}}}) == ["0", "1"]
        assert await ids(store, {"metadata.x": {"$eq": {}}}) == ["3"]

    async def test_a_dotted_name_is_a_path_and_an_escaped_dot_a_dot(self, store: MemoryStore) -> None:
        await store.put_many(
            [
                item("path", metadata={"a": {"b": 1}}),
                item("dot", metadata={"a.b": 1}),
                item("slash", metadata={"a\\": {"b": 1}}),
                item("list", metadata={"a": [{"b": 1}]}),
                item("text", metadata={"a": '{"b": 1}'}),
            ]
        )
        assert await ids(store, {"metadata.a.b": 1}) == ["path"]
        assert await ids(store, {"metadata.a\\.b": 1}) == ["dot"]
        assert await ids(store, {"metadata.a\\\\.b": 1}) == ["slash"]
        assert await ids(store, F.metadata["a.b"] == 1) == ["dot"]

    async def test_strange_names_are_names_like_any_other(self, store: MemoryStore) -> None:
        names = [
            '"',
            "'",
            "$",
            "[0]",
            "*",
            "a b",
            "",
            "' OR 1=1 --",
            "é",
            "e\u0301",
            "#",
            "%",
            "a\0b",
            "\n",
            "__proto__",
            "0",
        ]
        await store.put_many([item(str(i), metadata={name: "v"}) for i, name in enumerate(names)])
        for i, name in enumerate(names):
            if name:
                assert await ids(store, F.metadata[name] == "v") == [str(i)], name
                assert await ids(store, F.metadata[name].exists()) == [str(i)], name

    async def test_paths_lead_into_content_too(self, store: MemoryStore) -> None:
        await store.put_many(
            [item("a", {"city": {"name": "Oslo"}}), item("b", "Oslo"), item("c", ["Oslo"]), item("d", None)]
        )
        assert await ids(store, {"content.city.name": "Oslo"}) == ["a"]
        assert await ids(store, {"content": "Oslo"}) == ["b"]
        assert await ids(store, {"content": {"$contains": "Oslo"}}) == ["c"]
        assert await ids(store, {"content": None}) == ["d"]
        assert await ids(store, {"content": {"$exists": True}}) == ["a", "b", "c", "d"]

    async def test_tags_and_namespace_behave_as_lists(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        await store.put_many(
            [item("a", tags=("red", "blue")), item("b", tags=("blue",)), item("c", namespace=("x", "red"))]
        )
        assert await ids(store, {"tags": {"$contains": "red"}}) == ["a"]
        assert await ids(store, {"tags": ["red", "blue"]}) == ["a"]
        assert await ids(store, {"tags": "blue"}) == []
        assert await ids(store, {"tags": []}) == ["c"]
        assert await ids(store, {"namespace": {"$contains": "red"}}) == ["c"]
        assert await ids(store, {"namespace": ["default"]}) == ["a", "b"]

    async def test_every_field_can_be_asked_for(self, store: MemoryStore) -> None:
        one = await store.put(
            MemoryItem(
                id="one",
                kind="episodic",
                content=1,
                text="t",
                user_id="ann",
                session_id="s",
                importance=0.75,
                tags=("x",),
            )
        )
        await store.put(item("two", kind="other", importance=0.25))
        for where in (
            {"id": "one"}, {"kind": "episodic"}, {"text": "t"}, {"user_id": "ann"}, {"session_id": "s"},
            {"importance": 0.75}, {"importance": {"$gt": 0.5}}, {"version": one.version}, {"kind": {"$startswith": "ep"}},
            {"id": {"$in": ["one", "nobody"]}}, {"kind": {"$nin": ["other"]}}, {"user_id": {"$gte": "ann"}},
        ):  # fmt: skip
            assert await ids(store, where) == ["one"], where
        assert await ids(store, {"access_count": 0}) == ["one", "two"]
        await store.touch("one")
        assert await ids(store, {"access_count": {"$gte": 1}}) == ["one"]

    async def test_times_compare_as_instants(self, store: MemoryStore, clock: ManualClock) -> None:
        early = from_micros(clock())
        await store.put(item("early"))
        clock.advance(0.000001)
        await store.put(item("late"), ttl=3600)
        here = early.astimezone(timezone(timedelta(hours=5, minutes=30)))
        assert await ids(store, {"created_at": here}) == ["early"]
        assert await ids(store, {"created_at": here.isoformat()}) == ["early"]
        assert await ids(store, {"created_at": {"$gt": here}}) == ["late"]
        assert await ids(store, {"updated_at": {"$lte": early}}) == ["early"]
        assert await ids(store, {"accessed_at": {"$in": [early]}}) == ["early"]
        assert await ids(store, {"expires_at": {"$lt": early + timedelta(days=1)}}) == ["late"]
        assert await ids(store, {"expires_at": {"$not": {"$lt": early}}}) == ["early", "late"]

    async def test_a_stored_string_that_looks_like_a_time_is_a_string(self, store: MemoryStore) -> None:
        await plant(store, "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00")
        assert await ids(store, {"metadata.x": "2026-01-01T00:00:00Z"}) == ["0"]
        assert await ids(store, {"metadata.x": {"$gte": datetime(2000, 1, 1, tzinfo=UTC)}}) == []

    async def test_and_or_and_not_nest(self, store: MemoryStore) -> None:
        await store.put_many([item(f"{i:02}", metadata={"n": i, "odd": bool(i % 2)}) for i in range(12)])
        where = {
            "$or": [
                {"metadata.n": {"$lt": 3}},
                {"$and": [{"metadata.odd": True}, {"$not": {"metadata.n": {"$lt": 9}}}]},
            ]
        }
        assert await ids(store, where) == ["00", "01", "02", "09", "11"]
        built = (F.metadata.n < 3) | ((F.metadata.odd == True) & ~(F.metadata.n < 9))  # noqa: E712
        assert await ids(store, built) == await ids(store, where)
        assert await ids(store, {"$not": where}) == ["03", "04", "05", "06", "07", "08", "10"]

    async def test_several_operators_of_a_field_must_all_hold(self, store: MemoryStore) -> None:
        await plant(store, 1, 2, 3, 4, 5)
        assert await ids(store, {"metadata.x": {"$gt": 1, "$lte": 4, "$ne": 3}}) == ["1", "3"]

    async def test_an_empty_filter_matches_everything(self, store: MemoryStore) -> None:
        await plant(store, 1)
        assert await ids(store, {}) == await ids(store, None) == ["0", "none"]

    async def test_the_filter_comes_before_the_limit(self, store: MemoryStore) -> None:
        await store.put_many([item(f"{i:03}", f"word{i}", metadata={"rare": i % 50 == 49}) for i in range(200)])
        page = await store.list({"metadata.rare": True}, limit=3)
        assert [one.id for one in page] == ["049", "099", "149"]
        assert page.cursor is not None
        rest = await store.list({"metadata.rare": True}, limit=3, cursor=page.cursor)
        assert ([one.id for one in rest], rest.cursor) == (["199"], None)
        newest = await store.list({"metadata.rare": {"$ne": True}}, limit=100, order="-created_at")
        assert len(newest) == 100

    async def test_declared_index_paths_change_no_answer(self, make: Make) -> None:
        store = await make(index=("metadata.x", "metadata.a\\.b", "metadata.deep.er")).open()
        await plant(store, 1, 1.0, True, "1", None, [1], {"n": 1}, BIG + 1, -0.0, "é")
        await store.put(item("dot", metadata={"a.b": 5, "deep": {"er": "x"}}))
        for where, expected in (
            ({"metadata.x": 1}, ["0", "1"]),
            ({"metadata.x": {"$ne": 1}}, ["2", "3", "4", "5", "6", "7", "8", "9", "dot", "none"]),
            ({"metadata.x": {"$gt": BIG}}, ["7"]),
            ({"metadata.x": None}, ["4", "dot", "none"]),
            ({"metadata.x": {"$exists": True}}, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]),
            ({"metadata.x": 0}, ["8"]),
            ({"metadata.a\\.b": {"$gte": 5}}, ["dot"]),
            ({"metadata.deep.er": {"$in": ["x", 1]}}, ["dot"]),
            ({"metadata.x": {"$startswith": "é"}}, ["9"]),
        ):
            assert await ids(store, where) == expected, where

    async def test_a_filter_no_engine_can_read_is_refused_before_anything_is_read(self, store: Any) -> None:
        where: Any
        for where in (
            {"metadata.x": {"$regex": "a"}}, {"nofield": 1}, {"$where": "1"}, {"metadata": {"x": {"$gt": 1}}},
            {"metadata.x": lambda x: x}, lambda item: True, "kind = 'note'", {"metadata.x": {1, 2}}, {"$or": []},
            {"created_at": datetime(2026, 1, 1)}, {"metadata.x": float("nan")}, {"metadata..x": 1}, ["kind"],  # noqa: DTZ001
            {"metadata.x": {"$in": "abc"}}, {"metadata.x": {"$exists": 1}}, {"metadata.x": {"$startswith": 1}},
            {"metadata.x": 2**63}, {"tags.0": "a"}, {"created_at": "yesterday"}, {"metadata.x": object()},
        ):  # fmt: skip
            for call in (store.list, store.count, store.delete_where):
                with pytest.raises(InvalidFilter):
                    await call(where)
            with pytest.raises(InvalidFilter):
                await store.search("word", where=where)
            with pytest.raises(InvalidFilter):
                await anext(store.stream(where))
