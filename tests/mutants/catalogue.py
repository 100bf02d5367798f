"""What a mutant is, and how one sentence is run on it."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest

from memory.backends.in_memory import InMemoryStore
from memory.backends.sqlite import SqliteStore
from memory.clock import ManualClock
from memory.codec import decode
from memory.filters import predicate
from memory.model import MemoryItem, key_order
from memory.ops import Page, Row, Scan
from memory.store import MemoryStore
from memory.testing.contract import Bench, StoreContract

replace = msgspec.structs.replace
SECONDS = 3.0
"""How long a sentence may take on a mutant; one that hangs is caught as well."""
PATIENCE = 30.0
"""How long it may take on what is not broken, so that a busy machine accuses nobody."""


@dataclass(frozen=True)
class Mutant:
    trap: str
    caught_by: str
    make: Callable[..., MemoryStore]
    healthy: type[MemoryStore]
    """What it was before it was broken."""
    patched: Callable[[], AbstractContextManager[Any]] = nullcontext

    def __str__(self) -> str:
        return self.trap


MUTANTS: list[Mutant] = []


def caught(by: str, trap: str) -> Callable[[type], type]:
    """Registers a broken backend, with the sentence that has to catch it."""

    def register(kind: type) -> type:
        def make(place: Path, **options: Any) -> MemoryStore:
            return (
                kind(**options)
                if issubclass(kind, InMemoryStore)
                else kind(place / "memory.db", synchronous="off", **options)
            )

        MUTANTS.append(Mutant(trap, by, make, InMemoryStore if issubclass(kind, InMemoryStore) else SqliteStore))
        return kind

    return register


def patched(by: str, trap: str, *changes: tuple[Any, str, Any]) -> None:
    """Registers a change of the base itself: (object, attribute, replacement)."""

    def patch() -> AbstractContextManager[Any]:
        stack = ExitStack()
        for target, name, new in changes:
            stack.enter_context(mock.patch.object(target, name, new))
        return stack

    MUTANTS.append(Mutant(trap, by, lambda place, **options: InMemoryStore(**options), InMemoryStore, patch))


def verdict(
    make: Callable[..., MemoryStore], sentence: str, patch: AbstractContextManager[Any], seconds: float = SECONDS
) -> str | None:
    """Run one sentence; None when it holds, else in a few words how it failed."""

    class Case(StoreContract):
        def make_store(self, place: Path, **options: Any) -> MemoryStore:
            return make(place, **options)

    async def run(place: Path) -> None:
        async with asyncio.timeout(seconds):
            await Bench(Case(), place, ManualClock()).run(sentence)

    with tempfile.TemporaryDirectory() as folder, patch, _losing_stops():
        place = Path(folder) / "place"
        place.mkdir()
        random.seed(1)
        # A loop that never suspends is stopped by the CPU time it takes: asyncio's own timeout would never run.
        signal.signal(signal.SIGVTALRM, _stop)
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds, 1.0)
        try:
            asyncio.run(run(place))
        except pytest.skip.Exception:
            return None
        except pytest.fail.Exception as failed:
            return f"expected an error: {failed.msg}"
        except (TimeoutError, Stopped):
            return "it hangs"
        except Exception as error:  # whatever a broken backend raises
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'the assertion is false'}"
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return None


class Stopped(BaseException):
    """A sentence took longer than it may. No backend's own handling of errors takes it for one of its own."""


def _stop(_signal: int, _frame: object) -> None:
    raise Stopped


@contextmanager
def _losing_stops() -> Iterator[None]:
    """A stop that falls into a finalizer or the callback of a weak reference is lost there, silently: the next one counts."""
    reported = sys.unraisablehook

    def hook(lost: sys.UnraisableHookArgs) -> None:
        if lost.exc_type is not Stopped:
            reported(lost)

    with mock.patch.object(sys, "unraisablehook", hook):
        yield


# --- parts of broken backends -------------------------------------------------------------------

Rows = list[tuple[Row, MemoryItem]]


async def everything(store: InMemoryStore, now: int) -> Rows:
    """Every live row with its item, in key order."""
    page = await InMemoryStore._scan(store, Scan(now=now, limit=1_000_000))
    return [(row, decode(row)) for row in page.rows]


class Naive(InMemoryStore):
    """A correct backend made of one plain scan; mutants replace one of its steps."""

    def inside(self, op: Any, item: MemoryItem) -> bool:
        return op.scope.covers(item)

    def accepts(self, op: Any, item: MemoryItem) -> bool:
        return predicate(op.where)(item)

    def ranked(self, op: Scan, rows: Rows) -> Rows:
        by_key = sorted(rows, key=lambda pair: self.place(pair[1]), reverse=op.order == type(op.order)("key", True))
        if op.order.field == "key":
            return by_key
        return sorted(by_key, key=lambda pair: getattr(pair[1], op.order.field), reverse=op.order.descending)

    def place(self, item: MemoryItem) -> Any:
        return key_order(item.key)

    def following(self, op: Scan, rows: Rows) -> Rows:
        """Rows after the position: found by comparing with a stand-in for its row."""
        if op.after is None:
            return rows
        last = MemoryItem(content=None, id=op.after.id, namespace=op.after.namespace)
        rank = self.rank(op, self.place(last), op.after.value)
        return [pair for pair in rows if self.rank(op, self.place(pair[1]), self.value(op, pair)) > rank]

    def value(self, op: Scan, pair: tuple[Row, MemoryItem]) -> Any:
        row, item = pair
        names = {
            "created_at": row.created,
            "updated_at": row.updated,
            "accessed_at": row.accessed,
            "importance": item.importance,
        }
        return names.get(op.order.field)

    def rank(self, op: Scan, place: Any, value: Any) -> Any:
        if op.order.field == "key":
            return _Down(place) if op.order.descending else place
        return (-value if op.order.descending else value, place)

    async def chosen(self, op: Any) -> Rows:
        return [
            pair for pair in await everything(self, op.now) if self.inside(op, pair[1]) and self.accepts(op, pair[1])
        ]

    async def _scan(self, op: Scan) -> Page:
        rows = self.following(op, self.ranked(op, await self.chosen(op)))
        return Page([row for row, _ in rows[: op.limit]], exact=True, more=len(rows) > op.limit)

    async def _count(self, op: Any) -> int:
        return len(await self.chosen(op))

    async def _namespaces(self, op: Any) -> list[tuple[str, ...]]:
        return list(dict.fromkeys(item.namespace for _, item in await self.chosen(op)))


class _Down:
    """Sorts the other way round."""

    def __init__(self, place: Any) -> None:
        self.place = place

    def __gt__(self, other: Any) -> bool:
        return bool(self.place < other.place)


def mapped(value: Any, change: Any) -> Any:
    """JSON with its scalars changed."""
    if isinstance(value, dict):
        return {name: mapped(part, change) for name, part in value.items()}
    return [mapped(part, change) for part in value] if isinstance(value, list) else change(value)


def every(ops: Iterable[Any], **changes: Any) -> list[Any]:
    """Operations with some of their fields replaced."""
    return [replace(op, **changes) for op in ops]


Ops = Sequence[Any]
