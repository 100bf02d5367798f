"""Keys as bytes that sort as keys do: what every engine with ordered keys indexes records by."""

from __future__ import annotations

from memory.errors import CorruptData
from memory.model import Key, path_bytes
from memory.ops import Scope

SEPARATOR = b"\0\0"
"""Between path and id."""


def encode_key(key: Key) -> bytes:
    """(namespace, id) as bytes in the order of keys: path, two NULs, id.

    Names hold no NUL and are never empty, so the first pair of NULs ends the path, (a) sorts before everything
    below it and that before (a\\x01); everything under a path is one range of keys, exactly one namespace another.
    """
    return b"%b\0\0%b" % (path_bytes(key[0]), key[1].encode())


def decode_key(raw: bytes) -> Key:
    """The inverse of encode_key. Raises CorruptData for bytes that are no key."""
    path, found, name = raw.partition(SEPARATOR)
    try:
        if found and path and name:
            return (tuple(path.decode().split("\0")), name.decode())
    except UnicodeDecodeError:
        pass
    raise CorruptData("a stored key is damaged. Run 'memory verify', then 'memory repair'")


def damaged(key: bytes) -> CorruptData:
    """The error for the record of this key, whose bytes are not those that were written."""
    try:
        known: Key | None = decode_key(key)
    except CorruptData:
        known = None
    name = "a record" if known is None else f"the record {known[1]!r} in namespace {known[0]!r}"
    return CorruptData(
        f"{name} is damaged: its checksum does not match. Run 'memory verify', then 'memory repair'", key=known
    )


def key_range(scope: Scope) -> tuple[bytes, bytes] | None:
    """The half-open range of keys in the scope's namespaces; None when that is the whole store."""
    if not scope.path:
        return None if scope.below else (b"", b"")
    path = path_bytes(scope.path)
    if scope.below:
        return path + b"\0", path + b"\x01"
    return path + b"\0\0", path + b"\0\x01"
