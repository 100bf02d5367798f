"""What becomes of one write, given the document as it is: a result at once, or writes to commit and the result after.

The rules that every layout shares; each layout says how a document of it is made.
"""

from __future__ import annotations

from typing import Any

import msgspec

from memory.backends.firestore import values
from memory.backends.firestore.connection import Write, expecting
from memory.backends.firestore.document import Document
from memory.backends.firestore.records import DAY, EXPIRATION, FORMAT, LAST_MOMENT, OURS, Record, Stamp, shallow_row
from memory.errors import CorruptData
from memory.keys import encode_key
from memory.ops import Put, Remove, Result, Row, Space, Status, Touch, counted, refusal
from memory.ops import Write as Op
from memory.store.embedding import mismatch


class Change(msgspec.Struct, gc=False):
    """Writes that belong together, the first of them the item's. ``after``: what its name then holds; of what is written the
    version is yet to come."""

    writes: list[Any]
    row: Row
    after: Record | None = None
    makes_space: Space | None = None
    lock: int | None = None
    """Which of the writes is the digest's lock."""

    def size(self) -> int:
        """Bytes to send."""
        return sum(write.ByteSize() for write in self.writes)


def settled(op: Op, found: Record | None, tombstone: Document | None) -> Result | None:
    """The rules of ``MemoryStore._write``, dedup and spaces apart: the result of a write that is not applied; None: it is to
    be. Raises CorruptData for a document of a newer format."""
    if found is not None and found.ours is not None and (values.get_integer(found.ours, "v") or FORMAT) > FORMAT:
        raise CorruptData(
            f"the document {found.id!r} has a newer format; upgrade agent-memory-backends", document=found.id
        )
    if op.floor is not None:
        version, token = (0, b"") if found is None else (found.version, found.part("token"))
        if tombstone is not None and tombstone.version > version:
            version = tombstone.version
            token = values.get_bytes(tombstone.fields, "token") or b""
        if token == op.token:
            return Result(Status.DONE, None if found is None else shallow_row(found.stamp(), found.version))
        if version > op.floor:
            return Result(Status.UNKNOWN)
    live = live_for(op, found)
    refused = refusal(op) if live is None else refusal(op, live.version, live.owner)
    if refused is None:
        return None
    if live is None or refused is not Status.CONFLICT:
        return Result(refused)
    return Result(refused, shallow_row(live.stamp(), live.version))


def live_for(op: Op, found: Record | None) -> Record | None:
    """The document, if there is one that this write may not take for absent."""
    swept = type(op) is Remove and op.expired
    return found if found is not None and (swept or found.live(op.now)) else None


def stamp_for(op: Put, live: Record | None) -> Stamp:
    """The stamp that a put stores."""
    created = op.now if op.created is None else op.created
    stamp = Stamp(created=created, updated=op.now, accessed=op.now, count=0, expires=op.expires)
    if op.keep is not None:
        stamp.updated, stamp.accessed, stamp.count = op.keep.updated, op.keep.accessed, op.keep.count
    elif live is not None:
        old = live.stamp()
        stamp.created, stamp.accessed, stamp.count = old.created, old.accessed, old.count
    return stamp


def space_for(op: Put, space: Space | None) -> tuple[str | None, Space | None] | Result:
    """Who is named as the maker of a put's vector, and the space that it makes; or the result of one that does not fit."""
    if op.embedding is None:
        return op.embedder, None
    dimension = len(op.embedding) // 4
    if space is None:
        made = Space(op.embedder, dimension)
        return made.embedder, made
    if not space.admits(op.embedder, dimension):
        return Result(Status.FAILED, error=mismatch(space, op.embedder, dimension))
    return space.embedder, None


def put_row(op: Put, stamp: Stamp, embedder: str | None) -> Row:
    """The row that a put results in, but for its version."""
    row = shallow_row(stamp, 0)
    row.body, row.embedding, row.embedder = op.body, op.embedding, embedder
    return row


def touched(op: Touch, live: Record, name: str, *, nulls: bool, expires_natively: bool) -> Change:
    """The change of a touch: only what changes is sent. ``nulls``: what does not expire says so by a null."""
    stamp = live.stamp()
    write = Write()
    write.update.name = name
    fields, mask = write.update.fields, write.update_mask.field_paths
    ours = fields[OURS].map_value.fields
    ours["token"].bytes_value = op.token
    mask.append("memory.token")
    if op.accesses:
        stamp.accessed, stamp.count = op.now, counted(stamp.count, op.accesses)
    for part, value in (("accessed", stamp.accessed), ("count", stamp.count), ("updated", stamp.updated)):
        ours[part].integer_value = value
        mask.append(f"memory.{part}")
    if op.set_expiry:
        stamp.expires = op.expires
        mask.extend((EXPIRATION, "memory.ttl"))  # named and not given: removed
        if op.expires is not None:
            fields[EXPIRATION].CopyFrom(values.moment(op.expires))
            if expires_natively:
                ours["ttl"].CopyFrom(values.moment(min(op.expires + DAY, LAST_MOMENT)))
        elif nulls:
            fields[EXPIRATION].null_value = 0
    expecting(write, live.version)
    after = msgspec.structs.replace(live, fields=_merged(live, fields, list(mask)), version=0, _changed=None)
    return Change([write], shallow_row(stamp, 0), after)


def _merged(live: Record, changes: Any, mask: list[str]) -> Any:
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


def removed(op: Remove, live: Record, name: str, tombstone_name: str, *, expires_natively: bool) -> Change:
    """The document goes, a tombstone that holds the token comes, in one commit."""
    tombstone = Write()
    tombstone.update.name = tombstone_name
    fields = tombstone.update.fields
    fields["key"].bytes_value = encode_key(op.key)
    fields["token"].bytes_value = op.token
    fields["at"].integer_value = op.now
    if expires_natively:
        fields["ttl"].CopyFrom(values.moment(min(op.now + 2 * DAY, LAST_MOMENT)))
    gone = expecting(Write(delete=name), live.version)
    return Change([gone, tombstone], shallow_row(live.stamp(), 0))
