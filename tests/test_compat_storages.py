"""The old storages and manager on today's stores: signatures, lifecycles, values, errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

import memory.compat as old
from memory import MemoryItem, errors
from memory.compat.configs import fields
from memory.compat.exceptions import as_old
from memory.compat.storages import Storage


@pytest.fixture(params=["in_memory", "sqlite"])
async def storage(request: pytest.FixtureRequest, empty: Path) -> AsyncIterator[Storage[Any, Any]]:
    """A storage that is started, once on each engine."""
    old.install(None if request.param == "in_memory" else "sqlite:///old.db")
    made: Storage[Any, Any] = old.InMemoryStorage()
    await made.start()
    yield made
    await made.stop()
    old.uninstall()


async def all_of(results: Any) -> list[tuple[str, float]]:
    return [(result.entry.key, result.score) async for result in results]


async def keys(storage: Any, query: str, **more: Any) -> list[str]:
    return [key for key, _ in await all_of(storage.search(old.MemoryQuery(query=query, **more)))]


async def test_an_entry_comes_back_as_it_was_stored(storage: Storage[Any, Any]) -> None:
    before = datetime.now(UTC)
    entry = await storage.store(
        "a",
        {"content": "one", "n": [1, {"deep": None}]},
        old.MemoryType.WORKING,
        old.MemoryScope.GLOBAL,
        {"scope": "of the caller", "n": 1},
        before + timedelta(hours=1),
        {old.MemoryIndex.CAUSAL, old.MemoryIndex.SPATIAL},
    )
    assert entry == await storage.retrieve("a") == await storage.retrieve("a", old.MemoryType.WORKING)
    assert (entry.key, entry.value) == ("a", {"content": "one", "n": [1, {"deep": None}]})
    assert (entry.type, entry.scope, type(entry.type), type(entry.scope)) == ("working", "global", str, str)
    assert (entry.metadata, entry.indices) == ({"scope": "of the caller", "n": 1}, {"causal", "spatial"})
    assert before <= entry.created_at <= entry.updated_at
    assert entry.expires_at == before + timedelta(hours=1)


async def test_what_is_left_out_gets_the_old_defaults(storage: Storage[Any, Any]) -> None:
    entry = await storage.store(UUID(int=7), {"content": "x"})
    assert (entry.key, entry.type, entry.scope) == (str(UUID(int=7)), "short_term", "session")
    assert (entry.metadata, entry.expires_at, entry.indices) == ({}, None, set())
    assert await storage.retrieve(UUID(int=7)) == entry
    assert (await storage.store("b", {}, type="LONG_TERM", scope="Agent")).type == "long_term"


async def test_an_end_without_a_zone_comes_back_without_one(storage: Storage[Any, Any]) -> None:
    naive = datetime.now(UTC).replace(tzinfo=None) + timedelta(minutes=5)
    assert (await storage.store("a", {}, expires_at=naive)).expires_at == naive
    assert (await storage.retrieve("a")).expires_at == naive
    aware = naive.replace(tzinfo=UTC)
    assert (await storage.store("a", {}, expires_at=aware)).expires_at == aware


async def test_what_has_expired_is_gone_and_swept(storage: Storage[Any, Any]) -> None:
    await storage.store("a", {}, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    await storage.store("b", {})
    with pytest.raises(KeyError):
        await storage.retrieve("a")
    assert (await storage.cleanup_expired(), await storage.cleanup_expired()) == (1, 0)
    assert await storage.exists("b")


async def test_a_value_takes_the_place_of_another_and_is_deleted_once(storage: Storage[Any, Any]) -> None:
    first = await storage.store("a", {"content": "one"})
    second = await storage.store("a", {"content": "two"})
    assert (second.value, second.created_at) == ({"content": "two"}, first.created_at)
    assert (await storage.delete("a"), await storage.delete("a"), await storage.exists("a")) == (True, False, False)


async def some(storage: Storage[Any, Any]) -> None:
    texts = {"nuts": "Ana is allergic to nuts", "tea": "Ana drinks tea", "boat": "The boat leaves at noon"}
    for place, (key, text) in enumerate(texts.items()):
        kind = old.MemoryType.LONG_TERM if key == "boat" else old.MemoryType.SHORT_TERM
        scope = old.MemoryScope.AGENT if key == "tea" else old.MemoryScope.SESSION
        await storage.store(key, {"content": text, "n": place}, kind, scope, {"by": "ana", "a.b": place})


async def test_a_search_gives_the_best_first_with_absolute_scores(storage: Storage[Any, Any]) -> None:
    await some(storage)
    for index in (old.MemoryIndex.SEMANTIC, old.MemoryIndex.CONTEXTUAL):
        found = await all_of(storage.search(old.MemoryQuery(query="Ana and nuts", index_type=index)))
        assert [key for key, _ in found] == ["nuts", "tea"]
        assert 1 >= found[0][1] > found[1][1] > 0
        least = found[0][1] - 0.01
        assert await keys(storage, "Ana and nuts", index_type=index, min_score=least) == ["nuts"]
    assert await keys(storage, "elephants") == []
    found = [result async for result in await storage.search(old.MemoryQuery(query="tea"))]
    assert isinstance(found[0], old.MemorySearchResult)
    assert found[0].entry == await storage.retrieve("tea")


async def test_filters_order_offset_and_keys_of_a_query(storage: Storage[Any, Any]) -> None:
    await some(storage)
    assert await keys(storage, "Ana", filters={"type": old.MemoryType.LONG_TERM}) == []
    assert await keys(storage, "Ana", filters={"type": "short_term", "scope": old.MemoryScope.AGENT}) == ["tea"]
    assert await keys(storage, "Ana", filters={"n": 0}) == ["nuts"]
    assert await keys(storage, "Ana", filters={"key": "tea"}) == ["tea"]
    assert await keys(storage, "Ana", metadata={"by": "ana", "a.b": 1}) == ["tea"]
    assert await keys(storage, "Ana", metadata={"by": "ben"}) == []
    by_key: dict[str, Any] = {"order_by": "key", "order": "desc"}
    assert await keys(storage, "Ana", **by_key) == ["tea", "nuts"]
    assert await keys(storage, "Ana", order_by="key", limit=1) == ["nuts"]
    assert await keys(storage, "Ana", **by_key, offset=1, limit=5) == ["nuts"]
    assert await keys(storage, "anything", keys=["boat", "none", "nuts"]) == ["boat", "nuts"]
    assert await keys(storage, "anything", key="boat", filters={"scope": "agent"}) == []
    with pytest.raises(old.MemoryRetrievalError, match="order_by must be one of"):
        await keys(storage, "Ana", order_by="colour")


async def test_more_than_a_search_ranks_is_never_cut_in_silence(storage: Storage[Any, Any]) -> None:
    async with asyncio.TaskGroup() as group:
        for number in range(850):
            group.create_task(storage.store(f"k{number}", {"content": "the same nut"}))
    assert len(await keys(storage, "nut", limit=750)) == 750
    with pytest.raises(old.MemoryRetrievalError, match="ranks the best 800"):
        await keys(storage, "nut", limit=850)


async def test_what_is_similar_is_not_the_entry_itself(storage: Storage[Any, Any]) -> None:
    await some(storage)
    found = await all_of(storage.similar("nuts", 5))
    assert found[0][0] == "tea"
    assert "nuts" not in dict(found)
    assert await all_of(storage.similar("nuts", limit=1, min_score=0.99)) == []
    with pytest.raises(KeyError):
        await all_of(storage.similar("nobody"))
    with pytest.raises(ValueError, match="limit must be"):
        await all_of(storage.similar("nuts", limit=0))


async def test_a_reindex_counts_what_is_in_the_index(storage: Storage[Any, Any]) -> None:
    await some(storage)
    await storage.store("c", {}, indices={old.MemoryIndex.CAUSAL})
    assert await storage.reindex(old.MemoryIndex.SEMANTIC) == 3
    assert await storage.reindex(old.MemoryIndex.CAUSAL) == 4
    assert await storage.reindex("temporal") == 3


async def test_items_of_new_code_are_entries_too(storage: Storage[Any, Any]) -> None:
    view = storage._view(old.MemoryError)
    await view.put(MemoryItem(id="new", content="a text", kind="note", tags=("mine",)))
    entry = await storage.retrieve("new")
    assert (entry.value, entry.type, entry.scope, entry.indices) == ({"content": "a text"}, "note", "session", set())


async def test_errors_are_the_old_ones_and_the_new_ones(storage: Storage[Any, Any]) -> None:
    with pytest.raises(old.MemoryRetrievalError) as missing:
        await storage.retrieve("nobody")
    assert isinstance(missing.value, errors.NotFound | KeyError)
    assert (missing.value.store_type, str(missing.value)) == ("inmemory", "there is no entry 'nobody'")
    assert isinstance(missing.value.__cause__, errors.NotFound)
    for key, value in (("", {}), ("\0", {}), ("k", {"n": float("nan")}), ("k", {"n": object()})):
        with pytest.raises(old.MemoryStorageError) as refused:
            await storage.store(key, value)
        assert isinstance(refused.value, errors.InvalidItem)
        assert isinstance(refused.value, ValueError)
    with pytest.raises(old.MemoryDeletionError):
        await storage.delete("")
    with pytest.raises(old.MemoryExistsError):
        await storage.exists("")
    await storage.stop()
    for call, kind in (
        (storage.store("a", {}), old.MemoryStorageError),
        (storage.retrieve("a"), old.MemoryRetrievalError),
        (storage.delete("a"), old.MemoryDeletionError),
        (storage.cleanup_expired(), old.MemoryCleanupError),
        (storage.reindex(), old.MemoryBackendError),
    ):
        with pytest.raises(kind) as stopped:
            await call
        assert isinstance(stopped.value, RuntimeError)
        assert isinstance(stopped.value, errors.Closed)


async def test_an_unknown_outcome_stays_one_that_can_be_asked_again() -> None:
    async def again() -> str:
        return "done"

    error = as_old(errors.UnknownOutcome("who knows", again, key="k"), old.MemoryStorageError, "redis")
    assert isinstance(error, errors.UnknownOutcome)
    assert (await error.retry(), error.store_type, vars(error)["key"]) == ("done", "redis", "k")


def test_old_code_raises_the_old_errors_itself() -> None:
    error = old.MemoryBackendError("down", store_type="redis", details={"port": 1})
    assert (str(error), error.store_type, error.details) == ("down", "redis", {"port": 1})
    assert old.MemoryError("only words").store_type is None


async def test_starting_and_stopping_again_is_harmless(empty: Path) -> None:
    old.install("sqlite:///old.db")
    try:
        storage: Storage[str, dict[str, Any]] = old.PostgresStorage[str, dict[str, Any]](old.PostgresConfig())
        async with asyncio.TaskGroup() as group:
            group.create_task(storage.start())
            group.create_task(storage.start())
        await storage.store("a", {"content": "kept"})
        await storage.stop()
        await storage.stop()
        async with storage:
            assert (await storage.retrieve("a")).value == {"content": "kept"}
        other = old.RedisStorage[str, dict[str, Any]](old.RedisConfig(prefix="other"))
        async with other:  # each has a namespace of its own in the one store
            assert not await other.exists("a")
    finally:
        old.uninstall()


async def test_a_server_that_is_not_there_is_an_old_error() -> None:
    redis = old.RedisStorage(old.RedisConfig(port=1))
    with pytest.raises(old.MemoryBackendError) as down:
        await redis.start()
    assert (isinstance(down.value, errors.BackendUnavailable), down.value.store_type) == (True, "redis")
    with pytest.raises(old.MemoryBackendInvalidError) as wrong:
        await old.PostgresStorage(old.PostgresConfig(schema="No Name")).start()
    assert isinstance(wrong.value, errors.InvalidSetting)


def test_configurations_say_where_a_store_is() -> None:
    redis = old.RedisConfig("h", 1, 2, "p@ss", "me", ssl=True, ssl_cert_reqs="none")
    assert redis.url == "rediss://me:p%40ss@h:1/2?ssl_cert_reqs=none"
    assert old.RedisConfig().url == "redis://localhost:6379"
    assert (old.RedisConfig().prefix, old.RedisConfig().ttl) == ("memory", None)
    postgres = old.PostgresConfig("::1", 5, "d/b", "u", "p", 1, 7)
    assert (postgres.url, postgres.pool) == ("postgresql://u:p@[::1]:5/d%2Fb", 7)
    assert old.PostgresConfig(min_connections=2, max_connections=3).pool == 3
    assert old.PostgresConfig().url == "postgresql://postgres:postgres@localhost:5432/pepperpy"
    assert (old.PostgresConfig().schema, old.PostgresConfig().table) == ("public", "memory")
    assert old.VectorStoreConfig().embedder == "sentence-transformers:all-MiniLM-L6-v2"
    assert (old.VectorStoreConfig().folder, old.VectorStoreConfig(model_name="m").embedder[-1]) == (
        "data/vector_store",
        "m",
    )


def test_configurations_of_another_make_are_taken_by_their_attributes() -> None:
    kept = SimpleNamespace(host="h", port=7, prefix="p", socket_timeout=3)
    assert old.RedisStorage(kept)._place.name == ("redis", "p")  # type: ignore[arg-type]
    assert fields(kept, old.RedisConfig) == old.RedisConfig("h", 7, prefix="p")


async def test_a_configured_ttl_is_the_end_of_what_names_none(empty: Path) -> None:
    old.install("memory://")
    try:
        async with old.RedisStorage[str, dict[str, Any]](old.RedisConfig(ttl=60)) as storage:
            entry = await storage.store("a", {})
            assert entry.expires_at is not None
            assert timedelta(seconds=59) < entry.expires_at - entry.updated_at < timedelta(seconds=61)
            far = datetime.now(UTC) + timedelta(days=9)
            assert (await storage.store("b", {}, expires_at=far)).expires_at == far
    finally:
        old.uninstall()


async def test_the_factory_makes_what_is_described_and_starts_it(empty: Path) -> None:
    old.install("sqlite:///old.db")
    try:
        config = old.MemoryStoreConfig(store_type="redis", redis_config=old.RedisConfig())
        storage = await old.create_store(config)
        assert (type(storage), storage.started) == (old.RedisStorage, True)
        await storage.stop()
    finally:
        old.uninstall()
    for config, why in (
        (old.MemoryStoreConfig(store_type="tape"), "there is no storage 'tape'"),
        (old.MemoryStoreConfig(old.StoreType.POSTGRES), "needs postgres_config"),
        (
            old.MemoryStoreConfig("composite", composite_config=old.CompositeStoreConfig()),
            "a composite needs",
        ),
    ):
        with pytest.raises(old.StoreError, match=why):
            await old.create_store(config)


def test_values_check_what_they_are_given() -> None:
    for wrong in (
        {"query": " "},
        {"query": "a", "limit": 0},
        {"query": "a", "order": "up"},
        {"query": "a", "colour": 1},
    ):
        with pytest.raises(ValidationError):
            old.MemoryQuery(**wrong)
    assert old.MemoryQuery(query=" a ", order="desc").order == "DESC"
    entry = old.MemoryEntry[dict[str, Any]](key="k", value={}, type="MemoryType.LONG_TERM", metadata=None, indices=None)
    assert (entry.type, entry.scope, entry.metadata, entry.indices) == ("long_term", "session", {}, set())
    assert old.MemoryEntry.model_validate(entry.model_dump()) == entry
    assert (f"{old.MemoryType.SHORT_TERM}", old.MemoryType("working")) == ("short_term", "working")
    assert old.MemoryResult(key="k", entry={}).similarity == 0.0


class Own(old.BaseMemory[str, dict[str, Any]]):
    """A memory of an old program's own making."""

    def __init__(self) -> None:
        self.entries: dict[str, Any] = {}
        self.cleaned = 0

    async def store(self, key: str, value: Any, type: Any = "short_term", *args: Any, **more: Any) -> Any:
        self.entries[key] = old.MemoryEntry[Any](key=key, value=value, type=type, expires_at=more["expires_at"])
        return self.entries[key]

    async def retrieve(self, key: str, type: Any = None) -> Any:
        return self.entries[key]

    async def search(self, query: Any) -> Any:  # type: ignore[override]
        async def found() -> AsyncIterator[Any]:
            for entry in self.entries.values():
                yield old.MemorySearchResult(entry=entry, score=0.5)

        return found()

    def similar(self, key: str, limit: int = 10, min_score: float = 0.0) -> Any:
        raise KeyError(key)

    async def cleanup_expired(self) -> int:
        self.cleaned += 1
        if self.cleaned == 1:
            raise OSError("once")
        return 0


