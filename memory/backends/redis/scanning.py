"""Pages in order, counts, namespaces and neighbours: entries first, which come in order, then their records."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

import msgspec

from memory.backends.redis.filtering import Lead, leading
from memory.backends.redis.keys import bounds, tag_of
from memory.backends.redis.reading import Found, fetch, row_of, walk
from memory.backends.redis.records import float_digits, name_bytes, time_digits
from memory.backends.redis.scripts import WALKS
from memory.codec import decode
from memory.filters import predicate
from memory.keys import SEPARATOR, encode_key
from memory.model import path_bytes
from memory.ops import Around, Count, Page, Position, Row, Scan, Scope
from memory.store.together import all_of

if TYPE_CHECKING:
    from memory.backends.redis.backend import RedisStore

PAGE = 500
LETTERS = {"created_at": b"c", "updated_at": b"m", "accessed_at": b"a", "importance": b"i"}
_REVERSE = bytes.maketrans(b"0123456789abcdef", b"fedcba9876543210")
"""Digits turned around, so that a descending order ascends."""


class Cursor:
    """The entries of one tag in order, a page at a time. ``strip``: what an entry has before its key."""

    def __init__(
        self, store: RedisStore, tag: bytes, name: bytes, start: bytes, end: bytes, *, strip: int, way: str = "+",
        last: bytes = b"", keeps: bytes = b"",
    ) -> None:  # fmt: skip
        self._store, self.tag, self._name = store, tag, name
        self._start, self._end, self._strip, self._way = start, end, strip, way
        self._last, self._keeps = last, keeps
        self.entries: list[bytes] = []
        self.done = False

    async def more(self, limit: int) -> None:
        """The next entries, into ``entries``; fewer than asked for, even none, does not mean the end."""
        found = await walk(
            self._store, self._name, self._start, self._end, limit, way=self._way, width=self._strip, after=self._last
        )
        self.done = len(found) < limit
        if found:
            last = found[-1]
            if self._way == "+":
                self._start = b"(" + last
            elif self._way == "r":
                self._end = b"(" + last
            else:
                self._last = last
        if self._keeps:
            found = [entry for entry in found if entry.startswith(self._keeps, self._strip)]
        self.entries += found

    def take(self) -> list[bytes]:
        """The entries found, which are then forgotten."""
        found, self.entries = self.entries, []
        return found

    def key(self, entry: bytes) -> bytes:
        """The key that an entry ends in."""
        return entry[self._strip :]


async def tags_in(store: RedisStore, scope: Scope) -> list[bytes]:
    """The tags of a scope, in the order of their keys."""
    return [tag_of(scope.path)] if scope.path else await store.tags.all()


def _key_cursor(
    store: RedisStore, tag: bytes, scope: Scope, lead: Lead | None, after: bytes | None, way: str
) -> Cursor:
    """The keys of a scope in one tag, led by an index where there is one."""
    first, end = bounds(scope)
    head = b"" if lead is None else lead.head + b"\0"
    name = store.names.keys(tag) if lead is None else store.names.index(tag)
    lower, upper = b"[" + head + first, b"(" + head + end
    if after is not None:
        if way == "+" and after >= first:
            lower = b"(" + head + after
        elif way == "r" and after < end:
            upper = b"(" + head + after
    return Cursor(store, tag, name, lower, upper, strip=len(head), way=way)


def _value_cursor(store: RedisStore, tag: bytes, op: Scan) -> Cursor:
    """The entries of an order by a field in one tag."""
    letter = LETTERS[op.order.field]
    width = 17 if op.order.field == "importance" else 19
    keeps = b"" if len(op.scope.path) < 1 else _prefix(op.scope)
    name = store.names.index(tag)
    start, end = b"[" + letter, b"(" + letter + b"\xff"
    if op.after is None:
        last = b""
    else:
        # The position may be of another tag: what matters is where it would stand here.
        last = letter + _digits(op.order.field, op.after) + encode_key((op.after.namespace, op.after.id))
    if not op.order.descending:
        return Cursor(store, tag, name, b"(" + last if last else start, end, strip=width, keeps=keeps)
    return Cursor(store, tag, name, start, end, strip=width, way="-", last=last, keeps=keeps)


def _digits(field: str, at: Position) -> bytes:
    return float_digits(float(at.value or 0.0)) if field == "importance" else time_digits(int(at.value or 0))


def _prefix(scope: Scope) -> bytes:
    return path_bytes(scope.path) + (b"\0" if scope.below else SEPARATOR)


async def scan(store: RedisStore, op: Scan) -> Page:
    """See MemoryStore._scan."""
    exact = op.where is None
    if op.scope.path == () and not op.scope.below:
        return Page([], exact=True, more=False)
    wanted = "hbv" if op.vectors else "hb"
    rows: list[Row] = []
    async for found in _ordered(store, op, wanted):
        rows += [row_of(store, one) for one in found]
        if len(rows) >= op.limit:
            return Page(rows[: op.limit], exact=exact, more=True)
    return Page(rows, exact=exact, more=False)


async def _ordered(store: RedisStore, op: Scan, wanted: str) -> AsyncIterator[list[Found]]:
    """Live records in scope, in the order of the scan, some at a time."""
    tags = await tags_in(store, op.scope)
    if op.order.field != "key":
        async for found in _by_value(store, op, tags, wanted):
            yield found
        return
    after = None if op.after is None else encode_key((op.after.namespace, op.after.id))
    lead = leading(op.scope, op.where, store.leads)
    way = "r" if op.order.descending else "+"
    if op.order.descending:
        tags = tags[::-1]
    if op.after is not None:
        at = tag_of(op.after.namespace)
        tags = [tag for tag in tags if (tag <= at if op.order.descending else tag >= at)]
    for tag in tags:
        cursor = _key_cursor(store, tag, op.scope, lead, after, way)
        while not cursor.done:
            await cursor.more(min(PAGE, op.limit + 8))
            keys = [cursor.key(entry) for entry in cursor.take()]
            if keys:
                yield [
                    one
                    for one in await fetch(store, tag, keys, wanted)
                    if one is not None and one.live(op.scope, op.now)
                ]


async def _by_value(store: RedisStore, op: Scan, tags: Sequence[bytes], wanted: str) -> AsyncIterator[list[Found]]:
    """The entries of all tags, merged."""
    size = min(PAGE, op.limit + 8)
    cursors = [_value_cursor(store, tag, op) for tag in tags]
    place: Callable[[bytes, Cursor], bytes] = _descending if op.order.descending else _ascending
    heap: list[tuple[bytes, int, int]] = []

    async def refill(i: int) -> None:
        cursor = cursors[i]
        while not cursor.entries and not cursor.done:
            await cursor.more(size)
        if cursor.entries:
            heapq.heappush(heap, (place(cursor.entries[0], cursor), i, 0))

    await all_of([refill(i) for i in range(len(cursors))])
    while heap:
        chosen: list[tuple[int, bytes]] = []
        while heap and len(chosen) < size:
            _, i, at = heapq.heappop(heap)
            cursor = cursors[i]
            chosen.append((i, cursor.key(cursor.entries[at])))
            if at + 1 < len(cursor.entries):
                heapq.heappush(heap, (place(cursor.entries[at + 1], cursor), i, at + 1))
            else:
                cursor.take()
                await refill(i)
        by_tag: dict[int, list[bytes]] = {}
        for i, key in chosen:
            by_tag.setdefault(i, []).append(key)
        there: dict[bytes, Found] = {}
        for i, keys in by_tag.items():
            found = await fetch(store, cursors[i].tag, keys, wanted)
            there.update({one.key: one for one in found if one is not None and one.live(op.scope, op.now)})
        yield [there[key] for _, key in chosen if key in there]


def _ascending(entry: bytes, cursor: Cursor) -> bytes:
    return entry


def _descending(entry: bytes, cursor: Cursor) -> bytes:
    return entry[: cursor._strip].translate(_REVERSE) + cursor.key(entry)


# --- counts and namespaces ---------------------------------------------------------------------


async def count(store: RedisStore, op: Count) -> int:
    """See MemoryStore._count."""
    total = 0
    accept = None if op.where is None else predicate(op.where)
    lead = leading(op.scope, op.where, store.leads)
    if op.scope.path == () and not op.scope.below:
        return 0
    for tag in await tags_in(store, op.scope):
        if accept is None and _pins(op.scope) == 0:
            total += await _count_keys(store, tag, op)
            continue
        cursor = _key_cursor(store, tag, op.scope, lead, None, "+")
        while not cursor.done:
            await cursor.more(PAGE)
            found = await fetch(
                store, tag, [cursor.key(entry) for entry in cursor.take()], "h" if accept is None else "hb"
            )
            async for part in store.slices(found):
                for one in part:
                    if one is not None and one.live(op.scope, op.now):
                        total += accept is None or accept(decode(row_of(store, one)))
    return total


def _pins(scope: Scope) -> int:
    return sum(pin is not None for pin in (scope.user_id, scope.agent_id, scope.session_id))


async def _count_keys(store: RedisStore, tag: bytes, op: Count) -> int:
    """Keys in scope, less those that have expired."""
    first, end = bounds(op.scope)
    name = store.names.keys(tag)
    total = int(await store.servers.call(name, "ZLEXCOUNT", name, b"[" + first, b"(" + end))
    async for keys in expired(store, tag, op.now):
        total -= sum([first <= key < end for key in keys])
    return total


async def expired(store: RedisStore, tag: bytes, now: int) -> AsyncIterator[list[bytes]]:
    """The keys of records that have expired and are not swept yet."""
    cursor = Cursor(store, tag, store.names.index(tag), b"[x", b"(x" + time_digits(now) + b"\xff", strip=19)
    while not cursor.done:
        await cursor.more(PAGE)
        yield [cursor.key(entry) for entry in cursor.take()]


async def namespaces(store: RedisStore, op: Count) -> list[tuple[str, ...]]:
    """See MemoryStore._namespaces: from each namespace to the next, without reading what lies in it."""
    found: list[tuple[str, ...]] = []
    for tag in await tags_in(store, op.scope):
        first, end = bounds(op.scope)
        start = b"[" + first
        while True:
            cursor = Cursor(store, tag, store.names.keys(tag), start, b"(" + end, strip=0)
            await cursor.more(4)
            keys = cursor.take()
            if not keys:
                break
            path = keys[0].partition(SEPARATOR)[0]
            inside = [key for key in keys if key.startswith(path + SEPARATOR)]
            there = await fetch(store, tag, inside, "h")
            if any(one is not None and one.live(op.scope, op.now) for one in there):
                found.append(tuple(path.decode().split("\0")))
                start = b"[" + path + b"\0\x01"
            else:
                start = b"(" + inside[-1]
    return found


# --- neighbours --------------------------------------------------------------------------------


class Side(msgspec.Struct):
    """One side of an anchor: where to look on, and what was found."""

    tag: bytes
    route: bytes
    start: bytes
    end: bytes
    way: str
    width: int
    rows: list[Row] = []
    done: bool = False


async def around(store: RedisStore, op: Around) -> list[tuple[list[Row], list[Row]]]:
    """See MemoryStore._around."""
    sides: list[tuple[Side, Side]] = []
    for key, session, created in op.anchors:
        route = path_bytes(key[0])
        line = b"n%b\0\0%b\0" % (route, name_bytes(session))
        at, tag, width = line + time_digits(created) + key[1].encode(), tag_of(key[0]), len(line) + 18
        before = Side(tag, route, b"[" + line, b"(" + at, "r", width)
        sides.append((before, Side(tag, route, b"(" + at, b"(" + line + b"\xff", "+", width)))
    waiting = [side for pair in sides for side in pair]
    while waiting:
        for tag in {side.tag for side in waiting}:
            await _fill(store, op, tag, [side for side in waiting if side.tag == tag])
        waiting = [side for side in waiting if not side.done and len(side.rows) < op.n]
    return [(before.rows, after.rows) for before, after in sides]


async def _fill(store: RedisStore, op: Around, tag: bytes, sides: list[Side]) -> None:
    """The next entries of several sides, and the rows of those that are live and in scope."""
    limit = op.n + 1
    told: list[bytes | int | str] = []
    for side in sides:
        told += [side.start, side.end, limit, side.way]
    blob: bytes = await store.servers.run(WALKS, [store.names.index(tag)], *told)
    lists = _unpack_lists(blob)
    keys: dict[bytes, None] = {}
    for side, entries in zip(sides, lists, strict=True):
        side.done = len(entries) < limit
        if entries and side.way == "+":
            side.start = b"(" + entries[-1]
        elif entries:
            side.end = b"(" + entries[-1]
        keys.update(dict.fromkeys(_key_on(side, entry) for entry in entries))
    found = await fetch(store, tag, list(keys), "hbv" if op.vectors else "hb")
    there = {one.key: one for one in found if one is not None and one.live(op.scope, op.now)}
    async for part in store.slices(list(zip(sides, lists, strict=True))):
        for side, entries in part:
            near = [there[key] for entry in entries if (key := _key_on(side, entry)) in there]
            side.rows += [row_of(store, one) for one in near[: op.n - len(side.rows)]]


def _key_on(side: Side, entry: bytes) -> bytes:
    return side.route + SEPARATOR + entry[side.width :]


def _unpack_lists(blob: bytes) -> list[list[bytes]]:
    lists: list[list[bytes]] = []
    place = 0
    while place < len(blob):
        entries: list[bytes] = []
        count, place = int.from_bytes(blob[place : place + 4], "big"), place + 4
        for _ in range(count):
            after = place + 4 + int.from_bytes(blob[place : place + 4], "big")
            entries.append(blob[place + 4 : after])
            place = after
        lists.append(entries)
    return lists
