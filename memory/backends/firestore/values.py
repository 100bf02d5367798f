"""Firestore's values: built as protocol messages directly, since the client's own encoding takes ten times as long."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from google.cloud.firestore_v1.types import document as documents

from memory.model import INT_MAX, INT_MIN

if TYPE_CHECKING:
    import numpy as np

Value: Any = documents.Value.pb()
ArrayValue: Any = documents.ArrayValue.pb()
Document: Any = documents.Document.pb()
Fields = Any
"""The fields of a document or map: name -> Value. Asking it for a name that is not there adds the name."""

NATIVE_DEPTH = 16
NATIVE_LEAVES = 4_000
"""What of a user's JSON is also stored as Firestore's own maps: a document has at most 40,000 index entries."""
_SHORT = 125
"""Bytes of a string below which every length around it is one byte."""
_ENTRY = 11
"""Bytes of one double in an encoded array: tag and length of the value, tag of the double, the double."""


class NotNativeError(Exception):
    """A JSON value that Firestore's own types cannot hold, or not within its limits."""


def text(value: str) -> Any:
    """A string."""
    return Value(string_value=value)


def optional_text(value: str | None) -> Any:
    """A string, or null."""
    return Value(null_value=0) if value is None else Value(string_value=value)


def integer(value: int) -> Any:
    """A 64-bit integer."""
    return Value(integer_value=value)


def number(value: float) -> Any:
    """A double."""
    return Value(double_value=value)


def blob(value: bytes) -> Any:
    """Bytes."""
    return Value(bytes_value=value)


def moment(micros: int) -> Any:
    """A timestamp, from microseconds since the epoch."""
    value = Value()
    value.timestamp_value.seconds, rest = divmod(micros, 1_000_000)
    value.timestamp_value.nanos = rest * 1_000
    return value


def texts(values: Iterable[str]) -> Any:
    """An array of strings, written as the bytes that a protocol message of them has: a message for each would take the 5,000
    terms of a long text 10 ms."""
    raw = bytearray()
    for one in values:
        text = one.encode()
        size = len(text)
        if size < _SHORT:
            raw += b"\x0a%c\x8a\x01%c%b" % (size + 3, size, text)
        else:
            inner = b"\x8a\x01" + varint(size) + text
            raw += b"\x0a" + varint(len(inner)) + inner
    value = Value()
    value.array_value.CopyFrom(ArrayValue.FromString(bytes(raw)))
    return value


def varint(number: int) -> bytes:
    """A length as protocol messages write it."""
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)


def blobs(values: Iterable[bytes]) -> Any:
    """An array of bytes."""
    value = Value()
    value.array_value.values.extend([Value(bytes_value=one) for one in values])
    return value


def doubles(numbers: np.ndarray[Any, Any]) -> Any:
    """An array of doubles, written as the bytes that a protocol message of them has."""
    import numpy as np

    raw = np.empty((len(numbers), _ENTRY), dtype=np.uint8)
    raw[:, 0], raw[:, 1], raw[:, 2] = 0x0A, 9, 0x19
    raw[:, 3:] = np.ascontiguousarray(numbers, dtype="<f8").view(np.uint8).reshape(-1, 8)
    value = Value()
    value.array_value.CopyFrom(ArrayValue.FromString(raw.tobytes()))
    return value


def vector(numbers: np.ndarray[Any, Any]) -> Any:
    """What Firestore calls a vector: a map that says so."""
    value = Value()
    value.map_value.fields["__type__"].string_value = "__vector__"
    value.map_value.fields["value"].CopyFrom(doubles(numbers))
    return value


def floats(value: Any) -> bytes | None:
    """The float32 bytes of an array of numbers or a vector; None when it is neither, or holds what is no number."""
    import numpy as np

    kind = value.WhichOneof("value_type")
    if kind == "map_value":
        fields = value.map_value.fields
        if "value" not in fields or "__type__" not in fields:
            return None
        value = fields["value"]
        kind = value.WhichOneof("value_type")
    if kind != "array_value" or not value.array_value.values:
        return None
    raw = np.frombuffer(value.array_value.SerializeToString(), dtype=np.uint8)
    if len(raw) == _ENTRY * len(value.array_value.values):
        rows = raw.reshape(-1, _ENTRY)
        if (rows[:, :3] == (0x0A, 9, 0x19)).all():
            found = np.ascontiguousarray(rows[:, 3:]).view("<f8").ravel()
            return _float32(found)
    numbers = [_number(one) for one in value.array_value.values]
    return None if any(one is None for one in numbers) else _float32(np.array(numbers, dtype=np.float64))


def _float32(numbers: np.ndarray[Any, Any]) -> bytes | None:
    import numpy as np

    with np.errstate(over="ignore"):
        small = numbers.astype("<f4")
    return small.tobytes() if np.isfinite(small).all() else None


