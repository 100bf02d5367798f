"""A stored record: the form of its header, numbers as digits that sort, and the checksums that no damaged byte gets past.

A record is a hash: ``h`` the header (stamp, owner, kind and what the indexes need; written by the script, since only it
knows the version), ``b`` the body, ``e`` what is to be indexed (see `entries`), ``v0001`` the vector in the first
space, ``y0001`` at which version it was written and its checksum, ``p`` the words by which the query engine knows where it
belongs. A deleted one has only ``g``: version, time and token.
"""

from __future__ import annotations

import struct
import zlib
from hashlib import sha1

import msgspec

from memory.keys import damaged
from memory.ops import Owner, Row, Scope, Space

ZERO = 10**17
"""Added to a time, so that all times from year 1 to 9999 are positive."""
NEVER = b"9" * 18
ANY = b"-" * 20
ABSENT = b"0" * 20
NO_SPACE = b"0000"
TAIL = 219
"""Where the header's names begin: user, agent, session, kind and who owes a vector, each ended by NUL but the last."""


def time_digits(micros: int) -> bytes:
    """A time as 18 digits that sort."""
    return b"%018d" % (micros + ZERO)


def time_of(digits: bytes) -> int:
    """The inverse of time_digits."""
    return int(digits) - ZERO


def expiry_digits(micros: int | None) -> bytes:
    """An expiry; never is above every time."""
    return NEVER if micros is None else time_digits(micros)


def float_digits(number: float) -> bytes:
    """A float from 0 to 1 as 16 hexadecimal digits that sort."""
    return struct.pack(">d", number + 0.0).hex().encode()


def float_of(digits: bytes) -> float:
    """The inverse of float_digits."""
    found: float = struct.unpack(">d", bytes.fromhex(digits.decode()))[0]
    return found


def checksum(raw: bytes) -> bytes:
    """CRC-32 of a body or vector, as 8 hexadecimal digits."""
    return b"%08x" % zlib.crc32(raw)


def name_bytes(name: str | None) -> bytes:
    """A name that may be None; no name is empty."""
    return b"" if name is None else name.encode()


class Header(msgspec.Struct, gc=False):
    """What the store says of a record, and what scopes and simple filters ask for."""

    version: int
    created: int
    updated: int
    accessed: int
    expires: int | None
    count: int
    body_crc: bytes
    raw: bytes

    @property
    def token(self) -> bytes:
        """Hexadecimal."""
        return self.raw[120:152]

    @property
    def digest(self) -> bytes:
        """Hexadecimal."""
        return self.raw[152:184]

    @property
    def importance(self) -> float:
        """From 0 to 1."""
        return float_of(self.raw[192:208])

    @property
    def length(self) -> int:
        """Number of terms of its text."""
        return int(self.raw[208:215])

    @property
    def names(self) -> list[bytes]:
        """User, agent, session, kind, and who owes it a vector; empty for none."""
        return self.raw[TAIL:].split(b"\0", 4)

    @property
    def owner(self) -> Owner:
        """(user, agent, session)."""
        user, agent, session = [name.decode() or None for name in self.names[:3]]
        return (user, agent, session)

    def live(self, now: int) -> bool:
        """Whether it has not expired."""
        return self.expires is None or self.expires > now

    def within(self, scope: Scope) -> bool:
        """Whether its owner lies in the scope."""
        if scope.user_id is None and scope.agent_id is None and scope.session_id is None:
            return True
        return scope.covers_owner(*self.owner)

    def owed(self, number: bytes) -> str | None:
        """Who owes it a vector in the space of this number."""
        owing = self.names[4]
        return owing.decode() if owing and self.raw[215:219] in (number, NO_SPACE) else None


def seal(key: bytes, rest: bytes) -> bytes:
    """The beginning of a checksum over a key and what follows the seal in its header."""
    return sha1(key + rest, usedforsecurity=False).hexdigest()[:8].encode()


def parse_header(key: bytes, raw: bytes) -> Header:
    """A header as it is stored. Raises CorruptData."""
    if len(raw) < TAIL + 4 or seal(key, raw[8:]) != raw[:8]:
        raise damaged(key)
    try:
        expires = raw[82:100]
        return Header(
            int(raw[8:28]),
            int(raw[28:46]) - ZERO,
            int(raw[46:64]) - ZERO,
            int(raw[64:82]) - ZERO,
            None if expires == NEVER else int(expires) - ZERO,
            int(raw[100:120]),
            raw[184:192],
            raw,
        )
    except ValueError:
        raise damaged(key) from None


def unsealed_vector(key: bytes, stored: bytes) -> bytes:
    """A vector without its checksum. Raises CorruptData."""
    vector = stored[8:]
    if checksum(vector) != stored[:8]:
        raise damaged(key)
    return vector


def to_row(
    key: bytes, header: Header, body: bytes | None, vector: bytes | None, number: bytes, space: Space | None
) -> Row:
    """The row of a record. ``vector`` as it is stored, in the space of this number. Raises CorruptData."""
    if body is None or checksum(body) != header.body_crc:
        raise damaged(key)
    embedding = None if vector is None else unsealed_vector(key, vector)
    maker = header.owed(number) if embedding is None else None if space is None else space.embedder
    return Row(
        body=body,
        version=header.version,
        created=header.created,
        updated=header.updated,
        accessed=header.accessed,
        count=header.count,
        expires=header.expires,
        embedding=embedding,
        embedder=maker,
    )
