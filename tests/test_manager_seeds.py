"""The names and records of earlier managers, on both engines."""

from __future__ import annotations

import asyncio
import enum
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pydantic
import pytest

from memory import (
    AlreadyExists,
    Closed,
    F,
    InvalidFilter,
    InvalidItem,
    ManualClock,
    MemoryItem,
    MemoryManager,
    NotFound,
)

pytestmark = pytest.mark.usefixtures("empty")
WHEN = datetime(2025, 5, 1, 12, 30, tzinfo=UTC)


class TheirItem(pydantic.BaseModel):
    """Their MemoryItem, by its fields."""

    model_config = pydantic.ConfigDict(extra="allow")

    id: str | None = None
    user_id: str
    session_id: str | None = None
    timestamp: datetime = WHEN
    item_type: str
    persona_active: str | None = None
    text_content: str | None = None
    embedding: list[float] | None = None
    metadata: dict[str, Any] = pydantic.Field(default_factory=dict)
    expiration: datetime | None = None


@dataclass
class TheirAgentData:
    agent_id: str
    data_type: str
    content: Any
    id: str | None = None
    timestamp: datetime = WHEN
    metadata: dict[str, Any] = field(default_factory=dict)
    expiration: datetime | None = None


@dataclass
class Persona:
    name: str
    description: str = ""


def said(text: str, minute: int = 0, **fields: Any) -> TheirItem:
    given = {"user_id": "ana", "item_type": "conversation", "timestamp": WHEN + timedelta(minutes=minute), **fields}
    return TheirItem(text_content=text, **given)


# --- records -----------------------------------------------------------------------------------


async def test_an_item_of_theirs_becomes_ours_and_nothing_is_lost(bare: MemoryManager) -> None:
    theirs = TheirItem(
        id="mem_1",
        user_id="ana",
        session_id="s1",
        item_type="conversation",
        persona_active="cherry",
        text_content="I moved to Lisbon",
        embedding=[0.5, 0.25],
        metadata={"mood": {"joy": 0.9}},
        expiration=datetime(2099, 1, 1, tzinfo=UTC),
        channel="web",  # type: ignore[call-arg]
    )
    assert await bare.add_memory_item(theirs) == "mem_1"
    ours = await bare.get_memory_item("mem_1")
    assert type(ours) is MemoryItem
    assert (ours.content, ours.searchable, ours.kind) == ("I moved to Lisbon", "I moved to Lisbon", "conversation")
    assert (ours.user_id, ours.session_id, ours.agent_id) == ("ana", "s1", None)
    assert ours.metadata == {"mood": {"joy": 0.9}, "persona_active": "cherry", "legacy": {"channel": "web"}}
    assert (ours.created_at, ours.expires_at) == (WHEN, datetime(2099, 1, 1, tzinfo=UTC))
    assert list(ours.embedding) == [0.5, 0.25]


async def test_a_mapping_an_object_and_ours_are_taken_alike(memory: MemoryManager) -> None:
    class Slotted:
        __slots__ = ("_hidden", "item_type", "text_content", "unset", "user_id")

        def __init__(self) -> None:
            self.user_id, self.item_type, self.text_content, self._hidden = "ana", "note", "x", 1

    plain = {"user_id": "ana", "item_type": "note", "text_content": "x", "embedding": [], "session_id": ""}
    ids = [await memory.add_memory_item(one) for one in (plain, Slotted(), MemoryItem(content="x", user_id="ana"))]
    assert len(set(ids)) == 3
    for id in ids:
        found = await memory.get_memory_item(id)
        assert found is not None
        assert (found.content, found.kind, found.user_id, found.session_id) == ("x", "note", "ana", None)
        assert found.metadata == {}


async def test_agent_data_becomes_an_item_of_its_agent(memory: MemoryManager) -> None:
    data = TheirAgentData("planner", "plan", {"steps": ["book", ("fly", 2)]}, id="agent_1", metadata={"run": 7})
    assert await memory.add_raw_agent_data(data) == "agent_1"
    ours = await memory.get_memory_item("agent_1")
    assert ours is not None
    assert (ours.agent_id, ours.user_id, ours.kind, ours.created_at) == ("planner", None, "plan", WHEN)
    assert (ours.content, ours.metadata) == ({"steps": ["book", ["fly", 2]]}, {"run": 7})
    bare = await memory.get_memory_item(await memory.add_raw_agent_data({"agent_id": "planner", "content": "x"}))
    assert bare is not None
    assert (bare.content, bare.kind) == ("x", "agent_data")
    with pytest.raises(InvalidItem, match="agent_id"):
        await memory.add_raw_agent_data({"data_type": "plan", "content": "x"})


