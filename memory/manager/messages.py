"""Messages of a conversation, as chat interfaces have them, and the items they become."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from memory.errors import InvalidItem
from memory.model import MemoryItem, key_order

CHAT_FIELDS = ("name", "tool_calls", "tool_call_id", "function_call", "refusal", "audio")
"""What a message may hold beside role and content that chat interfaces take back. Other fields stay in metadata."""


def from_message(message: Any, index: int, shared: dict[str, Any]) -> MemoryItem:
    """A message of a conversation as an item. Raises InvalidItem, which names the message by its index."""

    def unfit(why: str) -> InvalidItem:
        return InvalidItem(f"message {index} {why}", field="messages", index=index)

    if not isinstance(message, Mapping):
        raise unfit(f'must be a dict such as {{"role": "user", "content": "..."}}, not {type(message).__name__}')
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise unfit('needs a role such as "user" or "assistant"')
    content = message.get("content")
    if "content" not in message and not any(name != "role" for name in message):
        raise unfit("has no content")
    text: str | None = None
    if isinstance(content, list):
        parts = [part if isinstance(part, str) else _part_text(part) for part in content]
        text = "\n".join(part for part in parts if part)
    elif content is not None and not isinstance(content, str):
        raise unfit(f"has a content of type {type(content).__name__}; it must be a text or a list of parts")
    rest = {name: value for name, value in message.items() if name not in ("role", "content")}
    return MemoryItem(content=content, text=text, kind="conversation", metadata={**shared, **rest, "role": role})


def _part_text(part: Any) -> str | None:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else None


def to_messages(items: Iterable[MemoryItem]) -> list[dict[str, Any]]:
    """Items of a conversation, newest first, as messages for a chat interface, oldest first.

    Each has ``role`` and ``content`` as they were given, and of what else a message held the fields that such interfaces
    take back (CHAT_FIELDS). An item that was no message is the user's when its persona is "user" or it names none, else
    the assistant's. The answer of a tool whose call lies before the first message is left out: interfaces refuse it.
    """
    messages: list[dict[str, Any]] = []
    called: set[str] = set()
    for item in sorted(items, key=lambda item: (item.created_at, key_order(item.key))):
        kept = item.metadata
        role = kept.get("role")
        if not isinstance(role, str):
            role = "user" if kept.get("persona_active") in (None, "user") else "assistant"
        call = kept.get("tool_call_id")
        if role == "tool" and call is not None and call not in called:
            continue
        calls = kept.get("tool_calls")
        called.update(one["id"] for one in (calls if isinstance(calls, list) else ()) if _has_id(one))
        rest = {name: kept[name] for name in CHAT_FIELDS if name in kept}
        messages.append({"role": role, "content": item.content, **rest})
    return messages


def _has_id(call: Any) -> bool:
    return isinstance(call, dict) and isinstance(call.get("id"), str)
