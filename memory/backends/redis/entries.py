"""What of a record is indexed: heads made by the client, entries made of them by the script.

Every entry ends in the record's key, so that entries with the same head come in the order of keys. In the sorted set
``index``:

    c m a, time, key        created, modified, accessed     i, importance, key
    k u r s l, name, NUL, key   kind, user, agent (r), session, tag (l)
    p, number, =, hash, NUL, key    the value of a declared field
    n, path, NULs, session, NUL, created, id                the line of a session, for neighbours
    d, digest, key, NUL, expiry                             content, for dedup
    x, expiry, key                                          what will expire
    v, space, key           w, space, version, key          vectors: by key, and by when they were written
    z, time, key                                            tombstones

and in ``terms``: term, NUL, inverted time of creation, key, then how often, length, user, agent and session, each
after a NUL; so a term's newest come first, and a search reads no record before it knows its results.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

from memory.backends.redis.records import NEVER, Header, name_bytes
from memory.keys import SEPARATOR
from memory.model import MemoryItem

Fields = Mapping[tuple[str, ...], int]
"""Declared field (a path below metadata) -> its number in this store."""
_INVERSE = bytes.maketrans(b"0123456789", b"9876543210")


def inverted(digits: bytes) -> bytes:
    """A time's digits turned around, so that the newest sorts first; its own inverse."""
    return digits.translate(_INVERSE)


def value_digits(value: Any) -> bytes | None:
    """A scalar as a hash that is equal for values that are equal to a filter; None for what is no scalar."""
    if isinstance(value, bool):
        said = b"b1" if value else b"b0"
    elif isinstance(value, str):
        said = b"s" + value.encode()
    elif isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        said = b"n%d" % int(value) if value == int(value) else b"f" + repr(value).encode()
    else:
        return None
    return blake2b(said, digest_size=12).hexdigest().encode()


def field_head(number: int, digits: bytes) -> bytes:
    """The head of a declared field's value."""
    return b"p%d=%b" % (number, digits)


def plain_heads(item: MemoryItem, fields: Fields) -> dict[bytes, None]:
    """The heads of an item's kind, owner, tags and declared fields."""
    heads: dict[bytes, None] = {b"k" + item.kind.encode(): None}
    for letter, name in ((b"u", item.user_id), (b"r", item.agent_id), (b"s", item.session_id)):
        if name is not None:
            heads[letter + name.encode()] = None
    for tag in item.tags:
        heads[b"l" + tag.encode()] = None
    for path, number in fields.items():
        value: Any = item.metadata
        for part in path[1:]:
            value = value.get(part) if isinstance(value, dict) else None
        digits = value_digits(value)
        if digits is not None:
            heads[field_head(number, digits)] = None
    return heads


def heads_of(item: MemoryItem, terms: Mapping[str, int] | None, fields: Fields) -> bytes:
    """All heads of an item in one text, NULs between: what is stored beside it and read back when it is overwritten."""
    heads = list(plain_heads(item, fields))
    if terms:
        heads += [b"t%d:%b" % (times, term.encode()) for term, times in terms.items()]
    return b"\0".join(heads)


def counts_of(heads: bytes) -> dict[str, int]:
    """Term -> how often, from an item's heads."""
    counts: dict[str, int] = {}
    for head in heads.split(b"\0"):
        if head.startswith(b"t"):
            times, _, term = head[1:].partition(b":")
            counts[term.decode()] = int(times)
    return counts


def entries_of(
    key: bytes, header: Header, heads: bytes, vectors: Iterable[tuple[bytes, bytes]]
) -> tuple[set[bytes], set[bytes]]:
    """The entries that a record must have in ``index`` and ``terms``. ``vectors``: (space, version) of each."""
    raw = header.raw
    user, agent, session = header.names[:3]
    path, _, id = key.partition(SEPARATOR)
    created, expires = raw[28:46], raw[82:100]
    index = {
        b"c" + created + key,
        b"m" + raw[46:64] + key,
        b"a" + raw[64:82] + key,
        b"i" + raw[192:208] + key,
        b"n%b\0\0%b\0%b%b" % (path, session, created, id),
        b"d%b%b\0%b" % (raw[152:184], key, expires),
    }
    if expires != NEVER:
        index.add(b"x" + expires + key)
    for number, version in vectors:
        index |= {b"v" + number + key, b"w" + number + version + key}
    terms = set()
    for head in heads.split(b"\0"):
        if head.startswith(b"t"):
            times, _, term = head[1:].partition(b":")
            terms.add(b"\0".join((term, inverted(created) + key, times, raw[208:215], user, agent, session)))
        else:
            index.add(head + b"\0" + key)
    return index, terms


def owner_bytes(item: MemoryItem) -> bytes:
    """User, agent and session, NULs between; empty for none."""
    return b"\0".join(map(name_bytes, (item.user_id, item.agent_id, item.session_id)))


def key_in(entry: bytes) -> bytes:
    """The key of an entry of ``index``. Raises ValueError for one of no known form."""
    letter = entry[:1]
    if letter in b"cmaxz":
        return entry[19:]
    if letter == b"i":
        return entry[17:]
    if letter == b"d":
        return entry[33:-19]
    if letter == b"v":
        return entry[5:]
    if letter == b"w":
        return entry[25:]
    if letter == b"n":
        path, _, rest = entry[1:].partition(SEPARATOR)
        return path + SEPARATOR + rest.partition(b"\0")[2][18:]
    if letter in b"kurslp":
        return entry.partition(b"\0")[2]
    raise ValueError(entry)


def key_in_posting(posting: bytes) -> bytes:
    """The key of an entry of ``terms``."""
    return posting.rsplit(b"\0", 5)[0].partition(b"\0")[2][18:]
