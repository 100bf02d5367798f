"""Writing what import found in a foreign file: all lines checked first, what is there already left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

from memory.cli.foreign import Chat, Mapped, is_array, records
from memory.errors import BatchError, InvalidItem, MemoryStoreError
from memory.model import MAX_DISTINCT_TERMS, MemoryItem
from memory.store import MemoryStore, View
from memory.store.types import Progress

BATCH = 500
_COMPARED = (
    *("content", "text", "kind", "metadata", "tags", "user_id", "agent_id", "session_id"),
    *("importance", "expires_at"),
)


class Arrived(NamedTuple):
    """Result of an import: how many were written, how many were there already, and number -> reason for those refused.

    ``unit`` says what the numbers count: lines, or elements of an array.
    """

    imported: int
    unchanged: int
    refused: dict[int, str]
    unit: str = "line"


async def import_foreign(
    view: MemoryStore | View,
    file: Path,
    form: Chat | Mapped,
    on_error: Literal["abort", "skip"],
    *,
    embed: Literal["now", "later"] = "now",
    progress: Progress | None = None,
) -> Arrived:
    """Write every record of a file as an item.

    Every record is checked first; with ``on_error="abort"`` one bad record means nothing is written and InvalidItem
    names it (``lines``: number -> reason). An item under an id made of its content is left as it is when it is
    there; under an id of its own it is replaced when it differs.
    """
    unit = "element" if is_array(file) else "line"
    found: list[tuple[int, MemoryItem]] = []
    refused: dict[int, str] = {}
    for place, (number, record) in enumerate(records(file), 1):
        try:
            if isinstance(record, InvalidItem):
                raise record
            found.append((number, await _checked(view, form.item(record, place))))
        except MemoryStoreError as error:
            if on_error == "abort":
                raise InvalidItem(
                    f"{unit} {number}: {error.message}. Nothing was imported", lines={number: error.message}
                ) from None
            refused[number] = error.message
    imported = unchanged = 0
    for start in range(0, len(found), BATCH):
        batch = found[start : start + BATCH]
        there = await _there(view, [item for _, item in batch])
        fresh = [
            (number, item)
            for number, item in batch
            if (old := there.get(item.key)) is None or (form.names_ids and not _same(old, item))
        ]
        unchanged += len(batch) - len(fresh)
        try:
            results: Any = await view.put_many((item for _, item in fresh), embed=embed)
        except BatchError as error:
            results = error.results
        for (number, _), result in zip(fresh, results, strict=True):
            if isinstance(result, MemoryStoreError):
                refused[number] = result.message
            else:
                imported += 1
        if progress is not None:
            progress(imported + unchanged)
    return Arrived(imported, unchanged, dict(sorted(refused.items())), unit)


async def _checked(view: MemoryStore | View, item: MemoryItem) -> MemoryItem:
    """The item as it will be written, with every check that put makes. Raises InvalidItem."""
    item, body = view._check(item)
    if len(body) > MAX_DISTINCT_TERMS:
        await view._enter()._check_terms(item)
    return item


async def _there(view: MemoryStore | View, items: list[MemoryItem]) -> dict[Any, MemoryItem]:
    """Those of the items' keys that are live in the view."""
    by_namespace: dict[tuple[str, ...], list[str]] = {}
    for item in items:
        by_namespace.setdefault(item.namespace, []).append(item.id)
    there: dict[Any, MemoryItem] = {}
    for namespace, ids in by_namespace.items():
        there |= {item.key: item for item in await view.get_many(ids, namespace=namespace) if item is not None}
    return there


def _same(old: MemoryItem, new: MemoryItem) -> bool:
    """Whether a stored item already says what a record does. A live item keeps its created_at, so that does not count."""
    return all(getattr(old, name) == getattr(new, name) for name in _COMPARED)
