"""Firestore's errors as ours: what is certain after a call failed, and what to do."""

from __future__ import annotations

from typing import Any

import grpc
from google.auth.exceptions import GoogleAuthError

from memory.errors import BackendUnavailable, DeadlineExceeded, InvalidItem, MemoryStoreError, Overloaded, StorageFull

Code = grpc.StatusCode
CALL_ERRORS = (grpc.RpcError, GoogleAuthError, TimeoutError)
"""All that a call raises, cancellation apart."""
_CONFLICTS = frozenset((Code.ALREADY_EXISTS, Code.FAILED_PRECONDITION, Code.NOT_FOUND, Code.ABORTED))
_REFUSALS = frozenset(
    (
        *_CONFLICTS,
        Code.INVALID_ARGUMENT,
        Code.OUT_OF_RANGE,
        Code.PERMISSION_DENIED,
        Code.RESOURCE_EXHAUSTED,
        Code.UNAUTHENTICATED,
        Code.UNIMPLEMENTED,
    )
)
_DOWN = frozenset((Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNKNOWN))


def code_of(error: BaseException) -> Any:
    """The status of a failed call."""
    if isinstance(error, TimeoutError):
        return Code.DEADLINE_EXCEEDED
    if isinstance(error, GoogleAuthError):
        return Code.UNAUTHENTICATED
    code = getattr(error, "code", None)
    return code() if callable(code) else Code.UNKNOWN


def is_conflict(error: BaseException) -> bool:
    """Whether a commit lost a race: another write came between reading and writing. Nothing of it was applied."""
    return code_of(error) in _CONFLICTS


def is_refusal(error: BaseException) -> bool:
    """Whether Firestore, or the client before it, said no: nothing was applied. After any other error nobody knows."""
    return code_of(error) in _REFUSALS


def counts_against(error: BaseException) -> bool:
    """Whether an error says that the server is down or does not answer, which opens the circuit breaker."""
    return code_of(error) in _DOWN


def translate(error: BaseException, address: str, seconds: float) -> MemoryStoreError:
    """The error that a caller gets."""
    code = code_of(error)
    details = getattr(error, "details", None)
    said = str((details() if callable(details) else None) or type(error).__name__)
    if code is Code.DEADLINE_EXCEEDED:
        return DeadlineExceeded(
            f"Firestore ({address}) did not answer within {seconds:g} s; nothing was changed. Try again, or open the "
            "store with a longer timeout",
            seconds=seconds,
        )
    if code is Code.FAILED_PRECONDITION and "index" in said.lower():
        return BackendUnavailable(
            f"Firestore ({address}) lacks an index for this question; deploy the indexes of this store "
            f"(memory config --indexes). It says: {said}",
            address=address,
        )
    if code is Code.RESOURCE_EXHAUSTED:
        if "larger than" in said:
            return InvalidItem(f"the document is larger than Firestore takes: {said}", field="content")
        return StorageFull(f"a quota of Firestore ({address}) is used up: {said}", address=address)
    if code in (Code.INVALID_ARGUMENT, Code.OUT_OF_RANGE):
        return InvalidItem(f"Firestore refuses this: {said}", field="content")
    if code is Code.ABORTED:
        return Overloaded(f"too many writes contend in Firestore ({address}); try again: {said}")
    if code in (Code.PERMISSION_DENIED, Code.UNAUTHENTICATED):
        return BackendUnavailable(
            f"Firestore ({address}) refuses these credentials (see docs/firestore.md): {said}", address=address
        )
    if code is Code.NOT_FOUND:
        return BackendUnavailable(f"there is no such Firestore database ({address}): {said}", address=address)
    return BackendUnavailable(f"Firestore ({address}) cannot be reached: {said}", address=address)
