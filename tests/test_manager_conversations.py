"""Conversations: messages in, history out, on both engines."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from memory import F, InvalidCursor, InvalidItem, ManualClock, MemoryManager

pytestmark = pytest.mark.usefixtures("empty")


async def test_messages_keep_their_order_within_and_between_calls(memory: MemoryManager) -> None:
    for start in range(0, 12, 4):
        await memory.add_messages([{"role": "user", "content": str(start + n)} for n in range(4)], "ana", "s1")
    await memory.add_messages([{"role": "user", "content": "elsewhere"}], "ana", "s2")
    page = await memory.history("ana", "s1")
    assert [item.content for item in page] == [str(n) for n in reversed(range(12))]
    times = [item.created_at for item in page]
    assert all(newer > older for newer, older in itertools.pairwise(times))


async def test_messages_keep_their_order_on_a_clock_that_stands_still() -> None:
    async with MemoryManager("in_memory", clock=ManualClock()) as memory:
        for number in range(3):
            await memory.add_messages([{"role": "user", "content": f"{number}{letter}"} for letter in "ab"])
        assert [item.content for item in await memory.history()] == ["2b", "2a", "1b", "1a", "0b", "0a"]


@pytest.mark.parametrize(
    "given", [{"messages": 5}, {"messages": None}, {"metadata": 5}, {"metadata": "x"}, {"metadata": [1]}]
)
async def test_what_are_no_messages_is_refused(memory: MemoryManager, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidItem, match=next(iter(given))):
        await memory.add_messages(**{"messages": [{"role": "user", "content": "x"}], **given})
    assert not (await memory.history()).items


async def test_history_is_paged_newest_first(memory: MemoryManager) -> None:
    await memory.add_messages([{"role": "user", "content": str(n)} for n in range(5)], "ana", "s")
    await memory.add("a note, not said", user_id="ana", session_id="s")
    first = await memory.history("ana", "s", 3)
    assert [item.content for item in first] == ["4", "3", "2"]
    rest = await memory.history("ana", "s", 3, cursor=first.cursor)
    assert ([item.content for item in rest], rest.cursor) == (["1", "0"], None)
    with pytest.raises(InvalidCursor):
        await memory.history("bob", "s", 3, cursor=first.cursor)


async def test_history_can_be_filtered_and_hold_every_kind(memory: MemoryManager) -> None:
    await memory.add_messages([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "ana")
    await memory.add("note", user_id="ana")
    assert [item.content for item in await memory.history("ana", where={"metadata.role": "user"})] == ["q"]
    assert [item.content for item in await memory.history("ana", where=F.metadata.role == "assistant")] == ["a"]
    assert len(await memory.history("ana", kind=None)) == 3


async def test_a_message_is_kept_as_it_was_and_found_by_its_words(memory: MemoryManager) -> None:
    parts = [
        {"type": "text", "text": "What is in this picture?"},
        {"type": "image_url", "image_url": {"url": "https://example.org/zebra.png"}},
    ]
    called = [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]
    stored = await memory.add_messages(
        [
            {"role": "user", "content": parts, "name": "ana"},
            {"role": "assistant", "content": None, "tool_calls": called},
            {"role": "tool", "content": "a horse", "tool_call_id": "call_1"},
        ],
        metadata={"channel": "web"},
    )
    kept = [await memory.get(item.id) for item in stored]
    assert [item.content for item in kept if item] == [parts, None, "a horse"]
    assert kept[0] is not None
    assert kept[0].metadata == {"channel": "web", "role": "user", "name": "ana"}
    assert kept[1] is not None
    assert kept[1].metadata["tool_calls"] == called
    assert [hit.item.id for hit in await memory.search("picture")] == [stored[0].id]
    assert len(await memory.search("zebra")) == 0, "the address of an image is not what was said"


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("hello", "must be a dict"),
        ({"content": "hello"}, "needs a role"),
        ({"role": "", "content": "hello"}, "needs a role"),
        ({"role": "user"}, "has no content"),
        ({"role": "user", "content": 3}, "type int"),
        ({"role": "user", "content": [object()]}, "only plain JSON"),
    ],
)
async def test_a_message_that_is_none_is_named_and_nothing_is_stored(
    memory: MemoryManager, message: Any, words: str
) -> None:
    with pytest.raises(InvalidItem, match=words) as caught:
        await memory.add_messages([{"role": "user", "content": "good"}, message])
    assert caught.value.index == 1  # type: ignore[attr-defined]
    assert await memory.store.count() == 0


async def test_no_messages_are_no_mistake(memory: MemoryManager) -> None:
    assert await memory.add_messages([]) == []


# --- as a chat interface takes them ------------------------------------------------------------

CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bristol"}'}}
CHAT: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Rain tomorrow?", "name": "ana"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "light rain", "tool_call_id": "call_1"},
    {"role": "assistant", "content": [{"type": "text", "text": "A little."}]},
]


async def test_history_as_messages_is_the_conversation_as_it_was_given(memory: MemoryManager) -> None:
    await memory.add_messages(CHAT[:2], "ana", "s", metadata={"channel": "web"})
    await memory.add_messages(CHAT[2:], "ana", "s")
    assert await memory.history("ana", "s", as_messages=True) == CHAT
    assert await memory.history("noah", "s", as_messages=True) == []


async def test_history_as_messages_is_the_end_of_a_long_conversation_oldest_first(memory: MemoryManager) -> None:
    await memory.add_messages([{"role": "user", "content": str(n)} for n in range(9)], "ana")
    told = await memory.history("ana", limit=3, as_messages=True)
    assert [message["content"] for message in told] == ["6", "7", "8"]


async def test_the_answer_of_a_tool_is_left_out_when_its_call_lies_before_the_first_message(
    memory: MemoryManager,
) -> None:
    await memory.add_messages(CHAT, "ana")
    assert await memory.history("ana", limit=2, as_messages=True) == CHAT[4:]
    assert await memory.history("ana", limit=3, as_messages=True) == CHAT[2:]


async def test_fields_that_chat_interfaces_refuse_stay_behind(memory: MemoryManager) -> None:
    await memory.add_messages([{"role": "assistant", "content": "hi", "reasoning_content": "hm", "id": "msg_1"}], "ana")
    assert await memory.history("ana", as_messages=True) == [{"role": "assistant", "content": "hi"}]
    assert (await memory.history("ana")).items[0].metadata["reasoning_content"] == "hm"


async def test_what_was_no_message_is_told_by_its_persona(memory: MemoryManager) -> None:
    for text, persona in (("hello", "user"), ("good day", "butler")):
        await memory.add(text, user_id="ana", kind="conversation", metadata={"persona_active": persona})
    await memory.add("only noted", user_id="ana", kind="conversation")
    told = await memory.history("ana", as_messages=True)
    assert [message["role"] for message in told] == ["user", "assistant", "user"]


def test_the_twin_of_history_tells_messages_too() -> None:
    with MemoryManager("in_memory") as memory:
        memory.add_messages_sync(CHAT, "ana")
        assert memory.history_sync("ana", as_messages=True) == CHAT
        assert len(memory.history_sync("ana")) == len(CHAT)
