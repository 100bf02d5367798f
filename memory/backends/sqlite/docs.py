"""How records are numbered for the text index, and how terms and scopes become its tokens.

A doc number is 63 bits: 35 of a bucket of creation time (65 ms each), 18 that count within the bucket, 10 of the
text's length in terms. So the index itself returns a term's newest documents first, and the length needed by the
score travels in the number: a search over the whole store touches no record before it knows its results. Within a
bucket records are numbered in the order of the rule (created ascending, key descending) where they arrive in it; a
bucket in which they did not is entered in ``mixed``, and only its order has to be looked up.

Buckets outside the 71 years from 2010 share the first and the last one. More than 262,144 records of one bucket
overflow into negative numbers, which have no order and are always looked up.
"""

from __future__ import annotations

from collections.abc import Container
from functools import lru_cache
from hashlib import blake2b

from memory.model import path_bytes

LENGTH_BITS = 10
LONG = (1 << LENGTH_BITS) - 1
"""In a doc number: this length or more; items.length has it."""
SEQUENCE_BITS = 18
BUCKET_SHIFT = LENGTH_BITS + SEQUENCE_BITS
_MICROS_BITS = 16
_START = 1_262_304_000_000_000 >> _MICROS_BITS
_LAST = (1 << 35) - 1
PLAIN_TF = 8
"""Occurrences told by a token each; above it they are written in binary."""
TF_BITS = 18
SHORT_TEXT = 16_384
"""Characters of a text whose tokens are kept as a set."""


def bucket_of(created: int) -> int:
    """The bucket of a creation time in microseconds."""
    return min(max((created >> _MICROS_BITS) - _START, 0), _LAST)


def with_length(order: int, length: int) -> int:
    """The doc number of the record with this order (doc >> LENGTH_BITS) whose text has this many terms."""
    return (order << LENGTH_BITS) | min(length, LONG)


def repeat_token(term: str, n: int) -> str:
    """The token of documents that hold the term at least ``n`` times, for n up to PLAIN_TF."""
    return term if n == 1 else f"{term}~{n}"


def bit_token(term: str, bit: int) -> str:
    """The token of documents whose occurrences of the term, less PLAIN_TF, have this bit."""
    return f"{term}~b{bit}"


@lru_cache(8_192)
def scope_token(kind: str, name: bytes) -> str:
    """The token of everything under a path (kind n) or of a user, agent or session (u, a, s).

    80 bits of BLAKE2b, so that any name becomes a word; every record found by one is checked against the scope.
    """
    return f":{kind}{blake2b(name, digest_size=10).hexdigest()}"


@lru_cache(4_096)
def namespace_tokens(namespace: tuple[str, ...]) -> str:
    """The tokens of a namespace: itself exactly, and everything it lies under."""
    exact = scope_token("e", path_bytes(namespace))
    return " ".join([exact, *(scope_token("n", path_bytes(namespace[: i + 1])) for i in range(len(namespace)))])


def owner_tokens(user: str | None, agent: str | None, session: str | None) -> list[str]:
    """The tokens of an owner."""
    return [
        scope_token(kind, name.encode())
        for kind, name in (("u", user), ("a", agent), ("s", session))
        if name is not None
    ]


def term_text(
    terms: dict[str, int], namespace: tuple[str, ...], user: str | None, agent: str | None, session: str | None
) -> str:
    """What the text index gets for a record: its terms, their repetitions, and its scope. Terms hold no ~ or colon."""
    words = [namespace_tokens(namespace), *owner_tokens(user, agent, session), *terms]
    words += [_repetitions(count).replace("\0", term) for term, count in terms.items() if count > 1]
    return " ".join(words)


@lru_cache(1_024)
def _repetitions(count: int) -> str:
    """The words for a term that occurs more than once, with NUL in its place: a word at a time, a long text would take
    milliseconds of the loop."""
    marks = [str(n) for n in range(2, min(count, PLAIN_TF) + 1)]
    if count > PLAIN_TF:
        marks += [f"b{bit}" for bit in range(TF_BITS) if (count - PLAIN_TF) >> bit & 1]
    return " ".join([f"\0~{mark}" for mark in marks])


class LongText:
    """The tokens of a long text. It is looked through for each: a set of them would be made in one call, which for
    milliseconds keeps every other thread from running."""

    def __init__(self, text: str) -> None:
        self._padded = f" {text} "

    def __contains__(self, token: object) -> bool:
        return f" {token} " in self._padded


def tokens_of(text: str) -> Container[str]:
    """The distinct tokens of what the text index got."""
    return frozenset(text.split(" ")) if len(text) <= SHORT_TEXT else LongText(text)


def occurrences(term: str, padded: str) -> int:
    """The inverse for one document: how often it holds the term. ``padded`` is its text between two spaces."""
    if f" {term} " not in padded:
        return 0
    if f" {term}~2 " not in padded:
        return 1
    count = 2
    while count < PLAIN_TF and f" {term}~{count + 1} " in padded:
        count += 1
    if count == PLAIN_TF:
        count += sum(1 << bit for bit in range(TF_BITS) if f" {term}~b{bit} " in padded)
    return count
