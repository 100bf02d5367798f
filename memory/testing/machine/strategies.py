"""Few ids, words and values, so that what is written is met again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import strategies as st

from memory.model import MemoryItem
from memory.testing.machine.model import Pins

PATHS: list[tuple[str, ...]] = [("n",), ("n", "m"), ("nm",)]
IDS = ["a", "b", "B", "é", "a/b"]
KEYS = [(path, id) for path in PATHS for id in IDS]
USERS = [None, "ann", "bob"]
WORDS = ["marmot", "whistle", "marmots", "grass", "river", "the"]
SCALARS: list[Any] = [None, True, False, 0, 1, 1.0, -0.0, 2**53, 2**53 + 1, 1.5, "", "a", "ab", "é"]

VECTORS: list[list[float]] = [
    [1.0, 0.0, 0.0, 0.0], [2.0, 0.0, 0.0, 0.0], [1.0, 1e-4, 0.0, 0.0], [1.0, 3e-8, 0.0, 0.0], [0.6, 0.8, 0.0, 0.0], [0.8, 0.6, 0.0, 0.0],
    [0.0, 1.0, 0.0, 0.1], [-1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [3.0, 3.0, 3.0, 3.0], [0.1, 0.1, 0.1, 0.1],
]  # fmt: skip
"""A few directions, so that many are equally near, or nearly so; one has none."""
DIMENSION = 4

VIEWS = [
    Pins(),
    Pins(),
    Pins(),
    Pins(user_id="ann"),
    Pins(user_id="bob"),
    Pins(("n",)),
    Pins(("n",), below=False, user_id="ann"),
    Pins(("n", "m"), session_id="s"),
]

views = st.sampled_from(VIEWS)
keys = st.sampled_from(KEYS)
scalars = st.sampled_from(SCALARS)
texts = st.lists(st.sampled_from(WORDS), min_size=0, max_size=6).map(" ".join)
values = st.one_of(
    scalars, st.lists(scalars, max_size=2), st.dictionaries(st.sampled_from(["k", "z"]), scalars, max_size=2)
)
contents = st.one_of(texts, values)
metadata = st.dictionaries(st.sampled_from(["x", "y"]), values, max_size=2)
patches = st.dictionaries(st.sampled_from(["x", "y", "k"]), values, max_size=2)
ttls = st.sampled_from([None, None, None, 1, 5, 50])
orders = st.sampled_from(
    [
        "key",
        "-key",
        "created_at",
        "-created_at",
        "updated_at",
        "-updated_at",
        "accessed_at",
        "importance",
        "-importance",
    ]
)
vectors = st.sampled_from(VECTORS)
embeds = st.sampled_from(["now", "now", "later"])
tags = st.sampled_from([(), ("red",), ("red", "blue")])
kinds = st.sampled_from(["note", "fact"])


@st.composite
def items(draw: st.DrawFn) -> MemoryItem:
    """An item under one of KEYS."""
    path, id = draw(keys)
    return MemoryItem(
        id=id,
        namespace=path,
        content=draw(contents),
        text=draw(st.one_of(st.none(), texts)),
        metadata=draw(metadata),
        tags=draw(tags),
        kind=draw(kinds),
        user_id=draw(st.sampled_from(USERS)),
        session_id=draw(st.sampled_from([None, "s"])),
        importance=draw(st.sampled_from([0.0, 0.5, 1.0])),
        embedding=draw(st.one_of(st.none(), vectors)),
    )


@st.composite
def placed(draw: st.DrawFn) -> tuple[Pins, MemoryItem]:
    """A view, and an item that mostly lies inside it."""
    pins, item = draw(views), draw(items())
    if draw(st.integers(0, 4)):
        path = item.namespace if pins.holds_path(item.namespace) else pins.path
        mine = {name: getattr(pins, name) or getattr(item, name) for name in ("user_id", "session_id")}
        item = msgspec.structs.replace(item, namespace=path, **mine)
    return pins, item


@st.composite
def twins(draw: st.DrawFn, item: MemoryItem, records: Sequence[dict[str, Any]]) -> MemoryItem:
    """The item with the content of one of the records, and all else that dedup looks at; or as it is."""
    record = draw(st.sampled_from([None, *records]))
    if record is None:
        return item
    names = ("namespace", "kind", "content", "user_id", "session_id")
    return msgspec.structs.replace(item, **{name: record[name] for name in names})


batches = st.lists(items(), min_size=4, max_size=12, unique_by=lambda item: item.key)
"""What a program begins with."""


def _operators(value: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    one = st.tuples(st.sampled_from(["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$contains"]), value)
    many = st.tuples(st.sampled_from(["$in", "$nin"]), st.lists(value, max_size=3))
    exists = st.tuples(st.just("$exists"), st.booleans())
    prefix = st.tuples(st.just("$startswith"), st.sampled_from(["", "a", "é"]))
    return st.one_of(one, one, many, exists, prefix).map(lambda pair: dict([pair]))


_PLACES = [
    "metadata.x",
    "metadata.y",
    "metadata.x.k",
    "content",
    "content.z",
    "user_id",
    "text",
    "importance",
    "tags",
    "kind",
    "id",
]
leaves = st.tuples(
    st.sampled_from(_PLACES), _operators(st.one_of(values, st.sampled_from(["note", "ann", "red"])))
).map(lambda pair: dict([pair]))
nested = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"$not": inner}),
        st.fixed_dictionaries({"$and": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"$or": st.lists(inner, min_size=1, max_size=3)}),
    ),
    max_leaves=4,
)
filters = st.one_of(st.none(), leaves, nested)
narrow = st.one_of(
    keys.map(lambda key: {"id": {"$eq": key[1]}}),
    st.fixed_dictionaries({"$and": st.tuples(leaves, leaves, leaves).map(list)}),
)
"""Filters that find few items, for what deletes them."""
