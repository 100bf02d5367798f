from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest

from memory.filters import (
    digest_form,
    equal,
    evaluate,
    fields,
    parse,
)
from memory.model import MemoryItem

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ITEM = MemoryItem(
    content={"city": "Oslo", "list": [1, {"a": 2}], "null": None, "deep": {"er": {"x": 1.5}}},
    id="i1",
    namespace=("acme", "bot"),
    kind="episodic",
    metadata={"score": 5, "big": 2**53 + 1, "flag": True, "a.b": "dot", "name": "Ünï", "null": None, "nums": [1, 2.0]},
    tags=("red", "blue"),
    user_id="ann",
    importance=0.5,
    created_at=NOON,
    updated_at=NOON,
    accessed_at=NOON,
    access_count=3,
    version=7,
    source={"by": "agent"},
)


def holds(where: Any, item: Any = ITEM) -> bool:
    return evaluate(parse(where), item)


# ------------------------------------------------------------------------------------------------------------- what it means


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"kind": "episodic"}, True),
        ({"kind": "Episodic"}, False),
        ({"namespace": ["acme", "bot"]}, True),
        ({"namespace": "acme"}, False),
        ({"namespace": {"$contains": "acme"}}, True),
        ({"tags": ["red", "blue"]}, True),
        ({"tags": ["blue", "red"]}, False),
        ({"tags": {"$contains": "red"}}, True),
        ({"tags": {"$contains": "r"}}, False),
        ({"kind": {"$contains": "e"}}, False),
        ({"content": {"$contains": "city"}}, False),
        ({"content.list": {"$contains": {"a": 2.0}}}, True),
        ({"content.list": {"$contains": True}}, False),
        ({"content.list.0": 1}, False),
        ({"content.list.0": {"$exists": True}}, False),
        ({"content.deep.er.x": 1.5}, True),
        ({"content.deep.er": {"x": 1.5}}, True),
        ({"content.deep.er": {"x": 1.5, "y": None}}, False),
        ({"content.deep.er.x.y": None}, True),
        ({"metadata.a.b": "dot"}, False),
        ({"metadata.a\\.b": "dot"}, True),
        # missing and null
        ({"metadata.nope": None}, True),
        ({"metadata.null": None}, True),
        ({"metadata.null": {"$exists": True}}, True),
        ({"metadata.nope": {"$exists": False}}, True),
        ({"metadata.nope": {"$ne": 3}}, True),
        ({"metadata.nope": {"$ne": None}}, False),
        ({"metadata.nope": {"$nin": [1, 2]}}, True),
        ({"metadata.nope": {"$nin": [1, None]}}, False),
        ({"metadata.null": {"$in": [1, None]}}, True),
        ({"metadata.nope": {"$lt": 3}}, False),
        ({"metadata.null": {"$lte": 0}}, False),
        ({"metadata.null": {"$lte": None}}, False),
        ({"metadata.nope": {"$not": {"$lt": 3}}}, True),
        ({"text": {"$exists": False}}, True),
        ({"expires_at": {"$exists": False}}, True),
        ({"expires_at": None}, True),
        ({"agent_id": {"$ne": "x"}}, True),
        ({"user_id": {"$exists": True}}, True),
        ({"metadata": {"$exists": True}}, True),
        ({"content.null": {"$exists": True}}, True),
        # numbers and bools
        ({"metadata.score": 5.0}, True),
        ({"metadata.score": "5"}, False),
        ({"metadata.score": {"$gt": "4"}}, False),
        ({"metadata.score": {"$in": [5.0]}}, True),
        ({"metadata.score": {"$gte": 5, "$lt": 5.5}}, True),
        ({"metadata.flag": True}, True),
        ({"metadata.flag": 1}, False),
        ({"metadata.flag": {"$ne": 1}}, True),
        ({"metadata.flag": {"$in": [1, 1.0]}}, False),
        ({"metadata.flag": {"$in": [1, True]}}, True),
        ({"metadata.flag": {"$gte": 0}}, False),
        ({"metadata.flag": {"$gte": True}}, False),
        ({"metadata.nums": [1.0, 2]}, True),
        ({"metadata.nums": [True, 2]}, False),
        ({"metadata.nums": {"$contains": True}}, False),
        ({"metadata.nums": {"$gte": [0]}}, False),
        ({"metadata.nums": {"$in": [[1, 2]]}}, True),
        ({"metadata.big": float(2**53)}, False),
        ({"metadata.big": {"$gt": float(2**53)}}, True),
        ({"metadata.big": 2**53}, False),
        ({"importance": {"$gte": 0.5}}, True),
        ({"access_count": 3}, True),
        ({"version": {"$in": [7]}}, True),
        # strings
        ({"metadata.name": {"$startswith": "Ün"}}, True),
        ({"metadata.name": {"$startswith": ""}}, True),
        ({"metadata.name": {"$startswith": "U\u0308n"}}, False),
        ({"metadata.name": {"$gt": "Z"}}, True),
        ({"metadata.score": {"$startswith": ""}}, False),
        ({"tags": {"$startswith": "red"}}, False),
        # times
        ({"created_at": NOON}, True),
        ({"created_at": datetime(2026, 1, 31, 13, tzinfo=timezone(timedelta(hours=1)))}, True),
        ({"created_at": {"$gt": NOON - timedelta(microseconds=1)}}, True),
        ({"created_at": {"$lt": NOON}}, False),
        ({"created_at": {"$in": ["2026-01-31T12:00:00.000000+0000"]}}, True),
        ({"created_at": 5}, False),
        ({"created_at": {"$gt": 5}}, False),
        ({"created_at": {"$ne": 5}}, True),
        ({"created_at": {"$startswith": "2026"}}, False),
        ({"metadata.name": {"$lt": NOON}}, False),
        ({"metadata.name": {"$ne": NOON}}, True),
        ({"expires_at": {"$gt": NOON}}, False),
        # logic
        ({"kind": {"$in": []}}, False),
        ({"kind": {"$nin": []}}, True),
        ({"$or": [{"kind": "x"}, {"user_id": "ann"}]}, True),
        ({"$not": {"$or": [{"kind": "x"}, {"user_id": "ann"}]}}, False),
        ({"kind": "episodic", "$not": {"user_id": "bob"}}, True),
        ({"source.by": "agent"}, True),
    ],
)  # fmt: skip
def test_a_filter_means_what_the_rules_say(where: Any, expected: bool) -> None:
    assert holds(where) is expected
    assert holds({"$not": where}) is not expected


