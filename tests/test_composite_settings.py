"""Composites from a TOML file and in code: what makes no sense is refused at start, with the line to fix."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from memory import MemoryItem, MemoryManager
from memory.backends.composite import MirroredStore, Promotion, Route, RoutedStore, TieredStore
from memory.backends.firestore.v1 import FirestoreV1Store
from memory.backends.in_memory import InMemoryStore
from memory.backends.redis import RedisStore
from memory.backends.sqlite import SqliteStore
from memory.errors import InvalidSetting
from memory.registry import create_store

GOOD = """
store = "memory"

[stores.memory]
shape = "tiered"
fast = "cache"
truth = "records"
staleness = 0.5

[stores.cache]
backend = "in_memory"

[stores.records]
shape = "mirrored"
primary = "main"
mirrors = ["copy"]
vectors = "copy"

[stores.main]
backend = "sqlite"
path = "main.db"
synchronous = "normal"

[stores.copy]
shape = "routed"
journal = "moves"

[[stores.copy.routes]]
store = "work"
kind = "working"
order = 1
promote = { accesses = 3 }

[[stores.copy.routes]]
store = "team"
under = ["team"]
where = { "metadata.hot" = true }
order = 2

[[stores.copy.routes]]
store = "rest"

[stores.work]
backend = "sqlite:///work.db"
[stores.team]
backend = "sqlite:///team.db"
[stores.rest]
backend = "sqlite:///rest.db"
[stores.moves]
backend = "sqlite:///moves.db"
"""


def written(text: str) -> str:
    Path("memory.toml").write_text(text)
    return "composite:///memory.toml"


async def test_a_file_makes_a_composite_of_composites(empty: Path) -> None:
    store = create_store(written(GOOD) + "?sweep_interval=60")
    assert isinstance(store, TieredStore)
    assert store.staleness == 0.5
    async with store:
        stored = await store.put(MemoryItem(id="a", kind="working", content="a marmot"))
        assert await store.get("a") == stored
        assert [hit.item.id for hit in await store.search("marmot")] == ["a"]
        assert (await store.verify()).ok
        assert store.durability == "process"
        health = await store.health()
        assert set(health.details["members"]) == {"fast", "truth"}
    assert {path.name for path in empty.glob("*.db")} == {"main.db", "work.db", "team.db", "rest.db", "moves.db"}


async def test_the_manager_and_its_settings_know_it(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(GOOD)
    Path("memory.toml").rename("other file?.toml")
    monkeypatch.setenv("MEMORY_BACKEND_TYPE", "composite")
    monkeypatch.setenv("MEMORY_COMPOSITE_FILE", "other file?.toml")
    async with MemoryManager() as memory:
        assert memory.store.name == "tiered"
        await memory.store.put(MemoryItem(content="a marmot"))
        assert await memory.store.count() == 1


@pytest.mark.parametrize("seconds", [0, 0.25])
def test_a_cache_ttl_below_what_a_tiered_store_promises_is_refused(seconds: float, empty: Path) -> None:
    address = written(GOOD)
    assert MemoryManager(address, cache_ttl=0.5).store.capabilities.staleness == 0.5
    bound = "staleness = 0.25 for its tiered store, or " if seconds else ""
    told = f"may be 0.5 s old. Set {bound}cache_ttl to 0.5 or more, or leave it out"
    for store in (address, create_store(address)):
        with pytest.raises(InvalidSetting, match=re.escape(told)) as caught:
            MemoryManager(store, cache_ttl=seconds)
        assert caught.value.setting == "cache_ttl"


async def test_a_cache_ttl_is_held_against_a_store_that_is_made_when_it_is_opened(empty: Path) -> None:
    memory = MemoryManager(written(GOOD), cache_ttl=0.25)
    for _ in range(2):
        with pytest.raises(InvalidSetting, match="cache_ttl"):
            await memory.open()


def test_a_member_with_stale_reads_is_refused() -> None:
    def standing_in() -> MirroredStore:
        return MirroredStore(InMemoryStore(), {"copy": InMemoryStore()}, stale_reads=True)

    for make in (
        lambda: TieredStore(InMemoryStore(), standing_in()),
        lambda: MirroredStore(standing_in(), {"copy": InMemoryStore()}),
        lambda: RoutedStore({"all": Route(standing_in())}),
    ):
        with pytest.raises(InvalidSetting, match="has stale_reads"):
            make()


BAD: dict[str, tuple[str, str, int, str]] = {
    "cycle": ('truth = "records"', 'truth = "memory"', 7, "a cycle: memory > memory"),
    "longer cycle": ('primary = "main"', 'primary = "memory"', 15, "a cycle: memory > records > memory"),
    "two primaries": ('primary = "main"', 'primary = ["main", "copy"]', 15, "primary must name one store"),
    "used twice": ('mirrors = ["copy"]', 'mirrors = ["main"]', 16, "a member of 'records' already"),
    "unknown store": (
        'truth = "records"',
        'truth = "record"',
        7,
        "there is no store 'record'; did you mean 'records'?",
    ),
    "unknown option": ("staleness = 0.5", "stalenes = 0.5", 8, "tiered has no 'stalenes'; did you mean 'staleness'?"),
    "wrong type": ("staleness = 0.5", "staleness = true", 8, "staleness"),
    "no number": ("staleness = 0.5", "staleness = -1.0", 8, "staleness must be a positive number"),
    "unknown shape": ('shape = "tiered"', 'shape = "tired"', 5, "there is no shape 'tired'"),
    "unknown backend": ('backend = "in_memory"', 'backend = "in_memry"', 10, "there is no backend 'in_memry'"),
    "unknown option of a backend": ('synchronous = "normal"', 'synchron = "normal"', 22, "no option 'synchron'"),
    "no whole": ('store = "memory"', "", 1, "say which store is the whole"),
    "the whole is no composite": ('store = "memory"', 'store = "main"', 2, "is not made of others"),
    "unused": (
        'store = "rest"',
        'store = "rest"\n[stores.more]\nbackend = "sqlite"',
        42,
        "nothing uses the store 'more'",
    ),
    "no order": ("order = 2", "", 35, "say which comes first"),
    "no rest": ('store = "rest"', 'store = "rest"\nkind = "x"\norder = 3', 24, "every route has one"),
    "no journal": ('journal = "moves"', "", 24, "name a journal"),
    "unknown rule": ("order = 2", "ordr = 2", 38, "a route has no 'ordr'; did you mean 'order'?"),
    "bad filter": ('"metadata.hot" = true', '"metadata.hot" = { "$gtt" = 1 }', 37, "gtt"),
    "a filter of what is stamped": ('"metadata.hot" = true', '"access_count" = 1', 37, "access_count"),
    "no such mirror": ('vectors = "copy"', 'vectors = "main"', 17, "there is no mirror 'main'"),
    "stale within": ('vectors = "copy"', 'vectors = "copy"\nstale_reads = true', 7, "has stale_reads"),
    "strange": ('store = "memory"', 'store = "memory"\nshop = 1', 3, "there is nothing called 'shop'"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_the_line_to_fix(name: str, empty: Path) -> None:
    good, bad, line, why = BAD[name]
    assert good in GOOD
    with pytest.raises(InvalidSetting) as caught:
        create_store(written(GOOD.replace(good, bad, 1)))
    assert why in str(caught.value)
    assert f"memory.toml, line {line}:" in str(caught.value), str(caught.value)


BY_CAPABILITY = """
store = "memory"
[stores.memory]
shape = "routed"
routes = ["vectors", "text"]
journal = "moves"
[stores.vectors]
backend = "redis"
[stores.text]
backend = "sqlite:///text.db"
[stores.moves]
backend = "sqlite:///moves.db"
"""


def test_a_file_leaves_the_rules_to_capabilities(empty: Path) -> None:
    store = create_store(written(BY_CAPABILITY))
    assert isinstance(store, RoutedStore)
    assert store.explain(MemoryItem(content="x", embedding=[1.0])).startswith("route 'vectors' (redis)")
    assert store.explain(MemoryItem(content="x")).startswith("route 'text' (sqlite)")
    more = '[stores.more]\nbackend = "in_memory"'
    for bad, why in [
        (BY_CAPABILITY.replace('"text"]', '"text", "more"]') + more, "leave out more, or say the rules"),
        (BY_CAPABILITY.replace('["vectors", "text"]', '["more"]') + more, "none of more declares"),
        (BY_CAPABILITY.replace('["vectors", "text"]', '"text"'), "write each route as a table"),
    ]:
        with pytest.raises(InvalidSetting, match=why) as caught:
            create_store(written(bad))
        assert "memory.toml, line 5:" in str(caught.value)


def test_a_file_that_is_not_there_or_no_toml_is_refused(empty: Path) -> None:
    with pytest.raises(InvalidSetting, match=r"memory\.toml cannot be read"):
        create_store("composite")
    with pytest.raises(InvalidSetting, match="is not TOML"):
        create_store(written("store = "))


def memory(**options: Any) -> InMemoryStore:
    return InMemoryStore(**options)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: TieredStore(one := memory(), one), "one store is named for two members"),
        (lambda: TieredStore(memory(embedder="hashing"), memory()), "has an embedder"),
        (lambda: TieredStore(memory(language="german"), memory()), "is for german"),
        (lambda: TieredStore(FirestoreV1Store(project_id="p"), memory()), "cannot be the fast tier"),
        (lambda: MirroredStore(FirestoreV1Store(project_id="p"), {"a": memory()}), "cannot keep a feed"),
        (lambda: MirroredStore(memory(), {"a": FirestoreV1Store(project_id="p")}), "holds one namespace"),
        (lambda: MirroredStore(memory(), {}), "at least one mirror"),
        (lambda: MirroredStore(memory(), {"primary": memory()}), "are taken"),
        (lambda: RoutedStore({"a": Route(memory(), kind="x")}, journal=memory()), "every route has one"),
        (lambda: RoutedStore({"a": Route(memory()), "b": Route(memory())}), "these have none: a, b"),
        (lambda: RoutedStore({"journal": Route(memory())}), "'journal' is taken"),
        (lambda: RoutedStore.by_capability({"a": memory(), "b": memory()}), "has an index of vectors"),
        (
            lambda: RoutedStore.by_capability({"a": RedisStore(), "b": SqliteStore("b.db"), "c": memory()}),
            "leave out c",
        ),
        (lambda: Route(memory(), holds="pictures"), "holds must be"),  # type: ignore[arg-type]
        (
            lambda: RoutedStore(
                {"a": Route(SqliteStore("a.db"), kind="x"), "b": Route(SqliteStore("b.db"))}, journal=memory()
            ),
            "does not outlast",
        ),
    ],
)
def test_what_makes_no_sense_in_code_is_refused_too(make: Any, why: str) -> None:
    with pytest.raises(InvalidSetting, match=why):
        make()


def test_rules_that_cannot_meet_need_no_order() -> None:
    routes = {
        "a": Route(memory(), kind="x"),
        "b": Route(memory(), kind="y"),
        "c": Route(memory(), kind="z", under="team"),
        "d": Route(memory(), kind="z", namespace="other"),
        "e": Route(memory(), kind="z", under=("other", "x")),
    }
    store = RoutedStore(routes | {"rest": Route(memory())}, journal=memory())
    assert store.explain(MemoryItem(kind="z", namespace=("team", "red"), content=1)).startswith("route 'c' (in_memory)")
    assert "everything else" in store.explain(MemoryItem(content=1))


def test_capabilities_and_durability_are_those_of_the_members(tmp_path: Path) -> None:
    tiered = TieredStore(memory(), SqliteStore(tmp_path / "a.db", synchronous="full"))
    assert (tiered.durability, tiered.capabilities.persistent, tiered.capabilities.staleness) == ("power", True, 1.0)
    assert TieredStore(memory(), memory()).capabilities.staleness == 0.0
    mirrored = MirroredStore(SqliteStore(tmp_path / "a.db"), {"copy": memory()})
    assert (mirrored.durability, mirrored.capabilities.feed, mirrored.capabilities.reembeds) == ("power", True, False)
    routed = RoutedStore({"a": Route(SqliteStore(tmp_path / "a.db"), under="a"), "rest": Route(memory())})
    assert (routed.durability, routed.capabilities.persistent, routed.capabilities.feed) == ("none", False, False)
    promoting = RoutedStore(
        {"a": Route(memory(), kind="x", promote=Promotion(age=5)), "b": Route(memory())}, journal=memory()
    )
    assert not promoting.capabilities.shared
    by_capability = RoutedStore.by_capability(
        {"vectors": RedisStore(), "text": SqliteStore(tmp_path / "t.db")}, journal=SqliteStore(tmp_path / "j.db")
    )
    assert by_capability.explain(MemoryItem(content="x", embedding=[1.0])).startswith("route 'vectors'")
    assert by_capability.explain(MemoryItem(content="x")).startswith("route 'text'")
