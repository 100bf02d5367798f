"""From an error to one line on stderr (with --json: an object) and an exit code.

0    done; an empty list or search is an answer too
1    what was asked for is not there, a check found a problem, or a question was answered with no
2    bad usage or input: an option, a filter, a setting, a file
3    the backend or the embedder cannot be used now: missing driver or file, server down, disk full, deadline
4    conflict: the id is taken, the version is another, a file is in the way
5    stored data are damaged
6    the outcome of a write is unknown
70   a fault in this program
74   standard output cannot be written; what was to be stored or changed has been
130  interrupted
141  the reader of the output went away
"""

from __future__ import annotations

import ast
import json
import os
import re
import sys
import traceback
from contextlib import suppress
from typing import Any, TextIO

from memory import errors

DONE, MISSING, USAGE, UNAVAILABLE, CONFLICT, DAMAGED, UNKNOWN = range(7)
FAULT, LOST, INTERRUPTED, PIPE = 70, 74, 130, 141


class UsageProblem(errors.MemoryStoreError):
    """The command line itself does not make sense."""


class Declined(errors.MemoryStoreError):
    """Somebody was asked and said no."""


class OutputLost(Exception):
    """Standard output cannot be written; ``error`` says why. No OSError: whoever handles those means other files.

    ``done``: it was the answer, which comes after the work, not the work itself.
    """

    def __init__(self, error: OSError | ValueError, *, done: bool = True) -> None:
        why = getattr(error, "strerror", None) or str(error)
        after = "; what was asked for is done, only the answer is lost" if done else ""
        super().__init__(f"standard output cannot be written ({why}){after}")
        self.error = error


_CODES: tuple[tuple[type[BaseException], int], ...] = (
    (errors.NotFound, MISSING),
    (Declined, MISSING),
    (errors.BackendUnavailable, UNAVAILABLE),
    (errors.DeadlineExceeded, UNAVAILABLE),
    (errors.EmbeddingFailed, UNAVAILABLE),
    (errors.Overloaded, UNAVAILABLE),
    (errors.StorageFull, UNAVAILABLE),
    (errors.AlreadyExists, CONFLICT),
    (errors.VersionConflict, CONFLICT),
    (errors.CorruptData, DAMAGED),
    (errors.UnknownOutcome, UNKNOWN),
    (errors.MemoryStoreError, USAGE),
    (BrokenPipeError, PIPE),
    (OSError, USAGE),
    (KeyboardInterrupt, INTERRUPTED),
)
# Messages speak to Python; here is what to type instead.
_WORDS = {
    "restore with replace=True": "restore with --replace",
    "with if_version": "with --if-version",
    "open it with that embedder": "set MEMORY_EMBEDDER to that one",
    "limit must be": "--limit must be",
    "mmr must be": "--mmr must be",
    "neighbours must be": "--neighbours must be",
    "min_text must be": "--min-text must be",
    "min_vector must be": "--min-vector must be",
    "min_score must be": "--min-score must be",
    "if_version must be": "--if-version must be",
    "ttl must be": "--ttl must be",
    "order must be": "--order must be",
    "must be an int": "must be a whole number",
    "metadata must be a dict": "metadata must be a JSON object",
    "is pinned by this view and cannot be": "is set by an option (--user, --agent, --session, --namespace) and cannot be",
    "batch must be": "--batch must be",
    "min_vector needs": "--min-vector needs",
    "min_text needs": "--min-text needs",
    "name the embedder: reembed(...), or open the store with embedder=": "name the embedder with --to, or set MEMORY_EMBEDDER",
    "open the store with embedder= (MEMORY_EMBEDDER), or give vector=": "set MEMORY_EMBEDDER",
    "; error.results holds each one's outcome": "",
    "needs a target that is opened with an embedder": "needs an embedder: set MEMORY_EMBEDDER",
    "name the target": "name the target by --target",
    'vectors="reembed"': "--reembed",
    'vectors="drop"': "--drop-vectors",
    "batch_size must be": "--batch-size must be",
    "sample_size must be": "--sample-size must be",
    "throttle must be": "--throttle must be",
    "sample_size or validate=False": "--sample-size or --no-validate",
    "; await error.retry() to finish it safely, or read the item": "; look with `memory get`, then decide",
}
_NAMESPACE = re.compile(r"(?<=in namespace )\((?:'[^'\\]*'(?:, )?)+,?\)")
_CAUSE = "; this error's __cause__ says more"


def code_of(error: BaseException) -> int:
    """The exit code of an error."""
    if isinstance(error, errors.BatchError) and error.errors:
        return max(code_of(one) for one in error.errors.values())
    if isinstance(error, OutputLost):
        return PIPE if isinstance(error.error, BrokenPipeError) else LOST
    return next((code for kind, code in _CODES if isinstance(error, kind)), FAULT)


def report(error: BaseException, as_json: bool) -> int:
    """Say what went wrong on stderr; returns the exit code."""
    code = code_of(error)
    if code in (PIPE, LOST):
        _abandon(sys.stdout)
    if code == PIPE:
        return code
    if code == FAULT:
        traceback.print_exception(error)
    line = message_of(error)
    if as_json:
        facts = {name: fact for name, fact in vars(error).items() if _plain(fact) and name != "message"}
        said = {"type": type(error).__name__, "message": line, "exit_code": code, **facts}
        tell(json.dumps({"error": said}, ensure_ascii=False))
    else:
        from memory.cli.output import note

        note(line)
    return code


def tell(line: str) -> None:
    """A line on standard error; where that is full or closed the exit code alone tells."""
    try:
        print(line, file=sys.stderr)
    except (OSError, ValueError):
        _abandon(sys.stderr)


def _abandon(stream: TextIO) -> None:
    """What is still buffered gets nowhere; without this the interpreter complains when it exits."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def message_of(error: BaseException) -> str:
    """One line that says what is wrong and what to do."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OutputLost):
        return str(error)
    if isinstance(error, errors.MemoryStoreError):
        text = as_typed(error.message)
        if isinstance(error, errors.EmbeddingFailed) and error.__cause__ is not None:
            text = f"{text.removesuffix(_CAUSE)}: {_cause_of(error)}"
    elif isinstance(error, OSError) and error.strerror:
        text = f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    else:
        text = f"{type(error).__name__}: {error}. This is a fault in the program; please report it"
    return " ".join(text.split())


def as_typed(text: str) -> str:
    """A message with what to say in Python replaced by what to type."""
    for words, typed in _WORDS.items():
        text = text.replace(words, typed)
    return _NAMESPACE.sub(lambda found: " / ".join(ast.literal_eval(found[0])), text)


def _cause_of(error: BaseException) -> str:
    """What an embedder said when it failed, with addresses and keys hidden, and cut."""
    from memory.cli.output import one_line
    from memory.telemetry.redaction import hide_secrets

    return one_line(hide_secrets(str(error.__cause__)), 160)


def _plain(fact: Any) -> bool:
    if isinstance(fact, dict):
        return all(isinstance(one, str | int) for one in (*fact, *fact.values()))
    return isinstance(fact, str | int | float | bool)
