"""What the script of writes is told of an operation, and what its answers mean."""

from __future__ import annotations

from memory.backends.redis.entries import Fields, heads_of, owner_bytes
from memory.backends.redis.records import (
    ABSENT,
    ANY,
    NEVER,
    Header,
    checksum,
    expiry_digits,
    float_digits,
    name_bytes,
    time_digits,
)
from memory.keys import encode_key
from memory.ops import ABSENT as EXPECT_ABSENT
from memory.ops import ANY as EXPECT_ANY
from memory.ops import Put, Remove, Row, Scope, Touch, Write

NO_TIME, NO_COUNT = b"0" * 18, b"0" * 20


def _expectation(expect: int) -> bytes:
    if expect == EXPECT_ANY:
        return ANY
    return ABSENT if expect == EXPECT_ABSENT else b"%020d" % expect


def _pins(scope: Scope) -> bytes:
    return b"\0".join(map(name_bytes, (scope.user_id, scope.agent_id, scope.session_id)))


def cost(op: Write) -> int:
    """About how many index entries it writes: what the length of a script's run depends on."""
    return 16 + len(op.terms or ()) if type(op) is Put else 16


def arguments(op: Write, fields: Fields) -> tuple[bytes, ...]:
    """Control (fixed widths: kind, flag, keep, expectation, floor, now, created, expires, updated, accessed, count),
    scope, key, token and digest, what the header holds of the item, body, heads, vector, embedder."""
    key, floor = encode_key(op.key), ANY if op.floor is None else b"%020d" % op.floor
    start = (_expectation(op.expect), floor, time_digits(op.now))
    token = op.token.hex().encode()
    if type(op) is Put:
        item, keep = op.item, op.keep
        control = b"P%b%b%b%b%b%b%b%b%b%b" % (
            b"1" if op.dedup else b"0",
            b"0" if keep is None else b"1",
            *start,
            NEVER if op.created is None else time_digits(op.created),
            expiry_digits(op.expires),
            NO_TIME if keep is None else time_digits(keep.updated),
            NO_TIME if keep is None else time_digits(keep.accessed),
            NO_COUNT if keep is None else b"%020d" % keep.count,
        )
        told = b"%b%b%07d%b\0%b" % (
            checksum(op.body), float_digits(item.importance), op.length, owner_bytes(item), item.kind.encode(),
        )  # fmt: skip
        vector = b"" if op.embedding is None else checksum(op.embedding) + op.embedding
        return (
            control, _pins(op.scope), key, token + op.digest.hex().encode(), told, op.body,
            heads_of(item, op.terms, fields), vector, name_bytes(op.embedder),
        )  # fmt: skip
    if type(op) is Touch:
        control = b"T%b%b%b%b%b%b%b%b%b%020d" % (
            b"1" if op.set_expiry else b"0",
            b"1" if op.accesses else b"0",
            *start,
            NEVER,
            expiry_digits(op.expires),
            NO_TIME,
            NO_TIME,
            op.accesses,
        )
    else:
        expired = type(op) is Remove and op.expired
        control = b"R%b0%b%b%b%b%b%b%b%b" % (
            b"1" if expired else b"0", *start, NEVER, NEVER, NO_TIME, NO_TIME, NO_COUNT,
        )  # fmt: skip
    return control, _pins(op.scope), key, token, b"", b"", b"", b"", b""


def stamp(op: Write, header: Header, embedder: str | None) -> Row:
    """The stamp for a result, with body and vector where they are at hand."""
    put = op if type(op) is Put else None
    return Row(
        body=b"" if put is None else put.body,
        version=header.version,
        created=header.created,
        updated=header.updated,
        accessed=header.accessed,
        count=header.count,
        expires=header.expires,
        embedding=None if put is None else put.embedding,
        embedder=embedder,
    )
