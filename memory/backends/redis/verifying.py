"""Verify and repair: every record against its checksums and its index entries, every entry against its record."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from memory.backends.redis.entries import entries_of, heads_of, key_in, key_in_posting
from memory.backends.redis.reading import parts_of, walk
from memory.backends.redis.records import Header, checksum, parse_header, unsealed_vector
from memory.backends.redis.scanning import PAGE
from memory.backends.redis.scripts import CHECK
from memory.codec import decode
from memory.errors import CorruptData
from memory.keys import decode_key
from memory.model import Key
from memory.ops import Problem, Row
from memory.turns import is_due, pause

if TYPE_CHECKING:
    from memory.backends.redis.backend import RedisStore

STEP = 50
"""Records looked at together: with their terms they have thousands of entries."""
THERE = ord("1")


class Examined(msgspec.Struct):
    """One record and what it must have. ``wrong``: what is the matter with it; None: nothing."""

    key: bytes
    header: Header | None = None
    heads: bytes = b""
    index: set[bytes] = set()
    terms: set[bytes] = set()
    wrong: str | None = None


def known(key: bytes) -> Key | None:
    """The key, where its bytes can be read."""
    try:
        return decode_key(key)
    except CorruptData:
        return None


async def verify(store: RedisStore) -> tuple[int, list[Problem]]:
    """See MemoryStore._verify."""
    checked, problems = 0, []
    for tag in await store.tags.all():
        start, expected = b"[", 0
        while True:
            keys = await walk(store, store.names.keys(tag), start, b"(\xff", STEP)
            checked += len(keys)
            found = await examine(store, tag, keys)
            expected += sum(len(one.index) + len(one.terms) for one in found)
            suspects = [one.key for one in found if one.wrong is not None]
            # What was written between two looks is no problem: it is looked at once more.
            again = await examine(store, tag, suspects) if suspects else []
            problems += [Problem(one.wrong, known(one.key)) for one in again if one.wrong is not None]
            if len(keys) < STEP:
                break
            start = b"(" + keys[-1]
        if not problems and await _total(store, tag) != expected:
            strays = [entry for name in _sets(store, tag) for entry in await strays_in(store, tag, name)]
            if strays:
                problems.append(Problem("index entries without a record", detail=f"{len(strays)} of them"))
    return checked, problems


def _sets(store: RedisStore, tag: bytes) -> tuple[bytes, bytes]:
    return store.names.index(tag), store.names.terms(tag)


async def _total(store: RedisStore, tag: bytes) -> int:
    """Entries in both sets, but for tombstones."""
    total = 0
    for name in _sets(store, tag):
        total += await store.servers.call(name, "ZCARD", name)
    index = store.names.index(tag)
    graves: int = await store.servers.call(index, "ZLEXCOUNT", index, b"[z", b"({")
    return total - graves


async def examine(store: RedisStore, tag: bytes, keys: Sequence[bytes]) -> list[Examined]:
    """Records as they are, what they must have in the indexes, and what is wrong."""
    number = await store.spaces.refresh()
    _, parts = await parts_of(store, tag, keys, "hbveya", number)
    found: list[Examined] = []
    for i, key in enumerate(keys):
        if is_due():
            await pause()
        one = Examined(key)
        raw, body, vector, heads, since, aside = parts[6 * i : 6 * i + 6]
        found.append(one)
        if raw is None:
            if await _missing(store, store.names.keys(tag), [key]) == []:
                one.wrong = "a key without a record"
            continue
        try:
            one.header = parse_header(key, raw)
            one.heads = await _heads(store, key, one.header, body)
            for stored in (vector, aside):
                if stored is not None:
                    unsealed_vector(key, stored)
        except CorruptData:
            one.header, one.wrong = None, "damaged record"
            continue
        if heads is None or set(heads.split(b"\0")) != set(one.heads.split(b"\0")):
            one.wrong = "what is to be indexed differs from the record"
        vectors = [] if since is None else [(number, since[:20])]
        one.index, one.terms = entries_of(key, one.header, one.heads, vectors)
    async for part in store.slices(found):
        for name, owned in zip(
            (store.names.index(tag), store.names.terms(tag)),
            (
                [(one, entry) for one in part for entry in one.index],
                [(one, entry) for one in part for entry in one.terms],
            ),
            strict=True,
        ):
            missing = set(await _missing(store, name, [entry for _, entry in owned]))
            for one, entry in owned:
                if entry in missing and one.wrong is None:
                    one.wrong = "an index lacks a record"
    return found


async def _heads(store: RedisStore, key: bytes, header: Header, body: bytes | None) -> bytes:
    """What of a record is to be indexed. Raises CorruptData for a body that is not what was written."""
    if body is None or checksum(body) != header.body_crc:
        raise CorruptData("damaged")
    item = decode(Row(body=body, version=1, created=0, updated=0, accessed=0))
    if item.key != decode_key(key):
        raise CorruptData("the body of another record")
    counts, _ = await store._counts(item.searchable)
    return heads_of(item, counts, store.fields)


async def _missing(store: RedisStore, name: bytes, entries: Sequence[bytes]) -> list[bytes]:
    """Those of these entries that a sorted set does not have."""
    missing: list[bytes] = []
    for start in range(0, len(entries), PAGE):
        some = entries[start : start + PAGE]
        answer: bytes = await store.servers.run(CHECK, [name], *some)
        missing += [entry for entry, there in zip(some, answer, strict=True) if there != THERE]
    return missing


async def strays_in(store: RedisStore, tag: bytes, name: bytes) -> list[bytes]:
    """Entries of a sorted set whose records are not there or say otherwise. Vectors of other spaces are left alone."""
    strays: list[bytes] = []
    start = b"["
    while True:
        entries = await walk(store, name, start, b"(\xff", PAGE)
        strays += await _strays_among(store, tag, name, entries)
        if len(entries) < PAGE:
            return strays
        start = b"(" + entries[-1]


async def _strays_among(store: RedisStore, tag: bytes, name: bytes, entries: Iterable[bytes]) -> list[bytes]:
    index, _ = _sets(store, tag)
    by_key: dict[bytes, list[bytes]] = {}
    strays: list[bytes] = []
    for entry in entries:
        if name == index and entry[:1] in (b"v", b"w", b"z"):
            continue
        try:
            key = key_in(entry) if name == index else key_in_posting(entry)
        except ValueError:
            strays.append(entry)
            continue
        by_key.setdefault(key, []).append(entry)
    keys = list(by_key)
    for start in range(0, len(keys), STEP):
        for one in await examine(store, tag, keys[start : start + STEP]):
            held = one.index if name == index else one.terms
            if one.header is not None or one.wrong is None:
                strays += [entry for entry in by_key[one.key] if entry not in held]
    missing = set(await _missing(store, name, strays))  # written anew meanwhile
    return [entry for entry in strays if entry not in missing]
