"""The circuit breaker: after several failures in a row calls are refused at once, loudly, until a trial call succeeds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

from memory.errors import BackendUnavailable


class Breaker:
    """Closed while calls succeed. Open for ``recovery`` seconds after ``failures`` in a row; then one call tries."""

    def __init__(self, failures: int, recovery: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.failures, self.recovery = failures, recovery
        self._clock = clock
        self._failed = 0
        self._opened = 0.0
        self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether calls are refused now."""
        return self._failed >= self.failures and (self._trying or self._clock() - self._opened < self.recovery)

    @property
    def state(self) -> Literal["closed", "open", "half-open"]:
        """Closed: calls go through. Open: they are refused. Half-open: the next one, or the one under way, is a trial."""
        if self._failed < self.failures:
            return "closed"
        return "half-open" if self._trying or not self.is_open else "open"

    def enter(self, address: str, who: str = "") -> None:
        """Before a call. Raises BackendUnavailable, which says ``who`` failed, while the breaker is open: nothing was sent."""
        if self._failed < self.failures:
            return
        if self.is_open:
            wait = max(0.0, self.recovery - (self._clock() - self._opened))
            raise BackendUnavailable(
                f"{who or address} failed {self._failed} times in a row, so nothing is sent for another {wait:.0f} s",
                address=address,
                retry_after=wait,
            )
        self._trying = True

    def left(self, *, failed: bool) -> None:
        """After a call. ``failed``: the server is down or did not answer."""
        self._trying = False
        if not failed:
            self._failed = 0
            return
        self._failed += 1
        self._opened = self._clock()

    def trip(self) -> None:
        """Open it now: the server is known to be down."""
        self._failed, self._opened, self._trying = self.failures, self._clock(), False

    def abandoned(self) -> None:
        """After a call that was cancelled: it tells nothing."""
        self._trying = False
