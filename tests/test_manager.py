"""MemoryManager: the front door, on both engines where that matters."""

from __future__ import annotations

import asyncio
import inspect
import threading
from pathlib import Path
from typing import Any

import pytest

from memory import (
    AlreadyExists,
    Closed,
    F,
    InvalidFilter,
    InvalidItem,
    InvalidSetting,
    ManualClock,
    MemoryItem,
    MemoryManager,
    NotFound,
    Settings,
    VersionConflict,
    WrongLoop,
    create_store,
)
from memory.backends.in_memory import InMemoryStore
from memory.sync import blocking

pytestmark = pytest.mark.usefixtures("empty")


# --- which store -------------------------------------------------------------------------------


async def test_by_default_it_opens_sqlite_in_memory_db(empty: Path) -> None:
    async with MemoryManager() as memory:
        await memory.add("x")
        assert memory.store.name == "sqlite"
    assert (empty / "memory.db").exists()


def test_the_environment_chooses_the_backend(monkeypatch: pytest.MonkeyPatch, empty: Path) -> None:
    monkeypatch.setenv("MEMORY_BACKEND_TYPE", "in_memory")
    assert MemoryManager().store.name == "in_memory"
    monkeypatch.setenv("MEMORY_BACKEND_TYPE", f"sqlite:///{empty}/other.db?feed=true")
    memory = MemoryManager()
    assert memory.store.feed
    assert Path(memory.store.path) == empty / "other.db"  # type: ignore[attr-defined]
    monkeypatch.setenv("MEMORY_BACKEND_TYPE", "memory.backends.in_memory:InMemoryStore")
    assert type(MemoryManager().store) is InMemoryStore


def test_the_more_particular_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_DIMENSION", "1")
    monkeypatch.setenv("MEMORY_PATH", "environment.db")
    assert MemoryManager("in_memory").store.dimension == 1
    assert MemoryManager("memory://?dimension=2").store.dimension == 2
    assert MemoryManager("memory://?dimension=2", dimension=3).store.dimension == 3
    assert Path(MemoryManager("sqlite:///url.db").store.path) == Path("url.db")  # type: ignore[attr-defined]
    assert Path(MemoryManager(path="argument.db").store.path) == Path("argument.db")  # type: ignore[attr-defined]


def test_given_settings_replace_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(backend_type="in_memory", dimension=7)
    monkeypatch.setenv("MEMORY_DIMENSION", "1")
    monkeypatch.setenv("MEMORY_FEED", "true")
    memory = MemoryManager(settings=settings, language="german")
    assert (memory.store.dimension, memory.store.feed, memory.store.language) == (7, False, "german")
    assert memory.settings is not None
    assert memory.settings.language == "german"


def test_the_options_of_a_backend_are_passed_on() -> None:
    clock = ManualClock()
    store = MemoryManager("in_memory", clock=clock).store
    assert store._clock is clock
    assert MemoryManager("sqlite", sqlite_synchronous="normal").store.durability == "process"


def test_a_class_or_a_store_can_be_given() -> None:
    assert type(MemoryManager(InMemoryStore, feed=True).store) is InMemoryStore
    store = InMemoryStore()
    assert MemoryManager(store).store is store
    assert MemoryManager(store).settings is None
    with pytest.raises(InvalidSetting, match="ready-made"):
        MemoryManager(store, feed=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"deadlin": 3}, "did you mean 'deadline'?"),
        ({"clok": 3}, "did you mean 'clock'?"),
        ({"backend_typ": "sqlite"}, "did you mean 'backend_type'?"),
        ({"colour": 3}, "there are: "),
        ({"feed": "perhaps"}, "feed"),
        ({"path": "x.db", "backend_type": "sqlite:///y.db"}, "named twice"),
        ({"index": ["score"]}, "below metadata"),
    ],
)
def test_a_mistyped_option_is_refused_before_anything_is_opened(
    options: dict[str, Any], words: str, empty: Path
) -> None:
    with pytest.raises((InvalidSetting, InvalidItem)) as caught:
        MemoryManager(**options)
    assert words in str(caught.value)
    assert not list(empty.iterdir())


