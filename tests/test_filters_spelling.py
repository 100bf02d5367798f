from __future__ import annotations

import copy
import enum
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from memory.errors import InvalidFilter
from memory.filters import (
    And,
    Compare,
    Expr,
    F,
    Not,
    Or,
    digest_form,
    evaluate,
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
