"""The log of slow operations: an observer for ``memory.layers.observe``."""

from __future__ import annotations

from memory.telemetry.events import get_logger


class SlowOperations:
    """Logs each operation that took at least ``seconds``: its name, how long, and the type of its error.

    An instance is an observer (name, seconds, error): ``observe(SlowOperations(0.5))``.
    """

    def __init__(self, seconds: float, backend: str = "") -> None:
        self._limit = seconds
        self._backend = backend
        self._log = get_logger("slow")

    def __call__(self, name: str, seconds: float, error: BaseException | None) -> None:
        """Called after each operation."""
        if seconds >= self._limit:
            facts = {"backend": self._backend} if self._backend else {}
            if error is not None:
                facts["error"] = type(error).__name__
            self._log.warning("slow operation", operation=name, milliseconds=round(seconds * 1000, 1), **facts)
