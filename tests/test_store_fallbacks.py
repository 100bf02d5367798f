"""A third party's first backend: the three hooks it has to write and nothing else. The base does the rest, as slowly as it
likes and as correctly as anywhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, ClassVar

import pytest

from memory.backends.in_memory import InMemoryStore
from memory.errors import UnsupportedOperation
from memory.ops import Page, Scan
from memory.store import Capabilities, MemoryStore
from memory.testing.contract import StoreContract
from memory.testing.machine import check


class PlainStore(InMemoryStore):
    """Writes, reads and scans; knows nothing of filters, so that every page is a superset."""

    name = "plain"
    capabilities: ClassVar[Capabilities] = Capabilities(
        persistent=False, shared=False, atomic_batches=False, feed=False, indexes_terms=False
    )
    _count = MemoryStore._count
    _namespaces = MemoryStore._namespaces
    _match = MemoryStore._match
    _nearest = MemoryStore._nearest
    _around = MemoryStore._around
    _attach = MemoryStore._attach
    _unattached = MemoryStore._unattached
    _switch = MemoryStore._switch
    _feed = MemoryStore._feed
    _verify = MemoryStore._verify
    _repair = MemoryStore._repair
    _health = MemoryStore._health

    async def _scan(self, op: Scan) -> Page:
        page = await super()._scan(
            Scan(now=op.now, scope=op.scope, order=op.order, after=op.after, limit=op.limit, vectors=op.vectors)
        )
        return Page(page.rows, exact=op.where is None, more=page.more)


class IndexingStore(PlainStore):
    """The same, but wants its terms with every put, as an engine with a text index does."""

    name = "indexing"
    capabilities: ClassVar[Capabilities] = Capabilities(
        persistent=False, shared=False, atomic_batches=False, feed=False, indexes_terms=True
    )

    async def _write(self, ops: Any, atomic: bool) -> Any:
        for i, op in enumerate(ops):
            if i % 32 == 31:
                await asyncio.sleep(0)  # what this looks at is no work of a store's
            if hasattr(op, "terms"):
                assert (op.terms, op.length) == self.analyser.counts(op.item.searchable), "terms come with every put"
        return await super()._write(ops, atomic)


class TestPlain(StoreContract):
    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return PlainStore(**options)


class TestIndexing(StoreContract):
    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return IndexingStore(**options)


def test_random_programs_agree_with_the_model_on_the_fallbacks(tmp_path: Path) -> None:
    check(lambda place, **options: PlainStore(**options), tmp_path, examples=20)


async def test_a_backup_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "foreign").write_bytes(b"\x00\x01\x02 something else")
    async with PlainStore() as store:
        with pytest.raises(UnsupportedOperation):
            await store.restore(tmp_path / "foreign")


async def test_damaged_records_are_found_by_the_plain_verify() -> None:
    from memory.model import MemoryItem

    async with PlainStore() as store:
        await store.put_many([MemoryItem(id=id, content="x") for id in "abc"])
        store._records.values()[1].row.body = b'{"v": 1, "broken'
        report = await store.verify()
        assert (report.ok, report.checked, len(report.problems)) == (False, 3, 1)
        store._records.values()[
            1
        ].row.body = b'{"v": 99, "id": "b", "namespace": ["default"], "kind": "n", "content": 1, "importance": 0.5}'
        assert "99" in (await store.verify()).problems[0].detail
