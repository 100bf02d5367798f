"""One tree of errors. Each carries its facts as attributes and a message that says what to do next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any


class MemoryStoreError(Exception):
    """Root of every error this package raises on purpose.

    ``facts`` given as keywords become attributes of the error, so callers never parse messages.
    """

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.__dict__.update(facts)


class InvalidItem(MemoryStoreError):
    """An item, a name or an argument breaks a limit. ``field`` names it; nothing was written."""

    field: str | None = None


class InvalidFilter(MemoryStoreError):
    """A filter cannot be understood. Nothing was read."""


class InvalidCursor(MemoryStoreError):
    """A cursor or resume token is damaged or belongs to another question (scope, filter, order)."""


class InvalidSetting(MemoryStoreError):
    """A setting, option or backend name is unknown or malformed. ``setting`` names it."""

    setting: str | None = None


class NotFound(MemoryStoreError):
    """The item asked for does not exist (any more) within this scope."""

    key: tuple[tuple[str, ...], str]


class AlreadyExists(MemoryStoreError):
    """The key is taken, by a live item that may lie outside the caller's scope."""

    key: tuple[tuple[str, ...], str]


class VersionConflict(MemoryStoreError):
    """The item is no longer at the expected version. ``actual`` is None when it is gone."""

    key: tuple[tuple[str, ...], str]
    expected: int
    actual: int | None


class EmbeddingMismatch(MemoryStoreError):
    """A vector's dimension or embedder differs from the store's."""


class EmbeddingFailed(MemoryStoreError):
    """The embedder raised (that is ``__cause__``), or answered with what is no vector. ``embedder`` names it."""

    embedder: str | None = None


class UnsupportedOperation(MemoryStoreError):
    """This backend, or a view, does not offer the operation; it was refused before any I/O."""


class BackendUnavailable(MemoryStoreError):
    """The engine cannot be used: driver missing, server down, file unusable."""


class Overloaded(MemoryStoreError):
    """The bound on waiting work is reached. Nothing was done; try again later."""


class DeadlineExceeded(MemoryStoreError):
    """The deadline passed before the operation took effect. Nothing was written."""


class UnknownOutcome(MemoryStoreError):
    """A write may or may not have happened. ``retry()`` finishes it without a double effect."""

    def __init__(self, message: str, retry: Callable[[], Awaitable[Any]] | None = None, **facts: Any) -> None:
        super().__init__(message, **facts)
        self._retry = retry

    async def retry(self) -> Any:
        """Repeat the write under its first token and return its result.

        Raises UnknownOutcome again when a later write makes the first outcome undecidable.
        """
        if self._retry is None:
            raise self
        return await self._retry()

    def __reduce__(self) -> Any:
        return (type(self), (self.message,))


class StorageFull(MemoryStoreError):
    """The disk, quota or memory limit is reached. The write was not applied; deletes still work."""


class CorruptData(MemoryStoreError):
    """Stored bytes are damaged. Run ``memory verify``, then ``memory repair``."""


class ResumeExpired(MemoryStoreError):
    """The change feed no longer reaches back to this resume token. List again, then watch from now."""


class WrongLoop(MemoryStoreError):
    """A store was used from an event loop, thread or process that does not own it."""


class Closed(MemoryStoreError):
    """The store is not open."""


class BatchError(MemoryStoreError):
    """Some items of a batch failed. ``results`` holds one result or error for each item, in order."""

    results: Sequence[Any]

    @property
    def errors(self) -> dict[int, MemoryStoreError]:
        """Position in the batch -> the error of that item."""
        return {i: r for i, r in enumerate(self.results) if isinstance(r, MemoryStoreError)}
