"""Records by key: fetched in one text, unpacked, checked, held to scope and time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from memory.backends.redis.keys import tag_of
from memory.backends.redis.records import Header, parse_header, to_row
from memory.backends.redis.scripts import FETCH, WALK
from memory.keys import encode_key
from memory.model import Key
from memory.ops import Read, Row, Scope
from memory.store.grouping import Group
from memory.store.together import all_of

if TYPE_CHECKING:
    from memory.backends.redis.backend import RedisStore

STEP = 200
"""Records fetched by one call: so that a script ends within a millisecond or two, and an answer is no megabytes."""
MISSING = 0xFFFFFFFF
Parts = tuple[bytes, list[bytes | None]]
"""The space that vectors are in, and parts of records as they are stored, one after the other."""


class Found(msgspec.Struct, gc=False):
    """What was asked for of a record that is there. ``number``: the space that its vector is in."""

    key: bytes
    header: Header
    body: bytes | None
    vector: bytes | None
    heads: bytes | None
    number: bytes

    def live(self, scope: Scope, now: int) -> bool:
        """Whether it is live and belongs to an owner in scope."""
        return self.header.live(now) and self.header.within(scope)


def unpack_texts(blob: bytes, start: int = 0) -> list[bytes]:
    """Texts with their lengths before them."""
    texts: list[bytes] = []
    place, end = start, len(blob)
    while place < end:
        after = place + 4 + int.from_bytes(blob[place : place + 4], "big")
        texts.append(blob[place + 4 : after])
        place = after
    return texts


def _unpack_parts(blob: bytes, width: int) -> tuple[bytes, bytes, list[bytes | None]]:
    """Number of the space, epoch of a change under way, and the parts of all records, one after the other."""
    place = 8 + int.from_bytes(blob[4:8], "big")
    number, epoch = blob[:4], blob[8:place]
    parts: list[bytes | None] = []
    end = len(blob)
    while place < end:
        size = int.from_bytes(blob[place : place + 4], "big")
        place += 4
        if size == MISSING:
            parts.append(None)
        else:
            parts.append(blob[place : place + size])
            place += size
    assert len(parts) % width == 0
    return number, epoch, parts


async def parts_of(store: RedisStore, tag: bytes, keys: Sequence[bytes], wanted: str, number: bytes = b"") -> Parts:
    """Parts of records as they are stored, and the number of the space that vectors are in: the store's, at one
    moment of the call."""
    names = store.names
    while True:
        blob = await store.servers.run(
            FETCH, [names.state(tag), *[names.record(tag, key) for key in keys]], wanted, number
        )
        found, epoch, parts = _unpack_parts(blob, len(wanted))
        if "v" not in wanted or number or (not epoch and found in (store.spaces.number, b"0000")):
            return found, parts
        # The tag does not know whether a change has happened, or this process has not seen it yet.
        now = await store.spaces.refresh()
        if now == found:
            return found, parts
        number = now if epoch else b""


async def fetch(
    store: RedisStore, tag: bytes, keys: Sequence[bytes], wanted: str = "hb", number: bytes = b""
) -> list[Found | None]:
    """Records in the order of the keys; None where there is none. ``wanted``: h, then any of b, v, e."""
    found: list[Found | None] = []
    for start in range(0, len(keys), STEP):
        some = keys[start : start + STEP]
        held, parts = await parts_of(store, tag, some, wanted, number)
        width = len(wanted)
        places = {name: wanted.find(name) for name in "bve"}
        async for slice_ in store.slices(range(len(some))):
            for i in slice_:
                raw = parts[i * width]
                if raw is None:
                    found.append(None)
                    continue
                body, vector, heads = [
                    parts[i * width + place] if (place := places[name]) > 0 else None for name in "bve"
                ]
                found.append(Found(some[i], parse_header(some[i], raw), body, vector, heads, held))
    return found


def row_of(store: RedisStore, found: Found) -> Row:
    """The row of a record whose body was asked for. Raises CorruptData."""
    return to_row(found.key, found.header, found.body, found.vector, found.number, store._space)


async def read(store: RedisStore, op: Read) -> list[Row | None]:
    """See MemoryStore._read."""
    if len(op.keys) == 1:
        return [await _read_one(store, op, op.keys[0])]
    rows: list[Row | None] = [None] * len(op.keys)
    by_tag: dict[bytes, list[int]] = {}
    for place, key in enumerate(op.keys):
        if op.scope.covers_namespace(key[0]):
            by_tag.setdefault(tag_of(key[0]), []).append(place)
    for tag, places in by_tag.items():
        keys = [encode_key(op.keys[place]) for place in places]
        for place, found in zip(places, await fetch(store, tag, keys, "hbv"), strict=True):
            if found is not None:
                store.tags.saw(tag, found.header.version)
                if found.live(op.scope, op.now):
                    rows[place] = row_of(store, found)
    return rows


async def _read_one(store: RedisStore, op: Read, key: Key) -> Row | None:
    """The same for one key, without what only many need."""
    if not op.scope.covers_namespace(key[0]):
        return None
    tag, raw = tag_of(key[0]), encode_key(key)
    number, (header, body, vector) = await store.points.ask(tag, raw)
    if header is None:
        return None
    found = Found(raw, parse_header(raw, header), body, vector, None, number)
    store.tags.saw(tag, found.header.version)
    return row_of(store, found) if found.live(op.scope, op.now) else None


class Points:
    """Records that are asked for one at a time: those of one turn of the loop share a call of the script for each tag."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._group: Group[tuple[bytes, bytes], Parts] = Group(self._together, size=lambda _: 1, most=STEP, inline=True)

    async def ask(self, tag: bytes, key: bytes) -> Parts:
        """Header, body and vector of a record."""
        return await self._group.ask((tag, key))

    async def finish(self) -> None:
        """Wait for what was accepted."""
        await self._group.finish()

    async def _together(self, asked: list[tuple[bytes, bytes]], _since: float | None) -> list[Parts | BaseException]:
        if len(asked) == 1:
            ((tag, key),) = asked
            return [await parts_of(self._store, tag, (key,), "hbv")]
        by_tag: dict[bytes, list[int]] = {}
        for place, (tag, _) in enumerate(asked):
            by_tag.setdefault(tag, []).append(place)
        answers: dict[int, Parts | BaseException] = {}

        async def answer(tag: bytes, places: list[int]) -> None:
            try:
                number, parts = await parts_of(self._store, tag, [asked[place][1] for place in places], "hbv")
            except Exception as error:  # noqa: BLE001 - told to each who asked; other tags are answered
                answers.update(dict.fromkeys(places, error))
            else:
                for i, place in enumerate(places):
                    answers[place] = number, parts[3 * i : 3 * i + 3]

        await all_of([answer(tag, places) for tag, places in by_tag.items()])
        return [answers[place] for place in range(len(asked))]


async def walk(
    store: RedisStore,
    name: bytes,
    start: bytes,
    end: bytes,
    limit: int,
    *,
    way: str = "+",
    width: int = 0,
    after: bytes = b"",
) -> list[bytes]:
    """A page of entries of a sorted set: from start to end (as for ZRANGEBYLEX), forwards or backwards (see lua/walk.lua)."""
    return unpack_texts(await store.servers.run(WALK, [name], start, end, limit, way, width, after))
