"""The constructor's keywords of earlier managers: one by one, honoured or refused with what replaces them."""

from __future__ import annotations

import inspect
import logging
from typing import Any

import pytest

from memory import InvalidSetting, MemoryItem, MemoryManager, NotFound
from memory.backends.in_memory import InMemoryStore
from memory.manager.keywords import REFUSED, RENAMED

pytestmark = pytest.mark.usefixtures("empty")

REPLACED = {
    "project_id": "firestore_v2",
    "credentials_json": "firestore_v2",
    "credentials_path": "firestore_v2",
    "redis_host": "Leave it out",
    "redis_port": "Leave it out",
    "redis_password": "Leave it out",
    "connection_pool_size": "Leave it out",
    "use_resilient_adapter": "deadline=",
    "use_vertex_vector_search": "search(vector=...)",
    "vertex_location": "search(vector=...)",
    "vertex_index_endpoint_id": "search(vector=...)",
    "vertex_index_id": "search(vector=...)",
    "enable_monitoring": "slow_seconds=",
    "short_term": "MemoryManager(store)",
    "medium_term": "MemoryManager(store)",
    "long_term": "MemoryManager(store)",
    "reindex_interval": "repair()",
    "batch_size": "put_many",
    "max_errors_before_unhealthy": "health_check()",
}


@pytest.mark.parametrize("keyword", REFUSED)
def test_a_keyword_that_means_nothing_here_is_refused_with_what_replaces_it(keyword: str) -> None:
    with pytest.raises(InvalidSetting) as caught:
        MemoryManager("in_memory", **{keyword: "hunter2"})
    assert str(caught.value).startswith(f"{keyword}: ")
    assert REPLACED[keyword] in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.setting == keyword


def test_their_environment_is_refused_for_a_backend_that_is_not_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEMORY_BACKEND_TYPE", "file")
    with pytest.raises(InvalidSetting, match=r"comes later\. Choose sqlite"):
        MemoryManager()


def test_the_rest_of_their_environment_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (
        *(
            "GCP_PROJECT_ID=p",
            "GCP_CREDENTIALS_PATH=/x.json",
            "REDIS_HOST=h",
            "REDIS_PORT=6379",
            "MEMORY_CACHE_TTL=3600",
        ),
        *("CONVERSATION_HISTORY_LIMIT=10", "USE_RESILIENT_ADAPTER=true", "EMBEDDING_DIMENSION=768"),
        "ENABLE_MEMORY_MONITORING=true",
    ):
        monkeypatch.setenv(*variable.split("=", 1))
    memory = MemoryManager()
    assert (memory.store.name, memory.store.dimension) == ("sqlite", None)


async def test_on_a_running_loop_it_is_refused_when_the_memory_is_opened() -> None:
    memory = MemoryManager("in_memory", project_id="p")
    with pytest.raises(InvalidSetting, match="project_id"):
        await memory.open()


def test_a_backend_that_has_an_option_of_that_name_gets_it() -> None:
    class CloudStore(InMemoryStore):
        def __init__(self, *, project_id: str, **options: Any) -> None:
            super().__init__(**options)
            self.project_id = project_id

    assert MemoryManager(CloudStore, project_id="p").store.project_id == "p"  # type: ignore[attr-defined]


def test_memory_backend_type_is_backend_type() -> None:
    assert MemoryManager(memory_backend_type="in_memory").store.name == "in_memory"
    assert MemoryManager(memory_backend_type=InMemoryStore).store.name == "in_memory"
    store = InMemoryStore()
    assert MemoryManager(memory_backend_type=store).store is store


def test_embedding_dimension_is_dimension_for_callers_who_bring_their_vectors() -> None:
    store = MemoryManager("in_memory", embedding_dimension=768).store
    assert (store.dimension, store.embedder) == (768, None)
    assert MemoryManager("in_memory", embedding_dimension=64, embedder="hashing:64").store.embedder is not None
    with pytest.raises(InvalidSetting, match="dimension"):
        MemoryManager("in_memory", embedding_dimension="many")


