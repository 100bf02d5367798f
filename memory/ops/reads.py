"""Reads by key, pages, counts and the feed."""

from __future__ import annotations

from typing import Literal

import msgspec

from memory.filters import Filter
from memory.model import Key
from memory.ops.rows import WHOLE, Owner, Row, Scope

OrderField = Literal["key", "created_at", "updated_at", "accessed_at", "importance"]


class Order(msgspec.Struct, frozen=True):
    """By key (namespace, then id, UTF-8 bytes), or by a field with ties by key, always ascending by key."""

    field: OrderField = "key"
    descending: bool = False


class Position(msgspec.Struct, frozen=True, array_like=True):
    """The last row of a page: its key and the value of the order's field (micros, or float importance)."""

    namespace: tuple[str, ...]
    id: str
    value: int | float | None = None


class Read(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Point reads. Result: one Row or None for each key, in order."""

    keys: tuple[Key, ...]
    now: int
    scope: Scope = WHOLE
    fresh: bool = False
    """What is read decides a write: where the store is down, nothing stands in for it."""


class Scan(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One page of live rows in scope, in order, after a position."""

    now: int
    scope: Scope = WHOLE
    where: Filter | None = None
    order: Order = Order()
    after: Position | None = None
    limit: int = 100
    vectors: bool = True
    """False: the caller does not need embeddings."""
    fresh: bool = False
    """As in ``Read``."""


class Page(msgspec.Struct, gc=False):
    """Result of a scan: at most ``limit`` rows, each in scope and live.

    ``exact``: every row satisfies the filter; else the base evaluates it again. ``more``: rows may follow.
    A page shorter than the limit is allowed only with ``more`` False.
    """

    rows: list[Row]
    exact: bool
    more: bool


class Count(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Count live rows in scope that satisfy the filter. Result: int, or None where only a scan can tell."""

    now: int
    scope: Scope = WHOLE
    where: Filter | None = None


class FeedRead(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Events after a sequence number (None: none, just tell where the feed stands)."""

    after: int | None
    limit: int
    now: int


class Event(msgspec.Struct, gc=False):
    """One committed change. ``removed``: deleted or swept. ``was``: owner before, None when the key was absent."""

    seq: int
    key: Key
    version: int
    at: int
    removed: bool
    owner: Owner | None
    was: Owner | None


class Events(msgspec.Struct, gc=False):
    """Result of a feed read: events in order; ``head`` is the newest sequence number; ``oldest`` is the lowest
    sequence number from which nothing is missing (reading after a number below ``oldest - 1`` has expired)."""

    events: list[Event]
    head: int
    oldest: int
