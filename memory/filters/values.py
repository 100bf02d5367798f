"""When two values are equal, and what a time is: the rules everything else in this package rests on."""

from __future__ import annotations

from datetime import UTC, datetime


def instant(moment: datetime) -> datetime | None:
    """The same instant as a plain UTC datetime; None for a naive time or one outside the years 1 to 9999."""
    if type(moment) is datetime and moment.tzinfo is UTC:
        return moment
    try:
        if moment.utcoffset() is None:
            return None
        there = moment.astimezone(UTC)
        return datetime(
            there.year, there.month, there.day, there.hour, there.minute, there.second, there.microsecond, tzinfo=UTC
        )
    except Exception:  # noqa: BLE001 - the zone is the caller's code: whatever it raises, there is no instant
        return None


def equal(a: object, b: object) -> bool:
    """Whether two values are equal to a filter.

    1 equals 1.0, ints and floats compare exactly, a bool equals only the same bool, times compare as instants, lists
    (tuples count as lists) and dicts equal when all their parts do.
    """
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and len(a) == len(b) and all(k in b and equal(v, b[k]) for k, v in a.items())
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, datetime) and isinstance(b, datetime):
        one, other = instant(a), instant(b)
        return one is not None and one == other
    if isinstance(a, str):
        return isinstance(b, str) and a == b
    if isinstance(a, int | float):
        return isinstance(b, int | float) and a == b
    return a is b  # null; what is no JSON value equals nothing else, and its own __eq__ is never asked
