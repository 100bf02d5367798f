"""Events of the library: structlog, as a library should use it.

Events (open, close, upgrade, repair, retry, slow operation) go to loggers below the standard library's ``memory``
logger, as structlog events with facts: never what a memory says, never a secret (see ``redaction``). So they appear
where the application's own logging puts them, or nowhere when it has set up none. ``configure`` (called for
``MEMORY_LOG_FORMAT`` and by the command) writes them to stderr instead. Neither structlog's nor logging's global
configuration is ever touched.

``context(request_id=...)`` adds facts to all events within it, across awaits, tasks and the ``_sync`` twins; facts bound by
the application with ``structlog.contextvars`` appear too. Nothing here imports structlog before an event is wanted.
"""

from __future__ import annotations

from memory.telemetry.events import Log, configure, context, get_logger, ready
from memory.telemetry.slow import SlowOperations

__all__ = ["Log", "SlowOperations", "configure", "context", "get_logger", "ready"]
