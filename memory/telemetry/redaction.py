"""What may be printed or logged: facts about memories, never what they say, and no password."""

from __future__ import annotations

import re
from collections.abc import MutableMapping
from typing import Any

HIDDEN = "[hidden]"
MAX_CHARACTERS = 300

_CONTENT = {
    *("content", "text", "metadata", "embedding", "vector", "body", "query", "terms", "item", "items", "where"),
    *("message", "messages", "source", "tags", "row", "rows"),
}
"""Names of facts that would carry what somebody remembered or asked."""
_SECRET = re.compile(
    r"passw(or)?d|passphrase|(^|_)pass$|pwd$|secret|token|credential|api_?key|access_?key|private_?key|embedder_?key|auth(orization)?$|dsn$",
    re.I,
)
# user:password@ of an address, and a secret given as a query parameter. A password that should have been
# percent-encoded may hold anything, so it is taken to reach to the last @: rather too much is hidden than too little.
_USERINFO = re.compile(r"(?<=://)([^/?#:@\s]*):(\S*)@")
_PARAMETER = re.compile(r"([?&;]([^=&;#\s]+)=)([^&;#\s]*)")


def is_secret(name: str) -> bool:
    """Whether a setting, fact or query parameter of this name holds a secret."""
    return _SECRET.search(name) is not None


def hide_secrets(text: str) -> str:
    """The text with the passwords of the addresses in it replaced.

    >>> hide_secrets("redis://me:hunter2@host/0?password=x&db=1")
    'redis://me:***@host/0?password=***&db=1'
    """
    if "://" not in text:
        return text
    text = _USERINFO.sub(r"\1:***@", text)
    return _PARAMETER.sub(lambda found: f"{found[1]}***" if is_secret(found[2]) else found[0], text)


def plain(name: str, value: Any) -> Any:
    """A fact as it may be logged: short, without secrets, and nothing of what a memory says."""
    if name.lower() in _CONTENT or is_secret(name):
        return HIDDEN
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        value = hide_secrets(value)
        return value if len(value) <= MAX_CHARACTERS else value[:MAX_CHARACTERS] + "…"
    if isinstance(value, tuple | list):
        return [plain(name, part) for part in value[:20]]
    if isinstance(value, BaseException):
        return type(value).__name__  # a message may quote what was being stored
    return f"[{type(value).__name__}]"


def redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor: every fact made plain. A traceback becomes the type of its error."""
    trace = event.pop("exc_info", None)
    if isinstance(trace, tuple):
        trace = trace[1]
    if isinstance(trace, BaseException):
        event["error"] = type(trace).__name__
    for name in list(event):
        event[name] = plain(name, event[name])
    return event
