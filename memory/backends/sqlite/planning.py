"""What a group of writes comes to: read the records they concern, decide each in order, remember the net effect.

Nothing is written here. Deciding takes microseconds of Python an operation; `applying` then writes the whole group in
a few statements, because a thread that calls SQLite once a row asks for the GIL once a row, and waits up to 5 ms each
time while the loop is busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import apsw
import msgspec

from memory.backends.sqlite.counter import Counter
from memory.backends.sqlite.docs import term_text
from memory.backends.sqlite.records import FULL_SQL, STAMP_SQL, checksum, field_seal, seal, to_row
from memory.backends.sqlite.schema import column_value
from memory.backends.sqlite.spaces import VectorState, space_of
from memory.backends.sqlite.statements import blobs, fetch, first
from memory.backends.sqlite.workers import Breather
from memory.codec import content_hash, decode
from memory.errors import CorruptData
from memory.keys import damaged
from memory.model import path_bytes
from memory.ops import Owner, Put, Remove, Result, Row, Space, Status, Touch, Write, counted, refusal
from memory.store.embedding import mismatch

_APPLIED = (Status.DONE, Status.DUPLICATE)


class Prepared(msgspec.Struct, gc=False):
    """A write with all that can be made of it beforehand, on the loop, where there is time."""

    op: Write
    key: bytes
    path: bytes = b""
    crc: int = 0
    vcrc: int | None = None
    tags: str | None = None
    entries: tuple[bytes, ...] = ()
    """Of tags. A tuple like the columns: collections of garbage do not walk through those of plain values."""
    text: str | None = None
    """What the text index gets; None for a text without terms."""
    columns: tuple[Any, ...] = ()
    """The values of the declared fields."""
    fseal: int | None = None


def prepared(op: Write, fields: dict[tuple[str, ...], int]) -> Prepared:
    """A write made ready: a few microseconds."""
    path, id = op.key
    route = path_bytes(path)
    key = b"%b\0\0%b" % (route, id.encode())
    if type(op) is not Put:
        return Prepared(op, key)
    item = op.item
    columns = tuple([column_value(item.metadata, parts[1:]) for parts in fields])
    return Prepared(
        op,
        key,
        route,
        checksum(op.body),
        None if op.embedding is None else checksum(op.embedding),
        msgspec.json.encode(item.tags).decode() if item.tags else None,
        tuple([b"%b\0%b" % (tag.encode(), key) for tag in item.tags]),
        term_text(op.terms, path, item.user_id, item.agent_id, item.session_id) if op.terms else None,
        columns,
        field_seal(key, columns),
    )


class Record(msgspec.Struct, gc=False):
    """A record as the plan sees it: found in the file, or made by a write of this group (then ``put`` is set)."""

    key: bytes
    version: int
    created: int
    updated: int
    accessed: int
    count: int
    expires: int | None
    kind: str
    user: str | None
    agent: str | None
    session: str | None
    importance: float
    embedder: str | None
    crc: int
    vcrc: int | None
    order: int | None
    """doc >> LENGTH_BITS; None: not numbered yet."""
    length: int
    token: bytes
    digest: bytes
    tags: str | None
    columns: tuple[Any, ...] = ()
    """Values of the declared fields, as found."""
    put: Prepared | None = None

    @property
    def owner(self) -> Owner:
        """(user, agent, session)."""
        return (self.user, self.agent, self.session)

    def live(self, now: int) -> bool:
        """Whether it has not expired."""
        return self.expires is None or self.expires > now

    def seal(self) -> int:
        """The seal over what the store says of it."""
        return seal(
            self.key, self.version, self.created, self.updated, self.accessed, self.count, self.expires, self.kind,
            self.user, self.agent, self.session, self.importance, self.embedder, self.crc, self.vcrc,
        )  # fmt: skip

    def stamp(self) -> Row:
        """The stamp for a result, with the body where it is at hand."""
        put = None if self.put is None else self.put.op
        return Row(
            body=put.body if type(put) is Put else b"",
            version=self.version,
            created=self.created,
            updated=self.updated,
            accessed=self.accessed,
            count=self.count,
            expires=self.expires,
            embedding=put.embedding if type(put) is Put else None,
            embedder=self.embedder,
        )


@dataclass(slots=True)
class Unit:
    """What succeeds or fails together: one write, or the writes of an atomic batch."""

    ops: list[Prepared]
    atomic: bool


@dataclass(slots=True)
class Plan:
    """The net effect of a group: by key, what was found and what shall be there."""

    version: int
    feed: bool
    has_graves: bool
    fields: dict[tuple[str, ...], int]
    before: dict[bytes, Record]
    vectors: VectorState
    space: Space | None
    """What was found; the first vector changes it in ``vectors``."""
    after: dict[bytes, Record | None] = field(default_factory=dict)
    graves: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    """Tombstones found (for repeats) and made."""
    buried: dict[bytes, tuple[int, bytes, int]] = field(default_factory=dict)
    events: list[tuple[int, bytes, int, int, str | None, str | None]] = field(default_factory=list)
    twins: dict[bytes, dict[bytes, int | None]] = field(default_factory=dict)
    """Digest -> key -> expiry of records in the file, for puts that dedup."""
    fresh: dict[bytes, set[bytes]] = field(default_factory=dict)
    """Digest -> keys written in this group."""


def make_plan(db: apsw.Connection, units: Sequence[Unit], fields: dict[tuple[str, ...], int], state: Counter) -> Plan:
    """Read what the units' decisions need. Within the write transaction."""
    ready = [one for unit in units for one in unit.ops]
    keys = list({one.key for one in ready})
    plan = Plan(
        version=state.version,
        feed=state.feed is not None,
        has_graves=state.graves,
        fields=fields,
        before=find_records(db, keys, fields),
        vectors=state.vectors,
        space=state.vectors.space,
    )
    repeated = [one.key for one in ready if one.op.floor is not None]
    if repeated:
        graves = db.execute(
            "SELECT key, version, token FROM graves WHERE key IN (SELECT value FROM carray(?))", (blobs(repeated),)
        )
        plan.graves = {key: (version, token) for key, version, token in graves}
    digests = {one.op.digest for one in ready if type(one.op) is Put and one.op.dedup}
    if digests:
        found = db.execute(
            "SELECT items.digest, items.key, items.expires FROM carray(?) c "
            "CROSS JOIN items INDEXED BY items_digest ON items.digest = c.value",
            (blobs(digests),),
        )
        for digest, key, expires in found:
            plan.twins.setdefault(digest, {})[key] = expires
    return plan


