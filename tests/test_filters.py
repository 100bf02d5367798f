from __future__ import annotations

import copy
import enum
import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memory.errors import InvalidFilter
from memory.filters import (
    ROOTS,
    TIME_ROOTS,
    And,
    Compare,
    Expr,
    F,
    Not,
    Or,
    digest_form,
    dotted,
    equal,
    evaluate,
    fields,
    negating,
    nnf,
    parse,
    predicate,
    translate,
)
from memory.filters.check import split_path
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


# ------------------------------------------------------------------------------------------------------------ the spellings


@pytest.mark.parametrize("where", [None, {}])
def test_no_filter_matches_everything(where: Any) -> None:
    assert parse(where) is None
    assert holds(where)
    assert digest_form(parse(where)) == b"null"


@pytest.mark.parametrize(
    ("spelled", "built"),
    [
        ({"kind": "note"}, F.kind == "note"),
        ({"kind": {"$ne": "note"}}, F.kind != "note"),
        ({"metadata.score": {"$gte": 3, "$lt": 9}}, (F.metadata.score >= 3) & (F.metadata.score < 9)),
        ({"kind": "a", "id": {"$gt": "b", "$lte": "c"}}, (F.kind == "a") & (F.id > "b") & (F.id <= "c")),
        ({"$or": [{"kind": "a"}, {"kind": "b"}]}, (F.kind == "a") | (F.kind == "b")),
        ({"$and": [{"kind": "a"}, {"text": None}]}, (F.kind == "a") & (F.text == None)),  # noqa: E711
        ({"$not": {"kind": "a", "id": "b"}}, ~((F.kind == "a") & (F.id == "b"))),
        ({"id": {"$not": {"$gt": "b"}}}, ~(F.id > "b")),
        ({"kind": {"$in": ["a", None]}}, F.kind.in_(["a", None])),
        ({"kind": {"$nin": ["a"]}}, F.kind.not_in(("a",))),
        ({"text": {"$exists": True}}, F.text.exists()),
        ({"text": {"$exists": False}}, F.text.exists(False)),
        ({"tags": {"$contains": "x"}}, F.tags.contains("x")),
        ({"text": {"$startswith": "p"}}, F.text.startswith("p")),
        ({"metadata.a\\.b": 1}, F["metadata.a\\.b"] == 1),
        ({"metadata.a\\.b": 1}, F.metadata["a.b"] == 1),
        ({"metadata.a.b": 1}, F.metadata.a["b"] == 1),
        ({"metadata.a\\\\.b": 1}, F.metadata["a\\"].b == 1),
        ({"metadata._x.contains": 1}, F.metadata["_x"]["contains"] == 1),
        ({"content": {"a": [1]}}, F.content == {"a": (1,)}),
        ({"metadata.x": {"$eq": {"$gt": 1}}}, F.metadata.x == {"$gt": 1}),
        ({"created_at": {"$gte": "2026-01-31T13:00:00+01:00"}}, F.created_at >= NOON),
        ({"created_at": {"$gte": "2026-01-31t12:00:00z"}}, F.created_at >= NOON),
        ({"expires_at": {"$in": ["2026-01-31 12:00Z", None]}}, F.expires_at.in_([NOON, None])),
        ({"$or": [F.kind == "a", {"kind": "b"}]}, (F.kind == "a") | (F.kind == "b")),
    ],
)
def test_the_dict_and_the_builder_spell_the_same_tree(spelled: Any, built: Expr) -> None:
    assert parse(spelled) == parse(built) == built.tree
    assert digest_form(parse(spelled)) == digest_form(parse(built))


def test_groups_have_one_normal_shape() -> None:
    a, b, c = (Compare(("kind",), "eq", name) for name in "abc")
    assert parse({"$and": [{"kind": "a"}, {"$and": [{"kind": "b"}, {"kind": "c"}]}]}) == And((a, b, c))
    assert ((F.kind == "a") | ((F.kind == "b") | (F.kind == "c"))).tree == Or((a, b, c))
    assert parse({"$or": [{"kind": "a"}]}) == a
    assert parse(And((And((a, b)), c))) == And((a, b, c))