def test_what_no_setting_asks_for_is_not_there() -> None:
    assert MemoryManager("in_memory").store._layers == ()
    assert len(MemoryManager("in_memory", deadline=1, slow_seconds=1).store._layers) == 2


# --- single memories ---------------------------------------------------------------------------


async def test_a_text_is_remembered_with_what_the_keywords_say(memory: MemoryManager) -> None:
    item = await memory.add(
        "Ana is allergic to nuts",
        user_id="ana",
        tags=["health"],
        kind="semantic",
        metadata={"sure": True},
        importance=0.9,
    )
    assert await memory.get(item.id) == item
    assert (item.content, item.user_id, item.tags, item.kind) == (
        "Ana is allergic to nuts",
        "ana",
        ("health",),
        "semantic",
    )
    assert item.version > 0


async def test_an_item_is_remembered_and_keywords_replace_its_fields(memory: MemoryManager) -> None:
    given = MemoryItem(id="a", content={"fact": 1}, user_id="ana", session_id="s")
    stored = await memory.add(given, user_id="bob", namespace="team")
    assert (stored.key, stored.user_id, stored.session_id, stored.content) == (
        (("team",), "a"),
        "bob",
        "s",
        {"fact": 1},
    )
    assert given.user_id == "ana"


async def test_json_is_remembered_as_content(memory: MemoryManager) -> None:
    assert (await memory.add({"name": "Ana"})).content == {"name": "Ana"}
    assert (await memory.add(["a", 1])).content == ["a", 1]


@pytest.mark.parametrize("what", [None, 3, b"x", object(), True])
async def test_what_is_no_memory_is_refused(memory: MemoryManager, what: Any) -> None:
    with pytest.raises(InvalidItem):
        await memory.add(what)


async def test_tags_given_as_one_text_are_refused(memory: MemoryManager) -> None:
    with pytest.raises(InvalidItem, match="tags"):
        await memory.add("x", tags="health")


async def test_an_id_that_is_taken_is_refused(memory: MemoryManager) -> None:
    await memory.add("x", id="a")
    with pytest.raises(AlreadyExists):
        await memory.add("y", id="a")


async def test_equal_content_is_remembered_once_if_asked(memory: MemoryManager) -> None:
    first = await memory.add("x", user_id="ana", dedup="content")
    assert (await memory.add("x", user_id="ana", dedup="content")).id == first.id
    assert (await memory.add("x", user_id="bob", dedup="content")).id != first.id


@pytest.mark.parametrize("backend", ["in_memory", "sqlite"])
async def test_a_memory_with_a_time_to_live_is_forgotten(backend: str) -> None:
    clock = ManualClock()
    async with MemoryManager(backend, clock=clock) as memory:
        item = await memory.add("soon gone", ttl=10)
        clock.advance(9.9)
        assert await memory.get(item.id) is not None
        clock.advance(0.1)
        assert await memory.get(item.id) is None
        assert len(await memory.search("gone")) == 0
        with pytest.raises(InvalidItem, match="not both"):
            await memory.add("x", ttl=1, expires_at=item.created_at)


async def test_whose_memory_it_is_is_kept_apart(memory: MemoryManager) -> None:
    item = await memory.add("Ana is allergic to nuts", user_id="ana")
    assert await memory.get(item.id, user_id="bob") is None
    assert await memory.delete(item.id, user_id="bob") is False
    with pytest.raises(NotFound):
        await memory.update(item.id, user_id="bob", content="no")
    assert len(await memory.search("nuts", user_id="bob")) == 0
    assert len(await memory.search("nuts", user_id="ana")) == 1
    assert await memory.delete(item.id, user_id="ana") is True


async def test_update_merges_and_checks_the_version(memory: MemoryManager) -> None:
    item = await memory.add({"a": 1, "b": 2}, metadata={"x": 1})
    new = await memory.update(
        item.id, content={"b": None, "c": 3}, metadata={"y": 2}, tags=("t",), if_version=item.version
    )
    assert (new.content, new.metadata, new.tags) == ({"a": 1, "c": 3}, {"x": 1, "y": 2}, ("t",))
    with pytest.raises(VersionConflict):
        await memory.update(item.id, text="x", if_version=item.version)