async def test_values_that_json_lacks_become_their_nearest(memory: MemoryManager) -> None:
    class Mood(enum.Enum):
        GOOD = "good"

    number = uuid.uuid4()
    id = await memory.add_memory_item(
        {
            "id": number,
            "user_id": "ana",
            "item_type": Mood.GOOD,
            "text_content": "x",
            "metadata": {"mood": Mood.GOOD, Mood.GOOD: {3, 1}, "at": WHEN, "by": number, "pair": (1, 2)},
        }
    )
    found = await memory.get_memory_item(id)
    assert found is not None
    assert (id, found.kind) == (str(number), "good")
    assert found.metadata == {"mood": "good", "good": [1, 3], "at": WHEN.isoformat(), "by": str(number), "pair": [1, 2]}


@pytest.mark.parametrize(
    "written",
    [
        WHEN,
        WHEN.astimezone(timezone(timedelta(hours=5))),
        WHEN.replace(tzinfo=None),
        "2025-05-01T12:30:00Z",
        "2025-05-01T12:30:00",
        WHEN.timestamp(),
        int(WHEN.timestamp() * 1000),
    ],
)
async def test_a_time_is_understood_as_they_write_it(memory: MemoryManager, written: Any) -> None:
    id = await memory.add_memory_item({"user_id": "ana", "text_content": "x", "timestamp": written})
    found = await memory.get_memory_item(id)
    assert found is not None
    assert (found.created_at, found.kind) == (WHEN, "message")


async def test_what_would_not_fit_beside_another_is_kept_under_legacy(memory: MemoryManager) -> None:
    id = await memory.add_memory_item(
        {
            "user_id": "ana",
            "text_content": "x",
            "persona_active": "cherry",
            "content": "raw",
            "metadata": {"persona_active": "old", "legacy": 1},
        }
    )
    found = await memory.get_memory_item(id)
    assert found is not None
    assert (found.content, found.metadata) == (
        "x",
        {
            "persona_active": "cherry",
            "legacy": {"content": "raw", "metadata.persona_active": "old", "metadata.legacy": 1},
        },
    )


DEEP: dict[str, Any] = {}
DEEP["self"] = DEEP


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (None, "has fields"),
        ("a text", "has fields"),
        ([1], "has fields"),
        (3, "has fields"),
        ({}, "no memory"),
        ({"colour": "red"}, "it has colour"),
        ({1: 2, "user_id": "ana"}, "must be str"),
        ({"user_id": "ana", "text_content": "x", "timestamp": "yesterday"}, "timestamp must be a time"),
        ({"user_id": "ana", "text_content": "x", "timestamp": float("nan")}, "timestamp must be a time"),
        ({"user_id": "ana", "text_content": "x", "expiration": 1e300}, "expiration must be a time"),
        ({"user_id": "ana", "text_content": "x", "metadata": "m"}, "metadata must be a dict"),
        ({"user_id": "ana", "text_content": "x", "metadata": DEEP}, "nested deeper"),
        ({"user_id": "ana", "text_content": "x", "embedding": "y"}, "embedding"),
        ({"user_id": 3, "text_content": "x"}, "user_id must be a str"),
        ({"user_id": "ana", "text_content": object()}, "only plain JSON"),
    ],
)
async def test_what_is_no_record_is_refused_and_nothing_is_stored(
    memory: MemoryManager, record: Any, words: str
) -> None:
    with pytest.raises(InvalidItem, match=words):
        await memory.add_memory_item(record)
    assert await memory.store.count() == 0


# --- writing -----------------------------------------------------------------------------------


async def test_adding_again_replaces_ones_own_and_never_anothers(memory: MemoryManager) -> None:
    await memory.add_memory_item(said("first", id="m"))
    assert await memory.add_memory_item(said("second", id="m")) == "m"
    for other in (
        said("x", id="m", user_id="eve"),
        MemoryItem(id="m", content="x"),
        TheirAgentData("a", "t", "x", "m"),
    ):
        with pytest.raises(AlreadyExists):
            await memory.add_memory_item(other)
    found = await memory.get_memory_item("m")
    assert found is not None
    assert found.content == "second"


