"""The plain model: a dict, and the rulings said once more in the simplest Python, apart from the code they check."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from memory.clock import EPOCH
from memory.model import MemoryItem
from memory.testing.embedder import WordEmbedder

Key = tuple[tuple[str, ...], str]
Vector = tuple[float, ...]
MISSING = object()
OPTIONAL = ("text", "user_id", "session_id", "expires_at")
SECOND = 1_000_000


class Pins(msgspec.Struct, frozen=True):
    """What a view pins: a namespace (exact, or everything under it), a user, a session."""

    path: tuple[str, ...] = ()
    below: bool = True
    user_id: str | None = None
    session_id: str | None = None

    def options(self) -> dict[str, Any]:
        """The arguments of ``scoped`` that say the same."""
        where = {"under" if self.below else "namespace": self.path} if self.path else {}
        pins = {"user_id": self.user_id, "session_id": self.session_id}
        return {**where, **{name: value for name, value in pins.items() if value is not None}}

    def holds_path(self, path: tuple[str, ...]) -> bool:
        """Whether a namespace lies inside."""
        return path[: len(self.path)] == self.path if self.below else path == self.path

    def holds(self, record: dict[str, Any]) -> bool:
        """Whether a record lies inside."""
        return (
            self.holds_path(record["namespace"])
            and self.user_id in (None, record["user_id"])
            and self.session_id in (None, record["session_id"])
        )


class Refused(Exception):
    """The model refuses: ``error`` is the name of the error class the store has to raise."""

    def __init__(self, error: str, actual: int | None = None) -> None:
        super().__init__(error)
        self.error, self.actual = error, actual


class Model:
    """Records by key. An expired record stays until it is overwritten or swept, and nobody sees it."""

    def __init__(self) -> None:
        self.now = 0
        self.records: dict[Key, dict[str, Any]] = {}
        self.highest: dict[Key, int] = {}
        self.embedder: WordEmbedder | None = None
        """Makes a vector of each text that comes without; None: callers bring them."""
        self.space: tuple[str | None] | None = None
        """Who makes the vectors that are stored, once there are any."""

    def live(self, key: Key) -> dict[str, Any] | None:
        """The record under a key, unless it has expired."""
        record = self.records.get(key)
        if record is None or (record["expires_at"] is not None and self.now >= record["expires_at"]):
            return None
        return record

    def seen(self, pins: Pins, where: Any = None) -> list[dict[str, Any]]:
        """Live records inside a view that satisfy a filter, in key order."""
        found = [record for key in self.records if (record := self.live(key)) is not None]
        found = [record for record in found if pins.holds(record) and (not where or matches(where, record))]
        return sorted(found, key=key_bytes)

    def visible(self, pins: Pins, key: Key) -> dict[str, Any] | None:
        """A live record, if it lies inside the view."""
        record = self.live(key)
        return record if record is not None and pins.holds(record) else None

    def put(
        self,
        pins: Pins,
        item: MemoryItem,
        *,
        expect: int | None = None,
        expires: int | None = None,
        dedup: bool = False,
        embed: str = "now",
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """(the record as it has to be stored, live twins, the first of which is returned instead); nothing is changed.

        ``expect``: None for anything, 0 for absence, else a version. Raises Refused.
        """
        fields = {name: getattr(item, name) for name in BODY}
        if not pins.holds_path(item.namespace):
            raise Refused("InvalidItem")
        for name in ("user_id", "session_id"):
            pinned = getattr(pins, name)
            if pinned is not None and fields[name] not in (None, pinned):
                raise Refused("InvalidItem")
            fields[name] = fields[name] if pinned is None else pinned
        old = self.live(item.key)
        if old is not None and not pins.holds(old):
            raise Refused("AlreadyExists")
        if expect == 0 and old is not None:
            raise Refused("AlreadyExists")
        if expect and (old is None or old["version"] != expect):
            raise Refused("VersionConflict", None if old is None else old["version"])
        twins = [record for record in self.seen(Pins()) if dedup and is_twin(record, fields)]
        stamp = {"created_at": self.now, "accessed_at": self.now, "access_count": 0}
        if old is not None:
            stamp = {name: old[name] for name in stamp}
        new = {**fields, **stamp, "updated_at": self.now, "expires_at": expires, "version": 0}
        given = numbers(item.embedding)
        return {**new, "embedding": self.vector(new, embed) if given is None else given}, twins

    def store(self, record: dict[str, Any], version: int) -> None:
        """Take a record over, under the version that the store gave it."""
        key = (record["namespace"], record["id"])
        assert version > self.highest.get(key, 0), f"version {version} of {key} does not rise"
        self.highest[key] = version
        self.records[key] = {**record, "version": version}
        if record["embedding"] is not None and self.space is None:
            self.space = (None if self.embedder is None else self.embedder.name,)

    def vector(self, record: dict[str, Any], embed: str = "now") -> Vector | None:
        """What the store's embedder makes of a record, or makes later."""
        if self.embedder is None or embed == "later" or not searchable(record).strip():
            return None
        return numbers(self.embedder.vector(searchable(record)))

    def expired(self) -> int:
        """How many records a sweep has to remove."""
        return sum(1 for key in self.records if self.live(key) is None)