def test_cleanup_interval_is_sweep_interval() -> None:
    assert MemoryManager("in_memory", cleanup_interval=30).store.sweep_interval == 30


def test_log_level_may_be_a_number_of_logging() -> None:
    for number, name in (
        (logging.DEBUG, "debug"),
        (logging.INFO, "info"),
        (25, "warning"),
        (logging.CRITICAL, "error"),
    ):
        settings = MemoryManager("in_memory", log_level=number).settings
        assert settings is not None
        assert settings.log_level == name


@pytest.mark.parametrize("seconds", [0, 3600, 0.5])
def test_cache_ttl_is_honoured_by_never_reading_anything_old(seconds: float) -> None:
    assert MemoryManager("in_memory", cache_ttl=seconds).store.name == "in_memory"


@pytest.mark.parametrize("seconds", [-1, "3600", None, True, float("nan")])
def test_a_cache_ttl_that_is_no_time_is_refused(seconds: Any) -> None:
    with pytest.raises(InvalidSetting, match="cache_ttl"):
        MemoryManager("in_memory", cache_ttl=seconds)


@pytest.mark.parametrize("old", RENAMED)
def test_a_thing_said_by_both_names_is_refused(old: str) -> None:
    with pytest.raises(InvalidSetting, match=f"leave {old} out"):
        MemoryManager(**{"backend_type": "in_memory", RENAMED[old]: "in_memory", old: "in_memory"})


@pytest.mark.parametrize("backend", ["in_memory", "sqlite"])
async def test_namespace_keeps_every_call_in_it_and_below(backend: str) -> None:
    async with MemoryManager(backend) as whole:
        await whole.add("peanuts of others", id="x")
        await whole.add_messages([{"role": "user", "content": "peanuts"}], "ana")
        memory = MemoryManager(whole.store, namespace="acme")
        item = await memory.add("peanuts here", user_id="ana")
        assert item.namespace == ("acme",)
        below = await memory.add("peanuts below", namespace=("acme", "team"))
        (said,) = await memory.add_messages([{"role": "user", "content": "peanuts said"}], "ana")
        assert said.namespace == ("acme",)
        added = await memory.add_memory_item({"user_id": "ana", "text_content": "peanuts", "id": "y"})
        assert await memory.get_memory_item(added) is not None
        assert await whole.get("y") is None

        assert {hit.item.id for hit in await memory.search("peanuts")} == {item.id, below.id, said.id, "y"}
        assert set((await memory.context("peanuts")).ids) == {item.id, below.id, said.id, "y"}
        assert [one.id for one in await memory.history("ana")] == [said.id]
        assert not await memory.check_duplicate({"user_id": None, "text_content": "peanuts of others"})
        assert await memory.get("x") is None
        assert await memory.delete("x") is False
        with pytest.raises(NotFound):
            await memory.update("x", content="no")
        with pytest.raises(NotFound):
            await memory.update_memory_item(MemoryItem(id="x", content="no"))
        updated = await memory.update_memory_item({"user_id": "ana", "text_content": "new", "id": "y"})
        assert updated.namespace == ("acme",)


@pytest.mark.parametrize("namespace", ["", (), ("a", ""), 3, "a\0b", ("x",) * 17])
def test_a_namespace_that_is_none_is_refused(namespace: Any) -> None:
    with pytest.raises(InvalidSetting, match="namespace"):
        MemoryManager("in_memory", namespace=namespace)


def test_every_keyword_of_the_table_is_tested_and_none_is_a_setting_of_ours() -> None:
    from memory import Settings

    assert REPLACED.keys() == REFUSED.keys()
    assert not {*REFUSED, *RENAMED} & set(Settings.model_fields)
    assert not {*REFUSED, *RENAMED} & set(inspect.signature(MemoryManager).parameters)
