"""From the driver's errors to ours: what happened, where (without the password), and what to do."""

from __future__ import annotations

import re
from typing import Any

from redis import exceptions

from memory.errors import BackendUnavailable, CorruptData, DeadlineExceeded, MemoryStoreError, StorageFull

DRIVER_ERRORS = (exceptions.RedisError, OSError, EOFError)


class LostError(Exception):
    """The connection broke, or its time was up, after the request was sent: it may or may not have been carried out."""

    def __init__(self, place: str, seconds: float | None = None) -> None:
        super().__init__(place)
        self.place = place
        self.seconds = seconds
        """How long was waited; None: the connection broke."""

    def for_read(self) -> MemoryStoreError:
        """The error of a read, which it is safe to repeat."""
        if self.seconds is not None:
            return DeadlineExceeded(
                f"Redis at {self.place} did not answer within {self.seconds:g} s; nothing was changed",
                seconds=self.seconds,
            )
        return BackendUnavailable(f"Redis at {self.place} broke the connection before it answered", place=self.place)


def translate(error: BaseException, place: str) -> MemoryStoreError:
    """The error for one that the server answered with, or that connecting to it ended in."""
    said = str(error)
    word = said.partition(" ")[0]
    kind = type(error)
    if isinstance(error, exceptions.OutOfMemoryError) or word == "OOM":
        return StorageFull(
            f"Redis at {place} has reached its maxmemory, and the write was not applied; deletes still work. Raise "
            "maxmemory, delete what is not needed, or run 'memory sweep'",
            place=place,
        )
    if isinstance(error, exceptions.NoPermissionError) or word == "NOPERM" or "ACL failure" in said:
        return BackendUnavailable(
            f"Redis at {place} refuses this to its user: {said}. Grant the user the commands and keys that docs/redis.md "
            "lists (ACL SETUSER)",
            place=place,
        )
    if isinstance(error, exceptions.AuthenticationError) or word in ("NOAUTH", "WRONGPASS"):
        return BackendUnavailable(
            f"Redis at {place} refuses the user or password ({word or kind.__name__}); give them in the address: "
            "redis://user:password@host:port",
            place=place,
        )
    if isinstance(error, exceptions.ReadOnlyError) or word == "READONLY":
        return BackendUnavailable(
            f"Redis at {place} is a read-only replica; give the address of the primary", place=place
        )
    if isinstance(error, exceptions.MaxConnectionsError) or "max number of clients" in said:
        return BackendUnavailable(
            f"Redis at {place} has no room for another connection; lower pool= or raise its maxclients", place=place
        )
    if word == "MISCONF":
        return StorageFull(
            f"Redis at {place} cannot write to its disk and refuses writes: free or mend the disk", place=place
        )
    if isinstance(error, exceptions.BusyLoadingError) or word in ("LOADING", "CLUSTERDOWN", "MASTERDOWN", "BUSY"):
        return BackendUnavailable(f"Redis at {place} is not ready ({said}); try again shortly", place=place)
    if isinstance(error, exceptions.ResponseError):
        if "unknown command" in said or "Unknown Redis command" in said:
            return BackendUnavailable(
                f"Redis at {place} lacks a command that this backend needs ({said}); it needs Redis 7 or Valkey",
                place=place,
            )
        if word == "WRONGTYPE" or "user_script" in said:
            return CorruptData(
                f"what Redis at {place} holds under this prefix is not what this library wrote ({said}). Run "
                "'memory verify', or choose another prefix=",
                place=place,
            )
        return BackendUnavailable(f"Redis at {place} refused a command: {said}", place=place)
    reason = said or kind.__name__
    if isinstance(error, TimeoutError | exceptions.TimeoutError):
        reason = "it does not answer"
    return BackendUnavailable(
        f"Redis at {place} cannot be reached: {_short(reason)}. Is it running, and is this its address?", place=place
    )


def _short(reason: str) -> str:
    return re.sub(r"\s+", " ", reason).strip(". ")[:300]


def is_driver_error(error: Any) -> bool:
    """Whether the driver, not this library, raised it."""
    return isinstance(error, DRIVER_ERRORS)