_STATE = f"{STAMP_SQL}, items.doc >> 10, items.length, items.token, items.digest, items.tags"
_STATE_WIDTH = 21  # with the seal, which a Record has no field for


def find_records(db: apsw.Connection, keys: list[bytes], fields: dict[tuple[str, ...], int]) -> dict[bytes, Record]:
    """The records that are there, by key. Raises CorruptData."""
    columns = _STATE + "".join(f", items.f{number}" for number in fields.values())
    if len(keys) == 1:
        row = first(db, f"SELECT {columns} FROM items INDEXED BY items_key WHERE key = ?", (keys[0],))  # noqa: S608 - our own column names
        return {} if row is None else {row[0]: to_record(row)}
    rows = fetch(
        db,
        f"SELECT {columns} FROM carray(?) c CROSS JOIN items INDEXED BY items_key ON items.key = c.value",  # noqa: S608 - our own column names
        (blobs(keys),),
    )
    found: dict[bytes, Record] = {}
    breather = Breather()
    for row in rows:
        breather.breathe()
        found[row[0]] = to_record(row)
    return found


def to_record(row: tuple[Any, ...]) -> Record:
    """The record of a row of _STATE, with the declared fields. Raises CorruptData."""
    if seal(*row[:15]) != row[15] or type(row[16]) is not int or type(row[17]) is not int:
        # Not even overwritten: repair sets it aside first, so that nothing of it is lost.
        raise damaged(row[0])
    record = Record(*row[:15], *row[16:_STATE_WIDTH])
    record.columns = row[_STATE_WIDTH:]
    return record


def decide_all(db: apsw.Connection, plan: Plan, units: Sequence[Unit]) -> list[list[Result]]:
    """The result of every write, unit by unit, in order."""
    outcome: list[list[Result]] = []
    breather = Breather()
    for unit in units:
        if unit.atomic:
            outcome.append(_decide_atomic(db, plan, unit))
            continue
        results = []
        for op in unit.ops:
            results.append(_decide(db, plan, op))
            breather.breathe()
        outcome.append(results)
    return outcome


def _decide_atomic(db: apsw.Connection, plan: Plan, unit: Unit) -> list[Result]:
    saved = (dict(plan.after), dict(plan.graves), dict(plan.buried), len(plan.events), plan.vectors.space)
    fresh = {digest: set(keys) for digest, keys in plan.fresh.items()}
    results = [_decide(db, plan, op) for op in unit.ops]
    if all(result.status in _APPLIED for result in results):
        return results
    plan.after, plan.graves, plan.buried = saved[:3]
    del plan.events[saved[3] :]
    plan.vectors.space = saved[4]
    plan.fresh = fresh
    return [Result(Status.SKIPPED) if result.status in _APPLIED else result for result in results]