def test_python_operators_may_stand_either_way_round() -> None:
    assert (3 <= F.metadata.score).tree == (F.metadata.score >= 3).tree  # noqa: SIM300
    assert ("note" == F.kind).tree == (F.kind == "note").tree  # type: ignore[attr-defined]  # noqa: SIM300


def test_parsing_copies_operands() -> None:
    given_list = [1, {"a": 2}]
    tree = parse({"metadata.x": given_list})
    given_list.append(3)
    assert tree == Compare(("metadata", "x"), "eq", [1, {"a": 2}])


def test_parse_accepts_its_own_result_and_checks_handmade_trees() -> None:
    tree = parse({"$or": [{"kind": "a"}, {"created_at": {"$lt": "2026-01-31T12:00:00Z"}}]})
    assert parse(tree) == tree
    with pytest.raises(InvalidFilter, match="unknown operator"):
        evaluate(Compare(("kind",), "eval", 1), ITEM)
    for bad in [And(()), Or(()), Compare(("nope",), "eq", 1), Compare(("kind",), "eval", 1), Compare((), "eq", 1),
                Compare("kind", "eq", 1), Not("kind"), And("ab"), Compare(("kind",), "eq", print)]:  # type: ignore[arg-type]  # fmt: skip
        with pytest.raises(InvalidFilter):
            parse(bad)


def test_equality_of_comparisons_follows_the_filters_own_rules() -> None:
    assert Compare(("kind",), "eq", 1) == Compare(("kind",), "eq", 1.0)
    assert Compare(("kind",), "eq", 1) != Compare(("kind",), "eq", True)
    assert Compare(("kind",), "eq", [0]) != Compare(("kind",), "eq", [False])
    assert (Compare(("kind",), "eq", 1) == "kind") is False
    assert len({Compare(("kind",), "eq", [1]), Compare(("kind",), "eq", [1.0])}) == 1


def test_names_of_enumerations_become_their_values() -> None:
    class Kind(enum.StrEnum):
        NOTE = "note"

    class Level(enum.IntEnum):
        HIGH = 3

    tree = parse((F.kind == Kind.NOTE) & (F.metadata.level >= Level.HIGH))
    assert isinstance(tree, And)
    assert [type(part.value) for part in tree.parts] == [str, int]  # type: ignore[union-attr]


# --------------------------------------------------------------------------------------------------------- what is refused


NAN = float("nan")
NESTED: Any = {"kind": "a"}
for _ in range(5_000):
    NESTED = {"$not": NESTED}
DEEP_VALUE: Any = 1
for _ in range(5_000):
    DEEP_VALUE = [DEEP_VALUE]
