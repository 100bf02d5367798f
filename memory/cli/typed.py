"""What people type: answers to questions, texts, JSON, times."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import typer


@contextmanager
def interruptible() -> Iterator[None]:
    """Around what waits for somebody to type: Ctrl-C ends it. In asyncio.run the first one cancels the task only, which
    hears of it when the wait is over."""
    before = signal.getsignal(signal.SIGINT)
    if not callable(before) or threading.current_thread() is not threading.main_thread():  # it is ignored, or not ours
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def confirm(question: str, otherwise: str = "nothing was changed") -> None:
    """Ask before what cannot be undone. Raises UsageProblem where nobody can be asked, Declined at a no."""
    from memory.cli.failures import Declined, UsageProblem

    if not sys.stdin.isatty():
        raise UsageProblem(f"{question} Nobody can be asked here: say --yes")
    try:
        with interruptible():
            agreed = typer.confirm(question, err=True)
    except typer.Abort as stop:
        print(file=sys.stderr)  # the question's line has no end
        if not isinstance(stop.__context__, EOFError):
            raise
        agreed = False  # who says nothing more does not say yes
    if not agreed:
        raise Declined(otherwise)


def utf8(text: str, name: str) -> str:
    """A text from the command line or a stream, where bytes that are no UTF-8 come as surrogates. Raises UsageProblem."""
    from memory.cli.failures import UsageProblem

    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageProblem(f"{name} is not UTF-8") from None
    return text


def parse_where(text: str | None) -> dict[str, Any] | None:
    """--where as a filter. Raises InvalidFilter when it is not a JSON object."""
    import json

    from memory.errors import InvalidFilter

    if text is None:
        return None
    try:
        where = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidFilter(f"""--where is not JSON ({error}); write it as '{{"kind": "note"}}'""") from None
    if not isinstance(where, dict):
        raise InvalidFilter("""--where must be a JSON object, such as '{"kind": "note"}'""")
    return where


def parse_json(text: str, option: str) -> Any:
    """The value of an option that is JSON. Raises UsageProblem."""
    import json

    from memory.cli.failures import UsageProblem

    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageProblem(f"{option} is not JSON: {error}") from None


_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def parse_duration(text: str | None, option: str = "--ttl") -> float | None:
    """Seconds, or a number with s, m, h, d or w: 90, 30m, 12h, 7d. Raises UsageProblem."""
    from memory.cli.failures import UsageProblem

    if text is None:
        return None
    number, unit = (text[:-1], _UNITS[text[-1]]) if text[-1:] in _UNITS else (text, 1)
    try:
        return float(number) * unit
    except ValueError:
        raise UsageProblem(f"{option} takes seconds, or a number with s, m, h, d or w, not {text!r}") from None