def _decide(db: apsw.Connection, plan: Plan, one: Prepared) -> Result:
    op, key = one.op, one.key
    record = plan.after[key] if key in plan.after else plan.before.get(key)
    if op.floor is not None:
        version, token = (record.version, record.token) if record is not None else plan.graves.get(key, (0, b""))
        if token == op.token:
            return Result(Status.DONE, None if record is None else record.stamp())
        if version > op.floor:
            return Result(Status.UNKNOWN)
    live = record if record is not None and (record.live(op.now) or (type(op) is Remove and op.expired)) else None
    refused = refusal(op) if live is None else refusal(op, live.version, live.owner)
    if refused is not None:
        return Result(refused, live.stamp() if live is not None and refused is Status.CONFLICT else None)
    if type(op) is Put:
        if op.dedup:
            twin = _twin(db, plan, op)
            if twin is not None:
                return Result(Status.DUPLICATE, twin)
        return _put(plan, one, op, live)
    assert live is not None
    plan.version += 1
    if type(op) is Touch:
        touched = msgspec.structs.replace(
            live,
            version=plan.version,
            accessed=op.now if op.accesses else live.accessed,
            count=counted(live.count, op.accesses),
            expires=op.expires if op.set_expiry else live.expires,
            token=op.token,
        )
        plan.after[key] = touched
        _log(plan, key, op.now, removed=0, owner=live.owner, was=live.owner)
        return Result(Status.DONE, touched.stamp())
    plan.after[key] = None
    plan.graves[key] = (plan.version, op.token)
    plan.buried[key] = (plan.version, op.token, op.now)
    _log(plan, key, op.now, removed=1, owner=None, was=live.owner)
    buried = live.stamp()
    buried.version = plan.version
    return Result(Status.DONE, buried)


def _put(plan: Plan, one: Prepared, op: Put, old: Record | None) -> Result:
    key = one.key
    embedder = op.embedder
    if op.embedding is not None:
        space = space_of(plan.vectors) or Space(embedder, len(op.embedding) // 4)
        if not space.admits(embedder, len(op.embedding) // 4):
            return Result(Status.FAILED, error=mismatch(space, embedder, len(op.embedding) // 4))
        plan.vectors.space, embedder = space, space.embedder
    plan.version += 1
    item, now = op.item, op.now
    created, updated, accessed, count = now if op.created is None else op.created, now, now, 0
    if op.keep is not None:
        updated, accessed, count = op.keep.updated, op.keep.accessed, op.keep.count
    elif old is not None:
        created, accessed, count = old.created, old.accessed, old.count
    before = plan.before.get(key)
    record = Record(
        key=key,
        version=plan.version,
        created=created,
        updated=updated,
        accessed=accessed,
        count=count,
        expires=op.expires,
        kind=item.kind,
        user=item.user_id,
        agent=item.agent_id,
        session=item.session_id,
        importance=item.importance,
        embedder=embedder,
        crc=one.crc,
        vcrc=one.vcrc,
        # The doc number of a record stays while its time of creation does.
        order=before.order if before is not None and before.created == created else None,
        length=op.length,
        token=op.token,
        digest=op.digest,
        tags=one.tags,
        put=one,
    )
    plan.after[key] = record
    plan.buried.pop(key, None)
    plan.fresh.setdefault(op.digest, set()).add(key)
    _log(plan, key, now, removed=0, owner=record.owner, was=None if old is None else old.owner)
    return Result(Status.DONE, record.stamp())


def _twin(db: apsw.Connection, plan: Plan, op: Put) -> Row | None:
    """The live record of the same content with the lowest key, whole; None when there is none."""
    known = plan.twins.get(op.digest, {})
    for key in sorted({*known, *plan.fresh.get(op.digest, ())}):
        if key in plan.after:
            record = plan.after[key]
            if record is None or record.digest != op.digest or not record.live(op.now):
                continue
            if record.put is not None:
                return record.stamp()
        elif (expires := known.get(key)) is not None and expires <= op.now:
            continue
        found = first(db, f"SELECT {FULL_SQL} FROM items INDEXED BY items_key WHERE key = ?", (key,))  # noqa: S608 - our own column names
        if found is None:
            raise CorruptData("an index disagrees with its records. Run 'memory verify', then 'memory repair'")
        row = to_row(found)
        if key in plan.after and (record := plan.after[key]) is not None:
            stamp = record.stamp()
            stamp.body, stamp.embedding = row.body, row.embedding
            row = stamp
        if content_hash(decode(row)) == op.digest:
            return row
    return None


def _owner_text(owner: Owner | None) -> str | None:
    return None if owner is None else msgspec.json.encode(owner).decode()


def _log(plan: Plan, key: bytes, now: int, *, removed: int, owner: Owner | None, was: Owner | None) -> None:
    if plan.feed:
        plan.events.append((plan.version, key, now, removed, _owner_text(owner), _owner_text(was)))
