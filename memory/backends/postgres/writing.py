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
    """A write with all that can be made of it beforehand: the arguments of the function."""

    op: Write
    key: bytes
    values: tuple[Any, ...]
    size: int

    @property
    def dedups(self) -> bool:
        """Whether it looks for its twin, so that the order of the batch matters."""
        return type(self.op) is Put and self.op.dedup


def prepared(op: Write, vectors: bool) -> Prepared:
    """A write made ready: some microseconds. ``vectors``: the store has pgvector's type."""
    scope = op.scope
    key = encode_key(op.key)
    head = (key, op.token, op.now, op.expect, op.floor, scope.user_id, scope.agent_id, scope.session_id)
    if type(op) is Touch:
        rest: tuple[Any, ...] = (op.expires, op.set_expiry, op.accesses, *_EMPTY)
        return Prepared(op, key, (applying.TOUCH, *head, *rest), 200)
    if type(op) is Remove:
        what = applying.SWEEP if op.expired else applying.REMOVE
        return Prepared(op, key, (what, *head, None, False, 0, *_EMPTY), 200)
    assert type(op) is Put
    item, keep = op.item, op.keep
    kept = (None, None, None) if keep is None else (keep.updated, keep.accessed, keep.count)
    embedding = op.embedding
    dimension = None if embedding is None else len(embedding) // 4
    direction = None
    if vectors and embedding is not None and len(embedding) <= 4 * MAX_VECTOR:
        from memory.search.vectors import unit

        direction = unit(embedding).tobytes()
    values = (
        *(applying.PUT, *head, op.expires, False, 0, path_bytes(op.key[0]), op.created, *kept),
        *(item.kind, item.user_id, item.agent_id, item.session_id, item.importance, op.embedder, checksum(op.body)),
        *(op.digest, op.dedup, op.length, *terms_text(op.terms, op.length)),
        *(document(item), op.body, embedding is not None, dimension, embedding),
        direction,
    )
    return Prepared(op, key, values, 400 + 3 * len(op.body) + len(embedding or b""))


_EMPTY = (None,) * 13 + (False, 0) + (None,) * 4 + (False,) + (None,) * 3
"""What writes that are no Put leave out: path ... digest, dedup, length, terms ... body, vectors, dimension, raw, v."""


def arguments(
    batch: Sequence[Prepared], *, atomic: bool, patience: str | None, salt: int, vectors: str | None
) -> list[Any]:
    """The arguments of the call. In the order of keys, so that batches never wait for each other in a circle; where
    writes dedup, in their own order, as it decides which is the first."""
    numbered = list(enumerate(batch))
    locks = None
    if any(one.dedups for one in batch):
        digests = {one.op.digest for one in batch if type(one.op) is Put and one.op.dedup}
        locks = sorted(int.from_bytes(digest[:8], "big", signed=True) ^ salt for digest in digests)
    elif len(numbered) > 1:
        numbered.sort(key=lambda pair: pair[1].key)
    columns = list(zip(*[one.values for _, one in numbered], strict=True))
    last = columns.pop()
    given = [atomic, locks, patience, [number for number, _ in numbered], *map(list, columns)]
    if vectors in ("one", "many"):
        given.append(last[0] if vectors == "one" else list(last))
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
