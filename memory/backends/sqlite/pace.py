"""Where a search runs: on the loop while such searches compute for a moment only, else in the reader's thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import apsw

T = TypeVar("T")
SHORT = 0.003
"""Seconds that a search on the loop may compute on average: two thread switches on a busy machine take longer. One that
takes twice as long gives up."""
SHORT_IN_A_CROWD = 0.0015
"""The same where others wait for their turn: to them the loop is worth more, and threads cost less."""


class Pace:
    """How long searches of one kind compute, on average.

    Their thread's processor time counts and not the clock's: in the reader's thread a short search waits for the GIL
    and for a core far longer than it computes, and would never be found short enough to come back.
    """

    def __init__(self) -> None:
        # The first one loads what all need, which is a thread's work.
        self._seconds = 2 * SHORT

    def is_short(self, *, crowded: bool) -> bool:
        """Whether the next one may run on the loop."""
        return self._seconds < (SHORT_IN_A_CROWD if crowded else SHORT)

    def timed(self, db: apsw.Connection, search: Callable[..., T], *args: object) -> T:
        """``search(db, *args)``, in whichever thread."""
        started = time.thread_time()
        try:
            return search(db, *args)
        finally:
            self._took(time.thread_time() - started)

    def gave_up(self) -> None:
        """One on the loop took too long by the clock, perhaps because it waited for the disk."""
        self._took(2 * SHORT)

    def _took(self, seconds: float) -> None:
        self._seconds += (min(seconds, 2 * SHORT) - self._seconds) / 8
