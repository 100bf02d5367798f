"""The contract over a store that implements only the required hooks: a fallback may be slower, never weaker."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from memory.backends.in_memory import InMemoryStore
from memory.store import Capabilities, MemoryStore
from memory.testing.contract import StoreContract


class RequiredHooksOnly(InMemoryStore):
    """in_memory with every optional hook taken back; the feed stays, since nothing can stand in for it."""

    name = "required_hooks_only"
    capabilities: ClassVar[Capabilities] = Capabilities(
        persistent=False, shared=False, atomic_batches=False, feed=True, indexes_terms=False
    )
    _count = MemoryStore._count
    _namespaces = MemoryStore._namespaces
    _match = MemoryStore._match
    _around = MemoryStore._around
    _health = MemoryStore._health
    _verify = MemoryStore._verify


class InexactScans(RequiredHooksOnly):
    """As above, and its scans say nothing of the filter: the base has to evaluate it while paging."""

    name = "inexact_scans"
    capabilities: ClassVar[Capabilities] = RequiredHooksOnly.capabilities

    async def _scan(self, op: Any) -> Any:
        import msgspec

        page = await super()._scan(msgspec.structs.replace(op, where=None))
        page.exact = False
        return page


class TestRequiredHooksOnly(StoreContract):
    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return RequiredHooksOnly(**options)


class TestInexactScans(StoreContract):
    def make_store(self, place: Path, **options: Any) -> MemoryStore:
        return InexactScans(**options)