def test_content_that_is_null_is_there_and_equals_none() -> None:
    item = MemoryItem(content=None)
    assert holds({"content": {"$exists": True}, "$and": [{"content": None}]}, item)
    assert holds({"content.x": {"$exists": False}, "$and": [{"content.x": None}]}, item)


def test_an_item_may_be_anything_with_the_attributes_and_may_lack_some() -> None:
    item = SimpleNamespace(kind="note", created_at=datetime(2026, 1, 31, 12))  # noqa: DTZ001
    assert holds({"kind": "note", "tags": None, "content": {"$exists": False}, "metadata.x": {"$ne": 1}}, item)
    assert not holds({"created_at": {"$gt": "2020-01-01T00:00:00Z"}}, item)  # a naive time is no instant
    assert not holds({"created_at": "2026-01-31T12:00:00Z"}, item)


def test_the_item_side_of_a_time_comparison_may_be_in_any_zone() -> None:
    item = SimpleNamespace(created_at=NOON.astimezone(timezone(timedelta(hours=5))))
    assert holds({"created_at": {"$gte": NOON, "$lte": NOON, "$eq": NOON}}, item)


def test_equal_is_never_confused_by_foreign_types() -> None:
    class Hostile:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        __hash__ = None  # type: ignore[assignment]

    for value in [None, 1, "x", True, NOON, [1], {"a": 1}]:
        assert not equal(value, Hostile())
        assert not equal(Hostile(), value)
    assert not equal(NOON, NOON.replace(tzinfo=None))


# ------------------------------------------------------------------------------------------------- paths, indexes, cursors


def test_fields_lists_every_path_looked_at() -> None:
    where = {"kind": "a", "$or": [{"metadata.a\\.b.c": 1}, {"$not": {"tags": {"$contains": "x"}}}], "id": {"$ne": "a"}}
    assert fields(parse(where)) == {("kind",), ("metadata", "a.b", "c"), ("tags",), ("id",)}
    assert fields(None) == frozenset()


def test_the_digest_form_tells_apart_what_is_different() -> None:
    wheres: list[Any] = [
        {}, {"metadata.x": 1}, {"metadata.x": True}, {"metadata.x": "1"}, {"metadata.x": None}, {"metadata.x": [1]},
        {"metadata.x": [[1]]}, {"metadata.x": {"a": 1}}, {"metadata.x": {"$in": [1]}}, {"metadata.x": 1e300},
        {"metadata.x": ["time", 0]}, {"metadata.x": datetime(1970, 1, 1, tzinfo=UTC)}, {"metadata.x": ["list", 1]},
        {"metadata.x": {"$ne": 1}}, {"$not": {"metadata.x": 1}}, {"metadata.x.y": 1}, {"metadata.x\\.y": 1},
        {"metadata.x": 2**53}, {"metadata.x": 2**53 + 1}, {"metadata.x": 0.1}, {"metadata.x": "\0"},
        {"kind": "a", "id": "b"}, {"$or": [{"kind": "a"}, {"id": "b"}]},
        {"metadata.x": datetime(1970, 1, 1, 0, 0, 0, 1, tzinfo=UTC)},
    ]  # fmt: skip
    assert len({digest_form(parse(where)) for where in wheres}) == len(wheres)


def test_the_digest_form_is_the_same_for_what_is_equal() -> None:
    assert digest_form(parse({"metadata.x": 1})) == digest_form(parse({"metadata.x": 1.0}))
    assert digest_form(parse({"metadata.x": -0.0})) == digest_form(parse({"metadata.x": 0}))
    assert digest_form(parse({"metadata.x": 2**60})) == digest_form(parse({"metadata.x": float(2**60)}))
    one, other = {"a": 1, "b": [2]}, {"b": [2.0], "a": 1}
    assert digest_form(parse({"content": one})) == digest_form(parse({"content": other}))


def test_the_digest_form_is_pinned_because_cursors_outlive_processes_and_releases() -> None:
    where = {"kind": {"$in": ["é", 1.5, None]}, "$not": {"created_at": {"$lt": "2026-01-31T12:00:00.5Z"}}}
    expected = b'["and",["in",["kind"],["\\u00e9",1.5,null]],["not",["lt",["created_at"],["time",1769860800500000]]]]'
    assert digest_form(parse(where)) == expected
    code = "import sys, json; from memory.filters import *; print(digest_form(parse(json.load(sys.stdin))).decode())"
    run = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps(where), capture_output=True, text=True, check=True
    )
    assert run.stdout.strip().encode() == expected