async def test_an_update_replaces_a_whole_item_or_some_fields(memory: MemoryManager) -> None:
    await memory.add_memory_item(said("first", id="m", metadata={"a": 1}))
    whole = await memory.update_memory_item(said("second", id="m", metadata={"b": 2}))
    assert (whole.content, whole.metadata) == ("second", {"b": 2})
    some = await memory.update_memory_item(
        "m",
        {"text_content": "third", "persona_active": "cherry", "metadata": {"c": 3}, "item_type": "fact"},
        user_id="ana",
    )
    assert (some.content, some.kind, some.user_id) == ("third", "fact", "ana")
    assert some.metadata == {"b": 2, "c": 3, "persona_active": "cherry"}
    gone = await memory.update_memory_item("m", {"expiration": "2099-01-01", "importance": 0.9})
    assert (gone.expires_at, gone.importance) == (datetime(2099, 1, 1, tzinfo=UTC), 0.9)


async def test_an_update_of_what_is_not_there_or_not_theirs_is_refused(memory: MemoryManager) -> None:
    await memory.add_memory_item(said("first", id="m"))
    for call in (
        memory.update_memory_item(said("x", id="nowhere")),
        memory.update_memory_item(said("x", id="m", user_id="eve")),
        memory.update_memory_item("m", {"text_content": "x"}, user_id="eve"),
    ):
        with pytest.raises(NotFound):
            await call
    for updates in ({"timestamp": WHEN}, {"colour": 1}, {1: 2}, "text"):
        with pytest.raises(InvalidItem):
            await memory.update_memory_item("m", updates)  # type: ignore[arg-type]


async def test_writers_of_one_item_at_once_all_come_through(memory: MemoryManager) -> None:
    await memory.add_memory_item(said("first", id="m"))
    async with asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(memory.update_memory_item(said(f"whole {number}", id="m")))
            group.create_task(memory.add_memory_item(said(f"again {number}", id="m")))
            group.create_task(memory.update_memory_item("m", {"metadata": {str(number): True}}))
    found = await memory.get_memory_item("m")
    assert found is not None
    assert found.content != "first"


async def test_reading_and_deleting_can_be_narrowed_to_a_user(memory: MemoryManager) -> None:
    await memory.add_memory_item(said("x", id="m"))
    assert await memory.get_memory_item("m", user_id="eve") is None
    assert await memory.delete_memory_item("m", user_id="eve") is False
    assert await memory.delete_memory_item("m", user_id="ana") is True
    assert await memory.get_memory_item("m") is None


# --- finding -----------------------------------------------------------------------------------


async def test_the_conversation_comes_newest_first_and_filtered_by_persona(memory: MemoryManager) -> None:
    for minute, persona in enumerate(["user", "cherry", "user", "butler"]):
        await memory.add_memory_item(said(f"turn {minute}", minute, persona_active=persona, session_id="s"))
    await memory.add_memory_item(said("a fact", 9, item_type="fact"))
    await memory.add_memory_item(said("not hers", 9, user_id="eve"))

    async def told(**given: Any) -> list[Any]:
        return [item.content for item in await memory.get_conversation_history("ana", **given)]

    assert await told() == ["turn 3", "turn 2", "turn 1", "turn 0"]
    assert await told(limit=2) == ["turn 3", "turn 2"]
    assert await told(session_id="other") == []
    assert await told(filters={"persona_active": "user"}) == ["turn 2", "turn 0"]
    assert await told(filters={"persona_active": Persona("cherry")}) == ["turn 1"]
    assert await told(filters={"persona_active": {"name": "cherry", "traits": {}}}) == ["turn 1"]
    assert await told(filters={"persona_active": {"$in": ["cherry", "butler"]}}) == ["turn 3", "turn 1"]
    assert await told(filters={"item_type": "fact"}) == ["a fact"]
    assert await told(filters={"timestamp": {"$lt": WHEN + timedelta(minutes=1)}}) == ["turn 0"]
    assert await told(filters=F.metadata.persona_active == "user") == ["turn 2", "turn 0"]
    for wrong in ({"colour": 1}, {"persona_active": object()}, {"item_type": "a", "kind": "b"}):
        with pytest.raises(InvalidFilter):
            await memory.get_conversation_history("ana", filters=wrong)
    with pytest.raises(InvalidItem, match="user_id"):
        await memory.get_conversation_history("")


