"""Dedup: a document for each digest makes racing puts of equal content serialise.

Who finds no twin writes the digest's lock document in the same commit as the item, expecting it as it was before the query:
of two puts that both found nothing one loses, reads again, and finds the other's item.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memory.backends.firestore import values
from memory.backends.firestore.connection import Write, expecting
from memory.backends.firestore.document import Document
from memory.backends.firestore.records import DAY
from memory.ops import Put, Row
from memory.ops import Write as Op

if TYPE_CHECKING:
    from memory.backends.firestore.store import FirestoreStore

Twin = tuple[str, Row]
"""The name of a document, and its row."""


def lock_names(ops: Sequence[Op]) -> list[str | None]:
    """For each write the lane of its digest; None where it does not look for twins. (No document's name has a /.)"""
    return [f"lock/{op.digest.hex()}" if type(op) is Put and op.dedup else None for op in ops]


def digest_lock(store: FirestoreStore[Any], op: Put, before: Document | None) -> Any:
    """The write of a digest's lock document."""
    write = Write()
    write.update.name = store._connected().name(store.names.locks, op.digest.hex())
    write.update.fields["token"].bytes_value = op.token
    write.update.fields["at"].integer_value = op.now
    if store.expires_natively:
        write.update.fields["ttl"].CopyFrom(values.moment(op.now + 2 * DAY))
    return expecting(write, None if before is None else before.version)
