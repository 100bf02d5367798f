from __future__ import annotations

import copy
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import example, given, settings
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


@given(HOSTILE_TEXT, JSON)
@example("\x7f", ["\x7f", "é", "\0", 1e300, 5e-324, 0.1, -(2**63), 1e16])
def test_the_digest_form_is_what_json_writes(name: str, value: Any) -> None:
    try:
        form = digest_form(parse({dotted(("metadata", name)): {"$eq": value}}))
    except InvalidFilter:
        return
    assert form == json.dumps(json.loads(form), separators=(",", ":")).encode()
