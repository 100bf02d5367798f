"""Messages of a conversation, as chat interfaces have them, and the items they become."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from memory.errors import InvalidItem
from memory.model import MemoryItem


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
