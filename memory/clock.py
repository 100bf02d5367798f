"""Time: integer microseconds since the epoch inside, aware UTC datetimes outside, and an injectable clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from memory.errors import InvalidItem

Clock = Callable[[], int]
"""Returns the present as integer microseconds since the epoch (UTC)."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
EARLIEST = (datetime.min.replace(tzinfo=UTC) - EPOCH) // _MICROSECOND
LATEST = (datetime.max.replace(tzinfo=UTC) - EPOCH) // _MICROSECOND
_time_ns = time.time_ns


def system_clock() -> int:
    """The machine's clock in microseconds since the epoch."""
    return _time_ns() // 1000


def to_micros(moment: object, field: str = "time") -> int:
    """An aware datetime as microseconds since the epoch, exactly.

    Raises InvalidItem for a naive one, and for one that lies outside the years 1 to 9999 of UTC, though not of its own zone.
    """
    if type(moment) is datetime and moment.tzinfo is UTC:
        return (moment - EPOCH) // _MICROSECOND  # the common case, decided cheaply
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise InvalidItem(f"{field} must be an aware datetime, e.g. datetime.now(UTC); got {moment!r}", field=field)
    micros = (moment - EPOCH) // _MICROSECOND
    if not EARLIEST <= micros <= LATEST:
        raise InvalidItem(f"{field} lies outside the years 1 to 9999 in UTC: {moment!r}", field=field)
    return micros


def check_moment(moment: object, field: str) -> None:
    """What ``to_micros`` refuses. Raises InvalidItem."""
    if not (type(moment) is datetime and moment.tzinfo is UTC):  # in this zone every one lies within the years
        to_micros(moment, field)


def from_micros(micros: int) -> datetime:
    """Microseconds since the epoch as an aware UTC datetime, exactly."""
    return EPOCH + micros * _MICROSECOND


class ManualClock:
    """A clock for tests: stands still until told to move.

    >>> clock = ManualClock()
    >>> before = clock()
    >>> clock.advance(1.5)
    >>> clock() - before
    1500000
    """

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self.micros = to_micros(start)

    def __call__(self) -> int:  # noqa: D102 - see Clock
        return self.micros

    def advance(self, seconds: float) -> None:
        """Move on by ``seconds`` (rounded to the microsecond)."""
        self.micros += round(seconds * 1_000_000)
