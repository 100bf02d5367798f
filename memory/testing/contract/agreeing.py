"""Sentences about filters, many at once: every answer is the reference evaluator's."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

import random
from typing import Any

from memory.errors import InvalidFilter
from memory.filters import LIST_ROOTS, ROOTS, evaluate, parse
from memory.filters.tree import TIME_ROOTS
from memory.model import MemoryItem
from memory.store import MemoryStore
from memory.testing.contract.suite import Suite, answers, busy, ids, item

BIG = 2**53
OPERANDS: list[Any] = [None, True, 0, 0.5, -1, "", "note", "2026-01-01T00:00:00Z", [], ["a"], {}, {"a": 1}, [None]]


class Agreeing(Suite):
    """Filters against the reference evaluator."""

    @busy
    async def test_every_field_takes_every_operand(self, store: MemoryStore) -> None:
        await store.put_many([item("a", "note", tags=("a",), importance=0.5), item("b", None, user_id="note", text="")])
        await store.put(item("c", 0, importance=0.0, metadata={"a": 1}), ttl=50)
        items = [one async for batch in store.stream() for one in batch]
        assert {"kind", "importance"} < set(ROOTS)
        assert set(ROOTS) > LIST_ROOTS | TIME_ROOTS
        asked: list[tuple[dict[str, Any], list[str]]] = []
        for root in ROOTS:
            for op in ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$contains", "$in", "$nin"):
                for operand in OPERANDS:
                    where = {root: {op: [operand, "a"] if op.endswith("in") else operand}}
                    try:
                        tree = parse(where)
                    except InvalidFilter:
                        continue  # what a time cannot be compared with
                    expected = [one.id for one in items if evaluate(tree, one)]
                    others = [one.id for one in items if one.id not in expected]
                    asked += [(where, expected), ({"$not": where}, others)]
        found = await answers(lambda pair: ids(store, pair[0]), asked)
        for (where, expected), answer in zip(asked, found, strict=True):
            assert answer == expected, where

    @busy
    async def test_random_filters_agree_with_the_reference_evaluator(self, store: MemoryStore) -> None:
        chance = random.Random(20260101)
        await store.put_many([random_item(chance, i) for i in range(60)])
        items = [one async for batch in store.stream() for one in batch]
        assert len(items) == 60
        asked = [random_filter(chance, 3) for _ in range(150)]
        listed = await answers(lambda where: ids(store, where, limit=7), asked)
        counted = await answers(store.count, asked)
        for where, found, count in zip(asked, listed, counted, strict=True):
            tree = parse(where)
            expected = [one.id for one in items if evaluate(tree, one)]
            assert found == expected, where
            assert count == len(expected), where


SCALARS: list[Any] = [0, 1, 1.0, -1, 2.5, BIG, BIG + 1, True, False, None, "", "a", "ab", "b", "é", "1", "%", "a_"]
PATHS = [
    "metadata.x",
    "metadata.y",
    "metadata.x.z",
    "content",
    "content.k",
    "kind",
    "user_id",
    "importance",
    "tags",
    "text",
]


def random_value(chance: random.Random, depth: int = 2) -> Any:
    """A scalar, mostly; else a small list or object."""
    pick = chance.random()
    if depth and pick < 0.1:
        return [random_value(chance, depth - 1) for _ in range(chance.randrange(3))]
    if depth and pick < 0.2:
        return {name: random_value(chance, depth - 1) for name in chance.sample(["k", "z", "q"], chance.randrange(3))}
    return chance.choice(SCALARS)


def random_item(chance: random.Random, number: int) -> MemoryItem:
    """An item whose fields come from the few values that random filters ask for."""
    return item(
        f"{number:03}",
        random_value(chance),
        kind=chance.choice(["a", "ab", "note"]),
        metadata={name: random_value(chance) for name in chance.sample(["x", "y"], chance.randrange(3))},
        tags=tuple(chance.sample(["a", "b", "ab"], chance.randrange(3))),
        user_id=chance.choice([None, "a", "b"]),
        importance=chance.choice([0.0, 0.5, 1.0]),
        text=chance.choice([None, "a", "ab"]),
    )


def random_filter(chance: random.Random, depth: int) -> dict[str, Any]:
    """A filter over PATHS, nested up to ``depth``."""
    pick = chance.random()
    if depth and pick < 0.15:
        return {"$not": random_filter(chance, depth - 1)}
    if depth and pick < 0.4:
        parts = [random_filter(chance, depth - 1) for _ in range(chance.randrange(1, 4))]
        return {chance.choice(["$and", "$or"]): parts}
    path = chance.choice(PATHS)
    op = chance.choice(["eq", "ne", "gt", "gte", "lt", "lte", "in", "nin", "exists", "contains", "startswith"])
    if op == "exists":
        return {path: {"$exists": chance.random() < 0.5}}
    if op == "startswith":
        return {path: {"$startswith": chance.choice(["", "a", "ab", "é", "%", "_"])}}
    if op in ("in", "nin"):
        return {path: {f"${op}": [random_value(chance, 1) for _ in range(chance.randrange(4))]}}
    return {path: {f"${op}": random_value(chance, 1)}}
