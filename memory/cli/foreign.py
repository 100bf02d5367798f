"""What import makes of files that are not our own: chat exports, and JSON records with a map of their fields.

An item without an id of its own gets one by name (UUID version 5, RFC 9562) from its owner, session, place in the file, role
and content. So the same file gives the same ids again, and a chat that has grown gives new ones for its new messages only.
"""

from __future__ import annotations

import copy
import re
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec

from memory.cli.failures import UsageProblem
from memory.clock import EPOCH, from_micros, system_clock
from memory.errors import InvalidFilter, InvalidItem
from memory.filters.check import split_path
from memory.manager.messages import from_message
from memory.model import MemoryItem, check_item

Form = Literal["memories", "chat"]
Records = Iterator[tuple[int, Any]]
"""Number of the line (or place in the array) and what stands there; an InvalidItem where that is no JSON."""

TIMES = ("created_at", "timestamp")
"""The fields of a message that may hold its time; the first that does is taken."""
_LOOK = 100
_IDS = uuid.UUID("5b2d9a0e-3c1f-5e8b-9a77-6d0f4c21b8e3")  # the namespace of our name-based ids; any constant would do
_MILLISECONDS = 1e11  # as seconds that is the year 5138, as milliseconds 1973
_NAMES = ("kind", "id", "user_id", "agent_id", "session_id")
_TARGETS = ("content", "text", *_NAMES, "namespace", "tags", "importance", "created_at", "expires_at", "metadata")


