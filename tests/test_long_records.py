"""Records as long as they may be: reading many of them holds the loop no longer than reading short ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from memory import MemoryItem, MemoryStore, create_store
from memory.backends.sqlite import scanning
from memory.store import ranking, slicing

COUNT = 40
READS: dict[str, Callable[[MemoryStore], Awaitable[Any]]] = {
    "list": lambda store: store.list(limit=COUNT),
    "ordered": lambda store: store.list(order="-updated_at", limit=COUNT),
    "get_many": lambda store: store.get_many([f"{number:02}" for number in range(COUNT)]),
    "search": lambda store: store.search("note", limit=COUNT),
}


def _store(backend: str, path: Path) -> MemoryStore:
    options: dict[str, Any] = {"path": path / "memory.db"} if backend == "sqlite" else {}
    return create_store(backend, sweep_interval=None, embedder=None, **options)


async def _fill(store: MemoryStore, length: int) -> None:
    items = [MemoryItem(id=f"{i:02}", content={"raw": "x" * length}, text=f"note {i}") for i in range(COUNT)]
    await store.put_many(items)


@pytest.mark.parametrize("backend", ["sqlite", "in_memory"])
@pytest.mark.parametrize("how", READS)
async def test_after_each_long_record_others_may_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, how: str
) -> None:
    paused: Counter[str] = Counter()

    async def pause() -> None:
        paused[how] += 1

    async with _store(backend, tmp_path) as store:
        for length, least, most in ((10, 0, 12), (40_000, COUNT - 1, 3 * COUNT)):
            await _fill(store, length)
            with monkeypatch.context() as patched:
                for module in (ranking, slicing):
                    patched.setattr(module, "is_due", lambda: True)
                    patched.setattr(module, "pause", pause)
                paused.clear()
                assert len(list(await READS[how](store))) == COUNT  # type: ignore[call-overload]
            assert least <= paused[how] <= most


@pytest.mark.parametrize("order", ["key", "-updated_at"])
async def test_a_page_of_long_records_is_read_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    soon: list[bool] = []
    scan_soon = scanning.scan_soon

    def counted(*args: Any) -> Any:
        page = scan_soon(*args)
        soon.append(page is not None)
        return page

    monkeypatch.setattr(scanning, "scan_soon", counted)
    async with _store("sqlite", tmp_path) as store:
        await _fill(store, 10)
        assert len(await store.list(order=order, limit=COUNT)) == COUNT
        await _fill(store, 40_000)
        assert len(await store.list(order=order, limit=COUNT)) == COUNT
        assert len(await store.list(order=order, limit=5)) == 5
    assert soon == [True, False, True]
