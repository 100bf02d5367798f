"""Checks of options that more than one backend has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from memory.errors import InvalidItem, InvalidSetting
from memory.filters.check import split_path
from memory.model import check_text

LONGEST = 1e6
"""Seconds, some eleven days: no wait is meant to be longer."""
CENTURY = 100 * 365.25 * 86_400
"""Seconds: no span of time is meant to be longer, and this one before or after any date of now is a date too."""


def check_seconds(longest: float = LONGEST, /, **options: float) -> None:
    """Each is a positive number of seconds. Raises InvalidSetting, which names the one that is not."""
    for name, value in options.items():
        if type(value) not in (int, float) or not 0 < value <= longest:
            raise InvalidSetting(
                f"{name} must be a positive number of seconds, at most {longest:,.0f}, not {value!r}", setting=name
            )


def check_counts(least: int = 1, **options: int) -> None:
    """Each is a whole number from ``least``. Raises InvalidSetting, which names the one that is not."""
    for name, value in options.items():
        if type(value) is not int or value < least:
            raise InvalidSetting(f"{name} must be a whole number from {least}, not {value!r}", setting=name)


def check_index(paths: Any) -> tuple[tuple[str, ...], ...]:
    """The metadata paths that are worth an index, each in its parts. Raises InvalidItem, InvalidFilter."""
    if isinstance(paths, str) or not isinstance(paths, Iterable):
        raise InvalidItem(f"index must be a sequence of metadata paths, not {paths!r}", field="index")
    return tuple(_metadata_parts(path) for path in paths)


def _metadata_parts(path: Any) -> tuple[str, ...]:
    parts = split_path(check_text(path, "index"))
    if parts[0] != "metadata" or len(parts) < 2:
        raise InvalidItem(f'index paths lie below metadata, e.g. "metadata.score"; got {path!r}', field="index")
    return parts
