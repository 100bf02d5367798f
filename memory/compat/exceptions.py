"""The old errors, and how an error of a store becomes one of them: both at once, so that either is caught."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from memory import errors


class MemoryError(Exception):
    """Root of the old errors. ``store_type`` is the kind of storage it came from."""

    store_type: str | None = None

    def __init__(self, message: str = "", store_type: str | None = None, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.store_type = store_type
        self.details = details or {}

    def __str__(self) -> str:
        return self.message  # one that is a KeyError too would show it in quotes


class MemoryBackendError(MemoryError):
    """A storage failed."""


class MemoryStorageError(MemoryBackendError):
    """An entry could not be stored."""


class MemoryRetrievalError(MemoryBackendError):
    """An entry could not be read, or is not there."""


class MemoryDeletionError(MemoryBackendError):
    """An entry could not be deleted."""


class MemoryExistsError(MemoryBackendError):
    """It could not be found out whether there is an entry."""


class MemoryCleanupError(MemoryBackendError):
    """What has expired could not be removed."""


class MemoryBackendNotFoundError(MemoryError):
    """There is no storage of this kind."""


class MemoryBackendAlreadyExistsError(MemoryError):
    """There is a storage of this kind already."""


class MemoryBackendInvalidError(MemoryError):
    """A storage cannot be made of this configuration."""


class StoreError(MemoryError):
    """The factory cannot make a storage of this description."""


_BUILTIN: dict[type[errors.MemoryStoreError], type[Exception]] = {
    errors.NotFound: KeyError,
    errors.InvalidItem: ValueError,
    errors.InvalidFilter: ValueError,
    errors.InvalidSetting: ValueError,
    errors.Closed: RuntimeError,
    errors.WrongLoop: RuntimeError,
}
"""What the old system raised besides its own."""


@contextmanager
def raised_as(kind: type[MemoryError], store_type: str) -> Iterator[None]:
    """Errors of a store inside leave as the old kind, and as what they were."""
    try:
        yield
    except errors.MemoryStoreError as error:
        raise as_old(error, kind, store_type) from error


def as_old(error: errors.MemoryStoreError, kind: type[MemoryError], store_type: str) -> MemoryError:
    """An error with everything that it knows, of an old kind and of its own."""
    if isinstance(error, errors.InvalidSetting):
        kind = MemoryBackendNotFoundError if error.setting == "backend_type" else MemoryBackendInvalidError
    made_of = _both(kind, type(error))  # type: ignore[arg-type]  # classes can be hashed
    made = made_of.__new__(made_of)
    made.args = (error.message,)
    made.details = {}
    made.__dict__.update(error.__dict__)
    made.store_type = store_type
    return made


@cache
def _both(kind: type[MemoryError], new: type[errors.MemoryStoreError]) -> type[MemoryError]:
    builtin = next((one for ours, one in _BUILTIN.items() if issubclass(new, ours)), None)
    bases = (kind, new) if builtin is None else (kind, new, builtin)
    return type(kind.__name__, bases, {"__module__": kind.__module__, "__doc__": kind.__doc__})
