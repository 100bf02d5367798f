"""From operations to the arrays that the function `applying` takes, and from its answer to results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from memory.backends.postgres import applying
from memory.backends.postgres.records import checksum, document
from memory.keys import SEPARATOR, encode_key
from memory.ops import WHOLE, Put, Remove, Result, Row, Status, Touch, Write

MAX_VECTOR = 2_000
"""The longest vector that pgvector can index; longer ones are compared here."""
_NOTHING = ("", 0)
_STATUS = {
    applying.DONE: Status.DONE,
    applying.REPEATED: Status.DONE,
    applying.DUPLICATE: Status.DUPLICATE,
    applying.EXISTS: Status.EXISTS,
    applying.MISSING: Status.MISSING,
    applying.CONFLICT: Status.CONFLICT,
    applying.UNKNOWN: Status.UNKNOWN,
}
APPLIED = (Status.DONE, Status.DUPLICATE)


def terms_text(terms: dict[str, int] | None, length: int) -> tuple[str | None, str | None]:
    """Terms and their occurrences as the function takes them; no occurrences where each is there once."""
    if not terms:
        return None, None
    counts = None if len(terms) == length else "{" + ",".join(map(str, terms.values())) + "}"
    return " ".join(terms), counts


class Prepared(msgspec.Struct, gc=False):
    """A write with all that can be made of it beforehand: what the function is told of it."""

    op: Write
    key: bytes
    told: dict[str, Any]
    """In the words of applying.FIELDS."""
    blob: bytes
    """Key, token, digest, body and vector, one after the other."""
    direction: bytes | None = None
    """The vector divided by its length, where pgvector can take it."""

    @property
    def size(self) -> int:
        """About how many bytes it sends."""
        return 500 + 2 * len(self.blob)

    @property
    def dedups(self) -> bool:
        """Whether it looks for its twin, so that the order of the batch matters."""
        return type(self.op) is Put and self.op.dedup


def prepared(op: Write, vectors: bool) -> Prepared:
    """A write made ready: some microseconds. ``vectors``: the store has pgvector's type."""
    scope = op.scope
    key = encode_key(op.key)
    told: dict[str, Any] = {"now": op.now, "expect": op.expect, "floor": op.floor, "key_size": len(key)}
    if scope is not WHOLE:
        told |= {"in_user": scope.user_id, "in_agent": scope.agent_id, "in_session": scope.session_id}
    if type(op) is Put:
        return _put(op, key, told, vectors)
    if type(op) is Touch:
        told |= {"what": applying.TOUCH, "expires": op.expires, "sets_expiry": op.set_expiry, "accesses": op.accesses}
    else:
        told["what"] = applying.SWEEP if type(op) is Remove and op.expired else applying.REMOVE
    return Prepared(op, key, told, key + op.token)


def _put(op: Put, key: bytes, told: dict[str, Any], vectors: bool) -> Prepared:
    item, keep, embedding = op.item, op.keep, op.embedding
    terms, counts = terms_text(op.terms, op.length)
    told |= {
        "what": applying.PUT, "expires": op.expires, "created": op.created, "kind": item.kind,
        "user_id": item.user_id, "agent_id": item.agent_id, "session_id": item.session_id,
        "importance": item.importance, "embedder": op.embedder, "crc": checksum(op.body), "dedup": op.dedup,
        "length": op.length, "terms": terms, "counts": counts, "doc": document(item),
        "path_size": key.index(SEPARATOR), "body_size": len(op.body), "vectors": embedding is not None,
    }  # fmt: skip
    if keep is not None:
        told |= {"kept_updated": keep.updated, "kept_accessed": keep.accessed, "kept_count": keep.count}
    blob = b"".join((key, op.token, op.digest, op.body))
    if embedding is None:
        return Prepared(op, key, told, blob)
    told |= {"dimension": len(embedding) // 4, "raw_size": len(embedding)}
    direction = None
    if vectors and len(embedding) <= 4 * MAX_VECTOR:
        from memory.search.vectors import unit

        direction = unit(embedding).tobytes()
    return Prepared(op, key, told, blob + embedding, direction)


def arguments(
    batch: Sequence[Prepared], *, atomic: bool, patience: str | None, salt: int, vectors: str | None
) -> list[Any]:
    """The arguments of the call. In the order of keys, so that batches never wait for each other in a circle; where
    writes dedup, in their own order, as it decides which is the first."""
    ordered = list(enumerate(batch))
    locks = None
    if any(one.dedups for one in batch):
        digests = {one.op.digest for one in batch if type(one.op) is Put and one.op.dedup}
        locks = sorted(int.from_bytes(digest[:8], "big", signed=True) ^ salt for digest in digests)
    elif len(ordered) > 1:
        ordered.sort(key=lambda pair: pair[1].key)
    at = 0
    for number, one in ordered:
        one.told["n"], one.told["at"] = number, at
        at += len(one.blob)
    told = msgspec.json.encode([one.told for _, one in ordered]).decode()
    given: list[Any] = [atomic, locks, patience, told, b"".join([one.blob for _, one in ordered])]
    if vectors == "one":
        given.append(batch[0].direction)
    elif vectors == "many":
        given.append([one.direction for _, one in ordered])
    return given


def result_of(one: Prepared, found: Any) -> Result | None:
    """What one write came to; None for a vector of another space, about which the store knows more."""
    said = found[1]
    if said == applying.MISMATCH:
        return None
    status = _STATUS[said]
    if status not in (*APPLIED, Status.CONFLICT):
        return Result(status)
    op = one.op
    put = op if type(op) is Put and status is Status.DONE else None
    row = Row(
        body=put.body if put is not None else found[9] or b"",
        version=found[2],
        created=found[3],
        updated=found[4],
        accessed=found[5],
        count=found[6],
        expires=found[7],
        embedding=put.embedding if put is not None else found[10],
        embedder=put.embedder if put is not None else found[8],
    )
    return Result(status, row)
