"""Names: how a tag, a record and the few keys of a store are called, and how a key sorts.

All keys of one first namespace segment lie in one slot of a cluster: their names hold its **tag**, the segment in
hexadecimal, in braces. What concerns the whole store lies in a slot of its own, under a word that is no hexadecimal.
"""

from __future__ import annotations

import re

from memory.errors import InvalidSetting
from memory.keys import key_range
from memory.ops import Scope

_PREFIX = re.compile(r"[A-Za-z0-9_.:-]{1,128}")


def check_prefix(prefix: str) -> str:
    """A prefix of key names. Raises InvalidSetting: braces would change the slot."""
    if not _PREFIX.fullmatch(prefix):
        raise InvalidSetting(
            f"prefix must be 1 to 128 letters, digits or _ . : -, not {prefix!r}: it begins the name of every key",
            setting="prefix",
        )
    return prefix


def tag_of(namespace: tuple[str, ...]) -> bytes:
    """The tag of a namespace: its first segment as hexadecimal digits."""
    return namespace[0].encode().hex().encode()


def segment_of(tag: bytes) -> str:
    """The first segment that a tag stands for."""
    return bytes.fromhex(tag.decode()).decode()


def bounds(scope: Scope) -> tuple[bytes, bytes]:
    """The half-open range of keys in the scope's namespaces, which share a first segment or are all there are."""
    return key_range(scope) or (b"", b"\xff")


def split_record(name: bytes) -> tuple[bytes, bytes]:
    """Tag and key of a record, from its name in the server."""
    head, _, key = name.partition(b"}:r:")
    return head.rpartition(b"{")[2], key


class Names:
    """The names of a store's keys."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix.encode()
        whole = b"%b:{store}:" % self.prefix
        self.tags = whole + b"tags"
        self.space = whole + b"space"
        self.format = whole + b"format"
        self.feed = whole + b"feed"
        self.counter = whole + b"events"
        self.moved = whole + b"moved"

    def base(self, tag: bytes) -> bytes:
        """What the names of a tag's keys begin with."""
        return b"%b:{%b}:" % (self.prefix, tag)

    def record(self, tag: bytes, key: bytes) -> bytes:
        """The hash of one record or tombstone."""
        return b"%b:{%b}:r:%b" % (self.prefix, tag, key)

    def keys(self, tag: bytes) -> bytes:
        """The sorted set of a tag's keys."""
        return self.base(tag) + b"keys"

    def index(self, tag: bytes) -> bytes:
        """The sorted set of a tag's index entries."""
        return self.base(tag) + b"index"

    def terms(self, tag: bytes) -> bytes:
        """The sorted set of a tag's terms."""
        return self.base(tag) + b"terms"

    def state(self, tag: bytes) -> bytes:
        """The hash with a tag's version mark and its copy of the space."""
        return self.base(tag) + b"state"

    def outbox(self, tag: bytes) -> tuple[bytes, bytes]:
        """A tag's own feed and its counter, in a cluster."""
        base = self.base(tag)
        return base + b"feed", base + b"events"
