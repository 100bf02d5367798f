"""Loggers, the handler that ``configure`` installs, and request-scoped context."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Literal, TextIO

from memory.telemetry.redaction import redact

ROOT = "memory"
FACTS = "memory_facts"
"""The attribute of a log record that holds the event's facts as a dict, for formatters that want structure."""
Format = Literal["console", "json"]

_context: ContextVar[tuple[tuple[str, Any], ...]] = ContextVar("memory_context", default=())


class Log:
    """A logger of events with facts. When nobody listens, a call costs a comparison and imports nothing."""

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, **facts: Any) -> None:
        """Of use when looking for a fault."""
        self._emit(logging.DEBUG, event, facts)

    def info(self, event: str, **facts: Any) -> None:
        """What happens at the edges: opened, closed, upgraded."""
        self._emit(logging.INFO, event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        """Something to look into: slow, retried, repaired."""
        self._emit(logging.WARNING, event, facts)

    def error(self, event: str, **facts: Any) -> None:
        """Something failed that no caller hears of."""
        self._emit(logging.ERROR, event, facts)

    def _emit(self, level: int, event: str, facts: dict[str, Any]) -> None:
        if self._logger.isEnabledFor(level) and _listened(self._logger):
            _structured(self._logger.name).log(level, event, **facts)


def get_logger(name: str = "") -> Log:
    """The logger ``memory`` or, with a name, ``memory.<name>``. Cheap; call it at import time or in a hook."""
    return Log(logging.getLogger(f"{ROOT}.{name}" if name else ROOT))


@contextmanager
def context(**facts: Any) -> Iterator[None]:
    """Adds facts to every event within it, in this task and those it starts."""
    token = _context.set((*_context.get(), *facts.items()))
    try:
        yield
    finally:
        _context.reset(token)


async def ready() -> None:
    """Import structlog in a thread if somebody listens, so that no event holds the loop for an import."""
    logger = logging.getLogger(ROOT)
    if "structlog" not in sys.modules and logger.isEnabledFor(logging.ERROR) and _listened(logger):
        await asyncio.to_thread(_structured, ROOT)


def configure(
    format: Format = "console",
    level: str = "info",
    stream: TextIO | None = None,
) -> None:
    """Write this library's events to stderr (or ``stream``), for people or as JSON lines; again replaces the former.

    Only the ``memory`` logger is touched; its events no longer reach the application's own handlers.
    """
    logger = logging.getLogger(ROOT)
    for handler in list(logger.handlers):
        if isinstance(handler, _Handler):
            logger.removeHandler(handler)
    logger.addHandler(_Handler(stream, format))
    logger.setLevel(level.upper())
    logger.propagate = False


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that it can be told from the application's. Without a stream: what stderr is at each event."""

    def __init__(self, stream: TextIO | None, format: Format) -> None:
        super().__init__(stream or sys.stderr)
        self._fixed = stream is not None
        self.setFormatter(_Formatter(format, self.stream.isatty()))

    def emit(self, record: logging.LogRecord) -> None:
        if not self._fixed:
            self.stream = sys.stderr
        super().emit(record)


class _Formatter(logging.Formatter):
    def __init__(self, format: Format, colors: bool) -> None:
        super().__init__()
        from structlog import dev, processors

        self._stamp = processors.TimeStamper(fmt="iso", utc=True)
        self._render: Any = (
            processors.JSONRenderer() if format == "json" else dev.ConsoleRenderer(colors=colors, pad_event_to=24)
        )

    def format(self, record: logging.LogRecord) -> str:
        facts = dict(getattr(record, FACTS, {}))
        event: MutableMapping[str, Any] = {
            "event": facts.pop("event", None) or record.getMessage(),
            "level": record.levelname.lower(),
            "logger": record.name,
            **facts,
        }
        return str(self._render(None, record.levelname.lower(), self._stamp(None, "", event)))


def _listened(logger: logging.Logger) -> bool:
    """Whether some handler would get the event. (hasHandlers counts null handlers too.)"""
    current: logging.Logger | None = logger
    while current is not None:
        if any(type(handler) is not logging.NullHandler for handler in current.handlers):
            return True
        current = current.parent if current.propagate else None
    return False


@cache
def _structured(name: str) -> Any:
    """The structlog logger behind a Log, with processors of its own."""
    import structlog

    def bound(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        return {**dict(_context.get()), **event}

    return structlog.wrap_logger(
        logging.getLogger(name),
        processors=[bound, structlog.contextvars.merge_contextvars, redact, _to_record],
        wrapper_class=structlog.stdlib.BoundLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
    )


def _to_record(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> Any:
    """The standard logger's arguments: event and facts as one readable line, and the facts beside it."""
    facts = " ".join(f"{name}={value!r}" for name, value in event.items() if name != "event")
    line = f"{event['event']} {facts}" if facts else str(event["event"])
    return ("%s", line), {"extra": {FACTS: dict(event)}}