async def test_a_memory_is_searched_for_by_words(memory: MemoryManager) -> None:
    await memory.add_memory_item(said("peanuts are out", persona_active="user"))
    await memory.add_memory_item(said("peanuts are back", 1, persona_active="cherry"))
    await memory.add_memory_item(said("peanuts", 2, user_id="eve"))
    found = await memory.search_memory("peanuts", "ana", filters={"persona_active": "cherry"})
    assert [item.content for item in found] == ["peanuts are back"]
    assert len(await memory.search_memory("peanuts", "ana", limit=1)) == 1
    assert len(await memory.search_memory("peanuts")) == 3


async def test_a_duplicate_is_the_same_text_of_the_same_user(memory: MemoryManager) -> None:
    await memory.add_memory_item(said("I moved to Lisbon"))
    await memory.add(["I", "left"], text="I left Lisbon", user_id="ana")
    assert await memory.check_duplicate(said("I moved to Lisbon", 5, item_type="fact", session_id="x"))
    assert await memory.check_duplicate({"user_id": "ana", "text_content": "I left Lisbon"})
    assert not await memory.check_duplicate(said("I moved to lisbon"))
    assert not await memory.check_duplicate(said("I moved to Lisbon", user_id="eve"))
    assert not await memory.check_duplicate(MemoryItem(content="I moved to Lisbon"))
    assert not await memory.check_duplicate({"user_id": "ana", "text_content": None})


# --- upkeep ------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["in_memory", "sqlite"])
async def test_expired_items_are_cleaned_up_and_counted(backend: str) -> None:
    clock = ManualClock()
    async with MemoryManager(backend, clock=clock) as memory:
        for minute in range(3):
            soon = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)
            await memory.add_memory_item(said("soon gone", expiration=soon + timedelta(seconds=30)))
        assert await memory.cleanup_expired_items() == 0
        clock.advance(100)
        assert len(await memory.get_conversation_history("ana")) == 1
        assert await memory.cleanup_expired_items() == 2
        assert await memory.cleanup_expired_items() == 0


async def test_health_is_told_and_a_memory_that_is_not_open_is_unhealthy() -> None:
    memory = MemoryManager("sqlite")
    health = await memory.health_check()
    assert (health.status, health.backend) == ("unhealthy", "unknown")
    await memory.initialize()
    health = await memory.health_check()
    assert (health.status, health.backend, health.durability) == ("healthy", "sqlite", "power")
    await memory.close()
    health = await memory.health_check()
    assert (health.status, health.backend) == ("unhealthy", "sqlite")
    assert "closed" in health.details["error"]


async def test_save_all_writes_the_accesses_that_were_counted() -> None:
    async with MemoryManager("in_memory", track_access=True) as memory:
        await memory.add_memory_item(said("x", id="m"))
        await memory.get_memory_item("m")
        await memory.save_all()
        assert [item.access_count async for batch in memory.store.stream() for item in batch] == [1]
    with pytest.raises(Closed):
        await memory.save_all()


def test_the_twins_serve_callers_without_a_loop() -> None:
    memory = MemoryManager("sqlite")
    memory.initialize_sync()
    try:
        assert memory.add_memory_item_sync(said("hello", id="m")) == "m"
        assert memory.check_duplicate_sync(said("hello"))
        assert [item.id for item in memory.get_conversation_history_sync("ana")] == ["m"]
        assert [item.id for item in memory.search_memory_sync("hello", "ana")] == ["m"]
        assert memory.update_memory_item_sync("m", {"text_content": "bye"}).content == "bye"
        assert memory.add_raw_agent_data_sync(TheirAgentData("a", "t", "x"))
        assert memory.delete_memory_item_sync("m")
        assert memory.get_memory_item_sync("m") is None
        assert memory.cleanup_expired_items_sync() == 0
        assert memory.health_check_sync().status == "healthy"
        memory.save_all_sync()
    finally:
        memory.close_sync()