async def test_search_passes_on_every_argument(memory: MemoryManager) -> None:
    for number in range(5):
        await memory.add(f"nuts number {number}", namespace=("a", str(number % 2)), metadata={"n": number})
    page = await memory.search("nuts", under="a", where=F.metadata.n >= 1, limit=2, explain=True)
    assert len(page) == 2
    assert page.hits[0].components["terms"]
    rest = await memory.search("nuts", under="a", where=F.metadata.n >= 1, limit=2, cursor=page.cursor)
    assert len({hit.item.id for hit in (*page, *rest)}) == 4
    assert len(await memory.search("nuts", namespace=("a", "1"))) == 2
    assert len(await memory.search("nuts and bolts", min_text=0.9)) == 0
    with pytest.raises(InvalidFilter):
        await memory.search("nuts", where={"colour": 1})


# --- synchronous callers and lifetime ----------------------------------------------------------


def test_every_coroutine_has_a_typed_twin() -> None:
    found = {name: value for cls in reversed(MemoryManager.__mro__) for name, value in vars(cls).items()}
    names = {name for name, value in found.items() if inspect.iscoroutinefunction(value) and name[0] != "_"}
    twins = {name.removesuffix("_sync") for name in found if name.endswith("_sync")}
    assert names == twins
    assert len(names) > 20
    written_out = {"open", "initialize", "history"}
    for name in names - written_out:
        assert isinstance(found[f"{name}_sync"], blocking)
        assert found[f"{name}_sync"]._method is found[name]


@pytest.mark.parametrize("backend", ["in_memory", "sqlite"])
def test_the_twins_do_the_same_work_without_a_loop(backend: str) -> None:
    with MemoryManager(backend) as memory:
        item = memory.add_sync("Ana is allergic to nuts", user_id="ana")
        assert memory.get_sync(item.id) == item
        assert memory.update_sync(item.id, tags=("t",)).tags == ("t",)
        assert [hit.item.id for hit in memory.search_sync("nuts")] == [item.id]
        memory.add_messages_sync([{"role": "user", "content": "hi"}], "ana")
        assert [one.content for one in memory.history_sync("ana")] == ["hi"]
        assert memory.delete_sync(item.id) is True
    with pytest.raises(Closed):
        memory.get_sync(item.id)
    assert not [thread for thread in threading.enumerate() if thread.name == "memory-loop"]


async def test_a_twin_on_the_running_loop_is_refused_at_once(memory: MemoryManager) -> None:
    with pytest.raises(WrongLoop, match="await get"):
        memory.get_sync("a")


async def test_a_twin_from_another_thread_runs_on_the_home_loop(memory: MemoryManager) -> None:
    item = await asyncio.to_thread(memory.add_sync, "x")
    assert await memory.get(item.id) is not None


def test_use_before_opening_is_told_both_ways_to_open() -> None:
    ways = r"'async with' or 'await memory.open\(\)', or without an event loop 'with' or 'memory.open_sync\(\)'"
    with pytest.raises(Closed, match=ways.replace("memory", "store")):
        MemoryManager("in_memory").add_sync("hi")
    with pytest.raises(Closed, match=ways.replace("memory", "store")):
        create_store("sqlite").get_sync("a")


async def test_a_closed_manager_says_so_and_opens_again() -> None:
    memory = MemoryManager("sqlite")
    with pytest.raises(Closed, match=r"this memory is not open yet: .*'with' or 'memory.open_sync\(\)'"):
        await memory.get("a")
    async with memory:
        await memory.add("x", id="a")
        await memory.open()
    await memory.close()
    with pytest.raises(Closed):
        await memory.search("x")
    with pytest.raises(Closed):
        await memory.add_messages([{"role": "user", "content": "x"}])
    async with memory:
        assert await memory.get("a") is not None


@pytest.mark.parametrize("tags", [None, 5, "x", (1,), object(), [""]])
async def test_tags_that_are_none_are_refused(tags: Any) -> None:
    async with MemoryManager("in_memory") as memory:
        with pytest.raises(InvalidItem, match="tag"):
            await memory.add("x", tags=tags)
        assert (await memory.add("x", tags=(tag for tag in ["a", "b"]))).tags == ("a", "b")