async def test_the_manager_keeps_each_term_in_its_memory(empty: Path) -> None:
    short, long = old.InMemoryStorage[str, Any](), Own()
    manager: old.MemoryManager[str] = old.MemoryManager(short, long_term=long, cleanup_interval=0.01)
    await manager.start()
    with pytest.raises(RuntimeError, match="active already"):
        await manager.start()
    assert (short.started, manager.is_active) == (True, True)
    noted = await manager.store("a", {"content": "a nut"}, expires_in=timedelta(minutes=1))
    assert noted.expires_at is not None
    assert timedelta(seconds=55) < noted.expires_at - datetime.now(UTC) <= timedelta(minutes=1)
    await manager.store("b", {"content": "nuts for good"}, old.MemoryType.LONG_TERM)
    await manager.store("c", {"content": "at hand"}, old.MemoryType.WORKING, expires_in=5)
    assert (list(long.entries), await short.exists("c")) == (["b"], True)
    assert [(await manager.retrieve(key)).key for key in "abc"] == ["a", "b", "c"]
    assert (await manager.retrieve("b", old.MemoryType.LONG_TERM)).type == "long_term"
    assert sorted(await all_of(manager.search(old.MemoryQuery(query="nut"))))[1] == ("b", 0.5)
    one = manager.search(old.MemoryQuery(query="nut", limit=1))
    assert len(await all_of(one)) == 1
    assert [key for key, _ in await all_of(manager.search(old.MemoryQuery(query="nut"), "short_term"))] == ["a"]
    assert await all_of(manager.similar("a")) == []
    for missing in (manager.retrieve("nobody"), all_of(manager.similar("nobody"))):
        with pytest.raises(KeyError) as error:
            await missing
        assert isinstance(error.value, old.MemoryRetrievalError)
    with pytest.raises(old.MemoryBackendNotFoundError, match="no memory for the type 'medium_term'") as none:
        await manager.store("d", {}, old.MemoryType.MEDIUM_TERM)
    assert isinstance(none.value, ValueError)
    while long.cleaned < 2:  # it goes on after a failure
        await asyncio.sleep(0.005)
    await manager.stop()
    await manager.stop()
    assert (short.started, manager.is_active) == (False, False)


async def test_the_manager_leaves_open_what_it_did_not_open(empty: Path) -> None:
    storage = old.InMemoryStorage[str, Any]()
    async with storage:
        manager: old.MemoryManager[str] = old.MemoryManager(storage)
        await manager.start()
        await manager.stop()
        await storage.store("a", {})
