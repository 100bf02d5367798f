"""Sentences about scoped views: they cannot see, overwrite or learn of what lies outside."""
# ruff: noqa: D102 - the name of a sentence is its documentation

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from memory.errors import (
    AlreadyExists,
    BackendUnavailable,
    InvalidItem,
    NotFound,
    UnsupportedOperation,
    VersionConflict,
)
from memory.store import MemoryStore
from memory.testing.contract.suite import Suite, body, home, ids, item, needs, walk, whole


async def plant(store: MemoryStore) -> int:
    """Items of two users in two sessions and three namespaces, or in the only one, all about marmots; how many those are."""
    places = {home(store, *path): None for path in (("app",), ("app", "x"), ("apple",))}
    for user in ("ann", "bob"):
        for session in ("s1", "s2"):
            for namespace in places:
                id = f"{user}-{session}-{'.'.join(namespace)}"
                await store.put(item(id, f"marmot {id}", namespace=namespace, user_id=user, session_id=session))
    return len(places)


class Views(Suite):
    """Scopes."""

    async def test_a_view_lists_counts_and_streams_only_its_own(self, store: MemoryStore) -> None:
        n = await plant(store)
        cases: tuple[tuple[dict[str, Any], int], ...] = (
            ({"user_id": "ann"}, 2 * n),
            ({"user_id": "ann", "session_id": "s1"}, n),
            ({"namespace": home(store, "app")}, 4),
            ({"under": home(store, "app")}, 8 if n > 1 else 4),
            ({"under": home(store, "app"), "user_id": "bob", "session_id": "s2"}, 2 if n > 1 else 1),
            ({"namespace": home(store, "app"), "user_id": "nobody"}, 0),
        )
        for pins, expected in cases:
            view = store.scoped(**pins)
            found = await walk(view, limit=3)
            assert len(found) == await view.count() == expected, pins
            assert [one async for batch in view.stream(batch_size=2) for one in batch] == found
            assert len((await view.search("marmot", limit=50)).hits) == expected
            for one in found:
                for field in ("user_id", "session_id"):
                    assert pins.get(field, getattr(one, field)) == getattr(one, field)

    async def test_an_argument_cannot_widen_a_view(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        await plant(store)
        exact, below = store.scoped(namespace=("app",)), store.scoped(under=("app",))
        for view, namespace in ((exact, ("app", "x")), (exact, ("apple",)), (below, ("apple",)), (below, ("other",))):
            assert (await view.list(namespace=namespace)).items == []
            assert await view.count(namespace=namespace) == 0
            assert await view.get("ann-s1-" + ".".join(namespace), namespace=namespace) is None
            assert not await view.exists("ann-s1-" + ".".join(namespace), namespace=namespace)
            assert (await view.search("marmot", namespace=namespace)).hits == []
            assert await view.delete_where(None, namespace=namespace) == 0
            assert not await view.delete("ann-s1-" + ".".join(namespace), namespace=namespace)
            assert await view.delete_many(["ann-s1-" + ".".join(namespace)], namespace=namespace) == [False]
            assert not await view.touch("ann-s1-" + ".".join(namespace), namespace=namespace)
        assert await exact.count(under=()) == 4
        assert await exact.count(under=("app",)) == 4
        assert await below.count(under=()) == 8
        assert await below.count(under=("app", "x")) == 4
        assert await exact.namespaces() == await exact.namespaces(under=()) == [("app",)]
        assert await store.count() == 12

    async def test_a_view_of_a_view_is_narrower_and_never_wider(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        await plant(store)
        view = store.scoped(under=("app",), user_id="ann")
        assert await view.scoped(session_id="s1").count() == 2
        assert await view.scoped(("app", "x")).count() == 2
        assert await view.scoped(under=()).count() == 4
        assert await view.scoped().count() == 4
        with pytest.raises(InvalidItem):
            view.scoped(user_id="bob")
        with pytest.raises(InvalidItem):
            view.scoped(("apple",))
        with pytest.raises(InvalidItem):
            store.scoped(namespace=("a",), under=("a",))

    async def test_a_view_stamps_what_it_pins(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        view = store.scoped(namespace=("team", "x"), user_id="ann", session_id="s")
        stored = await view.put(item())
        assert (stored.namespace, stored.user_id, stored.session_id) == (("team", "x"), "ann", "s")
        assert await view.get("a") == stored
        assert await store.get("a", namespace=("team", "x")) == stored
        below = store.scoped(under=("team",), user_id="ann")
        assert (await below.put(item("b"))).namespace == ("team",)
        assert (await below.put(item("c", namespace=("team", "y")))).namespace == ("team", "y")

    async def test_a_view_refuses_items_of_others(self, store: MemoryStore) -> None:
        view = store.scoped(under=("team",), user_id="ann", session_id="s")
        others: tuple[dict[str, Any], ...] = (
            *({"user_id": "bob"}, {"session_id": "t"}),
            *({"namespace": ("other",)}, {"namespace": ("teams",)}),
        )
        for bad in others:
            with pytest.raises(InvalidItem):
                await view.put(item(**bad))
            with pytest.raises(InvalidItem):
                await view.put_many([item("ok"), item(**bad)])
        assert await store.count() == 0

    async def test_put_and_add_refuse_a_key_outside_the_view_without_showing_it(self, store: MemoryStore) -> None:
        bobs = await store.put(item("a", "secret of bob", user_id="bob", metadata={"pin": 1234}))
        view = store.scoped(user_id="ann")
        calls: list[Callable[[], Any]] = [
            lambda: view.put(item("a", "mine")),
            lambda: view.add(item("a", "mine")),
            lambda: view.put(item("a", "mine"), if_version=bobs.version),
            lambda: view.put(item("a", "secret of bob"), dedup="content"),
        ]
        for call in calls:
            with pytest.raises(AlreadyExists) as caught:
                await call()
            shown = f"{caught.value} {caught.value.__dict__}"
            assert "secret" not in shown
            assert "bob" not in shown
            assert str(bobs.version) not in shown.replace("'a'", "")
        assert await store.get("a") == bobs

    async def test_what_lies_outside_is_absent_to_update_touch_and_delete(self, store: MemoryStore) -> None:
        bobs = await store.put(item("a", "bob's", user_id="bob"))
        view = store.scoped(user_id="ann")
        with pytest.raises(NotFound):
            await view.update("a", metadata={"x": 1})
        with pytest.raises(NotFound):
            await view.update("a", metadata={"x": 1}, if_version=bobs.version)
        assert await view.touch("a") is False
        assert await view.touch("a", if_version=bobs.version) is False
        assert await view.delete("a") is False
        assert await view.delete("a", if_version=bobs.version + 1) is False
        assert await view.delete_many(["a"]) == [False]
        assert await view.delete_where({"id": "a"}) == 0
        assert await view.delete_where(None, under=()) == 0
        assert await view.get("a") is None
        assert await view.get_many(["a"]) == [None]
        assert await store.get("a") == bobs

    async def test_an_item_without_an_owner_lies_outside_a_users_view(self, store: MemoryStore) -> None:
        await store.put(item("a"))
        view = store.scoped(user_id="ann")
        assert await view.get("a") is None
        with pytest.raises(AlreadyExists):
            await view.put(item("a"))

    async def test_an_update_cannot_move_an_item_out_of_the_view(self, store: MemoryStore) -> None:
        view = store.scoped(user_id="ann")
        await view.put(item())
        with pytest.raises(InvalidItem):
            await view.update("a", user_id="bob")
        updated = await view.update("a", user_id=None)
        assert updated.user_id == "ann"

    async def test_an_item_moved_by_its_owner_leaves_the_view(self, store: MemoryStore) -> None:
        view = store.scoped(user_id="ann")
        stored = await view.put(item("a", "marmot"))
        await store.update("a", user_id="bob")
        assert await view.get("a") is None
        assert await view.count() == 0
        assert (await view.search("marmot")).hits == []
        assert await view.delete("a", if_version=stored.version) is False

    async def test_dedup_never_returns_what_belongs_to_another(self, store: MemoryStore) -> None:
        await store.put(item("a", "same", user_id="bob"))
        view = store.scoped(user_id="ann")
        assert (await view.put(item("b", "same"), dedup="content")).id == "b"

    async def test_search_scores_do_not_depend_on_what_lies_outside(self, store: MemoryStore) -> None:
        view = store.scoped(user_id="ann")
        await view.put_many([item("a", "marmot whistle"), item("b", "marmot")])
        before = [(hit.item.id, hit.score, hit.components) for hit in await view.search("marmot whistle", explain=True)]
        await store.scoped(user_id="bob").put_many([item(f"bob{i}", "marmot whistle") for i in range(30)])
        await store.put_many([item(f"nobody{i}", "whistle") for i in range(30)])
        after = [(hit.item.id, hit.score, hit.components) for hit in await view.search("marmot whistle", explain=True)]
        assert before == after

    async def test_neighbours_outside_the_view_lend_nothing(self, store: MemoryStore) -> None:
        ann, bob = store.scoped(user_id="ann"), store.scoped(user_id="bob")
        await ann.put(item("1", "marmot", session_id="s"))
        await bob.put(item("2", "marmot marmot", session_id="s"))
        await ann.put(item("3", "nothing", session_id="s"))
        own = (await ann.search("marmot")).hits[0].score
        hits = {hit.item.id: hit.score for hit in await ann.search("marmot", neighbours=1)}
        assert set(hits) == {"1", "3"}
        assert hits["1"] == pytest.approx(own / 1.6)
        assert hits["3"] == pytest.approx(0.3 * own / 1.6)

    async def test_namespaces_of_a_view_are_those_with_its_own_items(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        await plant(store)
        await store.put(item(namespace=("secret",), user_id="bob"))
        assert await store.scoped(user_id="ann").namespaces() == [("app",), ("app", "x"), ("apple",)]
        assert await store.scoped(under=("app",)).namespaces() == [("app",), ("app", "x")]
        assert await store.scoped(under=("app",)).namespaces(under=("secret",)) == []

    async def test_an_order_or_a_filter_does_not_reach_outside(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        await plant(store)
        view = store.scoped(user_id="ann", under=("app",))
        for where in ({"user_id": "bob"}, {"namespace": ["apple"]}, {"id": "bob-s1-app"}):
            assert await ids(view, where) == []
        outside = await ids(view, {"$or": [{"user_id": "bob"}, {"user_id": {"$ne": "bob"}}]})
        assert len(outside) == 4
        for order in ("created_at", "-updated_at", "importance", "accessed_at"):
            assert len(await ids(view, order=order, limit=2)) == 4

    async def test_whole_store_operations_are_refused_on_views(self, store: MemoryStore, place: object) -> None:
        view = store.scoped(user_id="ann")
        calls: list[Any] = [
            lambda: view.stats(), lambda: view.verify(), lambda: view.repair(), lambda: view.sweep(),
            lambda: view.backup(f"{place}/b"), lambda: view.restore(f"{place}/b"),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(UnsupportedOperation):
                await call()

    async def test_health_of_a_view_tells_nothing_of_the_store(self, store: MemoryStore) -> None:
        health = await store.scoped(user_id="ann").health()
        assert (health.backend, health.details) == (whole(store).name, {})

    async def test_health_of_a_view_hides_why_an_engine_is_sick(self, store: MemoryStore) -> None:
        async def sick() -> Any:
            raise BackendUnavailable("10.0.0.7:6379 does not answer")

        vars(whole(store))["_health"] = sick
        health = await store.scoped(user_id="ann").health()
        assert (health.status, health.details) == ("unhealthy", {})
        assert "10.0.0.7" in (await store.health()).details["error"]

    async def test_a_tenants_export_holds_only_its_own(self, store: MemoryStore, place: object) -> None:
        n = await plant(store)
        path = f"{place}/ann.jsonl"
        assert await store.scoped(user_id="ann").export_jsonl(path) == 2 * n
        await store.delete_where(None, under=())
        await store.import_jsonl(path)
        assert {one.user_id for one in await walk(store)} == {"ann"}

    async def test_a_tenant_cannot_import_into_anothers_memory(self, store: MemoryStore, place: object) -> None:
        needs(store, "namespaces")
        bobs = await store.put(item("a", "bob's", user_id="bob", namespace=("app",)))
        path = f"{place}/bob.jsonl"
        await store.export_jsonl(path)
        for view in (store.scoped(user_id="ann"), store.scoped(("other",)), store.scoped(under=("app", "x"))):
            with pytest.raises(InvalidItem) as caught:
                await view.import_jsonl(path)
            assert list(vars(caught.value)["lines"]) == [1]
            report = await view.import_jsonl(path, on_error="skip")
            assert (report.imported, list(report.refused)) == (0, [1])
        assert await store.get("a", namespace=("app",)) == bobs
        assert await store.count() == 1

    async def test_views_see_each_others_writes_within_their_scope(self, store: MemoryStore) -> None:
        needs(store, "namespaces")
        wide, narrow = store.scoped(under=("app",)), store.scoped(("app", "x"), user_id="ann")
        await narrow.put(item("a", "narrow"))
        assert body(await wide.get("a", namespace=("app", "x"))) == body(await narrow.get("a"))
        await wide.update("a", namespace=("app", "x"), content="wide")
        found = await narrow.get("a")
        assert found is not None
        assert found.content == "wide"
        with pytest.raises(VersionConflict):
            await narrow.put(item("a"), if_version=found.version + 1)