CYCLE: list[Any] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("where", "advice"),
    [
        ({"metadata.x": {"$gtee": 1}}, r'Did you mean "\$gte"'),
        ({"metadata.x": {"$GTE": 1}}, r'Did you mean "\$gte"'),
        ({"metadata.x": {"$regex": "a"}}, r"\$startswith"),
        ({"metadata.x": {"$where": "1"}}, "unknown operator"),
        ({"$where": "sleep(1000)"}, "unknown operator '\\$where'"),
        ({"$nor": []}, r'"\$not" around an "\$or"'),
        ({"$gt": 3}, "belongs to a field"),
        ({"kind": {"$or": [1, 2]}}, "goes around fields"),
        ({"score": 3}, r"'metadata\.score'"),
        ({"user": "ann"}, r"Did you mean 'user_id' or 'metadata\.user'"),
        ({"__class__": 1}, "there is no field"),
        ({"embedding": [1.0]}, "cannot be filtered"),
        ({"tags.0": "x"}, r"\$contains"),
        ({"kind.x": "x"}, "content, metadata and source only"),
        ({"": 1}, "empty segment"),
        ({"metadata.": 1}, "empty segment"),
        ({"metadata..x": 1}, "empty segment"),
        ({".metadata": 1}, "empty segment"),
        ({"metadata.a\\b": 1}, "backslash"),
        ({"metadata.a\\": 1}, "backslash"),
        ({"metadata" + ".x" * 40: 1}, "segments"),
        ({"metadata." + "\\\\" * 40_000: 1}, "65,536"),
        ({3: 1}, "keys are field names"),
        ({"metadata.x": {3: 1}}, "JSON keys are str"),
        ({"metadata.x": {"$gt": 1, "y": 2}}, "mixed"),
        ({"metadata.x": {"$gt": 1, 2: 2}}, "mixed"),
        ({"metadata": {"score": {"$gte": 3}}}, r"'metadata\.score'"),
        ({"$and": {}}, "takes a list"),
        ({"$and": []}, "one or more"),
        ({"$or": []}, "one or more"),
        ({"$or": [{}]}, "empty filter"),
        ({"$or": ["kind"]}, "not 'kind'"),
        ({"$not": {}}, "empty filter"),
        ({"$not": [1]}, "not a list"),
        ({"kind": {"$not": "a"}}, r"\$ne"),
        ({"kind": {"$not": {}}}, "takes operators"),
        ({"kind": {"$not": {"a": 1}}}, "takes operators"),
        ({"kind": {"$in": "abc"}}, "takes a list"),
        ({"kind": {"$in": {"a"}}}, "sorted"),
        ({"kind": {"$in": list(range(1_001))}}, "1,000"),
        ({"kind": {"$exists": 1}}, "True or False"),
        ({"kind": {"$startswith": 1}}, "takes a str"),
        ({"metadata.x": float("nan")}, "not a JSON number"),
        ({"metadata.x": {"$lt": float("inf")}}, "not a JSON number"),
        ({"metadata.x": 2**63}, "64 bits"),
        ({"metadata.x": -(2**63) - 1}, "64 bits"),
        ({"metadata.x": 10**10_000}, "64 bits"),
        ({"metadata.x": "\ud800"}, "surrogate"),
        ({"metadata.\ud800": 1}, "surrogate"),
        ({"metadata.x": {"\udfff": 1}}, "surrogate"),
        ({"metadata.x": [[{1: 2}]]}, "JSON keys are str"),
        ({"metadata.x": b"x"}, "bytes"),
        ({"metadata.x": {1, 2}}, "sorted"),
        ({"metadata.x": date(2026, 1, 1)}, "a date is not a time"),
        ({"metadata.x": datetime(2026, 1, 1)}, "time zone"),  # noqa: DTZ001
        ({"created_at": {"$gt": datetime(2026, 1, 1)}}, "time zone"),  # noqa: DTZ001
        ({"metadata.x": [NOON]}, "JSON has no times"),
        ({"created_at": "yesterday"}, "ISO-8601"),
        ({"created_at": {"$gt": "2026-01-31"}}, "ISO-8601"),
        ({"created_at": {"$gt": "2026-01-31T12:00:00"}}, "with an offset"),
        ({"created_at": {"$gt": "2026-02-30T12:00:00Z"}}, "ISO-8601"),
        ({"created_at": {"$gt": "2026-01-31T12:00:00.1234567Z"}}, "microseconds"),
        ({"created_at": {"$in": ["2026"]}}, "ISO-8601"),
        ({"created_at": datetime.min.replace(tzinfo=timezone(timedelta(hours=2)))}, "time zone"),
        ({"metadata.x": print}, "never called"),
        ({"metadata.x": object()}, "not a JSON value"),
        ({"metadata.x": F.kind}, "only values can"),
        ({"metadata.x": F.kind == "a"}, "only values can"),
        (print, "function"),
        (lambda item: True, "function"),
        (F.kind, "compare it"),
        (F, "compare it"),
        ([{"kind": "a"}], r"\$and"),
        ("kind = 'a'", "write a dict"),
        (True, "`and`"),
        (NESTED, "deeper than 32"),
        ({"kind": {"$not": {"$not": {"$gt": "a"}}}, **NESTED}, "deeper than 32"),
        ({"metadata.x": DEEP_VALUE}, "deeper than 20"),
        ({"metadata.x": CYCLE}, "deeper than 20"),
        ({"metadata.x": [[0] * 100] * 100}, "10,000 values"),
        ({"metadata.x": "x" * 2**20}, "bytes of text"),
        ({"$or": [{"kind": str(n)} for n in range(1_001)]}, "1,000 nodes"),
        ({"$or": [{"kind": str(n)} for n in range(1_000)]}, "1,000 nodes"),
    ],
)  # fmt: skip
def test_a_wrong_filter_is_refused_with_advice(where: Any, advice: str) -> None:
    with pytest.raises(InvalidFilter, match=advice) as caught:
        parse(where)
    assert len(str(caught.value)) < 700


