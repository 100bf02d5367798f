"""The stores at both ends: opened where they are named, told by their address without its password."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memory.errors import BackendUnavailable, InvalidSetting
from memory.telemetry.redaction import hide_secrets

if TYPE_CHECKING:
    from memory.store import MemoryStore


def address_of(store: MemoryStore) -> str:
    """Where an open store lives, without passwords; of one that lives nowhere else just its name."""
    return hide_secrets(store.location or f"{store.name}://")


def addresses_apart(source: MemoryStore, target: MemoryStore) -> tuple[str, str]:
    """The addresses of both. Raises InvalidSetting when they are the same store."""
    one, other = address_of(source), address_of(target)
    if source is target or (one == other and source.location is not None):
        raise InvalidSetting("source and target are the same store; a migration needs two", setting="target")
    return one, other


@asynccontextmanager
async def opened(place: MemoryStore | str, *, reads: bool = False) -> AsyncIterator[MemoryStore]:
    """An open store: one that is named is made, one that is not open is opened, and what was opened here is closed.

    ``reads``: it has to be there; no file is made. Raises InvalidSetting, BackendUnavailable.
    """
    store = await asyncio.to_thread(_made, place) if isinstance(place, str) else place
    if reads:
        file: Any = getattr(store, "path", None)
        if file is not None and not await asyncio.to_thread(Path(file).exists):
            raise BackendUnavailable(f"there is no memory at {file} to migrate from", backend=store.name)
    if store._loop is not None:
        store._enter()
        yield store
        return
    async with store:
        yield store


def _made(spec: str) -> MemoryStore:
    from memory.registry import create_store

    return create_store(spec)
