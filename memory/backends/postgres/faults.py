"""Postgres's errors as ours: one place where a driver's exception becomes a typed error that says what to do."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import asyncpg

from memory.errors import (
    BackendUnavailable,
    CorruptData,
    DeadlineExceeded,
    InvalidItem,
    MemoryStoreError,
    Overloaded,
    StorageFull,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

CALL_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError)
"""What a statement may raise. InternalClientError: the connection broke where the driver did not expect it."""
CONNECTION_ERRORS = (*CALL_ERRORS, TimeoutError, ValueError)
"""What connecting may raise. ValueError: an address that asyncpg cannot read."""
TRANSIENT = ("40001", "40P01")
"""Nothing was applied, and the same again will do: a serialisation failure, a deadlock."""
_FOR_ALL = ("53", "57", "25", "42", "28", "0A", "58", "XX", "F0", "55")
"""Classes of errors that are not one write's: another of the same batch would meet them too."""

_SAID: Mapping[str, str] = {
    "28P01": "the server refuses the password; check it in the address",
    "28000": "the server refuses this user; check the user in the address, and the server's pg_hba.conf",
    "3D000": "there is no such database; create it, or name another in the address",
    "42501": "this user lacks a privilege: {detail}. Let the owner of the database create the schema and grant this "
    "user CREATE and USAGE on it",
    "53300": "the server has no connection left; lower 'pool' of the stores that use it, raise its max_connections, or "
    "put PgBouncer before it",
    "25006": "the server is a read-only replica, or set to read only; name the primary in the address",
    "57P01": "the server is shutting down; try again when it is up",
    "57P02": "the server crashed and restarts; try again in a moment",
    "57P03": "the server is starting up; try again in a moment",
    "08P01": "the server, or the pooler before it, refuses the connection: {detail}. Where it is PgBouncer, open the store with "
    "pgbouncer=true",
    "3F000": "the store's schema is gone; was it dropped? Close the store and open it again to make a new one",
    "42P01": "a table of the store is gone; restore a backup, or open the store with another schema",
    "42883": "the store's function is gone or of another version; close the store and open it again",
}


def state_of(error: BaseException) -> str:
    """The five characters by which Postgres names an error; "" for other errors."""
    return str(getattr(error, "sqlstate", None) or "")


def is_lost(error: BaseException) -> bool:
    """Whether the connection broke, so that what was under way may or may not have been done."""
    if isinstance(error, asyncpg.PostgresError):
        return state_of(error).startswith("08") or state_of(error) in ("57P01", "57P02")
    return isinstance(error, OSError | EOFError | asyncpg.InternalClientError)


def is_for_all(error: BaseException) -> bool:
    """Whether every write of a batch would fail alike."""
    return state_of(error)[:2] in _FOR_ALL and state_of(error) != "55P03"


def translate(error: BaseException, shown: str) -> MemoryStoreError:
    """The typed error for a driver's exception; a MemoryStoreError passes through. ``shown`` has no password."""
    if isinstance(error, MemoryStoreError):
        return error
    state = state_of(error)
    if state == "53100":
        return StorageFull(
            f"the disk of {shown} is full; free some space there. Deletes may need some too, until a VACUUM",
            address=shown,
        )
    if state == "53200":
        return Overloaded(f"{shown} is out of memory; nothing was done. Try again with smaller batches", address=shown)
    if state in ("57014", "55P03"):
        return DeadlineExceeded(
            f"{shown} did not finish in time (another program may hold a lock); nothing was written. Try again, or raise "
            "'timeout'",
            address=shown,
        )
    if state in ("XX001", "XX002"):
        return CorruptData(f"{shown} says its data is damaged: {_words(error)}. Restore a backup of it", address=shown)
    if state.startswith("22"):
        # Values are held to the store's limits before; what the server still refuses is this value's fault, not its own.
        return InvalidItem(
            f"{shown} cannot hold or compare a value of this call: {_words(error)}; nothing was written", address=shown
        )
    if state in _SAID:
        return BackendUnavailable(f"{shown}: {_SAID[state].format(detail=_words(error))}", address=shown, code=state)
    if isinstance(error, TimeoutError):
        return BackendUnavailable(
            f"{shown} did not answer in time; see that it is up and can be reached", address=shown
        )
    if isinstance(error, ConnectionRefusedError):
        return BackendUnavailable(
            f"{shown} refuses connections; start the server, or correct the address", address=shown
        )
    if isinstance(error, ssl.SSLError):
        return BackendUnavailable(
            f"{shown}: no secure connection ({_words(error)}); check the certificates", address=shown
        )
    if is_lost(error):
        return BackendUnavailable(
            f"the connection to {shown} cannot be made or was lost ({_words(error)}); see that the server is up, and "
            "try again",
            address=shown,
        )
    return BackendUnavailable(f"{shown}: {_words(error)} ({type(error).__name__})", address=shown, code=state)


def _words(error: BaseException) -> str:
    """What the server or system said, in one line; of values it says nothing, those are in its detail."""
    said = getattr(error, "strerror", None) or str(error).partition("\n")[0]
    return str(said) or type(error).__name__