def test_deeply_nested_field_negation_is_refused() -> None:
    spec: Any = {"$gt": "a"}
    for _ in range(5_000):
        spec = {"$not": spec}
    with pytest.raises(InvalidFilter, match="deeper than 32"):
        parse({"kind": spec})


@pytest.mark.parametrize(
    "build",
    [
        lambda: F.nope,
        lambda: F["nope.x"],
        lambda: F[3],
        lambda: F.kind.x,
        lambda: F.tags[0],
        lambda: F.kind.in_(3),
        lambda: F.metadata[0],
        lambda: F.metadata[""],
        lambda: F.kind == F.id,
        lambda: F.metadata.x > NAN,
        lambda: F.metadata.x.in_({1}),
        lambda: F.metadata.x.startswith(3),
        lambda: F.created_at > datetime(2026, 1, 1),  # noqa: DTZ001
    ],
)
def test_the_builder_refuses_at_once(build: Any) -> None:
    with pytest.raises(InvalidFilter):
        build()


@pytest.mark.parametrize(
    "misuse",
    [
        lambda: (F.kind == "a") and (F.id == "b"),
        lambda: (F.kind == "a") or (F.id == "b"),
        lambda: not (F.kind == "a"),  # noqa: SIM201
        lambda: 1 < F.metadata.x < 5,
        lambda: F.kind in ["a", "b"],
        lambda: "a" in F.tags,
        lambda: bool(F.kind),
        lambda: F.kind == 1 & F.id == 2,
        lambda: F.kind == "a" | F.id == "b",
        lambda: ~F.kind,
        lambda: list(F.tags),
        lambda: (F.kind == "a") & True,
        lambda: (F.kind == "a") | {"id": 1},
        lambda: {F.kind},
    ],
)
def test_python_syntax_that_cannot_build_a_filter_is_a_type_error(misuse: Any) -> None:
    with pytest.raises(TypeError):
        misuse()


def test_the_advice_for_boolean_operators_names_the_right_ones() -> None:
    with pytest.raises(TypeError, match=r"write & \| ~ instead"):
        bool(F.kind == "a")


def test_fields_survive_the_protocols_python_probes_for() -> None:
    assert not hasattr(F.metadata, "__deepcopy__")
    assert not hasattr(F, "_repr_html_")
    assert repr(F.metadata.a["b.c"]) == "F['metadata', 'a', 'b.c']"
    assert repr(F) == "F"
    assert "kind" in repr(F.kind == "a")
    assert (copy.deepcopy(F.metadata.score) >= 3).tree == (F.metadata.score >= 3).tree


