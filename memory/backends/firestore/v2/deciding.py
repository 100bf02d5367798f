"""What becomes of one write, given the document as it is: a result at once, or writes to commit and the result after."""

from __future__ import annotations

from typing import Any

import msgspec

from memory.backends.firestore import values
from memory.backends.firestore.connection import Write, expecting
from memory.backends.firestore.v2.documents import (
    DAY,
    FORMAT,
    LAST_MOMENT,
    Found,
    Stamp,
    document_of,
    shallow_row,
)
from memory.backends.firestore.v2.legacy import OURS
from memory.errors import CorruptData
from memory.keys import encode_key
from memory.ops import Put, Remove, Result, Row, Space, Status, Touch, refusal
from memory.ops import Write as Op
from memory.store.embedding import mismatch


class Change(msgspec.Struct, gc=False):
    """Writes that belong together, the first of them the item's. ``after``: the fields that its document then has."""

    writes: list[Any]
    row: Row
    after: Any = None
    makes_space: Space | None = None

    def size(self) -> int:
        """Bytes to send."""
        return sum(write.ByteSize() for write in self.writes)


class Naming(msgspec.Struct, frozen=True):
    """Full names for what one write touches."""

    item: str
    tombstone: str


def decide(
    op: Op,
    found: Found | None,
    tombstone: Found | None,
    space: Space | None,
    names: Naming,
    *,
    expires_natively: bool,
) -> Result | Change:
    """The rules of ``MemoryStore._write``, dedup apart. Raises CorruptData for a document of another key or format."""
    if found is not None:
        _check(op, found)
    if op.floor is not None:
        version, token = (0, b"") if found is None else (found.version, found.part("token"))
        if found is None and tombstone is not None:
            version = tombstone.version
            token = values.get_bytes(tombstone.fields, "token") or b""
        if token == op.token:
            return Result(Status.DONE, None if found is None else shallow_row(found.stamp(), found.version))
        if version > op.floor:
            return Result(Status.UNKNOWN)
    swept = type(op) is Remove and op.expired
    live = found if found is not None and (swept or found.live(op.now)) else None
    refused = refusal(op) if live is None else refusal(op, live.version, live.owner)
    if refused is not None:
        if live is None or refused is not Status.CONFLICT:
            return Result(refused)
        return Result(refused, shallow_row(live.stamp(), live.version))
    if type(op) is Put:
        return _put(op, found, live, space, names, expires_natively=expires_natively)
    assert live is not None
    if type(op) is Touch:
        return _touch(op, live, names, expires_natively=expires_natively)
    assert type(op) is Remove
    return _remove(op, live, names, expires_natively=expires_natively)


def _check(op: Op, found: Found) -> None:
    ours = found.ours
    if ours is None:
        return
    if (values.get_integer(ours, "v") or FORMAT) > FORMAT:
        raise CorruptData(
            f"the document {found.id!r} has a newer format; upgrade agent-memory-backends", document=found.id
        )
    if found.part("key") not in (b"", encode_key(op.key)):
        raise CorruptData(
            f"the document {found.id!r} holds another item than {op.key!r}. Run 'memory verify'", document=found.id
        )


def _put(
    op: Put, found: Found | None, live: Found | None, space: Space | None, names: Naming, *, expires_natively: bool
) -> Result | Change:
    embedder, makes = op.embedder, None
    if op.embedding is not None:
        dimension = len(op.embedding) // 4
        if space is None:
            space = makes = Space(embedder, dimension)
        elif not space.admits(embedder, dimension):
            return Result(Status.FAILED, error=mismatch(space, embedder, dimension))
        embedder = space.embedder
    created = op.now if op.created is None else op.created
    stamp = Stamp(created=created, updated=op.now, accessed=op.now, count=0, expires=op.expires)
    if op.keep is not None:
        stamp.updated, stamp.accessed, stamp.count = op.keep.updated, op.keep.accessed, op.keep.count
    elif live is not None:
        old = live.stamp()
        stamp.created, stamp.accessed, stamp.count = old.created, old.accessed, old.count
    document = document_of(op, names.item, stamp, embedder, expires_natively=expires_natively)
    write = expecting(Write(update=document), None if found is None else found.version)
    row = shallow_row(stamp, 0)
    row.body, row.embedding, row.embedder = op.body, op.embedding, embedder
    return Change([write], row, document.fields, makes)


def _touch(op: Touch, live: Found, names: Naming, *, expires_natively: bool) -> Change:
    """Only what changes is sent."""
    stamp = live.stamp()
    write = Write()
    write.update.name = names.item
    fields, mask = write.update.fields, write.update_mask.field_paths
    ours = fields[OURS].map_value.fields
    ours["token"].bytes_value = op.token
    mask.append("memory.token")
    if op.accesses:
        stamp.accessed, stamp.count = op.now, stamp.count + op.accesses
    for name, value in (("accessed", stamp.accessed), ("count", stamp.count), ("updated", stamp.updated)):
        ours[name].integer_value = value
        mask.append(f"memory.{name}")
    if op.set_expiry:
        stamp.expires = op.expires
        mask.extend(("expiration", "memory.ttl"))  # named and not given: removed
        if op.expires is not None:
            fields["expiration"].CopyFrom(values.moment(op.expires))
            if expires_natively:
                ours["ttl"].CopyFrom(values.moment(min(op.expires + DAY, LAST_MOMENT)))
    expecting(write, live.version)
    return Change([write], shallow_row(stamp, 0), _merged(live, fields, list(mask)))


def _merged(live: Found, changes: Any, mask: list[str]) -> Any:
    """The fields of a document after an update with a mask."""
    after = values.Document()
    for name in live.fields:
        after.fields[name].CopyFrom(live.fields[name])
    for path in mask:
        first, _, second = path.partition(".")
        into, given = after.fields, changes
        if second:
            into, given = into[first].map_value.fields, given[first].map_value.fields
        name = second or first
        if name in given:
            into[name].CopyFrom(given[name])
        elif name in into:
            del into[name]
    return after.fields


def _remove(op: Remove, live: Found, names: Naming, *, expires_natively: bool) -> Change:
    """The document goes, a tombstone that holds the token comes, in one commit."""
    tombstone = Write()
    tombstone.update.name = names.tombstone
    fields = tombstone.update.fields
    fields["key"].bytes_value = encode_key(op.key)
    fields["token"].bytes_value = op.token
    fields["at"].integer_value = op.now
    if expires_natively:
        fields["ttl"].CopyFrom(values.moment(min(op.now + 2 * DAY, LAST_MOMENT)))
    gone = expecting(Write(delete=names.item), live.version)
    return Change([gone, tombstone], shallow_row(live.stamp(), 0))