def is_array(file: Path) -> bool:
    """Whether a file is one JSON array, by its first character."""
    with file.open("rb") as source:
        return source.read(4_096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"["


def records(file: Path) -> Records:
    """The records of a file: its lines that are not blank, or the elements of its array. Raises InvalidItem for a broken array."""
    if is_array(file):
        try:
            yield from enumerate(msgspec.json.decode(file.read_bytes().removeprefix(b"\xef\xbb\xbf"), type=list), 1)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidItem(f"the file begins as a JSON array, but is none: {error}") from None
        return
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not (line := line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip():
                continue
            try:
                yield number, msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                yield number, InvalidItem(f"this is not JSON: {error}")


def is_empty_array(file: Path) -> bool:
    """Whether a file is an array of nothing. Raises InvalidItem for a broken array."""
    return is_array(file) and next(records(file), None) is None


def form_of(file: Path) -> Form:
    """What a file holds, by its first telling record: role and content mean a chat, content alone or ``v`` our own export.

    A file without either is taken for our own, whose reader says what is wrong. Raises UsageProblem for records of
    another make, and for an array of anything but messages.
    """
    strange: dict[str, Any] | None = None
    for looked, (_, record) in enumerate(records(file)):
        if looked == _LOOK:
            break
        if not isinstance(record, dict):
            continue
        if "v" in record or ("content" in record and "role" not in record):
            if is_array(file):
                raise UsageProblem("memories are read a line each: make lines of the array with `jq -c '.[]'`")
            return "memories"
        if "content" in record:
            return "chat"
        strange = strange or record
    if strange is None:
        return "memories"
    if isinstance(strange.get("messages"), list):
        raise UsageProblem("a line holds a whole conversation: make lines of one with `jq -c '.messages[]'`")
    known = ", ".join(sorted(map(str, strange))[:8])
    raise UsageProblem(
        "these are neither memories nor a chat ({role, content} each); say which of their fields is what, such as "
        f"--map content=FIELD. Their fields: {known}"
    )


def moment(value: Any) -> datetime:
    """A time: ISO 8601 (UTC where it names no zone), or seconds or milliseconds since 1970. Raises InvalidItem."""
    try:
        if isinstance(value, str):
            try:
                found = datetime.fromisoformat(value.strip())
            except ValueError:
                value = float(value)
            else:
                return found.replace(tzinfo=UTC) if found.tzinfo is None else found
        if isinstance(value, int | float) and not isinstance(value, bool):
            return EPOCH + (timedelta(milliseconds=value) if abs(value) >= _MILLISECONDS else timedelta(seconds=value))
    except (ValueError, OverflowError):
        pass
    raise InvalidItem(f"{value!r} is no time; it must be ISO 8601, or seconds or milliseconds since 1970")


@dataclass
class Owner:
    """Whose the items become that name nobody."""

    user_id: str | None = None
    agent_id: str | None = None
    session_id: str | None = None

    def named(self, item: MemoryItem, place: int) -> MemoryItem:
        """The item, checked, with the id that its owner, place and content give it. Raises InvalidItem."""
        item = check_item(item)
        said = [item.user_id, item.agent_id, item.session_id, place, item.metadata.get("role"), item.content]
        name = msgspec.json.encode(said, order="deterministic").decode()
        return msgspec.structs.replace(item, id=str(uuid.uuid5(_IDS, name)))

    def owned(self, item: MemoryItem) -> MemoryItem:
        """The item with what it does not name itself."""
        given = {name: value for name, value in vars(self).items() if value is not None and getattr(item, name) is None}
        return msgspec.structs.replace(item, **given) if given else item


class Chat:
    """Messages of one conversation as items, one after the other.

    ``created_at`` is the message's own time where it has one, else just after the message before. Messages of the same
    moment are kept in order by a microsecond each.
    """

    names_ids = False

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._given: datetime | None = None
        self._last = from_micros(system_clock())

    def item(self, message: Any, place: int) -> MemoryItem:
        """The message at this place of the conversation as an item. Raises InvalidItem."""
        time, rest = None, message
        if isinstance(message, dict):
            field = next((name for name in TIMES if message.get(name) is not None), None)
            time = None if field is None else moment(message[field])
            rest = {name: value for name, value in message.items() if name != field}
        try:
            item = from_message(rest, place, {})
        except InvalidItem as error:
            raise InvalidItem(f"this {error.message.removeprefix(f'message {place} ')}") from None
        if time is None or (self._given is not None and self._given <= time <= self._last):
            created = self._last + timedelta(microseconds=1)
        else:
            created = time
        self._given, self._last = time or self._given, created
        item = self._owner.owned(msgspec.structs.replace(item, created_at=created))
        return self._owner.named(item, place)


class Mapped:
    """Records of any form as items, by a map from the fields of an item to paths in the record."""

    def __init__(self, pairs: Sequence[str], owner: Owner) -> None:
        self._owner = owner
        self._paths = dict(_pair(one) for one in pairs)
        if len(self._paths) < len(pairs):
            raise UsageProblem("--map names a field twice")
        if ("content",) not in self._paths:
            raise UsageProblem(
                "--map must say what is remembered: --map content=FIELD, or content=. for the whole record"
            )
        self.names_ids = ("id",) in self._paths

    def item(self, record: Any, place: int) -> MemoryItem:
        """The record at this place of the file as an item. Raises InvalidItem."""
        fields: dict[str, Any] = {}
        metadata: dict[str, Any] = {}
        for target, path in sorted(self._paths.items()):
            value = _at(record, path)
            if value is None:
                continue
            if target[0] == "metadata":
                value = copy.deepcopy(value)  # what is added below it is not to appear in the content
            if target == ("metadata",):
                if not isinstance(value, dict):
                    raise InvalidItem(f"{_dotted(path)} must be an object to become metadata", field="metadata")
                metadata.update(value)
            elif target[0] == "metadata":
                below = metadata
                for name in target[1:-1]:
                    below = below.setdefault(name, {})
                    if not isinstance(below, dict):
                        raise InvalidItem(f"{_dotted(target)} lies below a value that is no object", field="metadata")
                below[target[-1]] = value
            else:
                fields[target[0]] = _fit(target[0], value)
        if "content" not in fields:
            raise InvalidItem(f"there is nothing at {_dotted(self._paths['content',])} to remember", field="content")
        item = self._owner.owned(MemoryItem(**fields, metadata=metadata))
        return item if "id" in fields else self._owner.named(item, place)


def _pair(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """``FIELD=PATH`` as two paths. Raises UsageProblem."""
    target, found, path = text.partition("=")
    if not found or not target or not path:
        raise UsageProblem(f"--map takes FIELD=PATH, such as content=body.text, not {text!r}")
    try:
        field, source = split_path(target), () if path == "." else split_path(path)
    except InvalidFilter as error:
        raise UsageProblem(f"--map {text}: {error.message}") from None
    if field[0] not in _TARGETS or (len(field) > 1 and field[0] != "metadata") or "" in (*field, *source):
        names = ", ".join(_TARGETS)
        raise UsageProblem(f"--map {text}: a memory has the fields {names}, and yours below metadata (metadata.topic)")
    return field, source


def _at(record: Any, path: tuple[str, ...]) -> Any:
    """What stands at a path, None where nothing does; a number steps into a list."""
    for step in path:
        if isinstance(record, dict):
            record = record.get(step)
        elif isinstance(record, list) and re.fullmatch(r"[0-9]{1,9}", step):
            record = record[int(step)] if int(step) < len(record) else None
        else:
            return None
    return record


def _fit(field: str, value: Any) -> Any:
    """A value in the type of its field, where the two differ in form only. Raises InvalidItem."""
    if field in ("created_at", "expires_at"):
        return moment(value)
    if field in _NAMES and type(value) is int:
        return str(value)
    if field in ("tags", "namespace"):
        parts = value if isinstance(value, list) else [value]
        return tuple(str(part) if type(part) is int else part for part in parts)
    return value


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(path) or "the record"
