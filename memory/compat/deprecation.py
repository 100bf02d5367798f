"""Warnings that point at the caller's own line and say what to write there, once for each line.

What is reached by an old import path is seen through `seen`: storages, managers and configurations become subclasses that
warn when they are made and called, and else do the same. Imported from `memory.compat` they are silent.
"""

from __future__ import annotations

import dis
import functools
import sys
import threading
import types
import warnings
from types import FrameType
from typing import Any

from memory.compat.base import BaseMemory
from memory.compat.factory import create_store, made
from memory.compat.manager import MemoryManager
from memory.compat.names import ADVICE, METHODS, NAMES, NEW

_told: set[tuple[str, int]] = set()
"""Lines that were warned about."""
_seen: dict[type[Any], type[Any]] = {}
_making = threading.Lock()
_BETWEEN = ("importlib", "_frozen_importlib", "_frozen_importlib_external", "typing")
"""Packages whose frames stand between a use and its line, as do those of this module and of the finder."""
_MACHINERY = ("memory.compat.installing", __name__)
_WITHIN = ("IMPORT_FROM", "IMPORT_STAR", "CALL_INTRINSIC", "STORE_")
"""Instructions of a ``from ... import`` statement after its IMPORT_NAME."""


def deprecated(old: str, new: str) -> None:
    """Warn about the line that uses something old. Nothing happens when this library itself is the caller."""
    frame = _caller()
    if frame is not None:
        _tell(frame, f"{old} is deprecated; write: {new}")


def loaded(module: str) -> None:
    """Warn about the line that loads an old module, if it takes no names of it: else these are asked for next."""
    frame = _caller()
    if frame is not None and not _from_list(frame):
        _tell(frame, f"{module} is deprecated; write: import {NEW}")


def taken(module: str) -> None:
    """Warn about the line that imports an old module from the package above it."""
    frame, leaf = _caller(), module.rpartition(".")[2]
    if frame is not None and leaf in _from_list(frame):
        _tell(frame, f"{module} is deprecated; write: from memory import compat as {leaf}")


def used(module: str, name: str) -> None:
    """Warn about the line that takes a name of an old module."""
    frame = _caller()
    if frame is None:
        return
    names = [one for one in _from_list(frame) if one == "*" or one in NAMES]
    if names:
        _tell(frame, f"{module} is deprecated; write: from {NEW} import {', '.join(names)}")
    else:
        _tell(frame, f"{module}.{name} is deprecated; write: {NEW}.{name}")


def forget() -> None:
    """Warn again about lines that were warned about."""
    _told.clear()


def _place(frame: FrameType) -> tuple[str, int]:
    return (frame.f_code.co_filename, frame.f_lineno)


def _tell(frame: FrameType, message: str) -> None:
    place, space = _place(frame), frame.f_globals
    warnings.warn_explicit(
        message,
        DeprecationWarning,
        *place,
        module=space.get("__name__"),
        registry=space.setdefault("__warningregistry__", {}),
    )
    _told.add(place)  # one that was made an error is told again


def _caller() -> FrameType | None:
    """The frame whose line uses what is old; None for one of this library, which may, and for a line that was warned about."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        module = str(frame.f_globals.get("__name__"))
        package = module.partition(".")[0]
        if module not in _MACHINERY and package not in _BETWEEN:
            return None if package == "memory" or _place(frame) in _told else frame
        frame = frame.f_back
    return None


def _from_list(frame: FrameType) -> tuple[str, ...]:
    """The names of the ``from ... import`` statement that is being executed; () for anything else."""
    passed: list[dis.Instruction] = []
    for instruction in dis.get_instructions(frame.f_code):
        if instruction.opname not in ("EXTENDED_ARG", "CACHE"):
            passed.append(instruction)
        if instruction.offset >= frame.f_lasti:
            break
    # The statement is IMPORT_NAME with its list of names before it, then IMPORT_FROM and a store for each name.
    while passed and passed[-1].opname.startswith(_WITHIN):
        passed.pop()
    if len(passed) < 2 or passed[-1].opname != "IMPORT_NAME":
        return ()
    names = passed[-2].argval
    return names if isinstance(names, tuple) else ()


# --- what old paths give ------------------------------------------------------------------------


def seen(value: Any) -> Any:
    """A value as an old path gives it: one that warns when it is used, if there is something to say."""
    if value is create_store:
        return _create_store
    if not isinstance(value, type) or value.__name__ not in ADVICE:
        return value
    with _making:
        if value not in _seen:
            _seen[value] = _warning(value)
        return _seen[value]


async def _create(config: Any) -> Any:
    return await made(config, seen)


@functools.wraps(create_store)
def _create_store(config: Any) -> Any:
    deprecated("create_store", ADVICE["create_store"])
    return _create(config)


def _warning(kind: type[Any]) -> type[Any]:
    """A subclass that warns and does the same."""
    told = {"__init__": (kind.__name__, ADVICE[kind.__name__])}
    if issubclass(kind, BaseMemory | MemoryManager):
        told |= {name: (f"{kind.__name__}.{name}", new) for name, new in METHODS.items() if hasattr(kind, name)}
    body = {name: _announced(getattr(kind, name), old, new) for name, (old, new) in told.items()}
    body |= {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    parameters = getattr(kind, "__parameters__", ())
    generic: Any = kind
    return types.new_class(
        kind.__name__, (generic[parameters] if parameters else kind,), exec_body=lambda space: space.update(body)
    )


def _announced(method: Any, old: str, new: str) -> Any:
    @functools.wraps(method)
    def announced(self: Any, *args: Any, **kwargs: Any) -> Any:
        deprecated(old, new)
        return method(self, *args, **kwargs)

    return announced
