"""The emulator answers without indexes, Firestore does not: every kind of question is held to the definitions."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

import pytest
from servers import server

from memory import ManualClock, MemoryItem
from memory.backends.firestore import connection, queries
from memory.backends.firestore.queries import Query
from memory.backends.firestore.v2 import FirestoreV2Store, paths
from memory.backends.firestore.v2.indexes import BULKY, definitions
from memory.backends.firestore.v2.legacy import VECTOR

Index = tuple[tuple[str, str], ...]
_UP, _DOWN, _HOLDS, _NEAR = "ASCENDING", "DESCENDING", "CONTAINS", "vector"


def indexes(store: FirestoreV2Store) -> set[Index]:
    """Each index as ((path, how), ...)."""
    return {
        tuple((field["fieldPath"], field.get("order") or field.get("arrayConfig") or _NEAR) for field in one["fields"])
        for one in definitions(store.names, 4)["indexes"]
    }


def is_served(query: Query, held: set[Index]) -> bool:
    """Firestore's rule: single fields index themselves; else each equality needs an index that ends in the order (these
    are joined), an order alone one of its own, a vector search one of exactly its equalities."""
    equal = [
        (one.path, _HOLDS if "contains" in one.operator else _UP)
        for one in query.conditions
        if one.operator[0] in "=ic"
    ]
    ranged = {one.path for one in query.conditions if one.operator[0] in "<>"}
    if query.near is not None:
        assert not ranged
        return any((*order, (VECTOR, _NEAR)) in held for order in itertools.permutations(equal))
    order = [(path, _DOWN if descending else _UP) for path, descending in query.orders]
    further = sorted(ranged - {path for path, _ in order})
    if len({path for path, _ in (*equal, *order)} | ranged) <= 1:
        return True
    if not order and not ranged:
        return True  # equalities alone are joined from the fields' own indexes
    suffixes = [(*order, *((path, _UP) for path in rest)) for rest in itertools.permutations(further)]
    if not equal:
        return any(len(suffix) == 1 or suffix in held for suffix in suffixes)
    return any(all((one, *suffix) in held for one in equal) for suffix in suffixes)


async def test_every_kind_of_question_has_its_index(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Query] = []
    before = connection.message

    def noted(query: Query, limit: int | None) -> Any:
        asked.append(query)
        return before(query, limit)

    monkeypatch.setattr(connection, "message", noted)
    clock = ManualClock()
    store = FirestoreV2Store(
        project_id="ix-" + uuid.uuid4().hex[:12], emulator=server("firestore").url, clock=clock, sweep_interval=None
    )
    async with store:
        await store.put_many(
            [
                MemoryItem(
                    id=f"{i}", namespace=("a", f"b{i % 2}"), content=f"marmot {i}", user_id="ann", agent_id="bot", session_id="s",
                    tags=("t",), embedding=[1.0, float(i)],
                )
                for i in range(6)
            ],
            dedup="content",
        )  # fmt: skip
        await store.put(MemoryItem(id="x", content="alone"), dedup="content", ttl=1)
        pins: list[dict[str, Any]] = [
            dict(zip(names, values, strict=True))
            for size in range(4)
            for chosen in itertools.combinations((("user_id", "ann"), ("agent_id", "bot"), ("session_id", "s")), size)
            for names, values in [zip(*chosen, strict=True) if chosen else ((), ())]
        ]
        places: list[dict[str, Any]] = [{}, {"namespace": ("a", "b1")}, {"under": ("a",)}]
        filters: list[Any] = [None, {"kind": "note"}, {"tags": {"$contains": "t"}}, {"metadata.n": {"$gt": 1}}]
        for pin, place, where in itertools.product(pins, places, filters):
            view = store.scoped(**pin) if pin else store
            for order in paths.ORDERS if pin in ({}, pins[-1]) else ("key",):
                for sign in ("", "-"):
                    page = await view.list(where, order=sign + order, limit=2, **place)
                    if page.cursor is not None and not pin:
                        await view.list(where, order=sign + order, limit=2, cursor=page.cursor, **place)
            await view.count(where, **place)
            await view.search("marmot alone", where=where, neighbours=1, **place)
            await view.search(vector=[1.0, 2.0], where=where, **place)
        await store.namespaces()
        clock.advance(2)
        await store.sweep()
        assert (await store.verify()).ok
        await store.repair()
        await store.health()
        held = indexes(store)
        lacking = {
            (tuple((one.path, one.operator) for one in query.conditions), query.orders, query.near is not None)
            for query in asked
            if query.collection == store.names.items and not is_served(query, held)
        }
        assert lacking == set()
        looked_at = {one.path for query in asked for one in query.conditions} | {
            path for query in asked for path, _ in query.orders
        }
        assert not looked_at & set(BULKY), "a field whose own index is switched off is never asked for"
    shapes = {
        (tuple(sorted({(one.path, one.operator) for one in query.conditions})), query.orders, query.near is not None)
        for query in asked
    }
    assert len(shapes) > 100, "the questions above are of many kinds"


def test_the_rule_itself_refuses_what_has_no_index() -> None:
    held = {((paths.USER, _UP), (paths.KEY, _UP))}
    one = queries.Condition(paths.USER, "==", None)
    two = queries.Condition(paths.KIND, "==", None)
    assert is_served(Query(collection="c", conditions=(one,), orders=((paths.KEY, False),)), held)
    assert not is_served(Query(collection="c", conditions=(one,), orders=((paths.KEY, True),)), held)
    assert not is_served(Query(collection="c", conditions=(one, two), orders=((paths.KEY, False),)), held)
    assert is_served(Query(collection="c", conditions=(one, two)), held)
    assert is_served(Query(collection="c", orders=((paths.CREATED, True),)), held)
    assert not is_served(Query(collection="c", orders=((paths.CREATED, True), (paths.KEY, False))), held)
    assert not is_served(Query(collection="c", conditions=(one,), near=object(), limit=3), held)