def numbers(vector: Any) -> Vector | None:
    """A vector as the numbers that float32 keeps of it."""
    return None if vector is None else struct.unpack(f"<{len(vector)}f", struct.pack(f"<{len(vector)}f", *vector))


def searchable(record: dict[str, Any]) -> str:
    """The text that search sees."""
    return MemoryItem(content=record["content"], text=record["text"]).searchable


BODY = (
    *("id", "namespace", "kind", "content", "text", "metadata", "tags"),
    *("user_id", "session_id", "importance"),
)


def key_bytes(record: dict[str, Any]) -> tuple[tuple[bytes, ...], bytes]:
    """What the default order sorts by."""
    return (tuple(segment.encode() for segment in record["namespace"]), record["id"].encode())


def is_twin(record: dict[str, Any], fields: dict[str, Any]) -> bool:
    """Whether dedup takes two records for the same."""
    same = all(record[name] == fields[name] for name in ("namespace", "kind", "user_id", "session_id"))
    return same and equal(record["content"], fields["content"])


def equal(a: Any, b: Any) -> bool:
    """JSON equality in which 1 equals 1.0 and True does not."""
    if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
        return a is b
    if isinstance(a, int | float) and isinstance(b, int | float):
        return bool(a == b)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(equal(a[name], b[name]) for name in a)
    return type(a) is type(b) and bool(a == b)


def at(record: dict[str, Any], path: str) -> Any:
    """The value at a dotted path, or MISSING."""
    root, *names = path.split(".")
    value = record[root]
    if value is None and root in OPTIONAL:
        return MISSING
    for name in names:
        if not isinstance(value, dict) or name not in value:
            return MISSING
        value = value[name]
    return value


def compare(op: str, value: Any, operand: Any) -> bool:
    """One operator on one value."""
    if op == "eq":
        return (
            (value is MISSING or value is None) if operand is None else (value is not MISSING and equal(value, operand))
        )
    if op == "ne":
        return not compare("eq", value, operand)
    if op == "in":
        return any(compare("eq", value, one) for one in operand)
    if op == "nin":
        return not compare("in", value, operand)
    if op == "exists":
        return (value is not MISSING) is bool(operand)
    if op == "contains":
        return isinstance(value, list | tuple) and any(compare("eq", one, operand) for one in value)
    if op == "startswith":
        return isinstance(value, str) and value[: len(operand)] == operand
    both_numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in (value, operand))
    both_texts = isinstance(value, str) and isinstance(operand, str)
    if not both_numbers and not both_texts:
        return False
    verdicts: dict[str, bool] = {
        "gt": value > operand,
        "gte": value >= operand,
        "lt": value < operand,
        "lte": value <= operand,
    }
    return verdicts[op]


def matches(where: dict[str, Any], record: dict[str, Any]) -> bool:
    """What a dict filter means."""
    for name, spec in where.items():
        if name == "$and":
            holds = all(matches(part, record) for part in spec)
        elif name == "$or":
            holds = any(matches(part, record) for part in spec)
        elif name == "$not":
            holds = not matches(spec, record)
        else:
            holds = all(compare(op[1:], at(record, name), operand) for op, operand in spec.items())
        if not holds:
            return False
    return True


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396, as its pseudo code has it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result


def ordered(records: Iterable[dict[str, Any]], order: str) -> list[dict[str, Any]]:
    """Records in an order, ties by key ascending."""
    field = order.removeprefix("-")
    down = order.startswith("-")
    ascending = sorted(records, key=key_bytes)
    if field == "key":
        return ascending[::-1] if down else ascending
    return sorted(ascending, key=lambda record: record[field], reverse=down)


def after(order: str, last: dict[str, Any]) -> Callable[[dict[str, Any]], bool]:
    """Whether a record comes after a position: the value and key that another record had."""

    def later(record: dict[str, Any]) -> bool:
        pair = [{**last, "mark": 0}, {**record, "mark": 1}]
        place = [key_bytes(one) for one in pair]
        field = order.removeprefix("-")
        if place[0] == place[1] and (field == "key" or last[field] == record[field]):
            return False
        return bool(ordered(pair, order)[0]["mark"] == 0)

    return later


TIMES = ("created_at", "updated_at", "accessed_at", "expires_at")


def micros(moment: datetime | None) -> int | None:
    """A time as the model has it."""
    if moment is None:
        return None
    passed = moment.astimezone(UTC) - EPOCH
    return (passed.days * 86_400 + passed.seconds) * SECOND + passed.microseconds


def agree(found: MemoryItem, record: dict[str, Any], *, hit: bool = False) -> None:
    """Fail where an item differs from the model's record. A hit of a search comes without its vector."""
    expected = None if hit else record["embedding"]
    assert numbers(found.embedding) == expected, f"embedding: {found.embedding}, the model says {expected}"
    for name in (*BODY, "access_count", "version"):
        assert getattr(found, name) == record[name], (
            f"{name}: {getattr(found, name)!r}, the model says {record[name]!r}"
        )
    for name in TIMES:
        assert micros(getattr(found, name)) == record[name], (
            f"{name}: {getattr(found, name)}, the model says {record[name]}"
        )


def item_fields(item: MemoryItem) -> dict[str, Any]:
    """An item's own fields, as a record has them."""
    return {name: getattr(item, name) for name in BODY}