def _number(value: Any) -> float | None:
    kind = value.WhichOneof("value_type")
    if kind == "double_value":
        return float(value.double_value)
    return float(value.integer_value) if kind == "integer_value" else None


def micros(stamp: Any) -> int:
    """Microseconds since the epoch of a protocol timestamp."""
    return int(stamp.seconds) * 1_000_000 + int(stamp.nanos) // 1_000


# --- JSON --------------------------------------------------------------------------------------


def native(value: Any) -> tuple[Any, int]:
    """A JSON value as Firestore's own, and how many leaves it has. Raises NotNativeError: nested arrays, reserved or empty
    names, too deep."""
    made = Value()
    return made, _fill(made, value, 0, in_list=False)


def _fill(into: Any, value: Any, depth: int, *, in_list: bool) -> int:
    kind = type(value)
    if value is None:
        into.null_value = 0
    elif kind is bool:
        into.boolean_value = value
    elif kind is int:
        into.integer_value = value
    elif kind is float:
        into.double_value = value
    elif kind is str:
        into.string_value = value
    elif kind is list:
        if in_list or depth >= NATIVE_DEPTH:
            raise NotNativeError
        into.array_value.SetInParent()
        return 1 + sum(_fill(into.array_value.values.add(), one, depth + 1, in_list=True) for one in value)
    else:
        if depth >= NATIVE_DEPTH:
            raise NotNativeError
        into.map_value.SetInParent()
        leaves = 1
        for name, one in value.items():
            if not is_name(name):
                raise NotNativeError
            leaves += _fill(into.map_value.fields[name], one, depth + 1, in_list=False)
        return leaves
    return 1


def is_name(name: str) -> bool:
    """Whether Firestore takes it for a field's name."""
    return bool(name) and not (name.startswith("__") and name.endswith("__")) and len(name.encode()) <= 1_500


def native_map(fields: Mapping[str, Any]) -> Any:
    """A JSON object as Firestore's own map: what of it can be one, within NATIVE_LEAVES."""
    made = Value()
    made.map_value.SetInParent()
    left = NATIVE_LEAVES
    for name, value in fields.items():
        if not is_name(name):
            continue
        try:
            one, leaves = native(value)
        except NotNativeError:
            continue
        left -= leaves
        if left < 0:
            break
        made.map_value.fields[name].CopyFrom(one)
    return made


def plain(value: Any) -> Any:
    """A Firestore value as JSON: timestamps as ISO-8601, bytes and references as text, so that nothing is lost."""
    kind = value.WhichOneof("value_type")
    if kind in (None, "null_value"):
        return None
    if kind == "map_value":
        return plain_map(value.map_value.fields)
    if kind == "array_value":
        return [plain(one) for one in value.array_value.values]
    if kind == "timestamp_value":
        from memory.clock import from_micros

        return from_micros(micros(value.timestamp_value)).isoformat().replace("+00:00", "Z")
    if kind == "bytes_value":
        import base64

        return base64.b64encode(value.bytes_value).decode()
    if kind == "geo_point_value":
        return {"latitude": value.geo_point_value.latitude, "longitude": value.geo_point_value.longitude}
    found = getattr(value, kind)
    if kind == "double_value" and not float("-inf") < found < float("inf"):
        return str(found)
    if kind == "integer_value" and not INT_MIN <= found <= INT_MAX:
        return str(found)
    return found


def plain_map(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a map as JSON."""
    return {name: plain(fields[name]) for name in fields}


# --- reading fields, each of the kind that is asked for, or None --------------------------------


def _get(fields: Fields, name: str, kind: str) -> Any:
    if name not in fields:
        return None
    value = fields[name]
    return getattr(value, kind) if value.WhichOneof("value_type") == kind else None


def get_text(fields: Fields, name: str) -> str | None:
    """The string of this name."""
    found: str | None = _get(fields, name, "string_value")
    return found


def get_integer(fields: Fields, name: str) -> int | None:
    """The integer of this name."""
    found: int | None = _get(fields, name, "integer_value")
    return found


def get_bytes(fields: Fields, name: str) -> bytes | None:
    """The bytes of this name."""
    found: bytes | None = _get(fields, name, "bytes_value")
    return found


def get_moment(fields: Fields, name: str) -> int | None:
    """The timestamp of this name, in microseconds since the epoch."""
    found = _get(fields, name, "timestamp_value")
    return None if found is None else micros(found)


def get_map(fields: Fields, name: str) -> Fields | None:
    """The fields of the map of this name."""
    found = _get(fields, name, "map_value")
    return None if found is None else found.fields


def get_texts(fields: Fields, name: str) -> list[str]:
    """The strings of the array of this name."""
    found = _get(fields, name, "array_value")
    return [] if found is None else [one.string_value for one in found.values]