def test_expressions_grow_to_the_bound_and_no_further() -> None:
    everything = F.kind == "0"
    for n in range(1, 999):
        everything = everything | (F.kind == str(n))
    assert len(parse(everything).parts) == 999  # type: ignore[union-attr]
    with pytest.raises(InvalidFilter, match="1,000 nodes"):
        everything | (F.kind == "x")
    deep = F.kind == "a"
    for _ in range(31):
        deep = ~deep
    assert parse(deep) == deep.tree
    with pytest.raises(InvalidFilter, match="deeper than 32"):
        ~deep  # noqa: B018


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


# --------------------------------------------------------------------------------------------------------------- translation


class Rows:
    """An engine in miniature: a predicate is the set of rows it selects, as a frozenset of numbers."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.all = frozenset(range(len(items)))

    def select(self, tree: Any) -> frozenset[int]:
        return frozenset(n for n in self.all if evaluate(tree, self.items[n]))

    def translate(self, tree: Any, leaf: Any) -> Any:
        return translate(
            tree, leaf, all_of=lambda ps: frozenset.intersection(*ps), any_of=lambda ps: frozenset.union(*ps)
        )


def test_translation_keeps_the_parts_an_engine_can_say() -> None:
    def leaf(compare: Compare, negated: bool) -> tuple[str, bool] | None:
        if compare.path == ("kind",):
            return f"{'not ' if negated else ''}kind={compare.value}", True
        return (f"~{compare.path[0]}", False) if compare.path == ("id",) else None

    def result(where: Any) -> tuple[str | None, bool]:
        done = translate(
            parse(where), leaf, all_of=lambda ps: f"({' & '.join(ps)})", any_of=lambda ps: f"({' | '.join(ps)})"
        )
        return done.predicate, done.exact

    assert result(None) == (None, True)
    assert result({"kind": "a"}) == ("kind=a", True)
    assert result({"kind": {"$ne": "a"}}) == ("not kind=a", True)
    assert result({"text": "x"}) == (None, False)
    assert result({"kind": "a", "text": "x"}) == ("kind=a", False)
    assert result({"kind": "a", "id": "x"}) == ("(kind=a & ~id)", False)
    assert result({"$or": [{"kind": "a"}, {"text": "x"}]}) == (None, False)
    assert result({"$or": [{"kind": "a"}, {"kind": "b"}]}) == ("(kind=a | kind=b)", True)
    assert result({"$or": [{"kind": "a"}, {"kind": "b", "text": "x"}]}) == ("(kind=a | kind=b)", False)
    assert result({"$not": {"kind": "a", "text": "x"}}) == (None, False)
    assert result({"$not": {"$or": [{"kind": "a"}, {"text": "x"}]}}) == ("not kind=a", False)


def test_negating_takes_the_complement_of_exact_predicates_only() -> None:
    leaf = negating(
        lambda c: ("exact", True) if c.path == ("kind",) else ("wide", False) if c.path == ("id",) else None,
        lambda p: f"not {p}",
    )
    kind, ident, text = (Compare((root,), "eq", "a") for root in ("kind", "id", "text"))
    assert [leaf(kind, False), leaf(kind, True)] == [("exact", True), ("not exact", True)]
    assert [leaf(ident, False), leaf(ident, True)] == [("wide", False), None]
    assert [leaf(text, False), leaf(text, True)] == [None, None]


# ---------------------------------------------------------------------------------------------------------------- properties

KEYS = st.sampled_from(
    ["a", "b", "a.b", "$gt", "$where", "__class__", "'; DROP TABLE x; --", "%", "_", "*", "\\", '"', "é", "\0"]
)
NUMBERS = st.sampled_from([0, 1, -1, 1.0, 0.5, 2**53, 2**53 + 1, float(2**53), -0.0, 2**63 - 1, 9.3e18, 5e-324])
STRINGS = st.sampled_from(
    ["", "a", "ab", "b", "A", "é", "e\u0301", "\U0001f600", "\uffff", "%", "_", "*", "'", "\\", "\0"]
)
SCALARS = st.none() | st.booleans() | NUMBERS | STRINGS
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=6
)
MOMENTS = st.integers(-2, 2).map(lambda n: NOON + timedelta(microseconds=n))
SIMPLE = [root for root in ROOTS if root not in TIME_ROOTS and root not in ("content", "metadata", "source")]
PATHS = st.one_of(
    st.sampled_from([(root,) for root in ROOTS]),
    st.tuples(st.sampled_from(["content", "metadata", "source"]), KEYS),
    st.tuples(st.just("metadata"), KEYS, KEYS),
)
NAMES = st.sampled_from(["a", "ab", "b", "%", "_", "é"])
ITEMS = st.builds(
    MemoryItem,
    content=JSON,
    id=NAMES,
    namespace=st.lists(NAMES, min_size=1, max_size=2).map(tuple),
    kind=NAMES,
    text=st.none() | STRINGS,
    metadata=st.dictionaries(KEYS, JSON, max_size=4),
    tags=st.lists(NAMES, max_size=2).map(tuple),
    user_id=st.none() | NAMES,
    importance=st.sampled_from([0.0, 0.5, 1.0]),
    created_at=MOMENTS,
    expires_at=st.none() | MOMENTS,
    access_count=st.integers(0, 2),
    version=st.integers(0, 2),
    source=st.dictionaries(KEYS, SCALARS, max_size=2),
)


@st.composite
def pairs(draw: Any, depth: int = 3) -> tuple[dict[str, Any], Expr]:
    """A filter in both spellings."""
    shape = draw(st.sampled_from(["leaf", "leaf", "and", "or", "not", "implicit"])) if depth else "leaf"
    if shape == "leaf":
        return draw(leaves())
    if shape == "not":
        spelled, built = draw(pairs(depth - 1))
        return {"$not": spelled}, ~built
    parts = draw(st.lists(pairs(depth - 1), min_size=1, max_size=3))
    joined = parts[0][1]
    for _, part in parts[1:]:
        joined = joined | part if shape == "or" else joined & part
    if shape == "implicit":
        keys = [key for spelled, _ in parts for key in spelled]
        if len(set(keys)) == len(keys):
            return {key: value for spelled, _ in parts for key, value in spelled.items()}, joined
        shape = "and"
    return {f"${shape}": [spelled for spelled, _ in parts]}, joined


@st.composite
def leaves(draw: Any) -> tuple[dict[str, Any], Expr]:
    path = draw(PATHS)
    op = draw(st.sampled_from(["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "exists", "contains", "startswith"]))
    field = F[dotted(path)]
    values = JSON | MOMENTS if path[0] not in TIME_ROOTS else MOMENTS | st.none() | NUMBERS | st.booleans()
    if op in ("in", "nin"):
        value: Any = draw(st.lists(values, max_size=3))
        built = field.in_(value) if op == "in" else field.not_in(value)
    elif op == "exists":
        value = draw(st.booleans())
        built = field.exists(value)
    elif op == "startswith":
        value = draw(STRINGS)
        built = field.startswith(value)
    elif op == "contains":
        value = draw(values)
        built = field.contains(value)
    else:
        value = draw(values)
        built = {"eq": field.__eq__, "ne": field.__ne__, "gt": field.__gt__, "gte": field.__ge__,
                 "lt": field.__lt__, "lte": field.__le__}[op](value)  # fmt: skip
    spelled = {dotted(path): {f"${op}": value}}
    if op == "eq" and not isinstance(value, dict) and draw(st.booleans()):
        spelled = {dotted(path): value}
    return spelled, built


def naive(tree: Any, item: Any) -> bool:
    """The rules once more, as slowly and literally as they are written: what the compiled evaluator is held to."""
    if isinstance(tree, And):
        return all(naive(part, item) for part in tree.parts)
    if isinstance(tree, Or):
        return any(naive(part, item) for part in tree.parts)
    if isinstance(tree, Not):
        return not naive(tree.part, item)
    value = getattr(item, tree.path[0])
    present = value is not None or tree.path[0] == "content"
    for key in tree.path[1:]:
        present = type(value) is dict and key in value
        value = value[key] if present else None
    if type(value) is tuple:
        value = list(value)
    op, operand = tree.op, tree.value
    if op == "exists":
        return present is operand
    if op in ("ne", "nin"):
        return not naive(Compare(tree.path, {"ne": "eq", "nin": "in"}[op], operand), item)
    if op == "in":
        return any(naive(Compare(tree.path, "eq", one), item) for one in operand)
    if op == "eq":
        return tagged(value) == tagged(operand)
    if op == "contains":
        return type(value) is list and tagged(operand) in [tagged(part) for part in value]
    if op == "startswith":
        return type(value) is str and value[: len(operand)] == operand
    one, other = tagged(value), tagged(operand)
    if one[0] != other[0] or one[0] not in ("number", "str", "datetime"):
        return False
    return {"gt": one > other, "gte": one >= other, "lt": one < other, "lte": one <= other}[op]


def tagged(value: Any) -> Any:
    """The value with its type said aloud, so that Python's own == and < follow the filter's rules."""
    if type(value) in (int, float):
        return ("number", value)
    if type(value) is list:
        return ("list", [tagged(part) for part in value])
    if type(value) is dict:
        return ("dict", {name: tagged(part) for name, part in value.items()})
    return (type(value).__name__, value)


@settings(max_examples=300, deadline=None)
@given(pairs())
def test_both_spellings_always_give_equal_trees_and_digests(pair: tuple[dict[str, Any], Expr]) -> None:
    spelled, built = pair
    tree = parse(spelled)
    assert tree == parse(built) == built.tree == parse(tree)
    assert digest_form(tree) == digest_form(parse(built))
    assert digest_form(parse({"$not": spelled})) != digest_form(tree)


@settings(max_examples=600, deadline=None)
@given(pairs(), ITEMS)
def test_the_compiled_filter_agrees_with_the_rules_written_out(pair: tuple[dict[str, Any], Expr], item: Any) -> None:
    tree = parse(pair[0])
    assert evaluate(tree, item) is naive(tree, item)


@settings(max_examples=300, deadline=None)
@given(pairs(), ITEMS)
def test_a_negated_filter_is_the_exact_complement(pair: tuple[dict[str, Any], Expr], item: Any) -> None:
    tree = parse(pair[1])
    assert tree is not None
    assert evaluate(Not(tree), item) is not evaluate(tree, item)


def positive_leaves(tree: Any) -> bool:
    if isinstance(tree, Not):
        return isinstance(tree.part, Compare) and positive_leaves(tree.part)
    if isinstance(tree, Compare):
        return tree.op not in ("ne", "nin") and not (tree.op == "exists" and tree.value is False)
    return all(positive_leaves(part) for part in tree.parts)


@settings(max_examples=300, deadline=None)
@given(pairs(), ITEMS)
def test_normal_form_keeps_the_meaning_and_negates_leaves_only(pair: tuple[dict[str, Any], Expr], item: Any) -> None:
    tree = parse(pair[0])
    assert tree is not None
    pushed = nnf(tree)
    assert positive_leaves(pushed)
    assert evaluate(pushed, item) is evaluate(tree, item)
    assert nnf(pushed) == pushed


@settings(max_examples=300, deadline=None)
@given(pairs(), st.lists(ITEMS, min_size=1, max_size=5), st.randoms(use_true_random=False), st.booleans())
def test_translation_never_loses_a_row_and_exact_means_exact(
    pair: tuple[dict[str, Any], Expr], items: list[Any], random: Any, through_negating: bool
) -> None:
    tree = parse(pair[0])
    engine = Rows(items)

    def say(compare: Any) -> tuple[frozenset[int], bool] | None:
        choice = random.choice(["exact", "superset", "nothing"])
        if choice == "nothing":
            return None
        rows = engine.select(compare)
        extra = frozenset(n for n in engine.all if random.random() < 0.5) if choice == "superset" else frozenset()
        return rows | extra, choice == "exact"

    def leaf(compare: Compare, negated: bool) -> tuple[frozenset[int], bool] | None:
        return say(Not(compare) if negated else compare)

    done = engine.translate(tree, negating(say, lambda rows: engine.all - rows) if through_negating else leaf)
    wanted = engine.select(tree)
    selected = engine.all if done.predicate is None else done.predicate
    assert wanted <= selected
    if done.exact:
        assert wanted == selected
    # what the base does with the answer
    assert frozenset(n for n in selected if done.exact or predicate(tree)(items[n])) == wanted


HOSTILE_TEXT = st.one_of(
    st.text(st.characters(codec=None), max_size=12),
    st.sampled_from(
        ["$where", "__class__", "__proto__", "constructor", "'; DROP TABLE items; --", '" OR "1"="1', "a'b", "%", "_", "*",
         "$.x", "$[0]", "a[0]", "..", "../..", "/", ":", "|", "@kind:{x}", "-@x:y", "\\", "\\'", "\\.", "\0", "\n", "{}", "${x}",
         "{{7*7}}", "x" * 300_000, "\ud800", "\udfff", "é", "e\u0301", "K", "ß", "\u202e", "lc", "eval(1)"]
    ),
)  # fmt: skip
HOSTILE: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | HOSTILE_TEXT | st.binary(max_size=2)
    | st.sampled_from([print, object(), object, {1}, 1j, NOON, NOON.replace(tzinfo=None), F, F.kind, F.kind == "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(
        HOSTILE_TEXT | st.sampled_from(["$and", "$or", "$not", "$gt", "$in", "$nin", "$exists", "$startswith", "$eq", "kind",
                                        "metadata.a", "created_at"]) | st.none() | st.integers(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(HOSTILE, ITEMS)
def test_anything_at_all_either_parses_and_evaluates_or_is_an_invalid_filter(where: Any, item: Any) -> None:
    try:
        tree = parse(where)
    except InvalidFilter as error:
        message = str(error)
    else:
        message = ""
    if message:
        assert len(message.encode()) < 1_500  # printable as it is, and never a copy of what was sent
        return
    assert type(evaluate(tree, item)) is bool
    assert digest_form(tree) == digest_form(parse(tree))


@settings(max_examples=300, deadline=None)
@given(HOSTILE_TEXT, HOSTILE_TEXT)
def test_hostile_names_and_values_mean_themselves_or_are_refused(name: str, value: str) -> None:
    try:
        tree = parse({dotted(("metadata", name)): {"$eq": value}})
    except InvalidFilter:
        assert not name or len(name) > 2**16 or any("\ud800" <= letter <= "\udfff" for letter in name + value)
        return
    assert fields(tree) == {("metadata", name)}
    assert holds(tree, MemoryItem(content="", metadata={name: value}))
    assert not holds(tree, MemoryItem(content="", metadata={name: value + "x"}))
    assert not holds(tree, MemoryItem(content="", metadata={name + "x": value}))
    assert not holds(tree, MemoryItem(content=""))


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_a_path_survives_being_written_as_a_dotted_name(path: list[str]) -> None:
    assert split_path(dotted(path)) == tuple(path)


@given(JSON, JSON)
def test_equality_is_symmetric_and_the_digest_agrees_with_it(one: Any, other: Any) -> None:
    assert equal(one, other) is equal(other, one)
    assert equal(one, copy.deepcopy(one))
    same = digest_form(parse(F.content == one)) == digest_form(parse(F.content == other))
    assert same is equal(one, other)
