"""From operations to the arrays that the function `applying` takes, and from its answer to results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from memory.backends.postgres import applying
from memory.backends.postgres.records import checksum, document, encode_key
from memory.model import path_bytes
from memory.ops import Put, Remove, Result, Row, Status, Touch, Write

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
    """A write with all that can be made of it beforehand: the arguments of the function, by type."""

    op: Write
    key: bytes
    ints: tuple[int | None, ...]
    """In the order of applying.INTS, but for the first."""
    texts: tuple[str | None, ...]
    bytes: tuple[bytes | None, ...]
    importance: float | None = None
    direction: bytes | None = None
    """The vector divided by its length, where pgvector can take it."""
    size: int = 300

    @property
    def dedups(self) -> bool:
        """Whether it looks for its twin, so that the order of the batch matters."""
        return type(self.op) is Put and self.op.dedup


def prepared(op: Write, vectors: bool) -> Prepared:
    """A write made ready: some microseconds. ``vectors``: the store has pgvector's type."""
    scope = op.scope
    key = encode_key(op.key)
    within = (scope.user_id, scope.agent_id, scope.session_id)
    if type(op) is Put:
        return _put(op, key, within, vectors)
    if type(op) is Touch:
        ints = (applying.TOUCH, op.now, op.expect, op.floor, op.expires, int(op.set_expiry), op.accesses, *_NO_INTS)
    else:
        what = applying.SWEEP if type(op) is Remove and op.expired else applying.REMOVE
        ints = (what, op.now, op.expect, op.floor, None, 0, 0, *_NO_INTS)
    return Prepared(op, key, ints, (*within, *_NO_TEXTS), (key, op.token, None, None, None, None))


_NO_INTS = (None,) * (len(applying.INTS) - 8)
_NO_TEXTS = (None,) * (len(applying.TEXTS) - 3)


def _put(op: Put, key: bytes, within: tuple[str | None, ...], vectors: bool) -> Prepared:
    item, keep, embedding = op.item, op.keep, op.embedding
    direction = None
    if vectors and embedding is not None and len(embedding) <= 4 * MAX_VECTOR:
        from memory.search.vectors import unit

        direction = unit(embedding).tobytes()
    return Prepared(
        op,
        key,
        (
            *(applying.PUT, op.now, op.expect, op.floor, op.expires, 0, 0, op.created),
            *((None, None, None) if keep is None else (keep.updated, keep.accessed, keep.count)),
            *(checksum(op.body), int(op.dedup), op.length),
            *((0, None) if embedding is None else (1, len(embedding) // 4)),
        ),
        (
            *(*within, item.kind, item.user_id, item.agent_id, item.session_id, op.embedder),
            *(*terms_text(op.terms, op.length), document(item)),
        ),
        (key, op.token, path_bytes(op.key[0]), op.digest, op.body, embedding),
        item.importance,
        direction,
        400 + 3 * len(op.body) + 2 * len(embedding or b""),
    )


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
    given = [
        *(atomic, locks, patience),
        [value for number, one in ordered for value in (number, *one.ints)],
        [value for _, one in ordered for value in one.texts],
        [value for _, one in ordered for value in one.bytes],
        [one.importance for _, one in ordered],
    ]
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
        embedding=put.embedding if put is not None else None,
        embedder=put.embedder if put is not None else found[8],
    )
    return Result(status, row)
